//go:build linux

package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestKill kills the server with SIGKILL at random moments while people ask,
// approve, extend, revoke, open sessions and type. After each restart
// everything that was acknowledged is there, once, and nothing that the target
// received is missing in the recordings.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Run("SQLite", func(t *testing.T) { killRounds(t, "", 30, seed) })
	t.Run("PostgreSQL", func(t *testing.T) { killRounds(t, servers.Postgres(t), 10, seed+1) })
}

func killRounds(t *testing.T, database string, rounds int, seed uint64) {
	t.Logf("CRASH_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := install(t, database, "")
	h := &crash{server: s, facts: map[string]*fact{}, sent: map[string]*typed{}}
	h.approver, h.auditor = s.person("bob", "approvers"), s.person("carol", "auditors")
	h.target = newTarget(t, "db01", s.userAuthority())
	s.addTarget("db01", h.target.addr(), h.target.key.PublicKey(), accounts(3)...)
	var engineers []*person
	for _, name := range []string{"alice", "dave"} {
		engineers = append(engineers, s.person(name, "engineers"))
	}
	var slowest time.Duration
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i, p := range engineers {
			for j, account := range accounts(3) {
				mine := rand.New(rand.NewPCG(seed, uint64(round*100+i*10+j+1)))
				wg.Go(func() { h.work(ctx, p, account, mine) })
			}
		}
		time.Sleep(time.Duration(50+rnd.IntN(850)) * time.Millisecond)
		s.kill()
		cancel()
		wg.Wait()
		slowest = max(slowest, s.start())
		h.afterRestart(round)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	h.atTheEnd()
	t.Logf("%d rounds, slowest start %v, %d requests, %d approvals, %d revocations and %d extensions acknowledged, %d sessions at the target, %d bytes",
		rounds, slowest.Round(time.Millisecond), len(h.facts), h.count(func(f *fact) bool { return f.approved }), h.count(func(f *fact) bool { return f.ended != "" }),
		h.count(func(f *fact) bool { return f.seconds > 0 }), len(h.target.sessions()), h.bytes)
	if slowest > 20*time.Second {
		t.Errorf("a start took %v", slowest)
	}
}

// A crash is what is known from outside about a server that is killed.
type crash struct {
	*server
	approver, auditor *person
	target            *target
	bytes             int

	mu    sync.Mutex
	facts map[string]*fact  // what was acknowledged, by request
	sent  map[string]*typed // by the word that a session begins with
}

// A fact is what the server has acknowledged of a request.
type fact struct {
	by       *person
	account  string
	approved bool
	ended    string // revoked or released
	seconds  int64  // of the last extension
}

// typed is all that was written into one session.
type typed struct{ data []byte }

func (h *crash) count(f func(*fact) bool) (n int) {
	for _, v := range h.facts {
		if f(v) {
			n++
		}
	}
	return n
}

// note changes what is known of a request.
func (h *crash) note(id string, change func(*fact)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.facts[id] == nil {
		h.facts[id] = &fact{}
	}
	change(h.facts[id])
}

// work is one engineer with one account, until the server is gone.
func (h *crash) work(ctx context.Context, p *person, account string, rnd *rand.Rand) {
	// An answer that refuses is a mistake of the server's; no answer is the crash.
	gone := func(err error) bool {
		if problem := api.AsProblem(err); problem != nil {
			h.t.Errorf("%s for %s: %d %s: %v", account, p.name, problem.Status, problem.Code, err)
		}
		return err != nil
	}
	for ctx.Err() == nil {
		r, err := p.Request(ctx, api.RequestInput{Target: "db01", Account: account, DurationSeconds: 600, Reason: canary("reason")})
		if gone(err) {
			return
		}
		h.note(r.ID, func(f *fact) { f.by, f.account = p, account })
		if r.State == api.Pending {
			r, err = h.approver.Approve(ctx, r.ID, api.ApproveInput{Digest: r.Digest})
			if gone(err) {
				return
			}
			if r.State != api.Approved {
				h.t.Errorf("%s is %s after its approval", r.ID, r.State)
			}
		} // else the grant of an earlier round, whose end was not acknowledged
		h.note(r.ID, func(f *fact) { f.approved = true })
		var typing sync.WaitGroup
		for range 1 + rnd.IntN(2) {
			word := canary("typed")
			typing.Go(func() { h.typeInto(ctx, p, account, word) })
		}
		time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
		if rnd.IntN(2) == 0 {
			if r, err = p.Extend(ctx, r.ID, api.ExtendInput{DurationSeconds: 60}); err == nil && r.Grant != nil {
				h.note(r.ID, func(f *fact) { f.seconds = r.Grant.DurationSeconds })
			} else if problem := api.AsProblem(err); problem == nil || problem.Status >= 500 { // not activated yet is a refusal
				return
			}
		}
		if rnd.IntN(8) > 0 {
			id, end := r.ID, api.Revoked
			if rnd.IntN(3) > 0 {
				_, err = h.approver.Revoke(ctx, id, "enough")
			} else {
				end = api.Released
				_, err = p.End(ctx, id)
			}
			if gone(err) {
				return
			}
			h.note(id, func(f *fact) { f.ended = end })
		}
		typing.Wait()
	}
}

// typeInto opens a session and types until it is cut.
func (h *crash) typeInto(ctx context.Context, p *person, account, word string) {
	sh, err := h.shell(p, account, "db01")
	if err != nil {
		return
	}
	defer sh.client.Close()
	all := &typed{}
	h.mu.Lock()
	h.sent[word] = all
	h.mu.Unlock()
	for i := 0; ctx.Err() == nil; i++ {
		line := fmt.Sprintf("%s %d\r", word, i)
		all.data = append(all.data, line...)
		if _, err := sh.in.Write([]byte(line)); err != nil {
			return
		}
		select {
		case <-sh.done:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if i > 150 { // else only a crash would ever end one
			return
		}
	}
}

// afterRestart checks what must hold as soon as the server answers again.
func (h *crash) afterRestart(round int) {
	ctx := h.t.Context()
	live, err := h.auditor.Sessions(ctx, api.SessionFilter{Live: true, Limit: api.MaxPage})
	must(h.t, err)
	if n := len(live.Items); n != 0 {
		h.t.Errorf("%d sessions are still open after the restart, such as %+v", n, live.Items[0])
	}
	now := map[string]api.Request{}
	active := map[string]bool{} // grants that hold, by person and account
	for before := ""; ; {
		page, err := h.auditor.Requests(ctx, api.RequestFilter{Limit: api.MaxPage, Before: before})
		must(h.t, err)
		for _, r := range page.Items {
			now[r.ID] = r
			if r.State == api.Pending || r.Grant != nil && r.Grant.State != api.Ended {
				active[r.Requester+" "+r.Account] = true
			}
		}
		if before = page.Next; before == "" {
			break
		}
	}
	var again *fact
	for id, f := range h.facts {
		r, found := now[id]
		switch {
		case !found:
			h.t.Errorf("%s was acknowledged and is not there", id)
		case f.approved && (r.State != api.Approved || r.Grant == nil || len(r.Approvals) != 1):
			h.t.Errorf("%s was approved, now it is %s with %d approvals", id, r.State, len(r.Approvals))
		case f.ended != "" && (r.Grant.State != api.Ended || r.Grant.EndReason != f.ended):
			h.t.Errorf("%s was %s, now it is %s (%s)", id, f.ended, r.Grant.State, r.Grant.EndReason)
		case f.seconds > 0 && r.Grant.DurationSeconds < f.seconds:
			h.t.Errorf("%s was extended to %d seconds, now it has %d", id, f.seconds, r.Grant.DurationSeconds)
		}
		if f.ended == api.Revoked && !active[f.by.name+" "+f.account] {
			again = f
		}
	}
	if again != nil {
		before := len(h.target.sessions())
		if sh, err := h.shell(again.by, again.account, "db01"); err == nil {
			sh.client.Close()
			h.t.Errorf("a revoked grant let a session in after the restart (round %d)", round)
		}
		if n := len(h.target.sessions()); n != before {
			h.t.Errorf("a session under a revoked grant reached the target")
		}
	}
}

// atTheEnd compares what the target heard and what was acknowledged with the
// audit log and the recordings.
func (h *crash) atTheEnd() {
	events := h.exported(h.auditor)
	count := map[string]int{} // of done events, by action and object
	serials, issued := map[uint64]audit.Event{}, map[string]int64{}
	for _, e := range events {
		if e.Outcome != audit.Done {
			continue
		}
		switch {
		case e.Session != "":
			count[e.Action+" "+e.Session]++
		default:
			count[e.Action+" "+e.Request]++
		}
		if e.Action == "certificate.issue" {
			n, err := strconv.ParseUint(e.Details["serial"], 10, 64)
			must(h.t, err)
			if _, twice := serials[n]; twice {
				h.t.Errorf("the serial %d was issued twice", n)
			}
			serials[n] = e
			issued[e.Session] = e.Seq
		}
	}
	for id, f := range h.facts {
		for action, want := range map[string]bool{"request.create": true, "grant.open": f.approved, "request.approve": f.approved, "grant.revoke": f.ended == api.Revoked} {
			if n := count[action+" "+id]; n > 1 || want && n != 1 {
				h.t.Errorf("%s: %d events %s", id, n, action)
			}
		}
	}
	for key, n := range count {
		action, id, _ := strings.Cut(key, " ")
		if action == "session.open" && (n != 1 || count["session.close "+id] != 1) {
			h.t.Errorf("%s has %d opening and %d closing events", id, n, count["session.close "+id])
		}
	}
	sessions := map[string]api.Session{}
	for before := ""; ; {
		page, err := h.auditor.Sessions(h.t.Context(), api.SessionFilter{Limit: api.MaxPage, Before: before})
		must(h.t, err)
		for _, x := range page.Items {
			sessions[x.ID] = x
		}
		if before = page.Next; before == "" {
			break
		}
	}
	var all []string
	for _, heard := range h.target.sessions() {
		all = append(all, heard.session)
	}
	hidden := h.hidden(all)
	aborted := 0
	for _, heard := range h.target.sessions() {
		id := heard.session
		e, ok := serials[heard.serial]
		if !ok || e.Session != id || e.Object != heard.keyID || e.Time.After(heard.at) {
			h.t.Errorf("the target saw the serial %d of %s; on record is %+v", heard.serial, id, e)
		}
		if count["session.open "+id] != 1 || count["session.close "+id] != 1 {
			h.t.Errorf("the target had the session %s, which has %d opening and %d closing events", id, count["session.open "+id], count["session.close "+id])
		}
		session := sessions[id]
		if session.State != "closed" || session.Recording == nil {
			h.t.Errorf("%s is %s, its recording %+v", id, session.State, session.Recording)
			continue
		}
		input, wasAborted, err := h.recorded(h.auditor, id, hidden[id])
		if err != nil {
			h.t.Errorf("the recording of %s (%s): %v", id, session.EndReason, err)
			continue
		}
		if wasAborted {
			aborted++
		}
		got, _ := heard.get()
		h.bytes += len(got)
		if !strings.HasPrefix(input, got) {
			h.t.Errorf("%s: the target received %d bytes, of which the recording of %d bytes does not have all", id, len(got), len(input))
		}
		if word, _, found := strings.Cut(input, " "); found {
			if all := h.sent[word]; all == nil || !strings.HasPrefix(string(all.data), input) {
				h.t.Errorf("%s: the recording has what nobody typed", id)
			}
		}
	}
	if aborted == 0 || h.bytes == 0 {
		h.t.Errorf("%d recordings were cut by a crash, %d bytes were typed: this test tests nothing", aborted, h.bytes)
	}
	h.t.Logf("%d recordings were cut by a crash", aborted)
}
