//go:build linux

package scan_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The keys with which the bastion itself logs in are no strangers', in the accounts for which
// they are and nowhere else, and as long as they are in force; nor are its own authorities.
func TestOwnKeys(t *testing.T) {
	h := newHouse(t)
	keep := func() (line string) {
		t.Helper()
		public, private, err := ed25519.GenerateKey(rand.Reader)
		ok(t, err)
		block, err := ssh.MarshalPrivateKey(private, "")
		ok(t, err)
		ok(t, h.SetCredential(t.Context(), h.as("admin"), "db01", "deploy", access.CredentialKey, pem.EncodeToMemory(block)))
		k, err := ssh.NewPublicKey(public)
		ok(t, err)
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
	}
	own := keep()
	stranger, _ := key(t)
	authority := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.Authorities().User)))
	h.machine.Do(strings.NewReplacer("OWN", own, "AUTHORITY", authority, "STRANGER", stranger, "CONFIG", h.machine.Config).Replace(`
		useradd -m -s /bin/bash deploy && usermod -p '*' deploy && mkdir ~deploy/.ssh
		useradd -m -s /bin/bash ops && usermod -p '*' ops && mkdir ~ops/.ssh
		printf '%s\n' 'OWN' 'cert-authority,principals="deploy@db01" AUTHORITY' >~deploy/.ssh/authorized_keys
		printf '%s\n' 'OWN' 'cert-authority STRANGER' >~ops/.ssh/authorized_keys
		sed -i 's/AuthorizedKeysFile none/AuthorizedKeysFile .ssh\/authorized_keys/' CONFIG`))
	ways := func() (list []string) {
		t.Helper()
		for _, w := range h.scan().Ways {
			list = append(list, w.Account+" "+w.Kind)
		}
		slices.Sort(list)
		return list
	}
	if got, want := ways(), []string{"ops authority", "ops key"}; !slices.Equal(got, want) {
		t.Errorf("ways %q, want %q", got, want)
	}
	keep() // from now on another one is in force
	if got, want := ways(), []string{"deploy key", "ops authority", "ops key"}; !slices.Equal(got, want) {
		t.Errorf("ways %q, want %q", got, want)
	}
}

// A key of the bastion's that a person has registered is that person's.
func TestOwnKeyOfSomebody(t *testing.T) {
	h := newHouse(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ok(t, err)
	ok(t, h.SetCredential(t.Context(), h.as("admin"), "db01", "deploy", access.CredentialKey, pem.EncodeToMemory(block)))
	k, err := ssh.NewPublicKey(public)
	ok(t, err)
	h.register("alice", k)
	h.machine.Do(strings.NewReplacer("OWN", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), "CONFIG", h.machine.Config).Replace(`
		useradd -m -s /bin/bash deploy && usermod -p '*' deploy && mkdir ~deploy/.ssh && echo 'OWN' >~deploy/.ssh/authorized_keys
		sed -i 's/AuthorizedKeysFile none/AuthorizedKeysFile .ssh\/authorized_keys/' CONFIG`))
	if d := h.scan(); len(d.Ways) != 1 || !strings.Contains(d.Ways[0].Text, "alice's") {
		t.Errorf("%+v", d.Ways)
	}
}
