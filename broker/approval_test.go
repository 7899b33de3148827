package broker_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// setRule changes the rule by which alice asks for root@db01.
func (h *house) setRule(change func(*access.Rule)) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		r, err := tx.Role(h.t.Context(), "engineers")
		if err != nil {
			return audit.Event{}, err
		}
		change(&r.Rules[0])
		return audit.Event{Actor: "system", Action: "role.set", Object: r.Name}, tx.SaveRole(h.t.Context(), &r)
	}))
}

func (h *house) needs(needs ...access.Need) {
	h.t.Helper()
	h.setRule(func(r *access.Rule) { r.Approvals = needs })
}

func (h *house) away(who, to string, d time.Duration) {
	h.t.Helper()
	_, err := h.Delegate(h.t.Context(), h.as(who), "", to, time.Time{}, h.clock.now().Add(d), "holidays")
	ok(h.t, err)
}

func (h *house) vote(who string, c broker.Case) (broker.Case, error) {
	return h.Approve(h.t.Context(), h.as(who), c.Request.ID, c.Request.Digest(), broker.Answer{})
}

// look is the case as somebody sees it now.
func (h *house) look(who string, c broker.Case) broker.Case {
	h.t.Helper()
	c, err := h.FindRequest(h.t.Context(), h.as(who), c.Request.ID)
	ok(h.t, err)
	return c
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if e, is := errors.AsType[*access.Error](err); !is || e.Code != code {
		t.Errorf("error = %v, want %s", err, code)
	}
}

// A second step is neither asked nor counted before the first, and when nobody
// of it decides, others are asked, which is put on record once.
func TestStepsAndEscalation(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.needs(access.Need{Count: 1, Groups: []string{"approvers"}},
			access.Need{Count: 1, Groups: []string{"custodians"}, Step: 1, EscalateAfter: 5 * time.Minute, EscalateTo: []string{"auditors"}})
		h.voters("custodians", "auditors")
		stop := h.start()
		c := h.ask("alice", "root@db01")
		if want := []string{"bob", "dave", "erin"}; !slices.Equal(c.Waiting, want) || !c.Escalates.IsZero() {
			t.Errorf("asked are %v, %s; want %v", c.Waiting, c.Escalates, want)
		}
		_, err := h.vote("kim", c)
		wantCode(t, err, "DB-6130")
		if h.look("kim", c).MayDecide {
			t.Error("kim may decide before it is their turn")
		}
		c, err = h.vote("bob", c)
		ok(t, err)
		if want := []string{"kim", "lee"}; !slices.Equal(c.Waiting, want) || c.Escalates.IsZero() || !slices.Equal(c.EscalateTo, []string{"auditors"}) {
			t.Errorf("then %v are asked, and %v at %s", c.Waiting, c.EscalateTo, c.Escalates)
		}
		_, err = h.vote("carol", c)
		wantCode(t, err, "DB-6131")
		n := len(h.events())
		h.clock.advance(5 * time.Minute)
		eventually(t, "the escalation", func() bool { return slices.Contains(h.told(n), "request.escalate done") })
		before := c.Version()
		if c = h.look("carol", c); c.Version() <= before {
			t.Error("who waits for the request does not hear of it")
		}
		if !c.MayDecide || !slices.Contains(c.Waiting, "carol") {
			t.Errorf("after the time %v are asked", c.Waiting)
		}
		c, err = h.vote("carol", c)
		ok(t, err)
		if c.Request.State != access.Approved || c.Grant == nil {
			t.Errorf("it is %s", c.Request.State)
		}
		l := h.session("alice", c)
		goesOn(t, l)
		// The session ends when the vote of an earlier step counts no more.
		h.setGroups("bob", "others")
		ends(t, l, broker.ErrRefused)
		stop()
		if n := len(slices.DeleteFunc(h.told(n), func(s string) bool { return s != "request.escalate done" })); n != 1 {
			t.Errorf("the escalation is on record %d times", n)
		}
	})
}

