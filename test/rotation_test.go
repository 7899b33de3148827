//go:build linux

package test

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
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

// A managed is a real system with accounts whose passwords the server changes.
type managed struct {
	target     api.TargetInput
	first      string                               // the password that each of them has
	credential string                               // "key": it is a key
	reset      string                               // the account that sets them; "": each its own
	secrets    map[string]string                    // kept for other accounts
	tried      func(account string) rotate.Rotator  // logs in by a way of the test's own
	change     func(account, password string) error // nil: nobody else sets any
	grace      bool                                 // a replaced password may be accepted
	log        func() string                        // of the system
}

// A system makes a managed with accounts of these names, at which a fifth login that fails
// locks the account, where there is such a thing.
type system func(t testing.TB, s *server, accounts []string) managed

// TestManagedPasswords tells the whole story for each kind of system with the real
// server: a password is taken over, proved and changed; the old one is dead and the new
// one in force; the server is killed again and again at the calls of a change, and after
// each start knows the right one; somebody else sets the password, which is found and
// mended; and no password stands anywhere it should not.
func TestManagedPasswords(t *testing.T) {
	for name, make := range map[string]system{
		"machine": onMachine, "machine, by itself": onMachineAlone, "machine, by key": onMachineByKey, "Windows": onWindows, "PostgreSQL": onPostgres,
		"MariaDB": onMariaDB, "OpenLDAP": onSlapd, "Active Directory": onSamba, "program": onSwitch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits more than it works
			tellManaged(t, "", make)
		})
	}
	t.Run("PostgreSQL, kept in PostgreSQL", func(t *testing.T) {
		t.Parallel()
		tellManaged(t, servers.Postgres(t), onPostgres)
	})
}

// few is how often the server is killed for each kind of system, and many of how many
// accounts the passwords are when it is as often as KILLS says, for patient people: see
// docs/performance.md.
const few, many = 4, 12

// kills are the calls of a change, of which there are so many, at which the server is
// killed: few of them, or as many as KILLS says, one after the other and then from the
// first again.
func kills(t *testing.T, calls int) (at []int) {
	t.Helper()
	if text := os.Getenv("KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		must(t, err)
		for i := range n {
			at = append(at, i%calls+1)
		}
		return at
	}
	for i := range few {
		at = append(at, (i*calls+rand.IntN(calls))/few+1)
	}
	return at
}

// A teller tells the story of one kind of system.
type teller struct {
	*server
	t       *testing.T
	m       managed
	admin   *person
	reader  *person // may read what may be in force
	secrets map[string]string
	seen    strings.Builder // of other processes
}

