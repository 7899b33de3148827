package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) inboxCmd() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "inbox [--watch]",
		Short: "Requests that wait for your decision",
		Args:  between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return c.watchInbox(cmd.Context())
			}
			return c.runInbox(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "stay, and print each new request; with --json one object a line")
	return cmd
}

func (c *cli) runInbox(ctx context.Context) error {
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	list, err := requests(ctx, cl, api.RequestFilter{Inbox: true})
	if err != nil {
		return err
	}
	if ok, err := c.emit(list); ok {
		return err
	}
	var rows [][]string
	var ids, together, handed []string
	for _, g := range groups(list) {
		r := g[0]
		id, what := r.ID, r.Account+"@"+r.Target
		if len(g) > 1 {
			id, what = r.Batch, fmt.Sprintf("%s@%d targets", r.Account, len(g))
			together = append(together, fmt.Sprintf("%s: %s  --digest %s", id, strings.Join(hostsOf(g), ", "), batchDigest(g)))
		}
		ids = append(ids, id)
		for _, r := range g {
			if line := handedOver(&r); line != "" {
				handed = append(handed, r.ID+": "+line)
			}
		}
		rows = append(rows, []string{id, r.Requester, what, formatSeconds(r.DurationSeconds), r.Reason, c.age(r.CreatedAt)})
	}
	c.table("Nothing waits for you.", []string{"ID", "WHO", "WHAT", "FOR", "WHY", "AGE"}, rows)
	for _, line := range append(together, handed...) {
		c.say("  %s", line)
	}
	if len(rows) > 0 {
		c.next("drawbolt approve %s    or    drawbolt deny %s --reason TEXT", ids[0], ids[0])
	}
	return nil
}

// groups puts what was asked for together by one person side by side, in the
// order of the first of each.
func groups(list []api.Request) [][]api.Request {
	type key struct{ batch, requester string }
	var out [][]api.Request
	at := map[key]int{}
	for _, r := range list {
		k := key{r.Batch, r.Requester}
		if i, ok := at[k]; ok && r.Batch != "" {
			out[i] = append(out[i], r)
			continue
		}
		at[k] = len(out)
		out = append(out, []api.Request{r})
	}
	for _, g := range out {
		slices.SortFunc(g, func(a, b api.Request) int { return strings.Compare(a.Target, b.Target) })
	}
	return out
}

// inboxEvery is how often the inbox is looked at.
const inboxEvery = 3 * time.Second

func (c *cli) watchInbox(ctx context.Context) error {
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	c.outTTY = false // one object a line
	seen := map[string]bool{}
	for failures := 0; ; {
		list, err := requests(ctx, cl, api.RequestFilter{Inbox: true})
		if err != nil {
			p := api.AsProblem(err)
			if failures++; ctx.Err() != nil || failures > 20 || p != nil && p.Status < 500 || api.Untrusted(err) {
				return err
			}
		} else {
			failures = 0
			now := map[string]bool{}
			for _, r := range slices.Backward(list) { // the oldest first
				now[r.ID] = true
				if seen[r.ID] {
					continue
				}
				if ok, err := c.emit(r); err != nil {
					return err
				} else if !ok {
					c.print("%s  %s  %s@%s  %s  %s", r.ID, r.Requester, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Reason)
					if r.Made != "" {
						c.print("  account %s", r.Made)
					}
					if line := handedOver(&r); line != "" {
						c.print("  %s", line)
					}
				}
			}
			seen = now
		}
		select {
		case <-ctx.Done():
			return silent(exitInterrupt)
		case <-time.After(inboxEvery):
		}
	}
}
