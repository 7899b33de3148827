package broker_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

// A house is a broker with everything real below it, and its people.
type house struct {
	*broker.Broker
	t      testing.TB
	db     *store.DB
	url    string
	clock  *clock
	config broker.Config
	bundle fs.FS
}

// A clock goes like the real one and can be moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

var engines = []struct {
	name string
	url  func(testing.TB) string
}{
	{"sqlite", sqliteURL},
	{"postgres", storetest.Postgres},
}

func sqliteURL(t testing.TB) string { return storetest.SQLite(t) }

// onEach runs the test in a new house on each engine, on all of them at once.
func onEach(t *testing.T, test func(t *testing.T, h *house)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, newHouse(t, e.url(t)))
		})
	}
}

func newHouse(t testing.TB, url string, options ...func(*broker.Config)) *house {
	t.Helper()
	h := &house{t: t, url: url, clock: &clock{}, bundle: rego.Bundle}
	h.config = brokertest.Config(t, "node1", "")
	h.config.Search, h.config.Now = true, h.clock.now
	for _, o := range options {
		o(&h.config)
	}
	h.open()
	h.furnish()
	h.Broker = h.broker()
	return h
}

// another is a second server on the same database.
func (h *house) another(node string, options ...func(*broker.Config)) *house {
	h.t.Helper()
	o := &house{t: h.t, url: h.url, clock: h.clock, config: h.config, bundle: h.bundle}
	o.config.Node = node
	for _, option := range options {
		option(&o.config)
	}
	o.open()
	o.Broker = o.broker()
	return o
}

func (h *house) open() {
	h.t.Helper()
	db, err := store.Open(h.t.Context(), store.Config{URL: h.url, Now: h.config.Now})
	ok(h.t, err)
	h.t.Cleanup(func() { db.Close() })
	h.db, h.config.Store = db, db
}

// broker makes a broker with a policy engine of its own, as every server has.
func (h *house) broker() *broker.Broker {
	h.t.Helper()
	h.config.Policy = brokertest.Policy(h.t, h.bundle)
	b, err := broker.New(h.t.Context(), h.config)
	ok(h.t, err)
	return b
}

// start runs the broker until the test ends, or until the returned func.
func (h *house) start() (stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
	})
	h.t.Cleanup(stop)
	return stop
}

// people are who lives here, with their groups.
var people = []struct {
	name   string
	groups []string
	bot    bool
}{
	{"alice", []string{"engineers"}, false}, {"erin", []string{"engineers", "approvers"}, false},
	{"bob", []string{"approvers"}, false}, {"dave", []string{"approvers"}, false},
	{"carol", []string{"auditors"}, false}, {"root", []string{"admins"}, false}, {"ci", []string{"engineers", "approvers"}, true},
	{"mallory", nil, false}, {"kim", []string{"custodians"}, false}, {"lee", []string{"custodians"}, false},
	{"rita", []string{"reviewers"}, false}, {"sam", []string{"reviewers"}, false},
}

