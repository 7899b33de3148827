package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// holding finds what somebody holds in a report of everything.
func (h *house) holding(user, role string) *access.Holding {
	h.t.Helper()
	list, next, err := h.Holdings(h.t.Context(), h.as("rita"), broker.HoldingFilter{Limit: 1000})
	ok(h.t, err)
	if next != "" {
		h.t.Fatal("the house has more than a page of people")
	}
	i := slices.IndexFunc(list, func(x access.Holding) bool { return x.UserName == user && x.Role == role })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func TestHoldings(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		if x := h.holding("alice", "engineers"); x == nil || !x.Measured || !x.Unused() || !slices.Equal(x.How, []string{"group engineers"}) {
			t.Errorf("alice, who has done nothing: %+v", x)
		}
		if x := h.holding("carol", "auditors"); x == nil || x.Measured || x.Unused() {
			t.Errorf("carol, whose role leaves no trace: %+v", x)
		}
		// A grant that nobody uses is no use; a session is; a vote is one of the voter's.
		c := h.granted()
		if x := h.holding("alice", "engineers"); !x.Unused() {
			t.Errorf("with a grant: %+v", x)
		}
		h.session("alice", c)
		if x := h.holding("alice", "engineers"); x.Uses != 1 || x.LastUsed.IsZero() || x.Unused() {
			t.Errorf("with a session: %+v", x)
		}
		if x := h.holding("bob", "approvers"); x.Uses != 1 || x.Unused() {
			t.Errorf("bob, who voted: %+v", x)
		}
		if x := h.holding("dave", "approvers"); !x.Unused() {
			t.Errorf("dave, who did not: %+v", x)
		}
		// What was used long ago is unused.
		h.clock.advance(91 * 24 * time.Hour)
		if x := h.holding("alice", "engineers"); !x.Unused() || x.LastUsed.IsZero() {
			t.Errorf("after 91 days: %+v", x)
		}

		// Directly and by a group, and a role that inherits the used one.
		role, err := h.db.Role(ctx, "engineers")
		ok(t, err)
		role.Users = []string{h.user("alice").ID}
		_, err = h.SetRole(ctx, h.as("root"), role)
		ok(t, err)
		_, err = h.SetRole(ctx, h.as("root"), access.Role{Name: "heir", Inherits: []string{"engineers"}, Users: []string{h.user("alice").ID}})
		ok(t, err)
		if x := h.holding("alice", "engineers"); !slices.Equal(x.How, []string{"direct", "group engineers"}) {
			t.Errorf("both ways: %+v", x)
		}
		if x := h.holding("alice", "heir"); x == nil || !x.Measured || x.LastUsed.IsZero() {
			t.Errorf("what is inherited: %+v", x)
		}

		// Filters and pages.
		list, _, err := h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Role: "heir"})
		if err != nil || len(list) != 1 {
			t.Errorf("of the role: %+v, %v", list, err)
		}
		list, _, err = h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{User: "alice"})
		if err != nil || len(list) != 2 {
			t.Errorf("of the user: %+v, %v", list, err)
		}
		_, _, err = h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{User: "nobody"})
		want(t, err, access.ErrNotFound)
		_, _, err = h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Role: "nothing"})
		want(t, err, access.ErrNotFound)
		all, _, err := h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Unused: true, Limit: 1000})
		ok(t, err)
		var paged []access.Holding
		for after := ""; ; {
			page, next, err := h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Unused: true, Limit: 2, After: after})
			ok(t, err)
			paged = append(paged, page...)
			if after = next; next == "" || len(paged) > 100 {
				break
			}
		}
		if fmt.Sprint(paged) != fmt.Sprint(all) {
			t.Errorf("in pages\n%v\nat once\n%v", paged, all)
		}
		_, _, err = h.Holdings(ctx, h.as("alice"), broker.HoldingFilter{})
		want(t, err, access.ErrDenied)
	})
}

// campaign starts a review of some roles, or of all,.
func (h *house) campaign(owner string, roles ...string) access.Campaign {
	h.t.Helper()
	c, err := h.StartCampaign(h.t.Context(), h.as("sam"), broker.CampaignOrder{Roles: roles, Owner: owner, Due: h.clock.now().Add(7 * 24 * time.Hour)})
	ok(h.t, err)
	return c
}