func tellManaged(t *testing.T, database string, make system) {
	s := install(t, database, "")
	names, more := []string{"app", "loud"}, few
	if os.Getenv("KILLS") != "" {
		more = many
	}
	for i := range more {
		names = append(names, fmt.Sprintf("app%d", i+1))
	}
	m := make(t, s, names)
	ctx, admin := t.Context(), s.people["admin"]
	_, err := admin.SetRole(ctx, api.Role{Name: "recoverers", Groups: []string{"recoverers"}, Rules: []api.Rule{{ID: "recover", Actions: []string{"secret.recover"}}}})
	must(t, err)
	h := &teller{server: s, t: t, m: m, admin: admin, reader: s.person("rita", "recoverers"), secrets: map[string]string{"the first password": m.first}}
	_, err = admin.AddTarget(ctx, m.target)
	must(t, err)
	for account, password := range m.secrets {
		h.secrets["the password of "+account] = password
		_, err := admin.SetCredential(ctx, m.target.Name, account, api.CredentialInput{Credential: "password", Secret: []byte(password)})
		must(t, err)
	}
	for _, name := range names {
		_, err = admin.ManageAccount(ctx, m.target.Name, name, api.ManageInput{Credential: m.credential, Managed: api.Managed{AfterUse: true, Reset: m.reset, Failures: 4}, Secret: []byte(m.first)})
		must(t, err)
	}
	for _, name := range names {
		eventually(t, 60*time.Second, "the first change of "+name, func() bool {
			p := h.state(name)
			if p.Tries > 0 {
				t.Fatalf("%+v", p)
			}
			return p.State == "ok" && p.ChangedAt != nil
		})
	}
	h.accepted(names[0], h.current(names[0]))
	if err := m.tried(names[0]).Check(ctx, vault.NewSecret([]byte(m.first))); !m.grace && !errors.Is(err, rotate.ErrWrong) {
		t.Errorf("the first password still works: %v", err)
	}
	if m.target.Kind != "" && m.target.Kind != "windows" {
		if _, err := s.dial(h.reader, names[0]+"+"+m.target.Name, ""); err == nil {
			t.Error("somebody has logged in where there is no SSH")
		}
	}

	h.kills(names[0], names[2:])

	// It dies loudly in the middle of a change, and says where it was.
	_, err = admin.RotateAccount(ctx, m.target.Name, "loud", "INC-1 the test wants it")
	must(t, err)
	must(t, syscall.Kill(s.pid(), syscall.SIGABRT))
	eventually(t, 30*time.Second, "its end", func() bool { return !s.alive() })
	s.kill()
	s.start()

	// Somebody else sets the password.
	if m.change != nil && (m.reset != "" || m.target.Provisioner != "") {
		other := canary("set-by-others") + "A1"
		h.secrets["a password that others set"] = other
		must(t, m.change(names[0], other))
		s.stop()
		s.start()
		_, err := admin.RotateAccount(ctx, m.target.Name, names[0], "INC-2")
		must(t, err)
		h.changed(names[0], "the password that others had set")
		h.accepted(names[0], h.current(names[0]))
	}
	s.stop()
	look(t, "the data folder", folder(t, s.dir), h.secrets)
	b, err := os.ReadFile(s.log)
	must(t, err)
	look(t, "server.log", b, h.secrets)
	look(t, "the arguments and environments of all processes", []byte(h.seen.String()), h.secrets)
	if !bytes.Contains(b, []byte("SIGABRT")) {
		t.Error("the server has left no traces of its goroutines, in which nothing could be found")
	}
	if m.log != nil {
		delete(h.secrets, "a password that others set") // which the test itself sent as it is
		delete(h.secrets, "the first password")
		look(t, "the log of the system", []byte(m.log()), h.secrets)
	}
}

// state is how the password of an account stands.
func (h *teller) state(account string) api.Password {
	list, err := h.admin.Passwords(h.t.Context(), h.m.target.Name)
	for _, p := range list.Items {
		if p.Account == account {
			return p
		}
	}
	return api.Password{Problem: fmt.Sprint(list, err)}
}

// changed waits until an account has another password.
func (h *teller) changed(account, what string) {
	h.t.Helper()
	eventually(h.t, 60*time.Second, what, func() bool {
		p := h.state(account)
		return p.State == "ok" && p.ChangedAt != nil && p.Cause != "demand"
	})
}

// known are the passwords that may be in force, the likeliest first.
func (h *teller) known(account string) []api.KnownPassword {
	h.t.Helper()
	list, err := h.reader.RecoverPasswords(h.t.Context(), h.m.target.Name, account, "the test wants to know")
	must(h.t, err)
	for i, p := range list.Items {
		h.secrets[fmt.Sprint(account, i, p.MadeAt)] = string(p.Secret)
	}
	return list.Items
}

// current is the one that a login has proved.
func (h *teller) current(account string) api.KnownPassword {
	h.t.Helper()
	for _, p := range h.known(account) {
		if p.State == "current" {
			return p
		}
	}
	h.t.Fatal("no password is the current one")
	return api.KnownPassword{}
}

// accepted logs in.
func (h *teller) accepted(account string, p api.KnownPassword) {
	h.t.Helper()
	must(h.t, h.m.tried(account).Check(h.t.Context(), vault.NewSecret(p.Secret)))
}

// rotated changes the password of an account while the server is killed at a call of the
// change, or not, and returns the calls that there were. Other accounts are at rest.
func (h *teller) rotated(account string, at int) (calls []string, struck bool) {
	h.t.Helper()
	watched := h.killAt(at)
	_, err := h.admin.RotateAccount(h.t.Context(), h.m.target.Name, account, "INC-1 the test wants it")
	if api.AsProblem(err) != nil {
		h.t.Fatal(err)
	}
	// When the answer did not come, it may have been asked for or not.
	eventually(h.t, 60*time.Second, "a kill, or a change", func() bool { return !h.alive() || err == nil && h.state(account).Cause != "demand" })
	return watched(), !h.alive()
}

