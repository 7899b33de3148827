package slack_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/vault/sshca"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

const (
	team   = "T0EXAMPLE"
	room   = "C0PROD"
	alerts = "C0ALERTS"
)

// A house is the app with the real broker behind it and a Slack in front of it.
// Everybody is called in Slack as here, in upper case behind a U.
type house struct {
	*broker.Broker
	t     testing.TB
	db    *store.DB
	url   string
	clock *clock
	fake  *slacktest.Server
	app   *slack.Slack
	said  int64 // position of the last notice
	stop  func()
	out   *outbound.Client
}

// A clock goes like the real one, and can be moved and held.
type clock struct {
	ahead atomic.Int64
	held  atomic.Pointer[time.Time]
}

func (c *clock) now() time.Time {
	if at := c.held.Load(); at != nil {
		return *at
	}
	return time.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon bounds every waiting of a test; nothing takes so long.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newHouse(t testing.TB, mode string) *house {
	t.Helper()
	return newHouseOn(t, mode, "sqlite://"+filepath.Join(t.TempDir(), "db"))
}

// onEach runs the test with each database.
func onEach(t *testing.T, test func(t *testing.T, h *house)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newHouse(t, slack.SocketMode)) })
	t.Run("postgres", func(t *testing.T) { test(t, newHouseOn(t, slack.SocketMode, servers.Postgres(t))) })
}

// shifts are who is on call: groups, by the name of a person.
type shifts map[string][]string

func (s shifts) Groups(person string, _ time.Time) []string { return s[person] }
func (s shifts) Changed() <-chan struct{}                   { return nil }
func (s shifts) People(group string, _ time.Time) (list []string) {
	for name, groups := range s {
		if slices.Contains(groups, group) {
			list = append(list, name)
		}
	}
	return list
}

