package store_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// TestTwoServers has two servers on one database with 8 goroutines each that
// count up one number: no count may be lost, and the log must be one.
func TestTwoServers(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		const workers, rounds = 8, 10
		ctx := t.Context()
		u := newUser("anna")
		u.Display = "0"
		change(t, db, func(tx *store.Tx) error { return tx.AddUser(ctx, &u) })
		var wg sync.WaitGroup
		for _, server := range []*store.DB{db, open(t, url)} {
			for range workers {
				wg.Go(func() {
					for range rounds {
						err := server.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
							v, err := tx.User(ctx, u.ID)
							if err != nil {
								return audit.Event{}, err
							}
							n, _ := strconv.Atoi(v.Display)
							v.Display = strconv.Itoa(n + 1)
							return event("user.count", v.Display), tx.SaveUser(ctx, &v)
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		got, err := db.User(ctx, u.ID)
		ok(t, err)
		const total = 2 * workers * rounds
		if got.Display != strconv.Itoa(total) || got.Version != total {
			t.Errorf("counted to %s, version %d, want %d", got.Display, got.Version, total)
		}
		events := checkLog(t, db)
		if len(events) != total+1 {
			t.Fatalf("%d events, want %d", len(events), total+1)
		}
		for i, e := range events[1:] { // the log tells the order in which it happened
			if e.Object != strconv.Itoa(i+1) {
				t.Fatalf("event %d tells of %s", i+1, e.Object)
			}
		}
	})
}

// TestOnePersonOneVote lets one person approve many times at once, on two
// servers.
func TestOnePersonOneVote(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		ctx := t.Context()
		anna := newUser("anna")
		r := newRequest(anna)
		r.Needs = []access.Need{{Count: 2, Groups: []string{"dba"}}}
		change(t, db, func(tx *store.Tx) error {
			ok(t, tx.AddUser(ctx, &anna))
			return tx.AddRequest(ctx, &r)
		})
		groups := func(*access.Approval) []string { return []string{"dba"} }
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won int
		for _, server := range []*store.DB{db, open(t, url)} {
			for range 5 {
				wg.Go(func() {
					err := server.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
						r, err := tx.Request(ctx, r.ID)
						if err != nil {
							return audit.Event{}, err
						}
						e := event("request.approve", r.ID)
						if _, err := r.Approve(access.Approval{UserID: "USR-b", UserName: "bob", Groups: []string{"dba"}, Digest: r.Digest(), At: tx.Now()}, false, groups); err != nil {
							return e, err
						}
						return e, tx.SaveRequest(ctx, &r)
					})
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						won++
					} else {
						want(t, err, access.ErrConflict)
					}
				})
			}
		}
		wg.Wait()
		got, err := db.Request(ctx, r.ID)
		ok(t, err)
		if won != 1 || len(got.Approvals) != 1 || got.State != access.Pending {
			t.Errorf("%d votes won; request %+v", won, got)
		}
		if events := checkLog(t, db); len(events) != 11 {
			t.Errorf("%d events, want 11", len(events))
		}
		// The key holds even if the rules were wrong.
		change(t, db, func(tx *store.Tx) error {
			r, err := tx.Request(ctx, r.ID)
			ok(t, err)
			r.Approvals = append(r.Approvals, r.Approvals[0])
			return tx.SaveRequest(ctx, &r)
		})
		if got, err := db.Request(ctx, r.ID); err != nil || len(got.Approvals) != 1 {
			t.Errorf("%d approvals, %v", len(got.Approvals), err)
		}
	})
}

// TestKilled kills a process in a storm of changes. What it said was done must
// be there with its event, and nothing half done.
func TestKilled(t *testing.T) {
	const variable = "STORE_TEST_KILLED"
	if url := os.Getenv(variable); url != "" {
		storm(t, url)
		return
	}
	url := "sqlite://" + filepath.Join(t.TempDir(), "drawbolt.db")
	for round := range 3 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.timeout=5m")
		c.Env = append(os.Environ(), variable+"="+url)
		out, err := c.StdoutPipe()
		ok(t, err)
		ok(t, c.Start())
		var done []string
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break // what is not a whole line was not said
			}
			ok(t, err)
			if id, isOne := strings.CutPrefix(strings.TrimSpace(line), "done "); isOne {
				done = append(done, id)
			}
			if len(done) == 200+37*round {
				ok(t, c.Process.Kill())
			}
		}
		_ = c.Wait()
		if len(done) < 200 {
			t.Fatalf("only %d changes before the end", len(done))
		}
		db, err := store.Open(t.Context(), store.Config{URL: url})
		ok(t, err)
		told := map[string]int{}
		for _, e := range checkLog(t, db) {
			told[e.Object]++
		}
		list, err := db.Targets(t.Context())
		ok(t, err)
		there := map[string]bool{}
		for _, target := range list {
			there[target.ID] = true
			if told[target.ID] != 1 {
				t.Errorf("target %s has %d events", target.ID, told[target.ID])
			}
		}
		if len(told) != len(list) {
			t.Errorf("events of %d targets, %d targets", len(told), len(list))
		}
		for _, id := range done {
			if !there[id] {
				t.Errorf("target %s was said to be there", id)
			}
		}
		ok(t, db.Close())
	}
}

// storm adds targets until it is killed, and says which it has.
func storm(t *testing.T, url string) {
	db := open(t, url)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); {
				target := newTarget()
				err := db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
					return event("target.add", target.ID), tx.AddTarget(t.Context(), &target)
				})
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(os.Stdout, "\ndone %s\n", target.ID)
			}
		})
	}
	wg.Wait()
}
