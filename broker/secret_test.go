package broker_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

const aPassword = "Tr0ub4dor & 3 \"quoted\""

// keep has root of the house set what root@db01 logs in with.
func (h *house) keep(credential, secret string) {
	h.t.Helper()
	err := h.SetCredential(h.t.Context(), h.as("root"), "db01", "root", credential, []byte(secret))
	ok(h.t, err)
}

// privateKey is a private key in the form of OpenSSH.
func privateKey(t testing.TB, key any, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	ok(t, err)
	return string(pem.EncodeToMemory(block))
}

func edKey(t testing.TB) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	return privateKey(t, key, "")
}

// unkept fails when a secret stands anywhere in the database, the log included.
func (h *house) unkept(secrets ...string) {
	h.t.Helper()
	everything := h.dump() + fmt.Sprintf("%+v", h.events())
	for _, s := range secrets {
		for _, form := range []string{s, hex.EncodeToString([]byte(s)), strings.Trim(fmt.Sprint([]byte(s)), "[]")} {
			if strings.Contains(everything, form) {
				h.t.Errorf("a secret stands in the database, or in the audit log")
			}
		}
	}
}

// TestLend: what is kept for an account is lent to a session while its right
// holds, the newest at once, and each loan is on record before. No secret stands
// anywhere.
func TestLend(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c := h.granted() // before anything is kept: the approval holds all the same
		h.keep(access.CredentialPassword, "the first one")
		l := h.session("alice", c)
		h.keep(access.CredentialPassword, aPassword)
		events := len(h.events())
		loan, err := h.Lend(ctx, l)
		ok(t, err)
		if got := string(loan.Secret.Expose()); got != aPassword {
			t.Errorf("lent %q", got)
		}
		told := h.events()[events:]
		if len(told) != 1 || told[0].Action != "secret.lend" || told[0].Session != l.Session.ID || told[0].Account != "root" || told[0].Details["version"] == "" || told[0].Details["credential"] != "password" {
			t.Errorf("told %+v", told)
		}
		if text := fmt.Sprintf("%v %+v %#v", loan, loan, loan); strings.Contains(text, "dor") {
			t.Errorf("a loan prints as %s", text)
		}
		loan.Secret.Wipe()
		if got := string(loan.Secret.Expose()); strings.Trim(got, "\x00") != "" {
			t.Errorf("wiped, it is %q", got)
		}
		again, err := h.Lend(ctx, l)
		ok(t, err)
		if string(again.Secret.Expose()) != aPassword {
			t.Error("wiping a loan wiped what is kept")
		}
		goesOn(t, l)
		if v, err := h.FindTarget(ctx, h.as("root"), "db01"); err != nil || v.Target.Accounts[0].Credential != "password" || v.Target.Accounts[1].Credential != "certificate" {
			t.Errorf("%+v, %v", v.Target.Accounts, err)
		}

		key := edKey(t)
		h.keep(access.CredentialKey, key)
		_, err = h.Lend(ctx, l) // which would log in with a password
		want(t, err, access.ErrConflict)
		keyed := h.session("alice", c)
		loan, err = h.Lend(ctx, keyed)
		ok(t, err)
		if string(loan.Secret.Expose()) != key {
			t.Error("another key was lent")
		}
		h.unkept("the first one", aPassword, key)

		_, err = h.Revoke(ctx, h.as("root"), c.Request.ID, "INC-1")
		ok(t, err)
		events = len(h.events())
		_, err = h.Lend(ctx, keyed)
		want(t, err, access.ErrDenied)
		for _, e := range h.events()[events:] {
			if e.Action == "secret.lend" && e.Outcome == audit.Done {
				t.Errorf("lent after the end: %+v", e)
			}
		}
	})
}

// TestSecretGoesNowhereElse: who may change a target, or its row, does not have
// its secret sent to a machine of theirs.
func TestSecretGoesNowhereElse(t *testing.T) {
	for name, change := range map[string]func(*access.Target){
		"another address":  func(t *access.Target) { t.Address = "203.0.113.66:22" },
		"another host key": func(a *access.Target) { a.HostKeys = []string{keyText(newKey(t))} },
		"one host key more": func(a *access.Target) {
			a.HostKeys = append(a.HostKeys, keyText(newKey(t)))
		},
		"no host key": func(t *access.Target) { t.HostKeys = nil },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				ctx := t.Context()
				h.keep(access.CredentialPassword, aPassword)
				v, err := h.FindTarget(ctx, h.as("root"), "db01")
				ok(t, err)
				was := v.Target
				ok(t, h.setTarget("db01", change))
				l := h.session("alice", h.granted())
				_, err = h.Lend(ctx, l)
				want(t, err, access.ErrUnavailable)
				p, err := h.BeginCheck(ctx, h.as("root"), "db01", "root")
				ok(t, err)
				_, err = h.CheckLend(ctx, p, "root")
				want(t, err, access.ErrUnavailable)
				// As it was, it is of use again; and it can be set anew.
				ok(t, h.setTarget("db01", func(t *access.Target) { t.Address, t.HostKeys = was.Address, was.HostKeys }))
				p, err = h.BeginCheck(ctx, h.as("root"), "db01", "root")
				ok(t, err)
				_, err = h.CheckLend(ctx, p, "root")
				ok(t, err)
				ok(t, h.setTarget("db01", change))
				h.keep(access.CredentialPassword, aPassword)
				p, err = h.BeginCheck(ctx, h.as("root"), "db01", "root")
				ok(t, err)
				_, err = h.CheckLend(ctx, p, "root")
				ok(t, err)
			})
		})
	}
}

