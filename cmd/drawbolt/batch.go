package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

func isBatch(id string) bool { return strings.HasPrefix(id, api.BatchPrefix) }

// batch returns the pending requests of a batch, in the order of their targets:
// those that the caller may decide, or has made.
func batch(ctx context.Context, cl *api.Client, id string, mine bool) ([]api.Request, error) {
	f := api.RequestFilter{Batch: id, Inbox: !mine, Mine: mine}
	if mine {
		f.State = api.Pending
	}
	list, err := requests(ctx, cl, f)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		what := "nothing in %s waits for your decision"
		if mine {
			what = "nothing in %s is pending"
		}
		return nil, &failure{code: exitNotFound, text: fmt.Sprintf(what, id), next: "drawbolt inbox"}
	}
	slices.SortFunc(list, func(a, b api.Request) int { return strings.Compare(a.Target, b.Target) })
	return list, nil
}

// batchDigest names what an approver was shown of a batch: these requests, each
// as it was, and no other.
func batchDigest(list []api.Request) string {
	var all []string
	for _, r := range list {
		all = append(all, r.ID+" "+r.Digest)
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte("drawbolt batch 1\n" + strings.Join(all, "\n")))
	return hex.EncodeToString(sum[:])
}

// approveBatch says yes to each request of a batch, as it is now; each is
// printed. What cannot be approved does not keep the others from it.
func (c *cli) approveBatch(ctx context.Context, cl *api.Client, o approveOptions, length int64) error {
	list, err := batch(ctx, cl, o.id, false)
	if err != nil {
		return err
	}
	if o.digest != "" && o.digest != batchDigest(list) {
		return &failure{code: exitError, cat: "DB-3004", text: o.id + " is not what you were shown; look at it again", next: "drawbolt inbox"}
	}
	return c.decideBatch(list, "approved", func(r api.Request) (api.Request, error) {
		each := o
		each.digest = "" // that of the batch was compared above
		length := min(length, r.DurationSeconds)
		return cl.Approve(ctx, r.ID, each.input(&r, length))
	})
}

// decideBatch decides each request in turn and says how it stands then. The
// error is the first one.
func (c *cli) decideBatch(list []api.Request, done string, decide func(api.Request) (api.Request, error)) error {
	r := list[0]
	c.say("%s  %s asks for %s on %s  %s", r.Batch, r.Requester, r.Account, countTargets(len(list)), r.Reason)
	var now []api.Request
	var failed []string
	var wrong error
	for _, r := range list {
		c.say("  %s  %s@%s  %s  %s", r.ID, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Policy.Rule)
		after, err := decide(r)
		if err != nil {
			c.say("    ! %v", err)
			wrong = errors.Join(wrong, err)
			failed = append(failed, r.Target)
			continue
		}
		if left := missing(after.Needs); after.State == api.Pending && len(left) > 0 {
			c.say("    %s still needed", need(left))
		}
		now = append(now, after)
	}
	if _, err := c.emit(now); err != nil {
		return err
	}
	if wrong != nil {
		first, _ := errors.AsType[*api.Problem](wrong)
		code := exitError
		if first != nil {
			code = problemCode(first)
		}
		return &failure{code: code, cause: wrong, text: fmt.Sprintf("%d of %d were not %s: %s", len(failed), len(list), done, strings.Join(failed, ", ")), next: "drawbolt inbox"}
	}
	c.done("%d requests of %s were %s", len(now), r.Requester, done)
	return nil
}

// A batchJSON is a batch as a whole.
type batchJSON struct {
	ID        string       `json:"id"`
	State     string       `json:"state"` // pending, running, approved or scheduled, as long as a target is; else done
	Requester string       `json:"requester"`
	Account   string       `json:"account"`
	Reason    string       `json:"reason"`
	CreatedAt time.Time    `json:"created_at"`
	Targets   []memberJSON `json:"targets"`
}

// A memberJSON is one target of a batch.
type memberJSON struct {
	Target    string     `json:"target"`
	Request   string     `json:"request"`
	State     string     `json:"state"` // of the request; once approved: scheduled, approved, running, done or ended
	DecidedBy string     `json:"decided_by,omitempty"`
	Note      string     `json:"note,omitempty"`
	Needs     []api.Need `json:"needs"`
	Grant     *api.Grant `json:"grant,omitempty"`
	Sessions  int        `json:"sessions"`             // under the grant, so far
	EndReason string     `json:"end_reason,omitempty"` // of the last that is over
	ExitCode  *int       `json:"exit_code,omitempty"`  // of the same, where it is known
}

// The states of a target whose request is approved, besides those of its grant.
const (
	memberRunning = "running" // a session is open
	memberDone    = "done"    // all that were opened are over
)

