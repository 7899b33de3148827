package main

import (
	"context"
	"slices"
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
	for _, r := range list {
		rows = append(rows, []string{r.ID, r.Requester, r.Account + "@" + r.Target, formatSeconds(r.DurationSeconds), r.Reason, c.age(r.CreatedAt)})
	}
	c.table("Nothing waits for you.", []string{"ID", "WHO", "WHAT", "FOR", "WHY", "AGE"}, rows)
	if len(rows) > 0 {
		c.next("drawbolt approve %s    or    drawbolt deny %s --reason TEXT", list[0].ID, list[0].ID)
	}
	return nil
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