// TestSecretRowsSwapped: whoever can write in the database cannot have one
// account's secret used for another, nor make a secret up.
func TestSecretRowsSwapped(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.keep(access.CredentialPassword, aPassword)
		err := h.SetCredential(ctx, h.as("root"), "db02", "root", access.CredentialPassword, []byte("of db02"))
		ok(t, err)
		p, err := h.BeginCheck(ctx, h.as("root"), "db01", "root")
		ok(t, err)
		_, err = h.CheckLend(ctx, p, "root")
		ok(t, err)
		for _, change := range []string{
			"UPDATE account_secrets SET sealed = (SELECT o.sealed FROM account_secrets o WHERE o.id <> account_secrets.id)",
			"UPDATE account_secrets SET version = version + 1",
			"DELETE FROM account_secrets",
		} {
			h.inDatabase(change)
			_, err = h.CheckLend(ctx, p, "root")
			want(t, err, access.ErrUnavailable)
		}
	})
}

// TestSecretRolledBack puts the row of a secret back that was replaced by one which
// nobody has opened yet.
func TestSecretRolledBack(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.keep(access.CredentialPassword, aPassword)
		h.inDatabase("CREATE TABLE before AS SELECT * FROM account_secrets")
		h.keep(access.CredentialPassword, "another password")
		h.inDatabase("UPDATE account_secrets SET (sealed, version) = (SELECT b.sealed, b.version FROM before b WHERE b.id = account_secrets.id)")
		p, err := h.BeginCheck(ctx, h.as("root"), "db01", "root")
		ok(t, err)
		_, err = h.CheckLend(ctx, p, "root")
		want(t, err, access.ErrUnavailable)
	})
}

// inDatabase is somebody with the database and nothing else.
func (h *house) inDatabase(change string) {
	h.t.Helper()
	driver, name := "pgx", h.url
	if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
		driver, name = "sqlite", path
	}
	db, err := sql.Open(driver, name)
	ok(h.t, err)
	defer db.Close()
	_, err = db.Exec(change)
	ok(h.t, err)
}

// TestSecretIsForgotten: with the account, with the target, and when the account
// logs in with certificates again.
func TestSecretIsForgotten(t *testing.T) {
	for name, forget := range map[string]func(h *house) error{
		"certificate": func(h *house) error { h.keep(access.CredentialCertificate, ""); return nil },
		"account": func(h *house) error {
			return h.setTarget("db01", func(t *access.Target) { t.Accounts = t.Accounts[1:] })
		},
		"target": func(h *house) error { return h.RemoveTarget(h.t.Context(), h.as("root"), "db01") },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.keep(access.CredentialPassword, aPassword)
				err := h.SetCredential(t.Context(), h.as("root"), "db02", "root", access.CredentialPassword, []byte("of db02"))
				ok(t, err)
				kept := func() string {
					for part := range strings.SplitSeq(h.dump(), "account_secrets:") {
						if !strings.HasPrefix(part, "\n") {
							continue
						}
						rows, _, _ := strings.Cut(part, "\n\n")
						return fmt.Sprint(strings.Count(rows, "/root"))
					}
					return "no table"
				}
				if kept() != "2" {
					t.Fatalf("%s are kept", kept())
				}
				ok(t, forget(h))
				if kept() != "1" {
					t.Errorf("%s are kept", kept())
				}
			})
		})
	}
}

// TestCheckLend: a check is lent the secrets of its accounts, as long as it holds.
func TestCheckLend(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.keep(access.CredentialPassword, aPassword)
		p, err := h.BeginCheck(ctx, h.as("root"), "db01", "")
		ok(t, err)
		events := len(h.events())
		loan, err := h.CheckLend(ctx, p, "root")
		ok(t, err)
		if string(loan.Secret.Expose()) != aPassword {
			t.Error("another secret was lent")
		}
		if told := h.events()[events:]; len(told) != 1 || told[0].Action != "secret.lend" || told[0].Details["for"] != "check" || told[0].Actor != h.as("root").User.ID {
			t.Errorf("told %+v", told)
		}
		for _, account := range []string{"guest", "nobody", "", "root@db01"} {
			if _, err := h.CheckLend(ctx, p, account); err == nil {
				t.Errorf("lent for %q", account)
			}
		}
		if _, err := h.CheckLend(ctx, broker.Probe{Target: p.Target, Accounts: []string{"root"}}, "root"); err == nil {
			t.Error("lent for a check that nobody began")
		}
		h.setGroups("root", "engineers")
		_, err = h.CheckLend(ctx, p, "root")
		want(t, err, access.ErrDenied)
	})
}

