//go:build linux

package test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/ldap"
	"github.com/drawbolt/drawbolt/vault/rotate/linux"
	"github.com/drawbolt/drawbolt/vault/rotate/mysql"
	"github.com/drawbolt/drawbolt/vault/rotate/postgres"
	"github.com/drawbolt/drawbolt/web/api"
)

// A managed is an account on a real system, whose password the server changes.
type managed struct {
	target     api.TargetInput
	account    string
	first      string            // the password that it has
	credential string            // "key": it is a key
	reset      string            // the account that sets it; "": itself
	secrets    map[string]string // kept for other accounts
	tried      rotate.Rotator    // logs in by a way of the test's own
	change     func(password string) error
	grace      bool          // a replaced password may be accepted
	log        func() string // of the system
}

// TestManagedPasswords tells the whole story for each kind of system with the real
// server: a password is taken over, proved and changed; the old one is dead and the new
// one in force; the server is killed again and again in the middle of a change, and after
// each start finds the right one; somebody else sets the password, which is found and
// mended; and no password stands anywhere it should not.
func TestManagedPasswords(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, s *server) managed{
		"machine": onMachine, "machine, by itself": onMachineAlone, "PostgreSQL": onPostgres, "MariaDB": onMariaDB, "OpenLDAP": onSlapd, "Active Directory": onSamba,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits more than it works
			tellManaged(t, make)
		})
	}
}

// Of the kills, so many are anywhere, and the others at one of so many calls.
const (
	anywhere = 3
	walked   = 200
)

// kills is how often the server is killed, by default few times: more are for patient
// people, with KILLS.
func kills(t *testing.T) int {
	t.Helper()
	n := 6
	if text := os.Getenv("KILLS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(t, err)
	}
	return n
}

func tellManaged(t *testing.T, make func(t *testing.T, s *server) managed) {
	s := install(t, "", "")
	m := make(t, s)
	ctx, admin := t.Context(), s.people["admin"]
	_, err := admin.SetRole(ctx, api.Role{Name: "recoverers", Groups: []string{"recoverers"}, Rules: []api.Rule{{ID: "recover", Actions: []string{"secret.recover"}}}})
	must(t, err)
	reader := s.person("rita", "recoverers")
	_, err = admin.AddTarget(ctx, m.target)
	must(t, err)
	secrets := map[string]string{"the first password": m.first}
	for account, password := range m.secrets {
		secrets["the password of "+account] = password
		_, err := admin.SetCredential(ctx, m.target.Name, account, api.CredentialInput{Credential: "password", Secret: []byte(password)})
		must(t, err)
	}
	state := func() api.Password {
		list, err := admin.Passwords(ctx, m.target.Name)
		if err != nil || len(list.Items) != 1 {
			return api.Password{Problem: fmt.Sprint(list, err)}
		}
		return list.Items[0]
	}
	known := func() []api.KnownPassword {
		t.Helper()
		list, err := reader.RecoverPasswords(ctx, m.target.Name, m.account, "the test wants to know")
		must(t, err)
		for i, p := range list.Items {
			secrets[fmt.Sprint(i, p.MadeAt)] = string(p.Secret)
		}
		return list.Items
	}
	current := func() string {
		t.Helper()
		for _, p := range known() {
			if p.State == "current" {
				return string(p.Secret)
			}
		}
		t.Fatal("no password is the current one")
		return ""
	}
	accepted := func(password string) error { return m.tried.Check(ctx, vault.NewSecret([]byte(password))) }
	settled := func(what string) {
		t.Helper()
		eventually(t, 60*time.Second, what, func() bool { p := state(); return p.State == "ok" && p.ChangedAt != nil && p.Cause != "demand" })
	}

	_, err = admin.ManageAccount(ctx, m.target.Name, m.account, api.ManageInput{Managed: api.Managed{AfterUse: true, Reset: m.reset, Failures: 4}, Secret: []byte(m.first)})
	must(t, err)
	eventually(t, 60*time.Second, "the first change", func() bool {
		p := state()
		if p.Tries > 0 {
			t.Fatalf("%+v", p)
		}
		return p.State == "ok" && p.ChangedAt != nil
	})
	taken := current()
	must(t, accepted(taken))
	if err := accepted(m.first); !m.grace && !errors.Is(err, rotate.ErrWrong) {
		t.Errorf("the first password still works: %v", err)
	}
	if m.target.Kind != "" {
		if _, err := s.dial(reader, m.account+"+"+m.target.Name, ""); err == nil {
			t.Error("somebody has logged in where there is no SSH")
		}
	}

	// Killed in the middle, again and again: anywhere, and then at the first, the third, the
	// ninth, ... call of a thread that writes, syncs, connects or sends.
	before := taken
	for i, at := 0, 1; i < kills(t); i++ {
		detach := func() {}
		if i >= anywhere {
			detach = s.inject("write,pwrite64,fsync,fdatasync,connect,sendto,sendmsg", fmt.Sprintf("signal=KILL:when=%d", at))
			at = at*3%walked + 1
		}
		_, err := admin.RotateAccount(ctx, m.target.Name, m.account, "INC-1 the test wants it")
		if i < anywhere {
			must(t, err)
			time.Sleep(rand.N(150 * time.Millisecond))
		} else if err == nil { // it was asked for; otherwise nothing may be due
			eventually(t, 60*time.Second, "a kill, or a change", func() bool { return !s.alive() || state().Cause != "demand" })
		}
		detach()
		s.kill()
		began := time.Now()
		s.start()
		settled(fmt.Sprintf("the password after kill %d", i+1))
		t.Logf("right %s after the start", time.Since(began).Round(time.Millisecond))
		now := current()
		must(t, accepted(now))
		if now == before && err == nil {
			t.Errorf("kill %d: nothing was changed", i+1)
		}
		before = now
	}

	// Somebody else sets the password.
	if m.reset != "" || m.target.Provisioner != "" {
		other := canary("set-by-others") + "A1"
		secrets["a password that others set"] = other
		must(t, m.change(other))
		s.stop()
		s.start()
		_, err := admin.RotateAccount(ctx, m.target.Name, m.account, "INC-2")
		must(t, err)
		settled("the password that others had set")
		must(t, accepted(current()))
	}
	s.stop()
	look(t, "the data folder", folder(t, s.dir), secrets)
	b, err := os.ReadFile(s.log)
	must(t, err)
	look(t, "server.log", b, secrets)
	if m.log != nil {
		delete(secrets, "a password that others set") // which the test itself sent as it is
		delete(secrets, "the first password")
		look(t, "the log of the system", []byte(m.log()), secrets)
	}
}

