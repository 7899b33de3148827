//go:build linux

package broker_test

import (
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
)

var searched = flag.Int("searched", 1000, "how many sessions BenchmarkSearch makes")

// A talker makes the lines of sessions: words as often as people use them
// (Zipf), in the forms of commands and of what they print.
type talker struct {
	r     *rand.Rand
	zipf  *rand.Zipf
	words []string
}

func newTalker() *talker {
	r := rand.New(rand.NewPCG(1, 2))
	t := &talker{r: r, zipf: rand.NewZipf(r, 1.1, 3, 49_999)}
	parts := strings.Fields("ba con da el fi gra hi in jo ka lo me no or pre qui re sta tion un ver wa xi yo zu tab serv log conf data user net sys tem back rep lic")
	for len(t.words) < 50_000 {
		w := ""
		for range 2 + r.IntN(3) {
			w += parts[r.IntN(len(parts))]
		}
		t.words = append(t.words, w)
	}
	return t
}

func (t *talker) word() string { return t.words[t.zipf.Uint64()] }

func (t *talker) line(n int) view.Text {
	text, in := "", view.Output
	switch t.r.IntN(10) {
	case 0, 1:
		in = []view.Source{view.Command, view.Keys}[t.r.IntN(2)]
		text = fmt.Sprintf("sudo systemctl %s %s-%s.service", []string{"restart", "status", "stop", "reload"}[t.r.IntN(4)], t.word(), t.word())
	case 2:
		text = fmt.Sprintf("-rw-r--r-- 1 root root %d Mar %2d %02d:%02d /etc/%s/%s.conf", t.r.IntN(1e6), 1+t.r.IntN(28), t.r.IntN(24), t.r.IntN(60), t.word(), t.word())
	case 3:
		text = fmt.Sprintf("SELECT %s, %s FROM %s_%s WHERE id = %d;", t.word(), t.word(), t.word(), t.word(), t.r.IntN(1e5))
	case 4:
		in, text = view.File, fmt.Sprintf("upload /srv/%s/%s.tar.gz ok", t.word(), t.word())
	default:
		var words []string
		for range 6 + t.r.IntN(6) {
			words = append(words, t.word())
		}
		text = fmt.Sprintf("2026-03-%02d %02d:%02d:%02d [%d] %s", 1+t.r.IntN(28), t.r.IntN(24), t.r.IntN(60), t.r.IntN(60), t.r.IntN(1e5), strings.Join(words, " "))
	}
	return view.Text{At: time.Duration(n) * 1700 * time.Millisecond, In: in, Text: text}
}