func newHouseOn(t testing.TB, mode, url string) *house {
	t.Helper()
	h := &house{t: t, url: url, clock: &clock{}}
	ctx := context.Background()
	h.db = must(store.Open(ctx, store.Config{URL: h.url, Now: h.clock.now}))
	t.Cleanup(func() { h.db.Close() })
	key := filepath.Join(t.TempDir(), "root.key")
	ok(t, keeper.CreateFile(key))
	vc := vault.Config{Backend: vault.NewMemory(), Keeper: must(keeper.File(key))}
	ok(t, vault.Init(ctx, vc))
	v := must(vault.Open(ctx, vc))
	secret, public, err := note.GenerateKey(rand.Reader, "drawbolt/gw.example.com")
	ok(t, err)
	h.Broker = must(broker.New(ctx, broker.Config{
		Store: h.db, Policy: must(policy.New(policy.Config{Bundle: rego.Bundle, Timeout: 10 * time.Second})), Node: "gw-1", Now: h.clock.now, Log: quiet(),
		UserCA: must(sshca.Create(ctx, v, sshca.User)), HostCA: must(sshca.Create(ctx, v, sshca.Host)), IdentityCA: must(sshca.Create(ctx, v, sshca.Identity)),
		Signer: must(note.NewSigner(secret)), Verifier: must(note.NewVerifier(public)), OnCall: shifts{"alice": {"oncall-db"}},
	}))
	h.furnish()
	h.fake = must(slacktest.Start(team))
	t.Cleanup(func() {
		h.fake.Close()
		for _, p := range h.fake.Problems() {
			t.Errorf("Slack would have refused: %s", p)
		}
	})
	h.out = outbound.New(outbound.Config{Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	t.Cleanup(h.out.Close)
	h.app = h.open(mode, h.db)
	h.stop = h.run(h.app, mode)
	return h
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// config is that of the app.
func (h *house) config(mode string, db *store.DB) slack.Config {
	return slack.Config{
		Broker: h.Broker, Store: db, Out: h.out, Mode: mode, Channel: room, Alerts: alerts, URL: "https://gw.example.com", APIURL: h.fake.URL(),
		BotToken: vault.NewSecret([]byte(h.fake.BotToken)), AppToken: vault.NewSecret([]byte(h.fake.AppToken)), SigningSecret: vault.NewSecret([]byte(h.fake.SigningSecret)),
		Now: h.clock.now, Log: quiet(),
	}
}

func (h *house) open(mode string, db *store.DB) *slack.Slack {
	return must(slack.New(h.config(mode, db)))
}

// run runs an app until the test ends, or until the returned func.
func (h *house) run(app *slack.Slack, mode string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	web := httptest.NewServer(app)
	if mode == slack.HTTPMode {
		h.fake.Set(func(s *slacktest.Server) { s.EventsURL = web.URL + "/slack/events" })
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
		web.Close()
		http.DefaultClient.CloseIdleConnections()
	}
	h.t.Cleanup(stop)
	return stop
}

func (h *house) furnish() {
	h.t.Helper()
	ctx := context.Background()
	shell := access.SessionRules{Shell: true}
	needs := func(n int, group string) []access.Need { return []access.Need{{Count: n, Groups: []string{group}}} }
	names := func(list ...string) access.Selector { return access.Selector{Names: list} }
	roles := []access.Role{
		{Name: "engineers", Groups: []string{"engineers"}, Rules: []access.Rule{
			{ID: "root", Actions: []string{"request", "extend"}, Targets: names("db01"), Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: needs(1, "approvers"), Session: shell},
			{ID: "two", Actions: []string{"request"}, Targets: names("db02"), Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, Approvals: needs(2, "approvers"), Session: shell},
			{ID: "tier0", Actions: []string{"request"}, Targets: names("vault01"), Accounts: []string{"root"}, MaxDuration: time.Hour, Approvals: needs(1, "guards"), Session: shell},
			{ID: "logs", Actions: []string{"request"}, Targets: names("db01"), Accounts: []string{"logs"}, MaxDuration: time.Hour, Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}, EscalateAfter: 5 * time.Minute, EscalateTo: []string{"leads"}}},
				Session: access.SessionRules{Shell: true, Files: []string{"download /var/log/**", "upload /srv/**"}}},
			{ID: "guest", Actions: []string{"request"}, Targets: names("db01"), Accounts: []string{"guest"}, MaxDuration: time.Hour, Session: shell},
			{ID: "fire", Actions: []string{"break_glass"}, Targets: names("db01"), Accounts: []string{"root"}, MaxDuration: 30 * time.Minute, Session: shell},
		}},
		{Name: "approvers", Groups: []string{"approvers"}, Rules: []access.Rule{{ID: "vote", Actions: []string{"approve", "deny", "revoke", "request.read"}}}},
		{Name: "guards", Groups: []string{"guards"}, Rules: []access.Rule{{ID: "fresh", Actions: []string{"approve", "deny"}, MFAWithin: 5 * time.Minute}}},
		{Name: "watchers", Groups: []string{"watchers"}, Rules: []access.Rule{{ID: "hold", Actions: []string{"session.list", "session.moderate"}}}},
		{Name: "admins", Groups: []string{"admins"}, Rules: []access.Rule{{ID: "all", Actions: []string{"user.read", "user.write", "role.write", "lock.write", "target.write", "system.write"}}}},
	}
	accounts := []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "guest", Credential: access.CredentialCertificate}, {Name: "logs", Credential: access.CredentialCertificate}}
	ok(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for name, groups := range map[string][]string{
			"alice": {"engineers"}, "bob": {"approvers"}, "dave": {"approvers"}, "erin": {"engineers", "approvers"}, "gina": {"guards"}, "root": {"admins"}, "mallory": nil, "uma": {"approvers"},
		} {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: name, Groups: groups, CreatedAt: tx.Now(), Version: 1}
			if err := tx.AddUser(ctx, &u); err != nil {
				return audit.Event{}, err
			}
			if name == "uma" { // is not linked
				continue
			}
			l := access.Link{ExternalAccount: account(name), UserID: u.ID, CreatedAt: tx.Now()}
			if err := tx.AddLink(ctx, &l); err != nil {
				return audit.Event{}, err
			}
		}
		for _, name := range []string{"db01", "db02", "vault01"} {
			t := access.Target{ID: access.NewID(access.TargetPrefix), Name: name, Address: "192.0.2.1:22", Labels: access.Labels{Environment: "prod"}, Accounts: accounts, CreatedAt: tx.Now(), Version: 1}
			if err := tx.AddTarget(ctx, &t); err != nil {
				return audit.Event{}, err
			}
		}
		for i := range roles {
			roles[i].Version = 1
			if err := tx.AddRole(ctx, &roles[i]); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
}

func slackID(name string) string { return "U" + strings.ToUpper(name) }

func account(name string) access.ExternalAccount {
	return access.ExternalAccount{Kind: slack.Kind, Team: team, ID: slackID(name), Name: name}
}

func (h *house) as(name string) access.Caller {
	h.t.Helper()
	return access.Caller{User: must(h.db.User(context.Background(), name)), Via: "cli"}
}

func (h *house) setGroups(name string, groups ...string) {
	h.t.Helper()
	ctx := context.Background()
	ok(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		u, err := tx.User(ctx, name)
		if err != nil {
			return audit.Event{}, err
		}
		u.Groups = groups
		return audit.Event{Actor: "system", Action: "user.set", Object: u.ID}, tx.SaveUser(ctx, &u)
	}))
}

func (h *house) asks(who, what string) broker.Case {
	h.t.Helper()
	account, target, _ := strings.Cut(what, "@")
	return must(h.Request(context.Background(), h.as(who), broker.Ask{Target: target, Account: account, Reason: "INC-42 disk full", Duration: time.Hour}))
}