// kills kills the server in changes, again and again, at the calls of one change that
// nothing disturbs. After each start the right password is known by a login, although the change may
// have to wait for what was sent before; so the next one is of another account.
func (h *teller) kills(first string, accounts []string) {
	t := h.t
	t.Helper()
	var calls []string
	h.hunted(func() { calls, _ = h.rotated(first, 0) })
	h.changed(first, "a change that nothing disturbs")
	h.written(calls)
	struck, slowest, worst := 0, time.Duration(0), ""
	for i, at := range kills(t, len(calls)) {
		account := h.rested(accounts)
		before := h.known(account)
		made, dead := h.rotated(account, at)
		h.kill()
		what := fmt.Sprintf("kill %d, at call %d, %s", i+1, at, made[len(made)-1])
		began := time.Now()
		h.start()
		var now api.KnownPassword
		eventually(t, 60*time.Second, "the right password is known after "+what, func() bool {
			switch p := h.state(account); {
			case p.State == "ok" && p.Cause != "demand":
				now = h.current(account)
				return true
			case p.State == "failing":
				now = h.current(account)
				return now.ProvedAt != nil && now.ProvedAt.After(began)
			default:
				return false
			}
		})
		if took := time.Since(began); took > slowest {
			slowest, worst = took, what
		}
		if dead {
			struck++
		}
		h.accepted(account, now)
		if n := unknown(h.known(account), before); n > 2 {
			t.Errorf("%s: %d passwords were made", what, n)
		}
		if (i+1)%50 == 0 {
			t.Logf("%d kills, %s at most", i+1, slowest.Round(time.Millisecond))
		}
	}
	t.Logf("%d kills struck at one of the %d calls of a change; the right password was known %s after the start at most (%s)", struck, len(calls), slowest.Round(time.Millisecond), worst)
	t.Logf("the calls: %s", summed(calls))
	if os.Getenv("KILLS") != "" {
		for _, a := range accounts {
			eventually(t, 3*time.Minute, "the change of "+a+" after a kill", func() bool { p := h.state(a); return p.State == "ok" && p.Cause != "demand" })
			h.accepted(a, h.current(a))
		}
	}
}

// hunted keeps what every process of the machine shows of its arguments and its
// environment, while something is done.
func (h *teller) hunted(do func()) {
	h.t.Helper()
	stop, ended := make(chan struct{}), make(chan map[string]bool)
	go func() {
		seen := map[string]bool{}
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range files {
				for _, name := range []string{file, filepath.Join(filepath.Dir(file), "environ")} {
					if b, err := os.ReadFile(name); err == nil { // it may have ended
						seen[string(b)] = true
					}
				}
			}
			select {
			case <-stop:
				ended <- seen
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	for text := range <-ended {
		h.seen.WriteString(text)
	}
	if !strings.Contains(h.seen.String(), h.config) {
		h.t.Error("the server itself was not seen")
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", h.pid()))
	must(h.t, err)
	if !regexp.MustCompile(`Max core file size +0 +0`).Match(limits) {
		h.t.Errorf("the server may leave its memory behind when it dies:\n%s", limits)
	}
}

// written looks for files other than those of the installation among what was written.
func (h *teller) written(calls []string) {
	h.t.Helper()
	for _, c := range calls {
		name, object, _ := strings.Cut(c, " ")
		known := func(prefix string) bool { return strings.HasPrefix(object, prefix) }
		if object != "" && !slices.ContainsFunc([]string{":", "socket", "pipe:", "drawbolt.db", "vault.marks", "server.log", ".new-"}, known) {
			h.t.Errorf("%s of %s: a file that nobody looks into", name, object)
		}
	}
}

// rested waits until the password of one of the accounts is as it should be and no other is
// about to be worked on, and returns that account.
func (h *teller) rested(accounts []string) (account string) {
	h.t.Helper()
	eventually(h.t, 3*time.Minute, "an account is at rest", func() bool {
		list, err := h.admin.Passwords(h.t.Context(), h.m.target.Name)
		must(h.t, err)
		if account = ""; os.Getenv("KILLS") != "" {
			time.Sleep(200 * time.Millisecond) // it waits for long here, and the server limits who asks too often
		}
		for _, p := range list.Items {
			switch {
			case p.State == "ok":
				if account == "" && slices.Contains(accounts, p.Account) {
					account = p.Account
				}
			case p.State != "failing" || time.Until(*p.NextAt) < 5*time.Second:
				return false
			}
		}
		return account != ""
	})
	return account
}

// unknown is how many of the passwords were not known before.
func unknown(now, before []api.KnownPassword) (n int) {
	for _, p := range now {
		if !slices.ContainsFunc(before, func(q api.KnownPassword) bool { return bytes.Equal(p.Secret, q.Secret) }) {
			n++
		}
	}
	return n
}

// summed says how often there is each of the calls.
func summed(calls []string) string {
	count := map[string]int{}
	for _, c := range calls {
		count[c]++
	}
	var list []string
	for _, c := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%d %s", count[c], c))
	}
	return strings.Join(list, ", ")
}

func hostKeys(k ssh.PublicKey) []string {
	return []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))}
}