func (h *house) furnish() {
	h.t.Helper()
	shell := access.SessionRules{Shell: true, Exec: true}
	approvers := func(n int) []access.Need { return []access.Need{{Count: n, Groups: []string{"approvers"}}} }
	names := func(list ...string) access.Selector { return access.Selector{Names: list} }
	roles := []access.Role{
		{Name: "engineers", Groups: []string{"engineers"}, Rules: []access.Rule{
			{ID: "root", Actions: []string{"request", "extend"}, Targets: names("db01"), Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: approvers(1), Session: shell},
			{ID: "two", Actions: []string{"request", "extend"}, Targets: names("db02"), Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: approvers(2), Session: shell},
			{ID: "guest", Actions: []string{"request", "extend"}, Targets: names("db01"), Accounts: []string{"guest"}, MaxDuration: 8 * time.Hour, Session: access.SessionRules{Shell: true}},
			{ID: "fire", Actions: []string{"break_glass"}, Targets: names("db01"), Accounts: []string{"root"}, MaxDuration: 30 * time.Minute, Session: shell},
			{ID: "fresh", Actions: []string{"request"}, Targets: names("vault01"), Accounts: []string{"root"}, MaxDuration: time.Hour, MFAWithin: 5 * time.Minute, Session: shell},
		}},
		{Name: "approvers", Groups: []string{"approvers"}, Rules: []access.Rule{{ID: "vote", Actions: []string{"approve", "deny", "revoke", "breakglass.review"}}}},
		{Name: "auditors", Groups: []string{"auditors"}, Rules: []access.Rule{{ID: "read", Actions: []string{"session.list", "session.replay", "session.watch", "audit.read", "audit.export", "request.read"}}}},
		{Name: "reviewers", Groups: []string{"reviewers"}, Rules: []access.Rule{{ID: "review", Actions: []string{"review.read", "review.write", "request.read", "breakglass.review"}}}},
		{Name: "custodians", Groups: []string{"custodians"}, Rules: []access.Rule{{ID: "keep", Actions: []string{"recording.hold", "recording.delete", "session.list"}}}},
		{Name: "admins", Groups: []string{"admins"}, Rules: []access.Rule{{ID: "all", Actions: []string{
			"target.read", "target.write", "target.facts", "user.read", "user.write", "role.read", "role.write", "lock.write", "session.list", "session.terminate", "session.moderate", "session.watch", "request.read", "policy.read", "policy.write", "revoke", "secret.read", "secret.write", "secret.rotate", "secret.recover", "system.write", "integration.read", "integration.write", "system.read",
			"account.read", "account.discover", "account.adopt",
		}}}},
	}
	accounts := []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "guest", Credential: access.CredentialCertificate}}
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		for _, p := range people {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: p.name, Groups: p.groups, Bot: p.bot, CreatedAt: tx.Now(), Version: 1}
			if err := tx.AddUser(h.t.Context(), &u); err != nil {
				return audit.Event{}, err
			}
		}
		for i, name := range []string{"db01", "db02", "vault01"} {
			t := access.Target{ID: access.NewID(access.TargetPrefix), Name: name, Address: fmt.Sprintf("192.0.2.%d:22", i+1), Labels: access.Labels{Environment: "prod"},
				Accounts: accounts, HostKeys: []string{keyText(newKey(h.t))}, CreatedAt: tx.Now(), Version: 1}
			if err := tx.AddTarget(h.t.Context(), &t); err != nil {
				return audit.Event{}, err
			}
		}
		for i := range roles {
			roles[i].Version = 1
			if err := tx.AddRole(h.t.Context(), &roles[i]); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
}

// as is the caller of that name, as the house knows them at this moment.
func (h *house) as(name string) access.Caller {
	h.t.Helper()
	return access.Caller{User: h.user(name), Source: netip.MustParseAddr("198.51.100.7"), Via: "cli"}
}

func (h *house) user(name string) access.User {
	h.t.Helper()
	u, err := h.db.User(h.t.Context(), name)
	ok(h.t, err)
	return u
}

// setUser changes a user behind the broker's verbs, as a directory does; the
// event is that of the verb.
func (h *house) setUser(name string, change func(*access.User)) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		u, err := tx.User(h.t.Context(), name)
		if err != nil {
			return audit.Event{}, err
		}
		change(&u)
		return audit.Event{Actor: "system", Action: "user.set", Object: u.ID}, tx.SaveUser(h.t.Context(), &u)
	}))
}

func (h *house) setGroups(name string, groups ...string) {
	h.setUser(name, func(u *access.User) { u.Groups = groups })
}

// ask files a request and returns it.
func (h *house) ask(who, what string) broker.Case {
	h.t.Helper()
	c, err := h.Request(h.t.Context(), h.as(who), asking(what))
	ok(h.t, err)
	return c
}

// asking is an ask for account@target.
func asking(what string) broker.Ask {
	account, target, _ := strings.Cut(what, "@")
	return broker.Ask{Target: target, Account: account, Reason: "INC-42 disk full", Duration: time.Hour}
}

func (h *house) approve(who string, c broker.Case) broker.Case {
	h.t.Helper()
	c, err := h.Approve(h.t.Context(), h.as(who), c.Request.ID, c.Request.Digest(), broker.Answer{})
	ok(h.t, err)
	return c
}

// granted is an approved request of alice for root@db01.
func (h *house) granted() broker.Case {
	h.t.Helper()
	return h.approve("bob", h.ask("alice", "root@db01"))
}