// TestSetCredentialRefuses what is no password or key, what it is not for, and
// whoever may not; no refusal repeats the secret.
func TestSetCredentialRefuses(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	ok(t, err)
	set := func(credential, secret string) error {
		return h.SetCredential(ctx, h.as("root"), "db01", "root", credential, []byte(secret))
	}
	for name, secret := range map[string]string{
		"ed25519": privateKey(t, ed, ""), "ecdsa": privateKey(t, p256, ""), "rsa": privateKey(t, good, ""),
	} {
		if err := set("key", secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok(t, set("password", strings.Repeat("p", 1024)))
	ok(t, set("password", "ünïcode und Leerzeichen "))
	for name, c := range map[string]struct{ credential, secret string }{
		"no password":        {"password", ""},
		"a long one":         {"password", strings.Repeat("x", 1025)},
		"two lines":          {"password", "xyzzy\nxyzzy"},
		"a zero byte":        {"password", "xyzzy\x00"},
		"an escape":          {"password", "xyzzy\x1b[2J"},
		"C1":                 {"password", "xyzzy\u0085"},
		"no UTF-8":           {"password", "xyzzy\xff"},
		"no key":             {"key", ""},
		"no private key":     {"key", "xyzzy"},
		"a public key":       {"key", keyText(newKey(t))},
		"a passphrase":       {"key", privateKey(t, ed, "xyzzy")},
		"a weak key":         {"key", privateKey(t, weak, "")},
		"a long key":         {"key", privateKey(t, ed, "") + strings.Repeat("xyzzy\n", 4096)},
		"half a key":         {"key", privateKey(t, ed, "")[:200]},
		"two keys":           {"key", privateKey(t, ed, "") + privateKey(t, p256, "")},
		"none there is":      {"passkey", "xyzzy"},
		"none":               {"", "xyzzy"},
		"certificate, and a": {"certificate", "xyzzy"},
	} {
		err := set(c.credential, c.secret)
		if want(t, err, access.ErrInvalid); err != nil && strings.Contains(err.Error(), "xyzzy") {
			t.Errorf("%s: the refusal says %v", name, err)
		}
	}
	err = h.SetCredential(ctx, h.as("root"), "db01", "nobody", "password", []byte(aPassword))
	want(t, err, access.ErrInvalid)
	err = h.SetCredential(ctx, h.as("root"), "nowhere", "root", "password", []byte(aPassword))
	want(t, err, access.ErrNotFound)
	err = h.SetCredential(ctx, h.as("alice"), "db01", "root", "password", []byte(aPassword))
	want(t, err, access.ErrDenied) // she knows the target
	err = h.SetCredential(ctx, h.as("carol"), "db01", "root", "password", []byte(aPassword))
	want(t, err, access.ErrNotFound)

	// Not for the accounts that nobody asks for, nor for those that are made, in
	// whichever order that is said.
	for name, change := range map[string]func(*access.Target){
		"hop account": func(t *access.Target) { t.HopAccount = "guest" },
		"made": func(t *access.Target) {
			t.Provisioner, t.Accounts[1].Made = "ops", &access.AccountTemplate{Prefix: "jit-"}
		},
	} {
		h := newHouse(t, sqliteURL(t))
		refused := func(err error) {
			t.Helper()
			if want(t, err, access.ErrInvalid); err != nil && !strings.Contains(err.Error(), "certificates only") {
				t.Errorf("%s: %v", name, err)
			}
		}
		err := h.SetCredential(ctx, h.as("root"), "db01", "guest", "password", []byte(aPassword))
		ok(t, err)
		refused(h.setTarget("db01", change))
		err = h.SetCredential(ctx, h.as("root"), "db01", "guest", "certificate", nil)
		ok(t, err)
		ok(t, h.setTarget("db01", change))
		err = h.SetCredential(ctx, h.as("root"), "db01", "guest", "password", []byte(aPassword))
		refused(err)
		h.unkept(aPassword)
	}
	// A target that is written does not say what its accounts log in with.
	want(t, h.setTarget("db01", func(t *access.Target) { t.Accounts[1].Credential = "password" }), access.ErrInvalid)
	want(t, h.setTarget("db01", func(t *access.Target) { t.Accounts[0].Credential = "certificate" }), access.ErrInvalid)
	_, err = h.AddTarget(ctx, h.as("root"), access.Target{Name: "sw01", Address: "192.0.2.77:22", Accounts: []access.Account{{Name: "root", Credential: "password"}}})
	want(t, err, access.ErrInvalid)
	h.unkept("xyzzy")
}
