// Package windows changes the passwords of local accounts of Windows through OpenSSH for Windows. A
// PowerShell script of ours is run there, to which account and password are written on its standard
// input: they stand in no argument, no environment and no script, which PowerShell may log. It is proved
// by a login at the machine's sshd.
//
// It trusts the machine that its host keys name, and the way that it is given to run something there with
// the right to change passwords.
package windows

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/overssh"
)

// A Rotator changes the password of one account.
type Rotator struct {
	Account string
	// Run works as an administrator.
	Run overssh.Runner
	// Dial connects to the machine's sshd, and HostKey checks whose it is, which shows a
	// key of one of the Algorithms; none: any.
	Dial       func(ctx context.Context) (net.Conn, error)
	HostKey    ssh.HostKeyCallback
	Algorithms []string
}

// The script reads two lines, both base64 of UTF-8. Set-LocalUser changes everything or nothing. Of a failure
// only its type is said: messages of Windows come in every language, and might have anything in them.
const script = `$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
function Line { [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String([Console]::In.ReadLine())) }
try {
	$account = Line
	$password = New-Object Security.SecureString
	foreach ($c in (Line).ToCharArray()) { $password.AppendChar($c) }
	Set-LocalUser -Name $account -Password $password
	'ended done'
} catch { 'ended ' + $_.Exception.GetType().FullName }`

// command runs the script whichever shell sshd starts.
func command() string {
	var b []byte
	for _, c := range utf16.Encode([]rune(script)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return "powershell.exe -NoLogo -NoProfile -NonInteractive -EncodedCommand " + base64.StdEncoding.EncodeToString(b)
}

// validAccount is what Windows allows as the name of a local account.
var validAccount = regexp.MustCompile(`^[^"/\\\[\]:;|=,+*?<>@\x00-\x1f\x7f]{1,20}$`)

var ended = regexp.MustCompile(`(?:^|\n)ended ([A-Za-z0-9.+_-]{1,200})\r?\n$`)

// refusals are the failures after which nothing has changed.
var refusals = map[string]string{
	"Microsoft.PowerShell.Commands.UserNotFoundException":    "there is no such account",
	"Microsoft.PowerShell.Commands.InvalidPasswordException": "the password does not satisfy the machine's policy",
	"Microsoft.PowerShell.Commands.AccessDeniedException":    "the account that changes passwords may not",
}

// Set implements rotate.Rotator. What was the password before does not matter.
func (r Rotator) Set(ctx context.Context, _, password vault.Secret) error {
	p := password.Expose()
	if !validAccount.MatchString(r.Account) || strings.Trim(r.Account, ". ") == "" || len(p) == 0 || !utf8.Valid(p) {
		return &rotate.Refusal{Why: "Windows takes no such account or password"}
	}
	input := base64.StdEncoding.AppendEncode(nil, []byte(r.Account))
	input = append(base64.StdEncoding.AppendEncode(append(input, '\n'), p), '\n')
	defer clear(input)
	output, err := r.Run(ctx, command(), input)
	if err != nil {
		return err
	}
	answer := ended.FindSubmatch(output)
	if answer == nil {
		return errors.New("the change was broken off")
	}
	if string(answer[1]) == "done" {
		return nil
	}
	if why := refusals[string(answer[1])]; why != "" {
		return &rotate.Refusal{Why: why}
	}
	return errors.New("the change failed with " + string(answer[1]))
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	return overssh.Server{Dial: r.Dial, HostKey: r.HostKey, Algorithms: r.Algorithms}.Password(ctx, r.Account, password)
}
