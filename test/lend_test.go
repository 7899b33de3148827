//go:build linux

package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestPasswordTarget tells the whole story of a target whose sshd takes passwords
// and nothing else: enrol, ask, approve, log in, record; a password that is wrong,
// and one that was changed; and then the passwords stand nowhere.
func TestPasswordTarget(t *testing.T) {
	s := install(t, "", "")
	admin, alice, bob := s.people["admin"], s.person("alice", "engineers"), s.person("bob", "approvers")
	m := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()})
	m.Do(`sed -i '/^TrustedUserCAKeys/d; s/^PasswordAuthentication no/PasswordAuthentication yes\nPubkeyAuthentication no/' ` + m.Config + ` && useradd -m -s /bin/sh ops && pkill -HUP -o sshd`)
	password := func(text string) { m.Do("echo 'ops:" + text + "' | chpasswd -c SHA512") }
	_, err := admin.AddTarget(t.Context(), api.TargetInput{
		Name: "switch01", Address: m.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.HostKey)))},
		Accounts: []api.AccountInput{{Name: "ops"}},
	})
	must(t, err)
	secrets := map[string]string{}
	set := func(what string) string {
		secret := canary("kept") + " it's"
		secrets[what] = secret
		account, err := admin.SetCredential(t.Context(), "switch01", "ops", api.CredentialInput{Credential: "password", Secret: []byte(secret)})
		if must(t, err); account.Credential != "password" || strings.Contains(fmt.Sprintf("%+v", account), secret) {
			t.Errorf("%+v", account)
		}
		return secret
	}
	run := func() (string, error) {
		client, err := s.dial(alice, "ops+switch01", "")
		if err != nil {
			return "", err
		}
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			return "", err
		}
		out, err := session.CombinedOutput("id -un; tty || :")
		return string(out), err
	}
	r, err := grant(t.Context(), alice, bob, "ops", "switch01", 10*time.Minute)
	must(t, err)
	set("a password that is wrong")
	password(canary("another"))
	if out, err := run(); err == nil {
		t.Errorf("a wrong password: %q", out)
	}
	if n := strings.Count(m.Log(), "Failed password for ops"); n != 1 {
		t.Errorf("it was tried %d times:\n%s", n, m.Log())
	}
	for _, what := range []string{"the first password", "the next password"} {
		text := set(what)
		password(strings.ReplaceAll(text, "'", `'\''`))
		if out, err := run(); err != nil || !strings.HasPrefix(out, "ops\n") {
			t.Fatalf("with %s: %q, %v", what, out, err)
		}
	}
	c, err := admin.CheckTarget(t.Context(), "switch01", api.CheckInput{})
	if must(t, err); found(c, "login", "authority") != "login=ok authority=unknown" || !c.Passed {
		t.Errorf("%+v", c)
	}
	eventually(t, time.Minute, "the recordings", func() bool {
		l, err := s.person("carol"+fmt.Sprint(time.Now().UnixNano()), "auditors").Sessions(t.Context(), api.SessionFilter{})
		if err != nil || len(l.Items) != 3 {
			return false
		}
		for _, session := range l.Items {
			if session.Recording == nil {
				return false
			}
		}
		return true
	})
	_, err = alice.End(t.Context(), r.ID)
	must(t, err)
	if _, err := admin.SetCredential(t.Context(), "switch01", "ops", api.CredentialInput{Credential: "password", Secret: []byte("x\n" + canary("kept"))}); err == nil {
		t.Error("a password of two lines is taken")
	}
	s.stop()
	look(t, "the data folder", folder(t, s.dir), secrets)
	b, err := os.ReadFile(s.log)
	must(t, err)
	look(t, "server.log", b, secrets)
	if !strings.Contains(string(b), "session ended") {
		t.Error("this test looks in the wrong place")
	}
}