// voters lets the members of these groups vote at all.
func (h *house) voters(groups ...string) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		r := access.Role{Name: "voters", Groups: groups, Version: 1, Rules: []access.Rule{{ID: "vote", Actions: []string{"approve", "deny"}}}}
		return audit.Event{Actor: "system", Action: "role.set", Object: r.Name}, tx.AddRole(h.t.Context(), &r)
	}))
}

// Who is away is stood for, by one person and for one seat.
func TestDelegate(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.start()
		h.needs(access.Need{Count: 2, Groups: []string{"approvers"}})
		c := h.ask("alice", "root@db01")
		_, err := h.FindRequest(ctx, h.as("mallory"), c.Request.ID)
		want(t, err, access.ErrNotFound)
		h.away("bob", "mallory", time.Hour)
		if c = h.look("mallory", c); !c.MayDecide || c.InPlaceOf != "bob" || !slices.Contains(c.Waiting, "mallory (for bob)") {
			t.Errorf("mallory stands for %q, asked are %v", c.InPlaceOf, c.Waiting)
		}
		inbox, err := h.Requests(ctx, h.as("mallory"), broker.Filter{Inbox: true})
		if err != nil || len(inbox) != 1 {
			t.Errorf("mallory's inbox: %v, %v", inbox, err)
		}
		c, err = h.vote("mallory", c)
		ok(t, err)
		if a := c.Request.Approvals[0]; a.UserName != "mallory" || a.StandsFor != h.user("bob").ID {
			t.Errorf("the vote is %+v", a)
		}
		// The seat has voted: bob does not vote as well, and mallory not once more.
		_, err = h.vote("bob", c)
		wantCode(t, err, "DB-6135")
		h.away("dave", "mallory", time.Hour) // bob's votes and dave's: still one person
		if _, err = h.vote("mallory", c); err == nil {
			t.Error("mallory voted twice")
		}
		if now := h.look("root", c); now.Request.State != access.Pending || len(now.Request.Approvals) != 1 {
			t.Errorf("%s with %d votes", now.Request.State, len(now.Request.Approvals))
		}
		c, err = h.vote("dave", c)
		ok(t, err)
		l := h.session("alice", c)
		// The delegation is over, and the vote stays; bob leaves the group, and it does not.
		ok(t, h.EndDelegation(ctx, h.as("bob"), ""))
		h.clock.advance(2 * time.Second)
		_, err = h.look("alice", c), l.Check()
		ok(t, err)
		h.setGroups("bob", "others")
		ends(t, l, broker.ErrRefused)
	})
}