func hostKeys(k ssh.PublicKey) []string {
	return []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))}
}

// machineWith is a machine that takes passwords, with an account ops.
func machineWith(t *testing.T, s *server, more string) (*servers.Machine, managed) {
	m := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()}, "root@db01")
	first := canary("first")
	m.Do(`sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes\nMaxAuthTries 20/' ` + m.Config + ` && useradd -m -s /bin/sh ops && echo 'ops:` + first + `' | chpasswd -c SHA512 && pkill -HUP -o sshd` + more)
	return m, managed{
		target:  api.TargetInput{Name: "db01", Address: m.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: hostKeys(m.HostKey), Accounts: []api.AccountInput{{Name: "ops"}}},
		account: "ops", first: first, log: m.Log,
		tried: linux.Rotator{Account: "ops", HostKey: ssh.FixedHostKey(m.HostKey), Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr)
		}},
		change: func(password string) error { m.Do("echo 'ops:" + password + "' | chpasswd -c SHA512"); return nil },
	}
}

func onMachine(t *testing.T, s *server) managed {
	_, m := machineWith(t, s, "")
	m.target.Provisioner = "root"
	return m
}

// onMachineAlone has an account that may change its own password with sudo.
func onMachineAlone(t *testing.T, s *server) managed {
	_, m := machineWith(t, s, ` && echo 'ops ALL=(root) NOPASSWD: /usr/sbin/chpasswd' >/etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops`)
	return m
}

func onPostgres(t *testing.T, _ *server) managed {
	address := servers.Postgres(t)
	u, err := url.Parse(address)
	must(t, err)
	first, by := canary("first"), canary("admin")
	do := func(statement string) error {
		conn, err := pgx.Connect(context.Background(), address)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), statement)
		return err
	}
	role, admin := fmt.Sprintf("app%d", time.Now().UnixNano()), fmt.Sprintf("adm%d", time.Now().UnixNano())
	must(t, do("CREATE ROLE "+role+" LOGIN PASSWORD '"+first+"'"))
	must(t, do("CREATE ROLE "+admin+" LOGIN SUPERUSER PASSWORD '"+by+"'"))
	t.Cleanup(func() { must(t, errors.Join(do("DROP ROLE "+role), do("DROP ROLE "+admin))) })
	return managed{
		target:  api.TargetInput{Name: "pg01", Kind: "postgres", Address: u.Host, Accounts: []api.AccountInput{{Name: "app", KnownAs: role}, {Name: "dba", KnownAs: admin}}},
		account: "app", first: first, reset: "dba", secrets: map[string]string{"dba": by},
		tried:  postgres.Rotator{Address: u.Host, Role: role},
		change: func(password string) error { return do("ALTER ROLE " + role + " PASSWORD '" + password + "'") },
	}
}

