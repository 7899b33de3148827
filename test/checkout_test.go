//go:build linux

package test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestCheckedOutPassword tells the whole story with real systems: a password is shown to
// one person, who logs in with it where no bastion is in between; when they give it back,
// or it is taken from them, it is dead, and the next one gets another. None of them stands
// anywhere.
func TestCheckedOutPassword(t *testing.T) {
	for name, make := range map[string]system{
		"machine": onMachine, "machine, by key": onMachineByKey, "Windows": onWindows, "PostgreSQL": onPostgres, "MariaDB": onMariaDB,
		"OpenLDAP": onSlapd, "Active Directory": onSamba, "program": onSwitch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits more than it works
			s := install(t, "", "")
			const account = "app"
			m := make(t, s, []string{account})
			ctx, admin := t.Context(), s.people["admin"]
			alice, erin, bob := s.person("alice", "engineers"), s.person("erin", "engineers"), s.person("bob", "approvers")
			_, err := admin.SetRole(ctx, api.Role{Name: "seers", Groups: []string{"engineers"}, Rules: []api.Rule{{
				ID: "see", Actions: []string{"request", "checkout"}, Targets: api.Selector{Names: []string{m.target.Name}}, Accounts: []string{account},
				MaxDurationSeconds: 3600, Approvals: []api.ApproverNeed{{Count: 1, Groups: []string{"approvers"}}}, Session: api.SessionRules{Checkout: "managed", Exec: true},
			}}})
			must(t, err)
			_, err = admin.AddTarget(ctx, m.target)
			must(t, err)
			secrets := map[string]string{"the first password": m.first}
			for other, password := range m.secrets {
				secrets["the password of "+other] = password
				_, err := admin.SetCredential(ctx, m.target.Name, other, api.CredentialInput{Credential: "password", Secret: []byte(password)})
				must(t, err)
			}
			_, err = admin.ManageAccount(ctx, m.target.Name, account, api.ManageInput{Credential: m.credential, Managed: api.Managed{Reset: m.reset, Failures: 20}, Secret: []byte(m.first)})
			must(t, err)
			login := func(password string) error { return m.tried(account).Check(ctx, vault.NewSecret([]byte(password))) }
			// shown waits until nobody else knows the password that is in force.
			shown := func(p *person, id string) (got api.Checkout) {
				t.Helper()
				eventually(t, 3*time.Minute, "the check-out", func() bool {
					var err error
					if got, err = p.Checkout(ctx, id, api.CheckoutInput{}); err == nil {
						return true
					}
					if problem := api.AsProblem(err); problem == nil || problem.Code != "DB-6440" {
						t.Fatal(err)
					}
					return false
				})
				if err := login(got.Secret); err != nil || !got.Lease.Managed {
					t.Errorf("what was shown does not log in: %v; %+v", err, got.Lease)
				}
				secrets[got.Lease.ID] = got.Secret
				return got
			}
			dead := func(what, password string) {
				t.Helper()
				if m.grace { // it may be taken for an hour, and is not called dead before
					return
				}
				eventually(t, 3*time.Minute, what+" is dead", func() bool { return errors.Is(login(password), rotate.ErrWrong) })
			}
			mine, err := grant(ctx, alice, bob, account, m.target.Name, 30*time.Minute)
			must(t, err)
			hers, err := grant(ctx, erin, bob, account, m.target.Name, 30*time.Minute)
			must(t, err)
			dead("the first password", m.first)

			first := shown(alice, mine.ID)
			if _, err := erin.Checkout(ctx, hers.ID, api.CheckoutInput{}); err == nil || api.AsProblem(err) == nil || api.AsProblem(err).Code != "DB-6431" {
				t.Errorf("two have it: %v", err)
			}
			_, err = alice.Checkin(ctx, mine.ID, api.CheckoutInput{})
			must(t, err)
			second := shown(erin, hers.ID)
			if second.Secret == first.Secret {
				t.Error("two people know one password")
			}
			dead("what was given back", first.Secret)
			if m.target.Kind == "" || m.target.Kind == "windows" {
				if out, err := s.session(erin, account, m.target.Name, "whoami"); err != nil || !strings.Contains(out, account) {
					t.Errorf("with what was put in its place the bastion says %q, %v", out, err)
				}
			}
			_, err = bob.Revoke(ctx, hers.ID, "INC-1 is over")
			must(t, err)
			dead("what was taken back", second.Secret)
			third := shown(alice, mine.ID)
			_, err = alice.End(ctx, mine.ID)
			must(t, err)
			dead("what ended with the access", third.Secret)

			s.stop()
			look(t, "the data folder", folder(t, s.dir), secrets)
			b, err := os.ReadFile(s.log)
			must(t, err)
			look(t, "server.log", b, secrets)
			if m.log != nil {
				delete(secrets, "the first password") // which the test itself sent as it is
				look(t, "the log of the system", []byte(m.log()), secrets)
			}
		})
	}
}