// item is the number of the item about somebody's role.
func (h *house) item(c access.Campaign, user, role string) int {
	h.t.Helper()
	items, err := h.CampaignItems(h.t.Context(), h.as("rita"), c.ID, false, 0, 1000)
	ok(h.t, err)
	for _, i := range items {
		if i.UserName == user && i.Role == role {
			return i.N
		}
	}
	h.t.Fatalf("no item for %s as %s", user, role)
	return 0
}

func TestCampaign(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		decide := func(who string, c access.Campaign, decision string, numbers ...int) error {
			_, err := h.DecideItems(ctx, h.as(who), c.ID, numbers, decision, "=cmd|' /C calc'!A0")
			return err
		}
		order := broker.CampaignOrder{Owner: "rita", Due: h.clock.now().Add(time.Hour)}
		for name, change := range map[string]func(*broker.CampaignOrder){
			"past":             func(o *broker.CampaignOrder) { o.Due = h.clock.now().Add(-time.Hour) },
			"far":              func(o *broker.CampaignOrder) { o.Due = h.clock.now().Add(400 * 24 * time.Hour) },
			"a bot owns it":    func(o *broker.CampaignOrder) { o.Owner = "ci" },
			"nobody has it":    func(o *broker.CampaignOrder) { o.Roles = []string{"reviewers"}; o.Unused = true },
			"no such role":     func(o *broker.CampaignOrder) { o.Roles = []string{"nothing"} },
			"no such owner":    func(o *broker.CampaignOrder) { o.Owner = "nobody" },
			"who may not":      func(o *broker.CampaignOrder) { o.Owner = "alice" },
			"too many to name": func(o *broker.CampaignOrder) { o.Roles = make([]string, access.MaxItems+1) },
		} {
			o := order
			change(&o)
			if _, err := h.StartCampaign(ctx, h.as("sam"), o); err == nil {
				t.Errorf("%s: it starts", name)
			}
		}
		_, err := h.StartCampaign(ctx, h.as("alice"), order)
		want(t, err, access.ErrDenied)

		l := h.session("alice", h.granted())
		c := h.campaign("rita")
		if c.Items < 10 || c.Undecided != c.Items {
			t.Errorf("started: %+v", c)
		}
		rita, sam, alice, erin := h.item(c, "rita", "reviewers"), h.item(c, "sam", "reviewers"), h.item(c, "alice", "engineers"), h.item(c, "erin", "approvers")

		// Nobody certifies themselves; others decide on what is not the owner's only when it is late.
		refusedWith(t, decide("rita", c, access.Kept, rita), "DB-6260")
		refusedWith(t, decide("rita", c, access.Kept, alice, rita), "DB-6260") // and nothing of it is done
		refusedWith(t, decide("sam", c, access.Removed, sam), "DB-6260")
		refusedWith(t, decide("sam", c, access.Kept, alice), "DB-6261")
		ok(t, decide("sam", c, access.Kept, rita))
		want(t, decide("alice", c, access.Kept, alice), access.ErrDenied)
		h.setGroups("ci", "reviewers")
		refusedWith(t, decide("ci", c, access.Kept, rita), "DB-6262")
		want(t, decide("rita", c, "certified", alice), access.ErrInvalid)
		want(t, decide("rita", c, access.Kept, 9999), access.ErrInvalid)
		want(t, decide("rita", c, access.Kept), access.ErrInvalid)
		want(t, decide("rita", c, access.Kept, make([]int, 600)...), access.ErrInvalid) // compacted: item 0
		_, err = h.DecideItems(ctx, h.as("rita"), c.ID, []int{alice}, access.Kept, " ")
		refusedWith(t, err, "DB-1003")
		want(t, decide("rita", access.Campaign{ID: "CMP-0000000000000000"}, access.Kept, 1), access.ErrNotFound)

		// What is kept stays, what is removed is gone at once: for the next question
		// and for what is running.
		ok(t, decide("rita", c, access.Kept, h.item(c, "carol", "auditors")))
		stop := h.start()
		goesOn(t, l)
		ok(t, decide("rita", c, access.Removed, alice, erin))
		ends(t, l, broker.ErrRefused)
		stop()
		if a, e := h.user("alice").Groups, h.user("erin").Groups; len(a) > 0 || !slices.Equal(e, []string{"engineers"}) {
			t.Errorf("alice %v, erin %v", a, e)
		}
		_, err = h.Request(ctx, h.as("alice"), asking("guest@db01"))
		want(t, err, access.ErrNotFound)
		refusedWith(t, decide("rita", c, access.Kept, alice), "DB-6264")

		// Who has left the role meanwhile, or has become somebody else, is no error.
		h.setGroups("dave")
		ok(t, decide("rita", c, access.Removed, h.item(c, "dave", "approvers")))
		// The last administrator stays, and with that nothing of the rest is done.
		before := h.dump()
		refusedWith(t, decide("rita", c, access.Removed, h.item(c, "bob", "approvers"), h.item(c, "root", "admins")), "DB-2012")
		if after := h.dump(); after != before {
			t.Errorf("refused, but changed:\n%s", difference(before, after))
		}

		// Once it is late, anybody who reviews may decide, not on their own.
		h.clock.advance(8 * 24 * time.Hour)
		ok(t, decide("sam", c, access.Kept, h.item(c, "bob", "approvers")))
		refusedWith(t, decide("sam", c, access.Kept, sam), "DB-6260")

		_, err = h.CloseCampaign(ctx, h.as("rita"), c.ID, false)
		refusedWith(t, err, "DB-6265")
		c, err = h.CloseCampaign(ctx, h.as("rita"), c.ID, true)
		ok(t, err)
		if c.Open() || c.Undecided == 0 {
			t.Errorf("closed: %+v", c)
		}
		_, err = h.CloseCampaign(ctx, h.as("sam"), c.ID, true)
		refusedWith(t, err, "DB-6263")
		refusedWith(t, decide("rita", c, access.Kept, sam), "DB-6263")

		// The export names the events, and each says what it is said to.
		x, err := h.ExportCampaign(ctx, h.as("rita"), c.ID)
		ok(t, err)
		if len(x.Items) != c.Items || len(x.Events) != c.Items-c.Undecided {
			t.Errorf("%d items of %d, %d events of %d", len(x.Items), c.Items, len(x.Events), c.Items-c.Undecided)
		}
		events := h.events()
		for n, seq := range x.Events {
			e, item := events[seq], x.Items[n-1]
			if e.Action != "review.decide" || e.Outcome != audit.Done || e.Object != c.ID || e.Details["item"] != fmt.Sprint(n) || e.Details["decision"] != item.Decision || e.Actor != item.DecidedBy {
				t.Errorf("item %d is %+v, its event %+v", n, item, e)
			}
		}
		if _, err := note.Open(x.Checkpoint, note.VerifierList(h.config.Verifier)); err != nil {
			t.Errorf("the checkpoint: %v", err)
		}
		_, err = h.ExportCampaign(ctx, h.as("alice"), c.ID)
		want(t, err, access.ErrDenied)
	})
}