// as are accounts that are known by another name in their system; nil: by their own.
func as(names []string, known func(name string) string) (list []api.AccountInput) {
	for _, name := range names {
		a := api.AccountInput{Name: name}
		if known != nil {
			a.KnownAs = known(name)
		}
		list = append(list, a)
	}
	return list
}

// machineWith is a machine that takes passwords. %s is an account in what is done for each.
func machineWith(t testing.TB, s *server, names []string, each string) (*servers.Machine, managed) {
	m := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()}, "root@db01")
	first := canary("first")
	m.Do(`sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes\nMaxAuthTries 20/' ` + m.Config + ` && pkill -HUP -o sshd`)
	change := func(account, password string) error {
		m.Do("echo '" + account + ":" + password + "' | chpasswd -c SHA512")
		return nil
	}
	for _, name := range names {
		m.Do("useradd -m -s /bin/sh " + name + strings.ReplaceAll(each, "%s", name))
		must(t, change(name, first))
	}
	return m, managed{
		target: api.TargetInput{Name: "db01", Address: m.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: hostKeys(m.HostKey), Accounts: as(names, nil)},
		first:  first, log: m.Log, change: change,
		tried: func(account string) rotate.Rotator {
			return linux.Rotator{Account: account, HostKey: ssh.FixedHostKey(m.HostKey), Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr)
			}}
		},
	}
}

func onMachine(t testing.TB, s *server, names []string) managed {
	_, m := machineWith(t, s, names, "")
	m.target.Provisioner = "root"
	return m
}

// onMachineAlone has accounts that may change their own passwords with sudo.
func onMachineAlone(t testing.TB, s *server, names []string) managed {
	_, m := machineWith(t, s, names, ` && echo '%s ALL=(root) NOPASSWD: /usr/sbin/chpasswd' >/etc/sudoers.d/%s && chmod 440 /etc/sudoers.d/%s`)
	return m
}

func onPostgres(t testing.TB, _ *server, names []string) managed {
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
	own := strings.ToLower(crand.Text()) // of this test: roles are the server's
	role := func(name string) string { return name + own }
	must(t, do("CREATE ROLE "+role("adm")+" LOGIN SUPERUSER PASSWORD '"+by+"'"))
	t.Cleanup(func() { must(t, do("DROP ROLE "+role("adm"))) })
	for _, name := range names {
		must(t, do("CREATE ROLE "+role(name)+" LOGIN PASSWORD '"+first+"'"))
		t.Cleanup(func() { must(t, do("DROP ROLE "+role(name))) })
	}
	return managed{
		target: api.TargetInput{Name: "pg01", Kind: "postgres", Address: u.Host, Accounts: append(as(names, role), api.AccountInput{Name: "dba", KnownAs: role("adm")})},
		first:  first, reset: "dba", secrets: map[string]string{"dba": by},
		tried: func(account string) rotate.Rotator { return postgres.Rotator{Address: u.Host, Role: role(account)} },
		change: func(account, password string) error {
			return do("ALTER ROLE " + role(account) + " PASSWORD '" + password + "'")
		},
	}
}

