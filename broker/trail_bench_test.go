package broker_test

import (
	"database/sql"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

var trailed = flag.Int("trailed", 2000, "how many events BenchmarkTrail makes")

// lengthen adds events to the log as the store does, many in a statement.
func (h *house) lengthen(b testing.TB, n int) (oldest time.Time) {
	b.Helper()
	driver, name := "pgx", h.url
	if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
		driver, name = "sqlite", path
	}
	db, err := sql.Open(driver, name)
	ok(b, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	tx, err := db.Begin()
	ok(b, err)
	var size, last int64
	var edge []byte
	ok(b, tx.QueryRow("SELECT size, edge, time FROM audit_head WHERE id = 1").Scan(&size, &edge, &last))
	actions := []string{"request.create", "request.approve", "session.open", "session.close", "login", "grant.end", "file", "target.read"}
	const rows = 500
	var args []any
	var marks []string
	flush := func() {
		if len(marks) == 0 {
			return
		}
		_, err := tx.Exec("INSERT INTO audit_leaves (seq, time, actor, action, object, target, session, hashes, leaf) VALUES "+strings.Join(marks, ", "), args...)
		ok(b, err)
		args, marks = args[:0], marks[:0]
	}
	begin := time.UnixMicro(last).UTC()
	for i := range n {
		// 400 days, so that a day is some thousands of a million events.
		at := begin.Add(time.Duration(i-n) * 400 * 24 * time.Hour / time.Duration(n)).Truncate(time.Microsecond)
		if i == 0 {
			oldest = at
		}
		e := audit.Event{
			Seq: size, Time: at, Actor: fmt.Sprintf("USR-%016d", i%1000), ActorName: fmt.Sprintf("user%d", i%1000), Action: actions[i%len(actions)], Object: fmt.Sprintf("REQ-%016d", i/4),
			Target: fmt.Sprintf("host%d", i%997), Account: "root", Request: fmt.Sprintf("REQ-%016d", i/4), Source: "198.51.100.7", Outcome: audit.Done, Reason: "INC-42 replication lag on the primary",
			Details: map[string]string{"via": "cli", "role": "engineers", "rule": "root", "digest": strings.Repeat("0123456789abcdef", 4)},
		}
		if i == n/20 {
			e.Action, e.Actor, e.Target = "needle.found", "USR-needle", "haystack"
		}
		leaf, err := e.Marshal()
		ok(b, err)
		h := audit.LeafHash(leaf)
		hashes := slices.Clone(h[:])
		for k := size; k&1 == 1; k >>= 1 {
			end := len(edge) - tlog.HashSize
			h = tlog.NodeHash(tlog.Hash(edge[end:]), h)
			hashes, edge = append(hashes, h[:]...), edge[:end]
		}
		edge = append(edge, h[:]...)
		first := len(args)
		args = append(args, e.Seq, at.UnixMicro(), e.Actor, e.Action, e.Object, e.Target, "", hashes, leaf)
		var m []string
		for k := first; k < len(args); k++ {
			m = append(m, fmt.Sprintf("$%d", k+1))
		}
		marks = append(marks, "("+strings.Join(m, ", ")+")")
		if size++; len(marks) == rows {
			flush()
		}
	}
	flush()
	_, err = tx.Exec("UPDATE audit_head SET size = $1, edge = $2 WHERE id = 1", size, edge)
	ok(b, err)
	ok(b, tx.Commit())
	if driver == "pgx" {
		_, err = db.Exec("ANALYZE audit_leaves") // as it does by itself, in time
		ok(b, err)
	}
	return oldest
}

// BenchmarkTrail measures looks into a long audit log, as its page takes them:
//
//	go test ./broker -run '^$' -bench BenchmarkTrail -benchtime 100x -timeout 1h -trailed 1000000
func BenchmarkTrail(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			h := newHouse(b, e.url(b))
			start := time.Now()
			oldest := h.lengthen(b, *trailed)
			by := h.as("carol")
			_, err := h.Checkpoint(b.Context(), by)
			ok(b, err)
			fmt.Printf("%s: %d events made in %.0f s\n", e.name, *trailed, time.Since(start).Seconds())
			middle := int64(*trailed / 2)
			for _, l := range []struct {
				name string
				f    broker.TrailFilter
				rows int
			}{
				{"newest", broker.TrailFilter{}, 50},
				{"from the middle on", broker.TrailFilter{Before: middle}, 50},
				{"of a person", broker.TrailFilter{Actor: "USR-0000000000000007"}, 1},
				{"of an action", broker.TrailFilter{Action: "session.open"}, 50},
				{"of actions", broker.TrailFilter{Action: "session.*"}, 50},
				{"on a target", broker.TrailFilter{Target: "host7"}, 1},
				{"of a person and an action", broker.TrailFilter{Actor: "USR-0000000000000007", Action: "session.close"}, 0},
				{"of an object", broker.TrailFilter{Object: fmt.Sprintf("REQ-%016d", middle/4)}, 1},
				{"of a day", broker.TrailFilter{Since: oldest.Add(200 * 24 * time.Hour), Until: oldest.Add(201 * 24 * time.Hour)}, 1},
				{"of an action that is rare", broker.TrailFilter{Action: "needle.found"}, 0},
				{"of a person who is rare", broker.TrailFilter{Actor: "USR-needle"}, 0},
				{"on a target that is rare", broker.TrailFilter{Target: "haystack"}, 0},
				{"of actions that are rare", broker.TrailFilter{Action: "needle.*"}, 0},
				{"of nobody", broker.TrailFilter{Actor: "USR-nobody", Action: "nothing"}, 0},
			} {
				b.Run(l.name, func(b *testing.B) {
					var times []time.Duration
					for b.Loop() {
						start := time.Now()
						page, err := h.Trail(b.Context(), by, l.f)
						ok(b, err)
						if len(page.Events) < l.rows || len(page.Doubtful) > 0 {
							b.Fatalf("%d events, %d in doubt", len(page.Events), len(page.Doubtful))
						}
						times = append(times, time.Since(start))
					}
					reportTimes(b, times)
				})
			}
		})
	}
}