// runBatchStatus shows a batch, after all decisions when wait is said; limit (0:
// none) is for how long.
func (c *cli) runBatchStatus(ctx context.Context, id string, wait bool, limit time.Duration) error {
	cl, _, err := c.client(batchJSON{})
	if err != nil {
		return err
	}
	list, err := requests(ctx, cl, api.RequestFilter{Batch: id})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &failure{code: exitNotFound, text: "there is no " + id + " that you may know of", next: "drawbolt status"}
	}
	slices.SortFunc(list, func(a, b api.Request) int { return strings.Compare(a.Target, b.Target) })
	if wait {
		if list, err = c.waitAll(ctx, cl, list, limit); err != nil {
			return err
		}
	}
	sessions, err := pages(maxOpen, api.MaxPage, func(n int, before string) (api.List[api.Session], error) {
		return cl.Sessions(ctx, api.SessionFilter{Batch: id, Limit: n, Before: before})
	})
	if err != nil {
		return err
	}
	b := batchJSON{ID: id, Requester: list[0].Requester, Account: list[0].Account, Reason: list[0].Reason, CreatedAt: list[0].CreatedAt}
	for _, r := range list {
		b.Targets = append(b.Targets, member(r, sessions))
	}
	b.State = memberDone
	for _, state := range []string{api.Scheduled, api.Approved, memberRunning, api.Pending} { // the last that is there counts
		if slices.ContainsFunc(b.Targets, func(m memberJSON) bool { return m.State == state }) {
			b.State = state
		}
	}
	if ok, err := c.emit(b); err != nil {
		return err
	} else if !ok {
		c.showBatch(&b)
	}
	return c.concludeBatch(list, wait)
}

// member says how the target of a request stands. sessions are those of the
// whole batch, the newest first.
func member(r api.Request, sessions []api.Session) memberJSON {
	m := memberJSON{Target: r.Target, Request: r.ID, State: r.State, DecidedBy: r.DecidedBy, Note: r.Note, Needs: r.Needs, Grant: r.Grant}
	running, over := false, false
	for _, s := range sessions {
		switch {
		case s.Request != r.ID:
			continue
		case s.State != "closed":
			running = true
		case !over: // the last one
			over, m.EndReason, m.ExitCode = true, s.EndReason, s.ExitStatus
		}
		m.Sessions++
	}
	switch {
	case r.State != api.Approved:
	case running:
		m.State = memberRunning
	case over:
		m.State = memberDone
	case r.Grant != nil && r.Grant.State != api.Active:
		m.State = r.Grant.State
	}
	return m
}

// showBatch prints a batch, a line a target.
func (c *cli) showBatch(b *batchJSON) {
	c.print("%s  %s asks for %s on %s  %s", b.ID, b.Requester, b.Account, countTargets(len(b.Targets)), b.Reason)
	var rows [][]string
	for _, m := range b.Targets {
		exit, more := "", ""
		switch {
		case m.State == api.Pending:
			more = need(missing(m.Needs)) + " still needed"
		case m.DecidedBy != "" && m.Grant == nil:
			more = "by " + m.DecidedBy + quoted(m.Note)
		case m.Grant == nil:
		case m.Grant.State == api.Ended:
			more = "access " + first(m.Grant.EndReason, "ended") + quoted(m.Grant.EndNote)
		case m.State == api.Scheduled:
			more = "access begins later"
		case m.Grant.Start == nil:
			more = "access from the first connection, before " + c.when(m.Grant.ActivateBy)
		default:
			more = "access until " + c.when(m.Grant.End)
		}
		switch {
		case m.State == memberRunning: // and what was before says nothing of it
		case m.ExitCode != nil:
			exit = fmt.Sprint(*m.ExitCode)
		default:
			exit = m.EndReason
		}
		rows = append(rows, []string{m.Target, m.State, exit, m.Request, more})
	}
	c.table("", []string{"TARGET", "STATE", "EXIT", "REQUEST", ""}, rows)
}

// concludeBatch ends with the exit code of the batch.
func (c *cli) concludeBatch(list []api.Request, waited bool) error {
	id := list[0].Batch
	var pending, not []string
	code := 0
	for _, r := range list {
		switch n := requestCode(&r); n {
		case 0:
		case exitPending:
			pending = append(pending, r.Target)
		default:
			code = cmp.Or(code, n)
			not = append(not, r.Target)
		}
	}
	switch {
	case len(pending) > 0:
		text := fmt.Sprintf("%s is pending on %d of %s: %s", id, len(pending), countTargets(len(list)), strings.Join(pending, ", "))
		if waited {
			return &failure{code: exitExpired, text: text, next: "drawbolt status " + id + " --wait"}
		}
		c.say("• %s", text)
		c.next("%s", "drawbolt status "+id+" --wait")
		return silent(exitPending)
	case code != 0:
		return &failure{code: code, text: fmt.Sprintf("%s gives no access on %d of %s: %s", id, len(not), countTargets(len(list)), strings.Join(not, ", "))}
	}
	c.done("%s gives access on %s", id, countTargets(len(list)))
	return nil
}