func onMariaDB(t testing.TB, _ *server, names []string) managed {
	m := servers.NewMariaDB(t)
	first, by := canary("first"), canary("admin")
	must(t, m.Do("CREATE USER dba@'%' IDENTIFIED BY '"+by+"'; GRANT CREATE USER ON *.* TO dba@'%'; SET GLOBAL max_password_errors = 5"))
	for _, name := range names {
		must(t, m.Do("CREATE USER "+name+"@'127.0.0.1' IDENTIFIED BY '"+first+"'"))
	}
	return managed{
		target: api.TargetInput{Name: "my01", Kind: "mysql", Address: m.Address, Accounts: append(as(names, func(name string) string { return name + "@127.0.0.1" }), api.AccountInput{Name: "dba"})},
		first:  first, reset: "dba", secrets: map[string]string{"dba": by},
		tried: func(account string) rotate.Rotator {
			return mysql.Rotator{Address: m.Address, User: account, Host: "127.0.0.1"}
		},
		change: func(account, password string) error {
			return m.Do("ALTER USER " + account + "@'127.0.0.1' IDENTIFIED BY '" + password + "'")
		},
	}
}

func onSlapd(t testing.TB, _ *server, names []string) managed {
	first := canary("first")
	dn := func(name string) string { return "cn=" + name + ",dc=corp,dc=test" }
	entries := "dn: cn=default,dc=corp,dc=test\nobjectClass: device\nobjectClass: pwdPolicy\ncn: default\npwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 5\npwdLockoutDuration: 1800\n"
	for _, name := range names {
		entries += "\ndn: " + dn(name) + "\nobjectClass: inetOrgPerson\ncn: " + name + "\nsn: app\nuserPassword: " + first + "\n"
	}
	d := servers.NewSlapd(t, entries)
	by := func(account string) rotate.Rotator {
		return ldap.Rotator{URL: "ldaps://" + d.Address, TLS: &tls.Config{RootCAs: d.Roots}, DN: dn(account), Admin: d.Admin, AdminPassword: vault.NewSecret([]byte(d.Password))}
	}
	return managed{
		target: api.TargetInput{Name: "dir01", Kind: "ldap", Address: d.Address, HostKeys: []string{base64.StdEncoding.EncodeToString(d.Certificate(t))},
			Accounts: append(as(names, dn), api.AccountInput{Name: "dirman", KnownAs: d.Admin})},
		first: first, reset: "dirman", secrets: map[string]string{"dirman": d.Password}, tried: by, log: d.Log,
		change: func(account, password string) error {
			return by(account).Set(context.Background(), vault.Secret{}, vault.NewSecret([]byte(password)))
		},
	}
}

func onSamba(t testing.TB, _ *server, names []string) managed {
	d := servers.NewSamba(t)
	dn := func(name string) string { return "CN=" + name + ",CN=Users," + d.Base }
	by := func(account string) rotate.Rotator {
		return ldap.Rotator{URL: "ldaps://" + d.Address, TLS: &tls.Config{RootCAs: d.Roots}, DN: dn(account), Admin: d.Admin, AdminPassword: vault.NewSecret([]byte(d.Password)), ActiveDirectory: true}
	}
	change := func(account, password string) error {
		return by(account).Set(context.Background(), vault.Secret{}, vault.NewSecret([]byte(password)))
	}
	conn, err := goldap.DialURL("ldaps://"+d.Address, goldap.DialWithTLSConfig(&tls.Config{RootCAs: d.Roots}))
	must(t, err)
	defer conn.Close()
	must(t, conn.Bind(d.Admin, d.Password))
	lockout := goldap.NewModifyRequest(d.Base, nil)
	lockout.Replace("lockoutThreshold", []string{"5"})
	must(t, conn.Modify(lockout))
	first := canary("first") + "A"
	for _, name := range names {
		add := goldap.NewAddRequest(dn(name), nil)
		add.Attribute("objectClass", []string{"user"})
		add.Attribute("sAMAccountName", []string{name})
		must(t, conn.Add(add))
		must(t, change(name, first))
		enable := goldap.NewModifyRequest(dn(name), nil)
		enable.Replace("userAccountControl", []string{"512"})
		must(t, conn.Modify(enable))
	}
	return managed{
		target: api.TargetInput{Name: "ad01", Kind: "ad", Address: d.Address, HostKeys: []string{base64.StdEncoding.EncodeToString(d.Certificate(t))},
			Accounts: append(as(names, dn), api.AccountInput{Name: "domadm", KnownAs: d.Admin})},
		first: first, reset: "domadm", secrets: map[string]string{"domadm": d.Password}, tried: by, change: change, grace: true,
	}
}
