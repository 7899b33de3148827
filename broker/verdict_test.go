package broker_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

var raced = flag.Int("raced", 48, "how many rounds TestVerdicts makes on each database")

// A judge reads the audit log from its beginning, and nothing else, and says of
// each grant whether it may have been opened where it stands in it.
type judge struct {
	people   map[string]*known        // by id
	rules    map[string]access.Rule   // of all roles, by role and id
	requests map[string]*judgedAccess // by id
	faults   []string
}

type known struct {
	groups []string
	locked bool
}

type judgedAccess struct {
	requester, role, rule, digest string
	needs                         []access.Need
	expires                       time.Time
	votes                         []audit.Event
	ended                         string // the action that ended it
}

func (j *judge) fault(e audit.Event, format string, args ...any) {
	j.faults = append(j.faults, fmt.Sprintf("event %d, %s of %s: ", e.Seq, e.Action, e.Request)+fmt.Sprintf(format, args...))
}

// read takes one event.
func (j *judge) read(e audit.Event) {
	if e.Outcome != audit.Done {
		return
	}
	r := j.requests[e.Request]
	switch e.Action {
	case "user.add", "user.set":
		if j.people[e.Object] == nil {
			j.people[e.Object] = &known{}
		}
		j.people[e.Object].groups = strings.Fields(e.Details["groups"])
	case "user.lock", "user.unlock":
		if p := j.people[e.Object]; p != nil {
			p.locked = e.Action == "user.lock"
		}
	case "role.set":
		for key := range j.rules {
			if strings.HasPrefix(key, e.Object+"/") {
				delete(j.rules, key)
			}
		}
		for name, text := range e.Details {
			var rule access.Rule
			if strings.HasPrefix(name, "rule_") {
				if err := json.Unmarshal([]byte(text), &rule); err != nil {
					j.fault(e, "%s: %v", name, err)
				}
				j.rules[e.Object+"/"+rule.ID] = rule
			}
		}
	case "request.create":
		j.requests[e.Request] = &judgedAccess{requester: e.Actor}
		j.requests[e.Request].judge(e, j.rules)
	case "request.edit":
		j.before(e, r)
		r.judge(e, j.rules)
	case "request.approve":
		j.before(e, r)
		r.votes = append(r.votes, e)
	case "request.deny", "request.cancel":
		j.before(e, r)
		r.ended = e.Action
	case "grant.open":
		j.before(e, r)
		j.opened(e, r)
		r.ended = e.Action
	}
}

// judge notes what is asked for from this event on.
func (r *judgedAccess) judge(e audit.Event, rules map[string]access.Rule) {
	r.role, r.rule, r.digest, r.expires = e.Details["role"], e.Rule, e.Details["digest"], e.Time.Add(15*time.Minute)
	r.needs = rules[r.role+"/"+r.rule].Approvals
}

// before finds a decision on what is decided, or expired.
func (j *judge) before(e audit.Event, r *judgedAccess) {
	if r.ended != "" {
		j.fault(e, "it has ended by %s", r.ended)
	}
	if !e.Time.Before(r.expires) {
		j.fault(e, "it has expired at %s, and this is at %s", r.expires, e.Time)
	}
}

// opened finds a grant without enough distinct persons who may vote at this moment.
func (j *judge) opened(e audit.Event, r *judgedAccess) {
	if e.Details["digest"] != r.digest {
		j.fault(e, "the grant is for something else than the request")
	}
	if _, ok := j.rules[r.role+"/"+r.rule]; !ok {
		j.fault(e, "rule %s of role %s is not there any more", r.rule, r.role)
	}
	if len(r.needs) == 0 {
		j.fault(e, "the log does not say what it needs")
	}
	for _, need := range r.needs {
		persons := map[string]bool{}
		for _, v := range r.votes {
			p := j.people[v.Actor]
			if v.Actor != r.requester && v.Details["digest"] == r.digest && p != nil && !p.locked &&
				slices.ContainsFunc(p.groups, func(g string) bool { return slices.Contains(need.Groups, g) }) {
				persons[v.Actor] = true
			}
		}
		if len(persons) < need.Count {
			j.fault(e, "%d persons who may vote have, and %d are needed", len(persons), need.Count)
		}
	}
}

