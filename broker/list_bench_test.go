package broker_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
)

var listed = flag.Int("listed", 1100, "how many requests BenchmarkLists makes; an eleventh of them wait")

// A crowd is a house with as many people, targets and requests as a large one has
// in years, made by the database itself out of one of each.
type crowd struct {
	*house
	users, targets, requests int
	request                  string // one that has a history
}

// groups of approvers are 50, each of which is asked by a role of its own.
const approverGroups = 50

// spread turns a number into an id, so that ids that follow one another do not lie
// beside one another, as with real ones.
func spread(prefix, number string) string {
	padded := "'0000000000000000' || ((" + number + ") * 48271 % 2147483647)"
	return "'" + prefix + "-' || substr(" + padded + ", length(" + padded + ") - 15)"
}

func newCrowd(b testing.TB, h *house, requests int) *crowd {
	b.Helper()
	c := &crowd{house: h, users: max(20, min(10_000, requests/10)), targets: max(20, min(10_000, requests/10)), requests: requests}
	ctx := b.Context()
	var roles []access.Role
	for k := range approverGroups {
		roles = append(roles, access.Role{Name: fmt.Sprintf("access-%d", k), Groups: []string{fmt.Sprintf("team-%d", k), fmt.Sprintf("team-%d", k+50)}, Version: 1, Rules: []access.Rule{{
			ID: "root", Actions: []string{"request", "extend"}, Targets: access.Selector{Labels: map[string][]string{"owner": {fmt.Sprintf("team-%d", k), fmt.Sprintf("team-%d", k+50)}}}, Accounts: []string{"root"},
			MaxDuration: 4 * time.Hour, Approvals: []access.Need{{Count: 1, Groups: []string{fmt.Sprintf("approvers-%d", k)}}}, Session: access.SessionRules{Shell: true, Exec: true},
		}}})
	}
	for k := len(roles); k < 500; k++ {
		roles = append(roles, access.Role{Name: fmt.Sprintf("other-%d", k), Groups: []string{fmt.Sprintf("group-%d", k)}, Version: 1, Rules: []access.Rule{{
			ID: "guest", Actions: []string{"request"}, Targets: access.Selector{Labels: map[string][]string{"owner": {fmt.Sprintf("team-%d", k%100)}, "environment": {"prod"}}}, Accounts: []string{"guest"}, MaxDuration: time.Hour,
		}}})
	}
	var approvers []string
	for k := range approverGroups {
		approvers = append(approvers, fmt.Sprintf("approvers-%d", k))
	}
	roles = append(roles, access.Role{Name: "voters", Groups: approvers, Version: 1, Rules: []access.Rule{{ID: "vote", Actions: []string{"approve", "deny"}}}},
		access.Role{Name: "everything", Users: []string{h.user("root").ID}, Version: 1, Rules: []access.Rule{{
			ID: "read", Actions: []string{"request.read", "target.read", "user.read", "session.list", "audit.read"},
		}}})
	ok(b, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for i := range roles {
			if err := tx.AddRole(ctx, &roles[i]); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
	// One of each, from which the others are made.
	granted := h.granted()
	l := h.session("alice", granted)
	ok(b, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
	c.request = granted.Request.ID

	driver, name := "pgx", h.url
	if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
		driver, name = "sqlite", path
	}
	db, err := sql.Open(driver, name)
	ok(b, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	if driver == "sqlite" {
		for _, pragma := range []string{"cache_size=-1000000", "synchronous=OFF", "temp_store=MEMORY", "wal_autocheckpoint=100000"} {
			_, err := db.Exec("PRAGMA " + pragma)
			ok(b, err)
		}
	}
	now := time.Now().UnixMicro()
	pending := requests / 11
	many := func(from, to int) string {
		return fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", from, to-1)
	}
	copied := func(table, where string, n string, set map[string]string) {
		b.Helper()
		rows, err := db.Query("SELECT * FROM " + table + " LIMIT 0")
		ok(b, err)
		columns, err := rows.Columns()
		ok(b, err)
		rows.Close()
		values := make([]string, len(columns))
		for i, c := range columns {
			values[i] = "t." + c
			if v, ok := set[c]; ok {
				values[i] = v
			}
		}
		_, err = db.Exec("INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") " + n + "SELECT " + strings.Join(values, ", ") + " FROM n, " + table + " t WHERE " + where)
		ok(b, err)
	}
	user, target, request := spread("USR", "1 + i % "+fmt.Sprint(c.users)), spread("TGT", "1 + i % "+fmt.Sprint(c.targets)), spread("REQ", "i + 1")
	// Of 20 people one approves, for one of the groups.
	copied("users", "t.name = 'alice'", many(0, c.users), map[string]string{
		"id": user, "name": "'user' || i",
		"groups": fmt.Sprintf(`CASE i %% 20 WHEN 0 THEN '["approvers-' || (i / 20 %% %d) || '","team-' || (i %% 100) || '"]' ELSE '["team-' || (i %% 100) || '"]' END`, approverGroups),
	})
	_, err = db.Exec(many(0, c.users) + "INSERT INTO members (group_name, user_id) SELECT 'team-' || (i % 100), " + user + " FROM n")
	ok(b, err)
	_, err = db.Exec(many(0, c.users) + fmt.Sprintf("INSERT INTO members (group_name, user_id) SELECT 'approvers-' || (i / 20 %% %d), ", approverGroups) + user + " FROM n WHERE i % 20 = 0")
	ok(b, err)
	copied("targets", "t.name = 'db01'", many(0, c.targets), map[string]string{
		"id": target, "name": "'host' || i", "labels": `replace(t.labels, '"Owner":""', '"Owner":"team-' || (i % 100) || '"')`,
	})
	// The newest wait; of those before, of 100 about 12 expired, 10 were denied, 8
	// cancelled and 70 approved.
	state := fmt.Sprintf("CASE WHEN i >= %d OR i %% 100 < 12 THEN 'pending' WHEN i %% 100 < 22 THEN 'denied' WHEN i %% 100 < 30 THEN 'cancelled' ELSE 'approved' END", requests-pending)
	created := fmt.Sprintf("CASE WHEN i >= %d THEN %d - (%d - i) * 10000 ELSE %d - (%d - i) * 60000000 END", requests-pending, now, requests, now-int64(2*time.Hour/time.Microsecond), requests)
	expires := fmt.Sprintf("%s + CASE WHEN i >= %d THEN 86400000000 ELSE 900000000 END", "("+created+")", requests-pending)
	group := fmt.Sprintf("'approvers-' || (i %% %d)", approverGroups)
	copied("requests", "t.id = '"+c.request+"'", many(0, requests), map[string]string{
		"id": request, "requester_id": user, "requester_name": fmt.Sprintf("'user' || (i %% %d)", c.users), "target_id": target, "target_name": fmt.Sprintf("'host' || (i %% %d)", c.targets),
		"state": state, "created_at": created, "expires_at": expires, "role": fmt.Sprintf("'access-' || (i %% %d)", approverGroups),
		"needs": `replace(t.needs, '"approvers"', '"' || ` + group + ` || '"')`,
	})
	_, err = db.Exec(many(0, requests) + "INSERT INTO asked (request_id, group_name, state, created_at, expires_at) SELECT " + request + ", " + group + ", " + state + ", " + created + ", " + expires + " FROM n")
	ok(b, err)
	// Of the grants the newest are open; each has a session.
	grant := spread("GRT", "i + 1")
	ends := fmt.Sprintf("%d - (%d - i) * 60000000 + CASE WHEN i >= %d THEN 864000000000 ELSE 0 END", now-int64(2*time.Hour/time.Microsecond), requests, requests-pending-requests/1000)
	several := many(0, requests-pending)
	copied("grants", "t.id = '"+granted.Grant.ID+"' AND i % 100 >= 30", several, map[string]string{
		"id": grant, "request_id": request, "user_id": user, "target_id": target, "opened_at": created, "end_at": ends, "start_at": created,
	})
	copied("sessions", "t.id = '"+l.Session.ID+"' AND i % 100 >= 30", several, map[string]string{
		"id": spread("SES", "i + 1"), "grant_id": grant, "request_id": request, "user_id": user, "target_id": target, "opened_at": created,
		"state": fmt.Sprintf("CASE WHEN i >= %d THEN 'open' ELSE 'closed' END", requests-pending-requests/1000),
	})
	copied("audit_leaves", "t.seq = 1", many(0, requests), map[string]string{"seq": "1000000000 + i", "object": spread("REQ", "i + 1"), "session": "''"})
	if driver == "pgx" {
		_, err = db.Exec("ANALYZE") // as it does by itself, in time
		ok(b, err)
	}
	return c
}

// BenchmarkLists measures each list for an administrator, for an approver of one
// group and for somebody who asks:
//
//	go test ./broker -run '^$' -bench BenchmarkLists -benchtime 200x -timeout 2h -listed 1100000
func BenchmarkLists(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			h := newHouse(b, e.url(b), func(c *broker.Config) { c.BuiltIn = compiled(b, rego.Bundle).Digest() })
			start := time.Now()
			c := newCrowd(b, h, *listed)
			fmt.Printf("%s: %d requests, %d users and %d targets made in %.0f s\n", e.name, c.requests, c.users, c.targets, time.Since(start).Seconds())
			for _, l := range lists(c) {
				for _, who := range l.who {
					b.Run(l.name+"/"+who, func(b *testing.B) {
						by := h.as(map[string]string{"administrator": "root", "approver": fmt.Sprintf("user%d", c.users-40), "requester": fmt.Sprintf("user%d", c.users-39)}[who])
						var times []time.Duration
						n := 0
						for b.Loop() {
							start := time.Now()
							var err error
							if n, err = l.read(b.Context(), by); err != nil {
								b.Fatal(err)
							}
							times = append(times, time.Since(start))
						}
						reportTimes(b, times)
						b.ReportMetric(float64(n), "rows")
					})
				}
			}
		})
	}
}

