package broker_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
)

func filesOf(t testing.TB, bundle fs.FS) map[string][]byte {
	t.Helper()
	files, err := policy.ReadFiles(bundle)
	ok(t, err)
	return files
}

func compiled(t testing.TB, bundle fs.FS) *policy.Program {
	t.Helper()
	p, err := policy.Compile(filesOf(t, bundle))
	ok(t, err)
	return p
}

// A bundle that is exchanged is on record before it decides, and what it does not allow
// any more ends.
func TestUsePolicy(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		l := h.session("alice", h.granted())
		inProgram, refusing := compiled(t, rego.Bundle), compiled(t, refuseAll)
		n := len(h.events())
		// The first start, with the bundle in the program, is no news; nor is the next.
		ok(t, h.UsePolicy(t.Context(), inProgram, broker.PolicyOrigin{}))
		ok(t, h.UsePolicy(t.Context(), inProgram, broker.PolicyOrigin{}))
		goesOn(t, l)
		if got := h.told(n); len(got) != 0 {
			t.Errorf("told %q", got)
		}
		ok(t, h.UsePolicy(t.Context(), refusing, broker.PolicyOrigin{Source: "bundle", Content: "c0ffee", Commit: "1234", Signer: "security"}))
		ends(t, l, broker.ErrRefused)
		e := h.events()[n]
		for key, want := range map[string]string{"source": "bundle", "content": "c0ffee", "commit": "1234", "signer": "security", "policy": refusing.Digest(), "before": inProgram.Digest()} {
			if e.Action != "policy.load" || e.Object != "node1" || e.Actor != "system" || e.Details[key] != want {
				t.Errorf("%s is %q in %+v, want %q", key, e.Details[key], e, want)
			}
		}
		_, err := h.Request(t.Context(), h.as("alice"), asking("guest@db01"))
		want(t, err, access.ErrNotFound)
		// The same again is no event, and the one before brings everything back.
		n = len(h.events())
		ok(t, h.UsePolicy(t.Context(), refusing, broker.PolicyOrigin{Source: "bundle", Content: "c0ffee", Commit: "1234", Signer: "security"}))
		if got := h.told(n); len(got) != 0 {
			t.Errorf("told %q", got)
		}
		ok(t, h.UsePolicy(t.Context(), inProgram, broker.PolicyOrigin{}))
		if got := h.told(n); !slices.Equal(got, []string{"policy.load done"}) {
			t.Errorf("told %q", got)
		}
		h.ask("alice", "guest@db01")
	})
}

// What is refused is told once, the old one stays, and servers that differ are found.
func TestPolicyRefused(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		ok(t, h.UsePolicy(ctx, compiled(t, rego.Bundle), broker.PolicyOrigin{}))
		n := len(h.events())
		origin := broker.PolicyOrigin{Source: "bundle", Content: "c0ffee"}
		for range 2 {
			ok(t, h.PolicyRefused(ctx, origin, "test x failed\nat a.rego:3"))
		}
		if got := h.told(n); !slices.Equal(got, []string{"policy.refused refused"}) {
			t.Errorf("told %q", got)
		}
		h.ask("alice", "guest@db01")
		other := h.another("node2")
		ok(t, other.UsePolicy(ctx, compiled(t, refuseAll), origin))
		findings, err := h.PolicyFindings(ctx)
		ok(t, err)
		var texts []string
		for _, f := range findings {
			texts = append(texts, f.Text+" | "+f.Next)
		}
		all := strings.Join(texts, "\n")
		for _, want := range []string{"node1 refused its policy bundle", "test x failed", "decide by different policy bundles: node1 by ", "node2 by "} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is not told in\n%s", want, all)
			}
		}
		v, err := h.ShowPolicy(ctx, h.as("root"))
		ok(t, err)
		if len(v.Servers) != 2 || v.Servers[0].Refused == "" || v.Servers[1].Digest == v.Servers[0].Digest || len(v.Roles) != 6 {
			t.Errorf("shown %+v", v)
		}
		// A server that has said nothing for some minutes does not run.
		h.clock.advance(10 * time.Minute)
		ok(t, h.TellPolicy(ctx, time.Hour))
		if findings, err = h.PolicyFindings(ctx); err != nil || len(findings) != 1 {
			t.Errorf("findings %+v, %v", findings, err)
		}
		// One that was fit in the end is no finding.
		ok(t, h.UsePolicy(ctx, compiled(t, rego.Bundle), broker.PolicyOrigin{Source: "bundle", Content: "beef"}))
		if findings, err = h.PolicyFindings(ctx); err != nil || len(findings) != 0 {
			t.Errorf("findings %+v, %v", findings, err)
		}
	})
}