// Nobody approves their own request through somebody who stands for them, and no
// votes go further than to who was named, or longer than the one whose they are
// may vote.
func TestDelegateAttacks(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setGroups("bob", "approvers")
		// Erin asks, is an approver, and hands her votes to mallory.
		h.away("erin", "mallory", time.Hour)
		c := h.ask("erin", "root@db01")
		_, err := h.vote("mallory", c)
		want(t, err, access.ErrNotFound)
		ok(t, h.EndDelegation(ctx, h.as("erin"), ""))
		// Mallory stands for bob, and carol for mallory: carol does not stand for bob.
		c = h.ask("alice", "root@db01")
		h.away("bob", "mallory", time.Hour)
		h.away("mallory", "carol", time.Hour)
		_, err = h.vote("carol", c)
		want(t, err, access.ErrDenied)
		// Nor does who asks vote in the place of anybody.
		h.away("dave", "alice", time.Hour)
		_, err = h.vote("alice", c)
		want(t, err, access.ErrDenied)
		// Bob is locked: nobody stands for him any more.
		ok(t, h.LockUser(ctx, h.as("root"), "bob", true, "INC-9"))
		_, err = h.vote("mallory", c)
		want(t, err, access.ErrNotFound)
		ok(t, h.LockUser(ctx, h.as("root"), "bob", false, ""))
		h.clock.advance(time.Hour) // it is over
		c = h.ask("alice", "root@db01")
		_, err = h.vote("mallory", c)
		want(t, err, access.ErrNotFound)
		for _, tt := range []struct {
			name, who, user, to string
			from, until         time.Duration
			kind                error
		}{
			{"to a bot", "bob", "", "ci", 0, time.Hour, access.ErrInvalid},
			{"to oneself", "bob", "", "bob", 0, time.Hour, access.ErrInvalid},
			{"for longer than 30 days", "bob", "", "carol", 0, 30*24*time.Hour + time.Minute, access.ErrInvalid},
			{"backwards", "bob", "", "carol", time.Hour, time.Minute, access.ErrInvalid},
			{"the votes of another", "mallory", "bob", "mallory", 0, time.Hour, access.ErrDenied},
			{"to an administrator by themselves", "root", "bob", "root", 0, time.Hour, access.ErrDenied},
			{"to nobody", "bob", "", "nobody", 0, time.Hour, access.ErrNotFound},
		} {
			_, err := h.Delegate(ctx, h.as(tt.who), tt.user, tt.to, h.clock.now().Add(tt.from), h.clock.now().Add(tt.until), "")
			if !errors.Is(err, tt.kind) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		_, err = h.Delegations(ctx, h.as("mallory"), true)
		want(t, err, access.ErrDenied)
	})
}

// What a bot asks for is its owner's: they do not approve it, and neither does
// who stands for them.
func TestBotOfOnesOwn(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		u, err := h.AddUser(ctx, h.as("root"), access.User{Name: "deployer", Bot: true, OwnerID: "bob", Groups: []string{"engineers"}})
		ok(t, err)
		if u.OwnerID != h.user("bob").ID {
			t.Errorf("the owner is %q", u.OwnerID)
		}
		c := h.ask("deployer", "root@db01")
		if slices.Contains(c.Waiting, "bob") {
			t.Errorf("asked are %v", c.Waiting)
		}
		_, err = h.vote("bob", c)
		want(t, err, access.ErrDenied)
		h.away("bob", "mallory", time.Hour)
		_, err = h.vote("mallory", c)
		want(t, err, access.ErrNotFound)
		c, err = h.vote("dave", c)
		ok(t, err)
		if c.Request.State != access.Approved {
			t.Errorf("it is %s", c.Request.State)
		}
		_, err = h.AddUser(ctx, h.as("root"), access.User{Name: "other", Bot: true, OwnerID: "ci"})
		want(t, err, access.ErrInvalid) // a bot owns no bot
	})
}

// What nobody else could approve is refused when it is asked for.
func TestUnmeetable(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setGroups("mallory", "engineers", "few")
		h.setUser("ci", func(u *access.User) { u.Groups = append(u.Groups, "few") })
		h.needs(access.Need{Count: 1, Groups: []string{"few"}})
		_, err := h.Request(ctx, h.as("mallory"), asking("root@db01"))
		wantCode(t, err, "DB-6141") // a bot is there besides, and nobody else
		h.ask("alice", "root@db01")
		h.needs(access.Need{Count: 1, Groups: []string{"few"}}, access.Need{Count: 1, Groups: []string{"few"}, Step: 1})
		_, err = h.Request(ctx, h.as("erin"), asking("root@db01"))
		wantCode(t, err, "DB-6141") // two distinct people, and there is one
		h.needs(access.Need{Count: 1, Groups: []string{"nobody"}, EscalateAfter: time.Minute, EscalateTo: []string{"approvers"}})
		h.ask("erin", "root@db01")
	})
}