func (h *house) session(who string, c broker.Case) *broker.Live {
	h.t.Helper()
	l, err := h.Open(h.t.Context(), h.as(who), c.Grant.ID, broker.Opening{Kind: "shell", Client: "SSH-2.0-test"})
	ok(h.t, err)
	h.t.Cleanup(func() { _ = h.Close(h.t.Context(), l, broker.Closing{Reason: "exited"}) })
	return l
}

// events returns the whole audit log, after a look that it is one log.
func (h *house) events() []audit.Event {
	h.t.Helper()
	var list []audit.Event
	before, err := h.db.AuditSize(h.t.Context())
	ok(h.t, err)
	for {
		leaves, err := h.db.Leaves(h.t.Context(), store.LeafFilter{From: int64(len(list)), Limit: 1000})
		ok(h.t, err)
		if len(leaves) == 0 {
			break
		}
		for _, leaf := range leaves {
			e, err := audit.Parse(leaf)
			ok(h.t, err)
			if e.Seq != int64(len(list)) {
				h.t.Fatalf("event %d follows event %d", e.Seq, len(list)-1)
			}
			list = append(list, e)
		}
	}
	after, err := h.db.AuditSize(h.t.Context())
	ok(h.t, err)
	if n := int64(len(list)); n < before || n > after {
		h.t.Fatalf("%d events, the head said %d before and %d after", n, before, after)
	}
	return list
}

// told returns the actions and outcomes of the events from n on.
func (h *house) told(n int) []string {
	h.t.Helper()
	var list []string
	for _, e := range h.events()[n:] {
		list = append(list, e.Action+" "+string(e.Outcome))
	}
	return list
}

// dump returns every row of every table that is not the audit log or what is kept with it.
func (h *house) dump() string {
	h.t.Helper()
	driver, name := "pgx", h.url
	tables := "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
		driver, name, tables = "sqlite", path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
	}
	db, err := sql.Open(driver, name)
	ok(h.t, err)
	defer db.Close()
	var out []string
	for _, row := range query(h.t, db, tables) {
		table := strings.Trim(row, "[]")
		if strings.HasPrefix(table, "audit_") || strings.HasPrefix(table, "goose") || table == "decisions" {
			continue
		}
		rows := query(h.t, db, "SELECT * FROM "+table)
		slices.Sort(rows)
		out = append(out, table+":\n"+strings.Join(rows, "\n"))
	}
	if len(out) < 8 {
		h.t.Fatalf("only %d tables", len(out))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func query(t testing.TB, db *sql.DB, q string) []string {
	t.Helper()
	rows, err := db.Query(q)
	ok(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	ok(t, err)
	var out []string
	for rows.Next() {
		values, pointers := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			pointers[i] = &values[i]
		}
		ok(t, rows.Scan(pointers...))
		out = append(out, fmt.Sprint(values))
	}
	ok(t, rows.Err())
	return out
}

// live returns how many sessions the database holds as running.
func (h *house) liveSessions() int {
	h.t.Helper()
	list, err := h.db.Sessions(h.t.Context(), store.SessionFilter{Live: true, Limit: 1000})
	ok(h.t, err)
	return len(list)
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	s, err := ssh.NewSignerFromKey(private)
	ok(t, err)
	return s
}

func newKey(t testing.TB) ssh.PublicKey { return newSigner(t).PublicKey() }

func keyText(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error = %v, want one that is %v", err, kind)
	}
}

// soon is longer than anything takes on a machine that does much else, and shorter
// than what would end by itself. How fast things are is told in docs/performance.md,
// and held by TestManyRevoked.
const soon = 40 * time.Second

// ends waits for the end of a session and checks that it is over everywhere,
// for this reason.
func ends(t testing.TB, l *broker.Live, why error) {
	t.Helper()
	start := time.Now()
	select {
	case <-l.Context().Done():
	case <-time.After(soon):
		t.Fatalf("the session still runs after %s", soon)
	}
	t.Logf("ended after %s", time.Since(start).Round(time.Millisecond))
	want(t, context.Cause(l.Context()), why)
	want(t, l.Check(), why)
	want(t, l.Check(), access.ErrDenied)
}

// goesOn checks that a session is as it was.
func goesOn(t testing.TB, l *broker.Live) {
	t.Helper()
	if err := errors.Join(l.Context().Err(), l.Check()); err != nil {
		t.Fatalf("the session has ended: %v", context.Cause(l.Context()))
	}
}