// Two votes against all that takes the ground from under them, on two servers with
// one database. What happened is judged by the audit log alone.
func TestVerdicts(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			h := newHouse(t, e.url(t))
			other := h.another("node2")
			ctx, root := t.Context(), h.as("root")
			// What the judge has to know stands in the log.
			for _, name := range []string{"vera", "walt", "xena"} {
				_, err := h.AddUser(ctx, root, access.User{Name: name, Groups: []string{"approvers"}})
				ok(t, err)
			}
			role, err := h.db.Role(ctx, "engineers")
			ok(t, err)
			role, err = h.SetRole(ctx, root, role)
			ok(t, err)

			setGroups := func(name string, groups ...string) error {
				u, err := h.db.User(ctx, name)
				if err != nil {
					return err
				}
				u.Groups = groups
				_, err = other.SetUser(ctx, root, u)
				return err
			}
			var request access.Request
			as := func(name, via string) access.Caller { by := h.as(name); by.Via = via; return by }
			vote := func(b *broker.Broker, by access.Caller) func() error {
				return func() error {
					_, err := b.Approve(ctx, by, request.ID, request.Digest(), broker.Answer{})
					return err
				}
			}
			against := []struct {
				name string
				do   func() error
			}{
				{"cancel", func() error { _, err := other.Cancel(ctx, h.as("alice"), request.ID); return err }},
				{"deny", func() error { _, err := h.Deny(ctx, h.as("dave"), request.ID, "", "no"); return err }},
				{"expire", func() error { h.clock.advance(15 * time.Minute); return nil }},
				{"group", func() error { return setGroups("vera") }},
				{"lock", func() error { return other.LockUser(ctx, root, "vera", true, "INC-1") }},
				{"rule", func() error {
					without := role
					without.Rules = slices.DeleteFunc(slices.Clone(role.Rules), func(r access.Rule) bool { return r.ID == "two" })
					_, err := other.SetRole(ctx, root, without)
					return err
				}},
				{"edit", func() error {
					_, err := other.Edit(ctx, h.as("alice"), request.ID, access.Edit{Reason: request.Reason + ", and more"})
					return err
				}},
			}
			ended := map[string]int{}
			start := time.Now()
			for i := range *raced {
				a := asking("root@db02")
				a.Reason = fmt.Sprintf("INC-%d", i)
				c, err := h.Request(ctx, h.as("alice"), a)
				ok(t, err)
				request = c.Request
				enemy := against[i%len(against)]
				calls := []func() error{vote(h.Broker, as("vera", "cli")), vote(other.Broker, as("walt", "web")), enemy.do}
				switch i / len(against) % 3 {
				case 0: // one has voted, and whether that still counts is the question
					ok(t, calls[0]())
					calls = calls[1:]
				case 1: // there is one more
					calls = append(calls, vote(h.Broker, as("xena", "slack")))
				}
				for n, err := range together(calls...) {
					// To the log, who began before the clock leapt has a clock that was set back.
					leapt := enemy.name == "expire" && errors.Is(err, access.ErrUnavailable)
					if err != nil && !leapt && !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrNotFound) {
						t.Errorf("round %d, %s, call %d: %v", i, enemy.name, n, err)
					}
				}
				r, err := h.db.Request(ctx, request.ID)
				ok(t, err)
				state := r.StateAt(h.clock.now())
				ended[enemy.name+" "+string(state)]++
				if state == access.Pending {
					_, err := h.Cancel(ctx, h.as("alice"), request.ID)
					ok(t, err)
				}
				if state == access.Approved {
					g, err := h.db.Grant(ctx, request.ID)
					ok(t, err)
					_, err = h.Release(ctx, h.as("alice"), g.ID)
					ok(t, err)
				}
				switch enemy.name {
				case "group":
					ok(t, setGroups("vera", "approvers"))
				case "lock":
					ok(t, other.LockUser(ctx, root, "vera", false, ""))
				case "rule":
					now, err := h.db.Role(ctx, "engineers")
					ok(t, err)
					now.Rules = role.Rules
					role, err = h.SetRole(ctx, root, now)
					ok(t, err)
				}
			}
			t.Logf("%d rounds in %s: %v", *raced, time.Since(start).Round(time.Second), ended)
			j := judge{people: map[string]*known{}, rules: map[string]access.Rule{}, requests: map[string]*judgedAccess{}}
			for _, e := range h.events() {
				j.read(e)
			}
			for _, fault := range j.faults {
				t.Error(fault)
			}
			for id, judged := range j.requests {
				r, err := h.db.Request(ctx, id)
				ok(t, err)
				if want := map[string]access.RequestState{"": access.Pending, "request.deny": access.Denied, "request.cancel": access.Cancelled, "grant.open": access.Approved}[judged.ended]; r.State != want {
					t.Errorf("%s is %s, and the log says %s", id, r.State, want)
				}
			}
			if len(j.requests) != *raced {
				t.Errorf("%d requests are in the log, of %d", len(j.requests), *raced)
			}
		})
	}
}

