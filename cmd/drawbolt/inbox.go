package main

import (
	"context"
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
	list, err := cl.Requests(ctx, api.RequestFilter{Inbox: true})
	if err != nil {
		return err
	}
	if list.Items == nil {
		list.Items = []api.Request{}
	}
	if ok, err := c.emit(list.Items); ok {
		return err
	}
	var rows [][]string
	for _, r := range list.Items {
		rows = append(rows, []string{r.ID, r.Requester, r.Account + "@" + r.Target, formatSeconds(r.DurationSeconds), r.Reason, c.age(r.CreatedAt)})
	}
	c.table("Nothing waits for you.", []string{"ID", "WHO", "WHAT", "FOR", "WHY", "AGE"}, rows)
	if len(rows) > 0 {
		c.next("drawbolt approve %s    or    drawbolt deny %s --reason TEXT", list.Items[0].ID, list.Items[0].ID)
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
		list, err := cl.Requests(ctx, api.RequestFilter{Inbox: true})
		if err != nil {
			p := api.AsProblem(err)
			if failures++; ctx.Err() != nil || failures > 20 || p != nil && p.Status < 500 || api.Untrusted(err) {
				return err
			}
		} else {
			failures = 0
			now := map[string]bool{}
			for i := range list.Items {
				r := &list.Items[len(list.Items)-1-i] // the oldest first
				now[r.ID] = true
				if seen[r.ID] {
					continue
				}
				if ok, err := c.emit(*r); err != nil {
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
