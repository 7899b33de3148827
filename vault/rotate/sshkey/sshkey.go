// Package sshkey changes the private keys with which accounts of Unix machines are logged in to:
// the public half of the new one takes the place of the old one's in the account's
// ~/.ssh/authorized_keys, and a login at the machine's sshd proves it. Private halves never
// leave this process.
//
// It trusts the machine that its host keys name, and the way that it is given to run
// something there as the account.
package sshkey

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/overssh"
)

// A Rotator changes the key of one account. Its secrets are private keys in the form of
// OpenSSH, without a passphrase.
type Rotator struct {
	Account string
	// Run works as root, as the account itself, or as somebody who may use sudo without a
	// password to become the account.
	Run overssh.Runner
	// Dial connects to the machine's sshd, and HostKey checks whose it is, which shows a
	// key of one of the Algorithms; none: any.
	Dial       func(ctx context.Context) (net.Conn, error)
	HostKey    ssh.HostKeyCallback
	Algorithms []string
}

// Make makes a key, for rotate.Config.
func Make() (vault.Secret, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return vault.Secret{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return vault.Secret{}, err
	}
	defer clear(block.Bytes)
	text := pem.EncodeToMemory(block)
	defer clear(text)
	return vault.NewSecret(text), nil
}

// mark is the comment of the lines that are ours.
const mark = "drawbolt-rotated"

// The script works as the account, so that nothing in its folder can lead root astray. The new
// key takes the place of the first line that has the old key or the mark, with that line's
// options; other such lines go. All others stay. The file is replaced whole.
const script = `set -eu
read -r old; read -r new
umask 077
home=$(getent passwd "$(id -un)" | cut -d: -f6)
mkdir -p "$home/.ssh"; cd "$home/.ssh"
touch authorized_keys; test -f authorized_keys; test ! -L authorized_keys
awk -v old="$old" -v new="$new" -v mark=" ` + mark + `" '
function at(key) { return key == "" ? 0 : index(" " $0 " ", " " key " ") }
function ours() { return length($0) > length(mark) && substr($0, length($0) - length(mark) + 1) == mark }
/^[[:space:]]*#/ { print; next }
at(old) || at(new) || ours() {
	if (!done) {
		options = ""
		if (match(" " $0, / (ssh-|ecdsa-|sk-)[a-z0-9@.-]+ AAAA/)) options = substr($0, 1, RSTART - 1)
		print options new mark
	}
	done = 1; next
}
{ print }
END { if (!done) print new mark }' authorized_keys > .authorized_keys.drawbolt
chmod 600 .authorized_keys.drawbolt
sync .authorized_keys.drawbolt 2>/dev/null || sync
mv -f .authorized_keys.drawbolt authorized_keys
sync . 2>/dev/null || sync || :`

// command runs the script as the account, whose name has been checked.
func command(account string) string {
	quoted := "'" + strings.ReplaceAll(script, "'", `'\''`) + "'"
	return `if [ "$(id -un)" = ` + account + ` ]; then /bin/sh -c ` + quoted + ` 2>&1; ` +
		`elif [ "$(id -u)" = 0 ]; then runuser -u ` + account + ` -- /bin/sh -c ` + quoted + ` 2>&1; ` +
		`else sudo -n -u ` + account + ` /bin/sh -c ` + quoted + ` 2>&1; fi`
}

// Set implements rotate.Rotator.
func (r Rotator) Set(ctx context.Context, current, key vault.Secret) error {
	if !overssh.ValidAccount(r.Account) {
		return &rotate.Refusal{Why: "this is no name of an account"}
	}
	line, err := publicLine(key)
	if err != nil {
		return &rotate.Refusal{Why: err.Error()}
	}
	before, _ := publicLine(current) // where none is known, the lines with the mark are replaced
	return r.Run.Change(ctx, "authorized_keys", command(r.Account), []byte(before+"\n"+line+"\n"))
}

// publicLine is the public half of a private key, as authorized_keys has it, without a comment.
func publicLine(key vault.Secret) (string, error) {
	signer, err := ssh.ParsePrivateKey(key.Expose())
	if err != nil {
		return "", errors.New("this is no private key in the form of OpenSSH") // the error might quote it
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, key vault.Secret) error {
	signer, err := ssh.ParsePrivateKey(key.Expose())
	if err != nil {
		return rotate.ErrWrong
	}
	return overssh.Server{Dial: r.Dial, HostKey: r.HostKey, Algorithms: r.Algorithms}.Key(ctx, r.Account, signer)
}