// What came of a decision, or was refused by one, is kept with its event, whose hashes
// are those of what is kept.
func TestDecisionsKept(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		l := h.session("alice", h.granted())
		_, err := h.Extend(ctx, h.as("alice"), l.Grant.ID, 30*time.Minute)
		ok(t, err)
		_, err = h.Request(ctx, h.as("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "x", Duration: 9 * time.Hour})
		want(t, err, access.ErrDenied)
		kept, err := h.db.Decisions(ctx, 1<<60, 100)
		ok(t, err)
		var actions []string
		for _, k := range slices.Backward(kept) {
			e, err := audit.Parse(k.Leaf)
			ok(t, err)
			actions = append(actions, k.Action+" "+string(e.Outcome))
			if e.Seq != k.Seq || e.Details["decision"] != k.ID || e.Details["input"] == "" || e.Details["answer"] == "" || !strings.Contains(k.Input, `"name":"`) {
				t.Errorf("decision %+v beside %+v", k.Decision, e)
			}
		}
		if want := []string{"request done", "approve done", "connect done", "extend done", "request refused"}; !slices.Equal(actions, want) {
			t.Errorf("kept %q, want %q", actions, want)
		}
		// The policy in force answers as it did.
		r, err := h.ReplayPolicy(ctx, h.as("root"), broker.Candidate{Files: filesOf(t, rego.Bundle)}, time.Time{})
		ok(t, err)
		if r.Looked != 5 || r.Flipped != 0 || len(r.Doubtful) != 0 || r.Partial {
			t.Errorf("replayed %+v", r)
		}
	})
}

// flips of a replay, as "kind action count".
func flipsOf(r broker.PolicyReplay) (list []string) {
	for _, g := range r.Flips {
		list = append(list, fmt.Sprintf("%s %s %d", g.Kind, g.Action, g.Count))
	}
	return list
}

func TestReplayPolicy(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		began := h.clock.now()
		h.approve("bob", h.ask("alice", "root@db01"))
		h.ask("erin", "guest@db01")
		_, err := h.Request(ctx, h.as("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "x", Duration: 9 * time.Hour})
		want(t, err, access.ErrDenied)
		roles, err := h.db.Roles(ctx)
		ok(t, err)
		i := slices.IndexFunc(roles, func(r access.Role) bool { return r.Name == "engineers" })
		roles[i].Rules = slices.Clone(roles[i].Rules)
		roles[i].Rules[0].Approvals = []access.Need{{Count: 2, Groups: []string{"approvers"}}} // root
		roles[i].Rules[1].MaxDuration = 10 * time.Hour                                         // two
		roles[i].Rules[2].Targets.Names = []string{"nowhere"}                                  // guest
		replay := func(since time.Time) broker.PolicyReplay {
			t.Helper()
			r, err := h.ReplayPolicy(ctx, root, broker.Candidate{Roles: roles}, since)
			ok(t, err)
			return r
		}
		r := replay(began.Add(-time.Minute))
		if got, want := flipsOf(r), []string{"allowed request 1", "refused request 1", "approvals request 1"}; !slices.Equal(got, want) || r.Looked != 4 || r.Flipped != 3 {
			t.Errorf("flips %q of %+v, want %q", got, r, want)
		}
		if f := r.Flips[0].Flips[0]; f.User != "alice" || f.Target != "db02" || f.Account != "root" || r.Flips[0].Now != "engineers/two" {
			t.Errorf("the first flip is %+v of %+v", f, r.Flips[0])
		}
		if r := replay(h.clock.now().Add(time.Hour)); r.Looked != 0 || r.Flipped != 0 {
			t.Errorf("nothing was decided since: %+v", r)
		}
		d, err := h.DiffPolicy(ctx, root, broker.Candidate{Roles: roles}, time.Time{})
		ok(t, err)
		if all := strings.Join(d.Roles, "\n"); d.From != d.To || d.Replay.Flipped != 3 || !strings.Contains(all, "~ engineers/root: ") || !strings.Contains(all, "on nowhere") {
			t.Errorf("differs %+v", d)
		}
		// A candidate that is no policy is refused, and so is one that does not compile.
		_, err = h.ReplayPolicy(ctx, root, broker.Candidate{Roles: []access.Role{{Name: "x", Inherits: []string{"y"}}}}, time.Time{})
		want(t, err, access.ErrInvalid)
		_, err = h.ReplayPolicy(ctx, root, broker.Candidate{Files: map[string][]byte{"a.rego": []byte("package x\nx := http.send({})")}}, time.Time{})
		want(t, err, access.ErrInvalid)
	})
}

