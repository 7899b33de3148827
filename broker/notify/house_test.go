package notify_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

// A house is a broker that runs on a real database, with people.
type house struct {
	*broker.Broker
	t      testing.TB
	db     *store.DB
	url    string
	clock  *clock
	config broker.Config
}

// A clock goes like the real one and can be moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func sqliteURL(t testing.TB) string { return "sqlite://" + filepath.Join(t.TempDir(), "db") }

// onEach runs the test in a new house on each engine.
func onEach(t *testing.T, test func(t *testing.T, h *house)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": servers.Postgres} {
		t.Run(name, func(t *testing.T) { test(t, newHouse(t, url(t))) })
	}
}

func newHouse(t testing.TB, url string) *house {
	t.Helper()
	h := &house{t: t, url: url, clock: &clock{}}
	h.config = broker.Config{Node: "one", CheckpointEvery: time.Hour, Now: h.clock.now, Log: quiet()}
	path := filepath.Join(t.TempDir(), "root.key")
	ok(t, keeper.CreateFile(path))
	k, err := keeper.File(path)
	ok(t, err)
	vc := vault.Config{Backend: vault.NewMemory(), Keeper: k}
	ok(t, vault.Init(t.Context(), vc))
	v, err := vault.Open(t.Context(), vc)
	ok(t, err)
	for kind, to := range map[sshca.Kind]**sshca.Authority{sshca.User: &h.config.UserCA, sshca.Host: &h.config.HostCA, sshca.Identity: &h.config.IdentityCA} {
		*to, err = sshca.Create(t.Context(), v, kind)
		ok(t, err)
	}
	secret, public, err := audit.NewKey("drawbolt.example/log")
	ok(t, err)
	h.config.Signer, err = note.NewSigner(secret)
	ok(t, err)
	h.config.Verifier, err = note.NewVerifier(public)
	ok(t, err)
	h.open()
	h.furnish()
	h.run()
	return h
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// another is a second server on the same database.
func (h *house) another(node string) *house {
	h.t.Helper()
	o := &house{t: h.t, url: h.url, clock: h.clock, config: h.config}
	o.config.Node = node
	o.open()
	o.run()
	return o
}

func (h *house) open() {
	h.t.Helper()
	db, err := store.Open(h.t.Context(), store.Config{URL: h.url, Now: h.clock.now})
	ok(h.t, err)
	h.t.Cleanup(func() { db.Close() })
	h.db, h.config.Store = db, db
}

// run makes the broker, and runs it until the test ends.
func (h *house) run() {
	h.t.Helper()
	var err error
	h.config.Policy, err = policy.New(policy.Config{Bundle: rego.Bundle, Timeout: 10 * time.Second})
	ok(h.t, err)
	h.Broker, err = broker.New(h.t.Context(), h.config)
	ok(h.t, err)
	h.background(h.Run)
}

// background runs something until the test ends, or until the returned func.
func (h *house) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		ok(h.t, <-done)
	})
	h.t.Cleanup(stop)
	return stop
}