// reportTimes reports the median of what was measured, and its 99th percentile.
func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}

// A list is one that people look at.
type list struct {
	name string
	who  []string
	read func(ctx context.Context, by access.Caller) (rows int, err error)
}

func lists(c *crowd) []list {
	everybody, administrator := []string{"administrator", "approver", "requester"}, []string{"administrator"}
	requests := func(name string, who []string, f broker.Filter) list {
		return list{name, who, func(ctx context.Context, by access.Caller) (int, error) {
			l, err := c.Requests(ctx, by, f)
			return len(l), err
		}}
	}
	sessions := func(name string, who []string, f broker.SessionFilter) list {
		return list{name, who, func(ctx context.Context, by access.Caller) (int, error) {
			l, err := c.Sessions(ctx, by, f)
			return len(l), err
		}}
	}
	return []list{
		requests("mine", everybody, broker.Filter{Mine: true}),
		requests("inbox", everybody, broker.Filter{Inbox: true}),
		requests("inbox of 200", []string{"approver"}, broker.Filter{Inbox: true, Limit: 200}),
		requests("all", everybody, broker.Filter{}),
		requests("all, 200", administrator, broker.Filter{Limit: 200}),
		requests("pending", everybody, broker.Filter{State: access.Pending}),
		requests("approved", everybody, broker.Filter{State: access.Approved}),
		requests("denied", everybody, broker.Filter{State: access.Denied}),
		requests("expired", everybody, broker.Filter{State: access.Expired}),
		requests("active", everybody, broker.Filter{Active: true}),
		requests("mine, active", everybody, broker.Filter{Active: true, Mine: true}),
		requests("a batch", everybody, broker.Filter{Batch: access.NewID(access.BatchPrefix)}),
		requests("all, from the middle on", administrator, broker.Filter{Before: c.id(c.requests / 2)}),
		sessions("sessions", everybody, broker.SessionFilter{}),
		sessions("live sessions", everybody, broker.SessionFilter{Live: true}),
		sessions("sessions of a user", administrator, broker.SessionFilter{User: fmt.Sprintf("user%d", c.users-39)}),
		sessions("sessions on a target", administrator, broker.SessionFilter{Target: "host7"}),
		{"targets", everybody, func(ctx context.Context, by access.Caller) (int, error) {
			l, _, err := c.FindTargets(ctx, by, broker.TargetFilter{Limit: 200})
			return len(l), err
		}},
		{"all targets, page after page", everybody, func(ctx context.Context, by access.Caller) (n int, err error) {
			f := broker.TargetFilter{Limit: 200}
			for {
				l, next, err := c.FindTargets(ctx, by, f)
				n, f.After = n+len(l), next
				if err != nil || next == "" {
					return n, err
				}
			}
		}},
		{"users", administrator, func(ctx context.Context, by access.Caller) (int, error) {
			l, err := c.Users(ctx, by)
			return len(l), err
		}},
		{"one request", []string{"administrator"}, func(ctx context.Context, by access.Caller) (int, error) {
			_, err := c.FindRequest(ctx, by, c.id(c.requests-1))
			return 1, err
		}},
	}
}

// id is that of a request of the crowd.
func (c *crowd) id(i int) string {
	return fmt.Sprintf("REQ-%016d", (int64(i)+1)*48271%2147483647)
}
