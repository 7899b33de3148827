package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

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
		return cl.Approve(ctx, r.ID, api.ApproveInput{Digest: r.Digest, DurationSeconds: length, Comment: o.note})
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