// A question or an answer that somebody changes in the database is named and not used.
func TestReplayTampered(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.ask("alice", "root@db01")
		h.ask("alice", "root@db02")
		h.ask("erin", "root@db02")
		h.ask("erin", "guest@db01")
		kept, err := h.db.Decisions(ctx, 1<<60, 100)
		ok(t, err)
		driver, name := "pgx", h.url
		if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
			driver, name = "sqlite", path
		}
		db, err := sql.Open(driver, name)
		ok(t, err)
		defer db.Close()
		for _, q := range []string{
			fmt.Sprintf("UPDATE decisions SET input = REPLACE(input, 'alice', 'bobby') WHERE seq = %d", kept[3].Seq),
			fmt.Sprintf("UPDATE decisions SET answer = REPLACE(answer, 'true', 'false') WHERE seq = %d", kept[2].Seq),
			fmt.Sprintf("UPDATE decisions SET id = 'another' WHERE seq = %d", kept[1].Seq),
		} {
			_, err := db.Exec(q)
			ok(t, err)
		}
		r, err := h.ReplayPolicy(ctx, h.as("root"), broker.Candidate{Files: filesOf(t, refuseAll)}, time.Time{})
		ok(t, err)
		slices.Sort(r.Doubtful)
		doubtful := []string{kept[3].ID, kept[2].ID, "another"}
		slices.Sort(doubtful)
		if !slices.Equal(r.Doubtful, doubtful) || r.Looked != 1 || r.Flipped != 1 {
			t.Errorf("replayed %+v, want %q to be doubtful", r, doubtful)
		}
	})
}

func TestPruneDecisions(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		for i := range 6 {
			if i == 3 {
				h.clock.advance(time.Hour)
			}
			_, err := h.Request(ctx, h.as("alice"), broker.Ask{Target: "db02", Account: "root", Reason: fmt.Sprint(i), Duration: time.Hour})
			ok(t, err)
		}
		left := func() int {
			kept, err := h.db.Decisions(ctx, 1<<60, 100)
			ok(t, err)
			return len(kept)
		}
		_, err := h.db.PruneDecisions(ctx, h.clock.now().Add(-30*time.Minute), 100)
		ok(t, err)
		if n := left(); n != 3 {
			t.Errorf("%d decisions are left, want those of the last half hour", n)
		}
		_, err = h.db.PruneDecisions(ctx, time.Time{}, 2)
		ok(t, err)
		if n := left(); n != 2 {
			t.Errorf("%d decisions are left, want the newest 2", n)
		}
	})
}

// ways as "path | allowed, needs or what else | who".
func waysOf(list []broker.Access) (out []string) {
	for _, w := range list {
		how := fmt.Sprint(len(w.Needs), " needs")
		switch {
		case w.BreakGlass:
			how = "break-glass"
		case w.Standing:
			how = "standing"
		}
		out = append(out, fmt.Sprintf("%s %s/%s | %s%s | %s%s", strings.Join(w.Path, " > "), w.Role, w.Rule, how, strings.Join(w.Missing, ","), strings.Join(w.People, " "), strings.Join(w.Targets, " ")))
	}
	return out
}

func TestWhoCan(t *testing.T) {
	for _, builtIn := range []string{compiled(t, rego.Bundle).Digest(), ""} { // by classes, and person by person
		h := newHouse(t, sqliteURL(t), func(c *broker.Config) { c.BuiltIn = builtIn })
		ctx, root := t.Context(), h.as("root")
		h.granted()
		h.setUser("erin", func(u *access.User) { u.Locked, u.LockReason = true, "INC-1" })
		w, err := h.WhoCan(ctx, root, "db01", "root")
		ok(t, err)
		engineers := "group engineers > role engineers engineers/"
		if got, want := waysOf(w.Ways), []string{
			engineers + "root | 1 needs | alice ci", engineers + "root | 1 needserin is unlocked | erin",
			engineers + "fire | break-glass | alice ci", engineers + "fire | break-glasserin is unlocked | erin",
		}; !slices.Equal(got, want) || len(w.Holders) != 1 || w.Holders[0].Name != "alice" || len(w.Beside) != 0 {
			t.Errorf("%q, %+v\nwant %q", got, w, want)
		}
		w, err = h.WhoCan(ctx, root, "vault01", "root")
		ok(t, err)
		if got := waysOf(w.Ways); len(got) != 2 || got[0] != engineers+"fresh | standing | alice ci" {
			t.Errorf("%q", got)
		}
		ways, err := h.CanReach(ctx, root, "alice")
		ok(t, err)
		if got, want := waysOf(ways), []string{
			engineers + "fire | break-glass | root@db01", engineers + "fresh | standing | root@vault01", engineers + "guest | standing | guest@db01",
			engineers + "root | 1 needs | root@db01", engineers + "two | 1 needs | root@db02",
		}; !slices.Equal(got, want) {
			t.Errorf("alice reaches %q\nwant %q", got, want)
		}
		if ways, err = h.CanReach(ctx, root, "mallory"); err != nil || len(ways) != 0 {
			t.Errorf("mallory reaches %+v, %v", ways, err)
		}
		// Who may not ask learns nothing, not even what there is.
		var said []string
		for _, target := range []string{"db01", "nowhere"} {
			w, err := h.WhoCan(ctx, h.as("alice"), target, "root")
			want(t, err, access.ErrDenied)
			said = append(said, fmt.Sprint(err, len(w.Ways)))
		}
		if said[0] != said[1] {
			t.Errorf("a target that exists answers %q, one that does not %q", said[0], said[1])
		}
		_, err = h.WhoCan(ctx, root, "nowhere", "root")
		want(t, err, access.ErrNotFound)
		_, err = h.WhoCan(ctx, root, "db01", "nobody")
		want(t, err, access.ErrNotFound)
	}
}