func (h *house) furnish() {
	h.t.Helper()
	shell := access.SessionRules{Shell: true, Exec: true}
	anywhere := access.Selector{Names: []string{"*"}}
	roles := []access.Role{
		{Name: "engineers", Groups: []string{"engineers"}, Version: 1, Rules: []access.Rule{
			{ID: "root", Actions: []string{"request", "extend"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}}}, Session: shell},
			{ID: "two", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"db02"}}, Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: []access.Need{{Count: 2, Groups: []string{"approvers"}}}, Session: shell},
			{ID: "guest", Actions: []string{"request", "extend"}, Targets: anywhere, Accounts: []string{"guest"}, MaxDuration: 8 * time.Hour, Session: shell},
			{ID: "fire", Actions: []string{"break_glass"}, Targets: anywhere, Accounts: []string{"root"}, MaxDuration: 30 * time.Minute, Session: shell},
		}},
		{Name: "approvers", Groups: []string{"approvers"}, Version: 1, Rules: []access.Rule{{ID: "vote", Actions: []string{"approve", "deny", "revoke"}}}},
		{Name: "admins", Groups: []string{"admins"}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"integration.read", "integration.write", "user.write", "role.write", "lock.write"}}}},
	}
	people := []access.User{
		{Name: "alice", Display: "Alice Kim", Groups: []string{"engineers"}}, {Name: "bob", Groups: []string{"approvers"}}, {Name: "dave", Groups: []string{"approvers", "engineers"}},
		{Name: "root", Groups: []string{"admins"}}, {Name: "ci", Groups: []string{"approvers"}, Bot: true}, {Name: "lea", Groups: []string{"approvers"}, Locked: true, LockReason: "left"},
	}
	accounts := []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "guest", Credential: access.CredentialCertificate}}
	ctx := h.t.Context()
	ok(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		var errs []error
		for i := range people {
			u := &people[i]
			u.ID, u.CreatedAt, u.Version = access.NewID(access.UserPrefix), tx.Now(), 1
			if !u.Bot {
				u.Attributes = map[string]string{"email": u.Name + "@example.com"}
			}
			errs = append(errs, tx.AddUser(ctx, u))
		}
		for _, name := range []string{"db01", "db02"} {
			errs = append(errs, tx.AddTarget(ctx, &access.Target{ID: access.NewID(access.TargetPrefix), Name: name, Address: "192.0.2.1:22", Labels: access.Labels{Environment: "prod", Tier: "1"}, Accounts: accounts, CreatedAt: tx.Now(), Version: 1}))
		}
		for i := range roles {
			errs = append(errs, tx.AddRole(ctx, &roles[i]))
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, errors.Join(errs...)
	}))
}

func (h *house) as(name string) access.Caller {
	h.t.Helper()
	u, err := h.db.User(h.t.Context(), name)
	ok(h.t, err)
	return access.Caller{User: u, Source: netip.MustParseAddr("198.51.100.7"), Via: "cli"}
}

func (h *house) ask(who, account, target string) broker.Case {
	h.t.Helper()
	c, err := h.Request(h.t.Context(), h.as(who), broker.Ask{Target: target, Account: account, Reason: "INC-42 disk full", Duration: time.Hour})
	ok(h.t, err)
	return c
}

func (h *house) breakGlass(who, target, reason string) broker.Case {
	h.t.Helper()
	c, err := h.Request(h.t.Context(), h.as(who), broker.Ask{Target: target, Account: "root", Reason: reason, Duration: 20 * time.Minute, BreakGlass: true})
	ok(h.t, err)
	return c
}

// dispatch tells on these channels until the test ends, or until the returned func.
// It is quick, and returns when the channels have begun.
func (h *house) dispatch(routes []notify.Route, options ...func(*notify.Config)) (stop func()) {
	h.t.Helper()
	c := notify.Config{
		Broker: h.Broker, Store: h.db, Node: h.config.Node, Routes: routes, Now: h.clock.now, Log: quiet(),
		Pause: func(int) time.Duration { return 10 * time.Millisecond }, Lease: 20 * time.Second, Within: 15 * time.Second,
	}
	for _, o := range options {
		o(&c)
	}
	d, err := notify.New(c)
	ok(h.t, err)
	stop = h.background(d.Run)
	for _, r := range routes {
		until(h.t, r.Channel.Name()+" has begun", func() bool {
			_, err := h.db.Channel(h.t.Context(), r.Channel.Name())
			return err == nil
		})
	}
	return stop
}

// A fake is a channel that remembers what it is given, after it was asked.
type fake struct {
	name string
	fn   func(ctx context.Context, n notify.Notice) error // nil: takes everything

	mu   sync.Mutex
	told []notify.Notice
}

func (f *fake) Name() string { return f.name }

func (f *fake) Notify(ctx context.Context, n notify.Notice) error {
	if f.fn != nil {
		if err := f.fn(ctx, n); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, n)
	return nil
}

func (f *fake) all() []notify.Notice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

func (f *fake) kinds() (list []notify.Kind) {
	for _, n := range f.all() {
		list = append(list, n.Kind)
	}
	return list
}

// different is how many notices it was given. After a fault one may come twice.
func (f *fake) different() int {
	seen := map[int64]bool{}
	for _, n := range f.all() {
		seen[n.Position] = true
	}
	return len(seen)
}

func route(c notify.Channel, kinds ...notify.Kind) notify.Route {
	if len(kinds) == 0 {
		kinds = notify.Kinds()
	}
	return notify.Route{Channel: c, Type: "fake", Kinds: kinds}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits until it is so, for some minutes at most.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within three minutes: %s", what)
		}
	}
}