// TestCampaignDirect: a person whom the role names is taken out of the role.
func TestCampaignDirect(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	role, err := h.db.Role(ctx, "engineers")
	ok(t, err)
	role.Users = []string{h.user("mallory").ID, h.user("alice").ID}
	_, err = h.SetRole(ctx, h.as("root"), role)
	ok(t, err)
	generation, err := h.db.Generation(ctx)
	ok(t, err)
	c := h.campaign("rita", "engineers")
	n := len(h.events())
	_, err = h.DecideItems(ctx, h.as("rita"), c.ID, []int{h.item(c, "mallory", "engineers")}, access.Removed, "left the team")
	ok(t, err)
	if told := strings.Join(h.told(n), ", "); told != "review.decide done, role.set done" {
		t.Errorf("told %s", told)
	}
	role, err = h.db.Role(ctx, "engineers")
	if err != nil || !slices.Equal(role.Users, []string{h.user("alice").ID}) {
		t.Errorf("the role has %v, %v", role.Users, err)
	}
	if now, err := h.db.Generation(ctx); err != nil || now == generation {
		t.Error("other servers do not learn of it")
	}
	// The role is gone: so is the right.
	_, err = h.SetRole(ctx, h.as("root"), access.Role{Name: "short", Users: []string{h.user("mallory").ID}})
	ok(t, err)
	c = h.campaign("rita", "short")
	ok(t, h.RemoveRole(ctx, h.as("root"), "short"))
	_, err = h.DecideItems(ctx, h.as("rita"), c.ID, []int{1}, access.Removed, "left the team")
	ok(t, err)
}