// What would change a refusal is told without the names of groups to whoever may not
// read the policy, and a candidate is asked for those who may.
func TestExplainTellsNoGroups(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	w := broker.WhatIf{User: "alice", Target: "db01", Account: "root", Action: "secret.write"}
	groups := func(x broker.Explained) (n int) {
		for _, set := range x.Ways {
			for _, c := range set {
				if c.Kind == "group" {
					n++
				}
			}
		}
		return n
	}
	x, err := h.Explain(ctx, h.as("alice"), w)
	ok(t, err)
	if x.Decision.Allow || groups(x) != 0 {
		t.Errorf("alice is told %+v", x)
	}
	if x, err = h.Explain(ctx, h.as("root"), w); err != nil || groups(x) != 1 {
		t.Errorf("root is told %+v, %v", x, err)
	}
	// At another time, from elsewhere, with another policy.
	w = broker.WhatIf{Target: "db01", Account: "root", Candidate: broker.Candidate{Files: filesOf(t, refuseAll)}}
	_, err = h.Explain(ctx, h.as("alice"), w)
	want(t, err, access.ErrDenied)
	w.User = "alice"
	if x, err = h.Explain(ctx, h.as("root"), w); err != nil || x.Decision.Allow || x.Decision.Reason() != "nobody may do anything" {
		t.Errorf("the candidate says %+v, %v", x, err)
	}
}

// BenchmarkWhoCan is over 10,000 people, 10,000 targets and 500 roles.
func BenchmarkWhoCan(b *testing.B) {
	h := newHouse(b, sqliteURL(b), func(c *broker.Config) { c.BuiltIn = compiled(b, rego.Bundle).Digest() })
	ctx := b.Context()
	for from := 0; from < 10_000; from += 1000 {
		ok(b, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			for i := from; i < from+1000; i++ {
				u := access.User{ID: access.NewID(access.UserPrefix), Name: fmt.Sprintf("u%05d", i), CreatedAt: tx.Now(), Version: 1,
					Groups: []string{"engineers", fmt.Sprintf("team%03d", i%500), fmt.Sprintf("team%03d", i*7%500)}}
				t := access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("host%05d", i), Address: "192.0.2.1:22", CreatedAt: tx.Now(), Version: 1,
					Labels: access.Labels{Environment: "prod", Tier: fmt.Sprint(i % 3)}, Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}}}
				if err := tx.AddUser(ctx, &u); err != nil {
					return audit.Event{}, err
				}
				if err := tx.AddTarget(ctx, &t); err != nil {
					return audit.Event{}, err
				}
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
	}
	ok(b, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for i := range 500 {
			r := access.Role{Name: fmt.Sprintf("team%03d", i), Groups: []string{fmt.Sprintf("team%03d", i)}, Version: 1, Rules: []access.Rule{{
				ID: "own", Actions: []string{"request"}, Accounts: []string{"root"}, MaxDuration: time.Hour,
				Targets: access.Selector{Names: []string{fmt.Sprintf("host%02d*", i%100)}}, Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}}},
			}}}
			if err := tx.AddRole(ctx, &r); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
	root := h.as("root")
	for name, ask := range map[string]func(context.Context) (int, error){
		"account": func(ctx context.Context) (int, error) {
			w, err := h.WhoCan(ctx, root, "host04200", "root")
			return len(w.Ways), err
		},
		"person": func(ctx context.Context) (int, error) {
			ways, err := h.CanReach(ctx, root, "u00042")
			return len(ways), err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, err := ask(ctx); err != nil || n == 0 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