// An edit voids what was voted: nobody's yes is carried to something else.
func TestEdit(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.needs(access.Need{Count: 2, Groups: []string{"approvers"}})
		seen := h.ask("alice", "root@db01")
		_, err := h.vote("bob", seen)
		ok(t, err)
		_, err = h.Edit(ctx, h.as("bob"), seen.Request.ID, access.Edit{Duration: time.Minute})
		want(t, err, access.ErrDenied)
		_, err = h.Edit(ctx, h.as("alice"), seen.Request.ID, access.Edit{Duration: 3 * time.Hour})
		want(t, err, access.ErrDenied) // the role allows two
		if now := h.look("alice", seen); len(now.Request.Approvals) != 1 || now.Request.Digest() != seen.Request.Digest() {
			t.Error("a refused edit changed the request")
		}
		c, err := h.Edit(ctx, h.as("alice"), seen.Request.ID, access.Edit{Duration: 2 * time.Hour, Reason: "INC-43 disk full, twice as long"})
		ok(t, err)
		if len(c.Request.Approvals) != 0 || c.Request.Duration != 2*time.Hour || c.Request.Ticket != "INC-43" || !slices.Contains(c.Waiting, "bob") {
			t.Errorf("after the edit: %+v", c)
		}
		_, err = h.vote("dave", seen)
		wantCode(t, err, "DB-3004")
		for _, who := range []string{"bob", "dave"} {
			c, err = h.vote(who, c)
			ok(t, err)
		}
		if c.Grant == nil || c.Grant.Duration != 2*time.Hour {
			t.Errorf("the grant is %+v", c.Grant)
		}
		_, err = h.Edit(ctx, h.as("alice"), seen.Request.ID, access.Edit{Duration: time.Minute})
		want(t, err, access.ErrConflict)
	})
}

// One no of two ends nothing and is on record; the second ends it.
func TestDenyThreshold(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setRule(func(r *access.Rule) { r.DenyThreshold = 2 })
		c := h.ask("alice", "root@db01")
		n := len(h.events())
		no := func(who string) (broker.Case, error) {
			return h.Deny(ctx, h.as(who), c.Request.ID, c.Request.Digest(), "not today")
		}
		got, err := no("bob")
		ok(t, err)
		if got.Request.State != access.Pending || len(got.Request.Objections) != 1 || slices.Contains(got.Waiting, "bob") {
			t.Errorf("after one no: %+v", got)
		}
		_, err = no("bob")
		want(t, err, access.ErrConflict)
		_, err = h.vote("bob", c)
		want(t, err, access.ErrConflict)
		got, err = no("dave")
		ok(t, err)
		if got.Request.State != access.Denied || got.Request.DecidedBy != "dave" {
			t.Errorf("after two: %+v", got.Request)
		}
		if told := h.told(n); !slices.Contains(told, "request.object done") || !slices.Contains(told, "request.deny done") {
			t.Errorf("told are %q", told)
		}
	})
}

// Each vote is a statement that the log's key has signed over what was shown.
func TestVotesAreSigned(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c := h.ask("alice", "root@db01")
		by := h.as("bob")
		by.MFAAt, by.Login, by.Via = h.clock.now().Add(-time.Minute), "LOG-1", "web"
		c, err := h.Approve(ctx, by, c.Request.ID, c.Request.Digest(), broker.Answer{Duration: time.Minute, Narrowing: access.Narrowing{Without: []string{"exec"}, FourEyes: true}, Comment: "go"})
		ok(t, err)
		a := c.Request.Approvals[0]
		v, err := audit.OpenVote([]byte(a.Statement), h.config.Verifier)
		ok(t, err)
		if v.Digest != c.Request.Digest() || v.Person != by.User.ID || !v.Yes || v.Seconds != 60 || !slices.Equal(v.Without, []string{"exec"}) || !v.FourEyes ||
			v.SecondFactor == nil || *v.SecondFactor < 59 || v.Login != "LOG-1" || v.Via != "web" || v.Request != c.Request.ID {
			t.Errorf("the statement says %+v", v)
		}
		forged := strings.Replace(a.Statement, `"vote":"yes"`, `"vote":"no"`, 1)
		if _, err := audit.OpenVote([]byte(forged), h.config.Verifier); err == nil {
			t.Error("a changed statement is taken")
		}
		events := h.events()
		i := slices.IndexFunc(events, func(e audit.Event) bool { return e.Action == "request.approve" })
		if msg := audit.JoinVote(events[i].Details["statement"], events[i].Details["signature"], h.config.Verifier.Name()); string(msg) != a.Statement {
			t.Errorf("the event has %q, the vote %q", msg, a.Statement)
		}
		if r := c.Grant.Rules; r.Exec || !r.Shell || !r.FourEyes || c.Grant.Duration != time.Minute {
			t.Errorf("the grant carries %+v", r)
		}
	})
}