// attributed gives mallory the role analysts by attributes, and dave by inheritance.
// Carol has one of the two attributes.
func (h *house) attributed() {
	h.t.Helper()
	ctx, root := h.t.Context(), h.as("root")
	_, err := h.SetRole(ctx, root, access.Role{Name: "analysts", Attributes: map[string][]string{"team": {"data", "db"}, "site": {"nyc"}},
		Rules: []access.Rule{{ID: "ask", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, MaxDuration: time.Hour, Session: access.SessionRules{Shell: true}}}})
	ok(h.t, err)
	_, err = h.SetRole(ctx, root, access.Role{Name: "seniors", Inherits: []string{"analysts"}, Users: []string{h.user("dave").ID}})
	ok(h.t, err)
	h.setUser("mallory", func(u *access.User) { u.Attributes = map[string]string{"team": "data", "site": "nyc", "tier": "0"} })
	h.setUser("carol", func(u *access.User) { u.Attributes = map[string]string{"team": "data"} })
}

// TestHoldingsAreThePolicys: whoever has a role in the policy's eyes is in the report
// of that role, and nobody else.
func TestHoldingsAreThePolicys(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.attributed()
		if x := h.holding("mallory", "analysts"); x == nil || !slices.Equal(x.How, []string{"attributes site=nyc team=data"}) || !x.Unused() {
			t.Errorf("mallory: %+v", x)
		}
		if x := h.holding("dave", "analysts"); x != nil {
			t.Errorf("a report of everything has what goes with another role: %+v", x)
		}
		users, err := h.db.Users(ctx)
		ok(t, err)
		roles, err := h.db.Roles(ctx)
		ok(t, err)
		look, found := h.config.Policy.Lookup(), 0
		for _, role := range roles {
			list, next, err := h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Role: role.Name, Limit: 1000})
			if err != nil || next != "" {
				t.Fatal(next, err)
			}
			for _, u := range users {
				has := slices.Contains(look.RolesOf(policy.User{ID: u.ID, Groups: u.Groups, Attributes: u.Attributes}), role.Name)
				if told := slices.ContainsFunc(list, func(x access.Holding) bool { return x.UserID == u.ID && x.Role == role.Name }); told != has {
					t.Errorf("%s as %s: the policy says %v, the report %v", u.Name, role.Name, has, told)
				}
				if has {
					found++
				}
			}
			if role.Name == "analysts" && (len(list) != 2 || !slices.Equal(list[0].How, []string{"role seniors"})) {
				t.Errorf("analysts: %+v", list)
			}
		}
		if found < 5 {
			t.Errorf("only %d holdings were compared", found)
		}
		for account, want := range map[string]string{"mallory": "attributes site nyc and team data > role analysts", "dave": "named in person > role seniors > role analysts"} {
			w, err := h.WhoCan(ctx, h.as("root"), "db01", "root")
			ok(t, err)
			if !slices.ContainsFunc(w.Ways, func(a broker.Access) bool {
				return strings.Join(a.Path, " > ") == want && slices.Equal(a.People, []string{account})
			}) {
				t.Errorf("who-can does not know %s by %s: %+v", account, want, w.Ways)
			}
		}
	})
}

