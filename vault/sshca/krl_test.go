package sshca

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

var generated = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// What ssh-keygen reads in a list is what was put into it.
func TestKRLAsOpenSSHReadsIt(t *testing.T) {
	keygen := program(t, "ssh-keygen", "openssh-client")
	ca, other := newAuthorities(t)[User], newAuthorities(t)[User]
	k := KRL{Number: 7, Generated: generated, Comment: "drawbolt", Revoked: []Revocation{
		{Authority: ca.PublicKey(), Serials: []uint64{9, 1 << 62, 5, 9}, KeyIDs: []string{"drawbolt bob GRA-2 SES-2", "drawbolt alice GRA-1 SES-1"}},
		{Authority: other.PublicKey(), Serials: []uint64{3}},
	}}
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, t.TempDir()+"/krl", string(b))
	out, err := exec.Command(keygen, "-Q", "-l", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range []string{
		"# KRL version 7", "# Generated at 20260301T",
		fmt.Sprintf("# CA key ssh-ed25519 %s", ssh.FingerprintSHA256(ca.PublicKey())), "serial: 5\n", "serial: 9\n", fmt.Sprintf("serial: %d\n", uint64(1<<62)),
		"id: drawbolt alice GRA-1 SES-1\n", "id: drawbolt bob GRA-2 SES-2\n",
		fmt.Sprintf("# CA key ssh-ed25519 %s", ssh.FingerprintSHA256(other.PublicKey())), "serial: 3\n",
	} {
		if !strings.Contains(string(out), line) {
			t.Errorf("ssh-keygen does not see %q in\n%s", line, out)
		}
	}
	if n := strings.Count(string(out), "serial: 9\n"); n != 1 {
		t.Errorf("serial 9 stands there %d times", n)
	}
	// Asked about certificates, it says so too; those of another authority with
	// the same serial are not meant.
	for name, tt := range map[string]struct {
		by      *Authority
		serial  uint64
		keyID   string
		revoked bool
	}{
		"by serial":        {ca, 5, "x", true},
		"by key id":        {ca, 77, "drawbolt alice GRA-1 SES-1", true},
		"neither":          {ca, 6, "drawbolt", false},
		"of another":       {other, 5, "drawbolt alice GRA-1 SES-1", false},
		"another's serial": {other, 3, "x", true},
	} {
		key, _ := privateKey(t)
		c := good(User, key.PublicKey(), time.Now())
		c.KeyID = tt.keyID
		cert, err := tt.by.Sign(t.Context(), onlySerial(tt.serial), c)
		if err != nil {
			t.Fatal(err)
		}
		certFile := write(t, t.TempDir()+"/cert.pub", string(ssh.MarshalAuthorizedKey(cert)))
		out, err := exec.Command(keygen, "-Q", "-f", file, certFile).CombinedOutput()
		if revoked := err != nil && strings.Contains(string(out), "REVOKED"); revoked != tt.revoked {
			t.Errorf("%s: revoked = %t, %s", name, revoked, out)
		}
	}
}

// A real sshd lets in whom an empty list does not name, and nobody whom a list
// names, from the next login on.
func TestKRLInSSHD(t *testing.T) {
	all := newAuthorities(t)
	krl := t.TempDir() + "/krl"
	set := func(r ...Revocation) {
		b, err := KRL{Number: 1, Generated: generated, Revoked: r}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		write(t, krl, string(b))
	}
	set()
	target := startTarget(t, all, "RevokedKeys "+krl)
	key, _ := privateKey(t)
	c := good(User, key.PublicKey(), time.Now())
	c.Principal, c.Target = target.account, "db01"
	login := func(serial uint64) error {
		cert, err := all[User].Sign(t.Context(), onlySerial(serial), c)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		client, err := ssh.Dial("tcp", target.addr, &ssh.ClientConfig{User: target.account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
		if err == nil {
			client.Close()
		}
		return err
	}
	if err := login(11); err != nil {
		t.Fatalf("with an empty list: %v\n%s", err, target.log())
	}
	set(Revocation{Authority: all[User].PublicKey(), Serials: []uint64{11}})
	if login(11) == nil {
		t.Error("a revoked certificate was let in")
	}
	if err := login(12); err != nil {
		t.Errorf("another serial: %v\n%s", err, target.log())
	}
	set(Revocation{Authority: all[User].PublicKey(), KeyIDs: []string{c.KeyID}})
	if login(12) == nil {
		t.Error("a revoked key id was let in")
	}
	set(Revocation{Authority: all[User].PublicKey(), Serials: []uint64{11}})
	// A list that cannot be read lets nobody in, and one that can lets in again.
	whole, err := os.ReadFile(krl)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"missing":     func() error { return os.Remove(krl) },
		"cut":         func() error { return os.WriteFile(krl, whole[:len(whole)-3], 0o644) },
		"cut shorter": func() error { return os.WriteFile(krl, whole[:20], 0o644) },
		"cut to four": func() error { return os.WriteFile(krl, whole[:4], 0o644) },
		"garbage":     func() error { return os.WriteFile(krl, append([]byte("SSHKRL\n\x00"), whole[20:]...), 0o644) },
		"a folder":    func() error { return errors.Join(os.Remove(krl), os.Mkdir(krl, 0o755)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if login(13) == nil {
			t.Errorf("%s: sshd lets people in, which the documentation denies", name)
		}
		if err := os.RemoveAll(krl); err != nil {
			t.Fatal(err)
		}
		write(t, krl, string(whole))
		if err := login(13); err != nil {
			t.Errorf("%s, and whole again: %v\n%s", name, err, target.log())
		}
	}
	// An empty file it takes for a list of nobody, which is why what is fetched is
	// looked at before it takes the place of the list (docs/operating.md).
	write(t, krl, "")
	if err := login(11); err != nil {
		t.Errorf("this sshd does not take an empty file for an empty list: %v", err)
	}
}

func TestKRLRefuses(t *testing.T) {
	ca := newAuthorities(t)[User].PublicKey()
	for name, r := range map[string]Revocation{
		"no authority":     {Serials: []uint64{1}},
		"serial 0":         {Authority: ca, Serials: []uint64{1, 0}},
		"empty key id":     {Authority: ca, KeyIDs: []string{""}},
		"key id with line": {Authority: ca, KeyIDs: []string{"a\nb"}},
		"too many":         {Authority: ca, Serials: make([]uint64, MaxRevoked+1)},
	} {
		if b, err := (KRL{Generated: generated, Revoked: []Revocation{r}}).Marshal(); err == nil {
			t.Errorf("%s: encoded %d bytes", name, len(b))
		}
	}
	one := Revocation{Authority: ca, Serials: []uint64{1, 2, 3}, KeyIDs: []string{"a", "b"}}
	two := Revocation{Authority: ca, Serials: []uint64{3, 1, 2, 1}, KeyIDs: []string{"b", "a"}}
	a, _ := KRL{Generated: generated, Revoked: []Revocation{one}}.Marshal()
	b, _ := KRL{Generated: generated, Revoked: []Revocation{two}}.Marshal()
	if !bytes.Equal(a, b) || !slices.Equal(two.Serials, []uint64{3, 1, 2, 1}) {
		t.Error("the order shows, or was changed")
	}
}

func onlySerial(n uint64) Serials { return serialFunc(func() (uint64, error) { return n, nil }) }