// A roster is who is on call, as the test says.
type roster struct {
	mu      sync.Mutex
	groups  map[string][]string // by person
	changed chan struct{}
}

func (r *roster) set(groups map[string][]string) {
	r.mu.Lock()
	r.groups = groups
	r.mu.Unlock()
	r.changed <- struct{}{}
}

func (r *roster) Groups(person string, _ time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.groups[person]
}

func (r *roster) People(group string, _ time.Time) (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for person, groups := range r.groups {
		if slices.Contains(groups, group) {
			list = append(list, person)
		}
	}
	return list
}

func (r *roster) Changed() <-chan struct{} { return r.changed }

// Who is on call is asked, and asks, as long as the shift lasts. A vote stays when
// it ends, and not when the voter is locked. Nobody is put on call by hand.
func TestOnCall(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			shift := &roster{groups: map[string][]string{"dave": {"oncall-db"}, "nobody": {"oncall-db"}}, changed: make(chan struct{}, 1)}
			h := newHouse(t, e.url(t), func(c *broker.Config) { c.OnCall = shift })
			h.start()
			h.needs(access.Need{Count: 1, Groups: []string{"oncall-db"}})
			h.voters("oncall-db")
			_, err := h.AddUser(t.Context(), h.as("root"), access.User{Name: "eve", Groups: []string{"oncall-db"}})
			want(t, err, access.ErrInvalid)
			h.setGroups("bob", "approvers", "oncall-db") // as a directory might
			c := h.ask("alice", "root@db01")
			if !slices.Equal(c.Waiting, []string{"dave"}) {
				t.Errorf("asked are %v", c.Waiting)
			}
			_, err = h.vote("bob", c)
			want(t, err, access.ErrNotFound)
			c, err = h.vote("dave", c)
			ok(t, err)
			l := h.session("alice", c)
			shift.set(map[string][]string{"erin": {"oncall-db", "engineers"}}) // a schedule gives no other group
			_, err = h.FindRequest(t.Context(), h.as("erin"), c.Request.ID)
			ok(t, err)
			goesOn(t, l)
			if c = h.ask("alice", "root@db01"); c.Grant == nil {
				t.Error("the grant is gone with the shift of who approved it")
			}
			ok(t, h.LockUser(t.Context(), h.as("root"), "dave", true, "INC-1"))
			ends(t, l, broker.ErrRefused)
			// Who has the role by a shift loses the session with it.
			ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
				r := access.Role{Name: "shift", Groups: []string{"oncall-db"}, Version: 1, Rules: []access.Rule{
					{ID: "all", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"db02"}}, Accounts: []string{"guest"}, MaxDuration: time.Hour, Session: access.SessionRules{Shell: true}},
				}}
				return audit.Event{Actor: "system", Action: "role.set", Object: r.Name}, tx.AddRole(t.Context(), &r)
			}))
			shift.set(map[string][]string{"mallory": {"oncall-db"}})
			l = h.session("mallory", h.ask("mallory", "guest@db02"))
			shift.set(nil)
			ends(t, l, broker.ErrRefused)
			_, err = h.Request(t.Context(), h.as("erin"), asking("root@db01"))
			wantCode(t, err, "DB-6141") // nobody is on call
		})
	}
}