// TestCampaignAttributes: what a removal would leave standing refuses it.
func TestCampaignAttributes(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.attributed()
		c := h.campaign("rita", "analysts", "seniors")
		remove := func(numbers ...int) error {
			_, err := h.DecideItems(ctx, h.as("rita"), c.ID, numbers, access.Removed, "moved to sales")
			return err
		}
		mallory, dave, senior := h.item(c, "mallory", "analysts"), h.item(c, "dave", "analysts"), h.item(c, "dave", "seniors")
		before := h.dump()
		refusedWith(t, remove(mallory), "DB-6272")
		refusedWith(t, remove(dave), "DB-6272")
		refusedWith(t, remove(senior, dave, mallory), "DB-6272")
		if after := h.dump(); after != before {
			t.Errorf("refused, but changed:\n%s", difference(before, after))
		}
		ok(t, remove(dave, senior)) // together, whichever stands first
		h.setUser("mallory", func(u *access.User) { u.Attributes = nil })
		ok(t, remove(mallory))
		for _, who := range []string{"mallory", "dave"} {
			list, _, err := h.Holdings(ctx, h.as("rita"), broker.HoldingFilter{Role: "analysts", User: who})
			if err != nil || len(list) != 0 {
				t.Errorf("%s still has %+v, %v", who, list, err)
			}
		}
	})
}

// TestCampaignRace: two who decide on the same items at once do not both.
func TestCampaignRace(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.campaign("rita", "engineers", "approvers")
		h.clock.advance(8 * 24 * time.Hour) // now sam may, too
		n := h.item(c, "alice", "engineers")
		results := make([]error, 6)
		var wg sync.WaitGroup
		for i := range results {
			by, decision := h.as([]string{"rita", "sam"}[i%2]), []string{access.Kept, access.Removed}[i%2]
			wg.Go(func() {
				_, results[i] = h.DecideItems(t.Context(), by, c.ID, []int{n}, decision, "a race")
			})
		}
		wg.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
			} else if !errors.Is(err, access.ErrConflict) {
				t.Errorf("refused with %v", err)
			}
		}
		after, err := h.FindCampaign(t.Context(), h.as("rita"), c.ID)
		if won != 1 || err != nil || after.Undecided != c.Items-1 {
			t.Errorf("%d have decided, %d of %d are open, %v", won, after.Undecided, c.Items, err)
		}
	})
}

// TestManyHoldings: ten thousand people in five hundred roles.
func TestManyHoldings(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	for start := 0; start < 10_000; start += 2000 {
		ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			for i := start; i < start+2000; i++ {
				u := access.User{ID: access.NewID(access.UserPrefix), Name: fmt.Sprintf("u%05d", i), Groups: []string{fmt.Sprintf("g%d", i%500), fmt.Sprintf("g%d", (i*7+1)%500)}, Version: 1}
				if err := tx.AddUser(ctx, &u); err != nil {
					return audit.Event{}, err
				}
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
	}
	ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for i := range 500 {
			r := access.Role{Name: fmt.Sprintf("r%03d", i), Groups: []string{fmt.Sprintf("g%d", i)}, Rules: []access.Rule{{ID: "ask", Actions: []string{"request"}, Accounts: []string{"*"}, MaxDuration: time.Hour}}, Version: 1}
			if err := tx.AddRole(ctx, &r); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
	took := func(what string, limit time.Duration, do func() error) {
		t.Helper()
		begin := time.Now()
		ok(t, do())
		spent := time.Since(begin)
		t.Logf("%s: %s", what, spent.Round(time.Millisecond))
		if spent > limit {
			t.Errorf("%s took %s", what, spent)
		}
	}
	by := h.as("rita")
	took("a page", time.Minute, func() error {
		list, next, err := h.Holdings(ctx, by, broker.HoldingFilter{Limit: 200})
		if len(list) < 200 || next == "" {
			t.Errorf("%d on a page, next %q", len(list), next)
		}
		return err
	})
	took("one role of all people", time.Minute, func() error {
		list, next, err := h.Holdings(ctx, by, broker.HoldingFilter{Role: "r123", Limit: 1000})
		if len(list) < 30 || next != "" {
			t.Errorf("%d have it, next %q", len(list), next)
		}
		return err
	})
	var c access.Campaign
	took("to start a campaign", time.Minute, func() error {
		_, err := h.StartCampaign(ctx, by, broker.CampaignOrder{Owner: "sam", Due: h.clock.now().Add(time.Hour)})
		want(t, err, access.ErrInvalid) // 20,000 and the rest of the house
		c, err = h.StartCampaign(ctx, by, broker.CampaignOrder{Owner: "sam", Roles: []string{"r001", "r002", "r003"}, Due: h.clock.now().Add(time.Hour)})
		return err
	})
	if c.Items < 90 {
		t.Errorf("%d items", c.Items)
	}
}