func onMariaDB(t *testing.T, _ *server) managed {
	m := servers.NewMariaDB(t)
	first, by := canary("first"), canary("admin")
	must(t, m.Do("CREATE USER app@'127.0.0.1' IDENTIFIED BY '"+first+"'; CREATE USER dba@'%' IDENTIFIED BY '"+by+"'; GRANT CREATE USER ON *.* TO dba@'%'"))
	return managed{
		target:  api.TargetInput{Name: "my01", Kind: "mysql", Address: m.Address, Accounts: []api.AccountInput{{Name: "app", KnownAs: "app@127.0.0.1"}, {Name: "dba"}}},
		account: "app", first: first, reset: "dba", secrets: map[string]string{"dba": by},
		tried: mysql.Rotator{Address: m.Address, User: "app", Host: "127.0.0.1"},
		change: func(password string) error {
			return m.Do("ALTER USER app@'127.0.0.1' IDENTIFIED BY '" + password + "'")
		},
	}
}

func onSlapd(t *testing.T, _ *server) managed {
	const dn = "cn=app,dc=corp,dc=test"
	first := canary("first")
	d := servers.NewSlapd(t, "dn: "+dn+"\nobjectClass: inetOrgPerson\ncn: app\nsn: app\nuserPassword: "+first+"\n")
	by := ldap.Rotator{URL: "ldaps://" + d.Address, TLS: &tls.Config{RootCAs: d.Roots}, DN: dn, Admin: d.Admin, AdminPassword: vault.NewSecret([]byte(d.Password))}
	return managed{
		target: api.TargetInput{Name: "dir01", Kind: "ldap", Address: d.Address, HostKeys: []string{base64.StdEncoding.EncodeToString(d.Certificate(t))},
			Accounts: []api.AccountInput{{Name: "app", KnownAs: dn}, {Name: "dirman", KnownAs: d.Admin}}},
		account: "app", first: first, reset: "dirman", secrets: map[string]string{"dirman": d.Password}, tried: by, log: d.Log,
		change: func(password string) error {
			return by.Set(context.Background(), vault.Secret{}, vault.NewSecret([]byte(password)))
		},
	}
}

func onSamba(t *testing.T, _ *server) managed {
	d := servers.NewSamba(t)
	dn := "CN=svc app,CN=Users," + d.Base
	conn, err := goldap.DialURL("ldaps://"+d.Address, goldap.DialWithTLSConfig(&tls.Config{RootCAs: d.Roots}))
	must(t, err)
	defer conn.Close()
	must(t, conn.Bind(d.Admin, d.Password))
	add := goldap.NewAddRequest(dn, nil)
	add.Attribute("objectClass", []string{"user"})
	add.Attribute("sAMAccountName", []string{"svcapp"})
	must(t, conn.Add(add))
	by := ldap.Rotator{URL: "ldaps://" + d.Address, TLS: &tls.Config{RootCAs: d.Roots}, DN: dn, Admin: d.Admin, AdminPassword: vault.NewSecret([]byte(d.Password)), ActiveDirectory: true}
	change := func(password string) error {
		return by.Set(context.Background(), vault.Secret{}, vault.NewSecret([]byte(password)))
	}
	first := canary("first") + "A"
	must(t, change(first))
	enable := goldap.NewModifyRequest(dn, nil)
	enable.Replace("userAccountControl", []string{"512"})
	must(t, conn.Modify(enable))
	return managed{
		target: api.TargetInput{Name: "ad01", Kind: "ad", Address: d.Address, HostKeys: []string{base64.StdEncoding.EncodeToString(d.Certificate(t))},
			Accounts: []api.AccountInput{{Name: "svcapp", KnownAs: dn}, {Name: "domadm", KnownAs: d.Admin}}},
		account: "svcapp", first: first, reset: "domadm", secrets: map[string]string{"domadm": d.Password}, tried: by, change: change, grace: true,
	}
}