// makeSearched fills the database with sessions of 20 lines, of 100 people at 50
// targets. "flugelhorn" is in three of them, near the beginning.
func makeSearched(b *testing.B, h *house, n int) (lines, bytes int, took time.Duration) {
	b.Helper()
	ctx := b.Context()
	t := newTalker()
	var people []access.User
	ok(b, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for i := range 100 {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: fmt.Sprintf("person%d", i), CreatedAt: tx.Now(), Version: 1}
			ok(b, tx.AddUser(ctx, &u))
			people = append(people, u)
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
	begin := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	for at := 0; at < n; at += 500 {
		var made []access.Session
		ok(b, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			made = made[:0]
			for i := at; i < min(at+500, n); i++ {
				u, target := people[t.r.IntN(100)], t.r.IntN(50)
				if i%10 == 0 { // what the scoped caller may see
					target = 0
				} else {
					target = 1 + target%49
				}
				opened := begin.Add(time.Duration(i) * 5 * time.Minute)
				r := access.Request{ID: access.NewID(access.RequestPrefix), RequesterID: u.ID, TargetID: fmt.Sprint("TGT-", target), Account: "root",
					Reason: "INC-42", Duration: time.Hour, State: access.Approved, CreatedAt: opened, ExpiresAt: opened, Version: 1}
				g := access.Grant{ID: access.NewID(access.GrantPrefix), RequestID: r.ID, UserID: u.ID, Duration: time.Hour, Version: 1}
				s := access.Session{ID: access.NewID(access.SessionPrefix), GrantID: g.ID, RequestID: r.ID, UserID: u.ID, UserName: u.Name, TargetID: r.TargetID,
					TargetName: fmt.Sprintf("host%02d", target), Account: "root", State: access.Closed, OpenedAt: opened, Version: 1}
				ok(b, tx.AddRequest(ctx, &r))
				ok(b, tx.AddGrant(ctx, &g))
				ok(b, tx.AddSession(ctx, &s))
				made = append(made, s)
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
		for i, s := range made {
			var texts []view.Text
			for j := range 20 {
				texts = append(texts, t.line(j))
				bytes += len(texts[j].Text)
			}
			if at == 0 && i%100 == 7 && i < 300 {
				texts[3].Text += " flugelhorn"
			}
			start := time.Now()
			ok(b, h.db.SaveText(ctx, s.ID, slices.Values(texts)))
			took += time.Since(start)
			lines += 20
		}
	}
	return lines, bytes, took
}

// BenchmarkSearch measures searches of everything, and of a tenth by somebody who
// may see no more, in so many sessions as the flag says:
//
//	go test ./broker -run '^$' -bench BenchmarkSearch -benchtime 40x -timeout 2h -searched 100000
func BenchmarkSearch(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			h := newHouse(b, e.url(b))
			ok(b, h.db.PrepareText(b.Context()))
			h.role(access.Role{Name: "team", Groups: []string{"team"}, Rules: []access.Rule{{
				ID: "host00", Actions: []string{"session.list", "session.replay"}, Targets: access.Selector{Names: []string{"host00"}}}}})
			h.setGroups("erin", "team")
			before := size(b, h)
			lines, bytes, took := makeSearched(b, h, *searched)
			fmt.Printf("%s: %d lines of %d bytes saved in %.1f s: %.0f lines/s; the database grew by %d MB with the sessions\n", e.name, lines, bytes, took.Seconds(), float64(lines)/took.Seconds(), (size(b, h)-before)>>20)
			for _, c := range []struct {
				name, who string
				filter    broker.SearchFilter
			}{
				{"rare", "carol", broker.SearchFilter{Query: "flugelhorn"}},
				{"common", "carol", broker.SearchFilter{Query: "systemctl restart"}},
				{"middling", "carol", broker.SearchFilter{Query: newTalker().words[3000]}},
				{"absent", "carol", broker.SearchFilter{Query: "xylophonist"}},
				{"absent, of common letters", "carol", broker.SearchFilter{Query: "stationserverconf"}},
				{"filtered", "carol", broker.SearchFilter{Query: "upload", Target: "host1*", In: []view.Source{view.File}, Since: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)}},
				{"a tenth, common", "erin", broker.SearchFilter{Query: "systemctl restart"}},
				{"a tenth, absent", "erin", broker.SearchFilter{Query: "xylophonist"}},
			} {
				b.Run(c.name, func(b *testing.B) {
					var times []time.Duration
					var p broker.SearchPage
					by := h.as(c.who)
					used := processor()
					for b.Loop() {
						start := time.Now()
						var err error
						if p, err = h.Search(b.Context(), by, c.filter); err != nil {
							b.Fatal(err)
						}
						times = append(times, time.Since(start))
					}
					used = processor() - used
					slices.Sort(times)
					b.ReportMetric(float64(used.Microseconds())/1000/float64(len(times)), "cpu-ms")
					b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
					b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
					b.ReportMetric(float64(len(p.Hits)), "hits")
					b.ReportMetric(float64(p.Sessions), "sessions")
					if !p.Reached.IsZero() {
						b.Errorf("the time ran out at %s", p.Reached)
					}
				})
			}
		})
	}
}

// processor is the time that this process has used of processors.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// size is how large the database is, in bytes.
func size(b *testing.B, h *house) int64 {
	b.Helper()
	path, lite := strings.CutPrefix(h.url, "sqlite://")
	if !lite {
		db, err := sql.Open("pgx", h.url)
		ok(b, err)
		defer db.Close()
		var n int64
		ok(b, db.QueryRow("SELECT pg_database_size(current_database())").Scan(&n))
		return n
	}
	var n int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}
