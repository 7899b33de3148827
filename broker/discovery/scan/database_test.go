//go:build linux

package scan_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

// withDatabase is a house with a target that is a database, scanned as an account
// whose password is kept.
func withDatabase(t *testing.T, kind, address, account, password string) *house {
	return withSystem(t, kind, address, account, "", password)
}

func withSystem(t *testing.T, kind, address, account, knownAs, password string, authorities ...string) *house {
	ctx := t.Context()
	h := &house{t: t}
	config := brokertest.Config(t, "one", "")
	config.Now = func() time.Time { return time.Now().Add(h.ahead) }
	var err error
	config.Store, err = store.Open(ctx, store.Config{URL: storetest.SQLite(t), Now: config.Now})
	ok(t, err)
	t.Cleanup(func() { config.Store.Close() })
	h.db = config.Store
	ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		ok(t, tx.AddUser(ctx, &access.User{ID: access.NewID(access.UserPrefix), Name: "admin", Groups: []string{"admins"}, CreatedAt: tx.Now(), Version: 1}))
		ok(t, tx.AddRole(ctx, &access.Role{Name: "admins", Groups: []string{"admins"}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"account.read", "account.discover", "account.adopt", "target.read", "secret.write"}}}}))
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddTarget(ctx, &access.Target{ID: access.NewID(access.TargetPrefix), Name: "db01", Kind: kind, Address: address, Version: 1, CreatedAt: tx.Now(),
			Accounts: []access.Account{{Name: account, Credential: access.CredentialPassword, KnownAs: knownAs}}, HostKeys: authorities})
	}))
	h.Broker, err = broker.New(ctx, config)
	ok(t, err)
	ok(t, h.SetCredential(ctx, h.as("admin"), "db01", account, access.CredentialPassword, []byte(password)))
	h.scanner, err = scan.New(scan.Config{Broker: h.Broker, Run: func(context.Context, broker.Discovery, string, []byte, int64) ([]byte, error) { panic("no machine") }})
	ok(t, err)
	return h
}

// scanAs scans the database and returns what it found, by name: the class, the risk and
// the rights.
func (h *house) scanAs(account string) map[string]string {
	h.t.Helper()
	d, err := h.scanner.Scan(h.t.Context(), h.as("admin"), "db01", account)
	ok(h.t, err)
	is := map[string]string{}
	for _, f := range d.Found {
		v, err := h.FindFound(h.t.Context(), h.as("admin"), f.ID)
		ok(h.t, err)
		text := f.Class
		for _, r := range v.Is.Rights {
			text += "; " + r.Text
		}
		if len(v.Ways) > 0 {
			text += " WAY"
		}
		is[f.Name] = text
	}
	return is
}