// The judge finds what is wrong.
func TestJudge(t *testing.T) {
	good := []audit.Event{
		{Action: "user.add", Object: "U1", Details: map[string]string{"groups": "approvers"}},
		{Action: "user.add", Object: "U2", Details: map[string]string{"groups": "approvers"}},
		{Action: "role.set", Object: "eng", Details: map[string]string{"rule_01": `{"ID":"two","Approvals":[{"Count":2,"Groups":["approvers"]}]}`}},
		{Action: "request.create", Request: "R", Actor: "U0", Rule: "two", Details: map[string]string{"role": "eng", "digest": "d"}},
		{Action: "request.approve", Request: "R", Actor: "U1", Details: map[string]string{"digest": "d"}},
		{Action: "request.approve", Request: "R", Actor: "U2", Details: map[string]string{"digest": "d"}},
		{Action: "grant.open", Request: "R", Details: map[string]string{"digest": "d"}},
	}
	at := func(i int, e audit.Event) []audit.Event { return slices.Insert(slices.Clone(good), i, e) }
	instead := func(i int, change func(e *audit.Event)) []audit.Event {
		list := slices.Clone(good)
		change(&list[i])
		return list
	}
	for name, tt := range map[string]struct {
		log  []audit.Event
		want string
	}{
		"good":              {good, ""},
		"one twice":         {instead(5, func(e *audit.Event) { e.Actor = "U1" }), "1 persons"},
		"the requester":     {instead(5, func(e *audit.Event) { e.Actor = "U0" }), "1 persons"},
		"for another thing": {instead(5, func(e *audit.Event) { e.Details = map[string]string{"digest": "x"} }), "1 persons"},
		"lost the group":    {at(6, audit.Event{Action: "user.set", Object: "U1", Details: map[string]string{}}), "1 persons"},
		"was locked":        {at(6, audit.Event{Action: "user.lock", Object: "U1"}), "1 persons"},
		"edited":            {at(6, audit.Event{Action: "request.edit", Request: "R", Details: map[string]string{"digest": "e"}}), "something else"},
		"rule gone":         {at(6, audit.Event{Action: "role.set", Object: "eng"}), "not there any more"},
		"cancelled":         {at(6, audit.Event{Action: "request.cancel", Request: "R"}), "it has ended by request.cancel"},
		"denied after":      {at(7, audit.Event{Action: "request.deny", Request: "R"}), "it has ended by grant.open"},
		"expired":           {instead(6, func(e *audit.Event) { e.Time = e.Time.Add(15 * time.Minute) }), "it has expired"},
	} {
		j := judge{people: map[string]*known{}, rules: map[string]access.Rule{}, requests: map[string]*judgedAccess{}}
		for i, e := range tt.log {
			e.Seq, e.Outcome = int64(i), audit.Done
			j.read(e)
		}
		if got := strings.Join(j.faults, "; "); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