// notice is what the dispatcher would make of the newest event about a request.
func (h *house) notice(kind notify.Kind, id string, change ...func(*notify.Notice)) notify.Notice {
	h.t.Helper()
	ctx := context.Background()
	c := must(h.CaseNow(ctx, id))
	h.said++
	n := notify.Notice{Position: h.said, Kind: kind, At: h.clock.now(), Case: &c}
	if c.Request.StateAt(h.clock.now()) == access.Pending {
		for _, name := range []string{"bob", "dave", "erin", "uma", "gina"} {
			u := must(h.db.User(ctx, name))
			for _, need := range c.Request.Needs {
				if u.ID != c.Request.RequesterID && u.In(need.Groups[0]) {
					n.Deciders = append(n.Deciders, u)
				}
			}
		}
	}
	for _, f := range change {
		f(&n)
	}
	return n
}

func (h *house) tell(kind notify.Kind, id string, change ...func(*notify.Notice)) {
	h.t.Helper()
	ok(h.t, h.app.Notify(soon(h.t), h.notice(kind, id, change...)))
}

func said(actor, text string) func(*notify.Notice) {
	return func(n *notify.Notice) { n.Actor, n.Text = actor, text }
}

// asked is a request that people have been told of, and its card in the channel.
func (h *house) asked(who, what string) (broker.Case, slacktest.Message) {
	h.t.Helper()
	c := h.asks(who, what)
	h.tell(notify.Asked, c.Request.ID)
	return c, h.card()
}

// card is the newest message in the channel that is no reply and for all.
func (h *house) card() slacktest.Message {
	h.t.Helper()
	list := h.fake.Messages(room)
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Thread == "" && list[i].Only == "" {
			return list[i]
		}
	}
	h.t.Fatal("there is no card in the channel")
	return slacktest.Message{}
}

func button(t testing.TB, m slacktest.Message, action string) slacktest.Button {
	t.Helper()
	b, is := slacktest.Find(m, action)
	if !is {
		t.Fatalf("%s has no button %q: %s", m.TS, action, m.Blocks)
	}
	return b
}

// does brings what somebody did to the app, which must take it.
func (h *house) does(d slacktest.Deed) json.RawMessage {
	h.t.Helper()
	answer, err := h.fake.Deliver(soon(h.t), d)
	ok(h.t, err)
	return answer
}

func (h *house) presses(who string, b slacktest.Button) {
	h.t.Helper()
	h.does(h.fake.Press(slackID(who), b))
}

// hears waits until somebody was told something that holds the words, and nobody
// else was.
func (h *house) hears(who, words string) string {
	h.t.Helper()
	var found string
	err := h.fake.Until(soon(h.t), func() bool {
		for _, r := range []string{room, "D" + slackID(who), alerts} {
			for _, m := range h.fake.Messages(r) {
				if text := m.Text + string(m.Blocks); (m.Only == slackID(who) || r == "D"+slackID(who)) && strings.Contains(text, words) {
					found = text
				}
			}
		}
		return found != ""
	})
	if err != nil {
		var told []string
		for _, m := range append(h.fake.Messages(room), h.fake.Messages("D"+slackID(who))...) {
			told = append(told, m.Only+": "+m.Text)
		}
		h.t.Fatalf("%s did not hear %q; told were %q", who, words, told)
	}
	return found
}

// shows waits until the message of that stamp holds the words.
func (h *house) shows(m slacktest.Message, words string) slacktest.Message {
	h.t.Helper()
	var now slacktest.Message
	if err := h.fake.Until(soon(h.t), func() bool {
		for _, o := range h.fake.Messages(m.Room) {
			if o.TS == m.TS {
				now = o
			}
		}
		return strings.Contains(string(now.Blocks), words)
	}); err != nil {
		h.t.Fatalf("the card does not show %q: %s", words, now.Blocks)
	}
	return now
}

func (h *house) state(id string) broker.Case {
	h.t.Helper()
	return must(h.CaseNow(context.Background(), id))
}

// events counts the events of that action and outcome.
func (h *house) events(action string, outcome audit.Outcome) (n int) {
	h.t.Helper()
	for from := int64(0); ; {
		leaves := must(h.db.Leaves(context.Background(), store.LeafFilter{From: from, Limit: 1000}))
		if len(leaves) == 0 {
			return n
		}
		for _, leaf := range leaves {
			if e := must(audit.Parse(leaf)); e.Action == action && e.Outcome == outcome {
				n++
			}
		}
		from += int64(len(leaves))
	}
}

func isCode(err error, code string) bool {
	e, is := errors.AsType[*access.Error](err)
	return is && e.Code == code
}

// edit changes a pending request behind the broker's verbs.
func (h *house) edit(id string, change func(*access.Request)) {
	h.t.Helper()
	ctx := context.Background()
	ok(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		r, err := tx.Request(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		change(&r)
		return audit.Event{Actor: "system", Action: "request.edit", Object: id, Request: id}, tx.SaveRequest(ctx, &r)
	}))
}

// addRole is a change that adds a role.
func addRole(r access.Role) func(tx *store.Tx) (audit.Event, error) {
	return func(tx *store.Tx) (audit.Event, error) {
		r.Version = 1
		return audit.Event{Actor: "system", Action: "role.set", Object: r.Name}, tx.AddRole(context.Background(), &r)
	}
}