func TestPostgreSQL(t *testing.T) {
	address := servers.Postgres(t)
	u, err := url.Parse(address)
	ok(t, err)
	password, _ := u.User.Password()
	conn, err := pgx.Connect(t.Context(), address)
	ok(t, err)
	defer conn.Close(context.Background())
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			_, err := conn.Exec(context.Background(), s)
			ok(t, err)
		}
	}
	roles := []string{"scan_super", "scan_nested", "scan_group", "scan_plain", "scan_files", "scan_old", "scan_nobody"}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), address)
		if err != nil {
			return
		}
		defer conn.Close(context.Background())
		for _, r := range roles {
			_, _ = conn.Exec(context.Background(), "DROP ROLE IF EXISTS "+r)
		}
	})
	do("CREATE ROLE scan_super SUPERUSER LOGIN PASSWORD 'a-Passw0rd'", "CREATE ROLE scan_group CREATEROLE NOLOGIN", "CREATE ROLE scan_nested LOGIN PASSWORD 'a-Passw0rd' IN ROLE scan_group",
		"CREATE ROLE scan_plain LOGIN PASSWORD 'a-Passw0rd' VALID UNTIL '2999-01-01'", "CREATE ROLE scan_files NOLOGIN", "GRANT pg_execute_server_program TO scan_files",
		"CREATE ROLE scan_old SUPERUSER LOGIN PASSWORD 'a-Passw0rd' VALID UNTIL '2001-01-01'", "CREATE ROLE scan_nobody NOLOGIN")
	h := withDatabase(t, access.KindPostgres, u.Host, "postgres", password)
	is := h.scanAs("postgres")
	for name, want := range map[string]string{
		"scan_super": "unmanaged; is a superuser WAY", "scan_group": "unmanaged; makes and changes roles", "scan_nested": "unmanaged; makes and changes roles WAY", "scan_plain": "unmanaged",
		"scan_files": "unmanaged; runs programs on the server's machine", "scan_old": "unmanaged; is a superuser", "scan_nobody": "",
	} {
		if is[name] != want {
			t.Errorf("%s is %q, want %q", name, is[name], want)
		}
	}
	if !strings.HasPrefix(is["postgres"], "managed; is a superuser") || strings.Contains(is["postgres"], "WAY") {
		t.Errorf("postgres is %q", is["postgres"])
	}
	for name := range is {
		if strings.HasPrefix(name, "pg_") {
			t.Errorf("%s is the server's own", name)
		}
	}
	// The use of the password is on record, and a plain role sees who may do what, too.
	if !slices.Contains(h.actions(), "secret.lend done") {
		t.Errorf("%q", h.actions())
	}
	plain := withDatabase(t, access.KindPostgres, u.Host, "scan_plain", "a-Passw0rd")
	if is := plain.scanAs("scan_plain"); is["scan_super"] != "unmanaged; is a superuser WAY" {
		t.Errorf("seen by a plain role: %q", is)
	}
	wrong := withDatabase(t, access.KindPostgres, u.Host, "scan_plain", "another-Passw0rd")
	if _, err := wrong.scanner.Scan(t.Context(), wrong.as("admin"), "db01", "scan_plain"); err == nil || strings.Contains(err.Error(), "another-Passw0rd") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestMySQL(t *testing.T) {
	m := servers.NewMariaDB(t)
	ok(t, m.Do(`CREATE USER 'scanner'@'%' IDENTIFIED BY 'a-Passw0rd'; GRANT ALL ON *.* TO 'scanner'@'%';
		CREATE USER 'boss'@'10.%' IDENTIFIED BY 'a-Passw0rd'; GRANT ALL ON *.* TO 'boss'@'10.%' WITH GRANT OPTION;
		CREATE USER 'open'@'%'; GRANT PROCESS ON *.* TO 'open'@'%';
		CREATE USER 'shut'@'%' IDENTIFIED BY 'a-Passw0rd' ACCOUNT LOCK; GRANT FILE ON *.* TO 'shut'@'%';
		CREATE USER 'plain'@'%' IDENTIFIED BY 'a-Passw0rd'; CREATE ROLE nobody;`))
	h := withDatabase(t, access.KindMySQL, m.Address, "scanner", "a-Passw0rd")
	is := h.scanAs("scanner")
	for name, want := range map[string]string{
		"open@%": "unmanaged; sees what others do WAY", "shut@%": "unmanaged; reads and writes files of the server's machine", "plain@%": "unmanaged", "nobody@": "",
	} {
		if is[name] != want {
			t.Errorf("%s is %q, want %q", name, is[name], want)
		}
	}
	if s := is["boss@10.%"]; !strings.HasPrefix(s, "unmanaged; is a superuser; gives its rights to others") || !strings.HasSuffix(s, "WAY") {
		t.Errorf("boss is %q", s)
	}
	if s := is["scanner@%"]; !strings.HasPrefix(s, "managed") || strings.Contains(s, "WAY") {
		t.Errorf("scanner is %q", s)
	}
	if s := is["root@localhost"]; !strings.HasPrefix(s, "service; is a superuser") && !strings.HasPrefix(s, "unmanaged; is a superuser") {
		t.Errorf("root is %q", s)
	}
}
