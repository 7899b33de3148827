package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) statusCmd() *cobra.Command {
	var wait string
	cmd := &cobra.Command{
		Use:   "status [REQUEST|BATCH]",
		Short: "Where a request stands; without one, your open requests",
		Long: `Show a request and its grant, or your open ones. The exit code tells where the
request stands: 0 approved, 3 denied, 5 expired or nobody decided during --wait,
7 the grant is over, 8 pending.

Of a batch, which drawbolt run makes, it shows each target: pending, denied,
approved, running while a session is open, done with the exit code of the last
session, or ended without one. The exit code is 8 while any is pending, and then
that of the first target for which it is not 0.`,
		Example:           "  drawbolt status\n  drawbolt status REQ-4821 --wait=15m --json\n  drawbolt status BAT-5k2c --json=state,targets",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if wait != "" {
					return usage("--wait needs a request: drawbolt status REQUEST --wait")
				}
				return c.runMine(cmd.Context())
			}
			limit := time.Duration(0)
			if wait != "" && wait != "forever" {
				var err error
				if limit, err = parseDuration(wait); err != nil {
					return err
				}
			}
			if isBatch(args[0]) {
				return c.runBatchStatus(cmd.Context(), args[0], wait != "", limit)
			}
			return c.runStatus(cmd.Context(), args[0], wait != "", limit)
		},
	}
	cmd.Flags().StringVar(&wait, "wait", "", "wait for the decision, at most this `duration` (--wait=15m)")
	cmd.Flags().Lookup("wait").NoOptDefVal = "forever"
	return cmd
}

// runStatus shows a request, after its decision when wait is said; limit (0:
// none) is for how long.
func (c *cli) runStatus(ctx context.Context, id string, wait bool, limit time.Duration) error {
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	r, err := cl.FindRequest(ctx, id)
	if err != nil {
		return err
	}
	if wait && r.State == api.Pending {
		if r, err = c.wait(ctx, cl, r, limit); err != nil {
			return err
		}
	}
	if c.json == "" {
		c.describe(&r)
	}
	return c.concludeRequest(&r, wait)
}

// describe prints a request as an approver or its requester wants to see it.
func (c *cli) describe(r *api.Request) {
	c.print("%s  %s", r.ID, r.State)
	row := func(name, format string, args ...any) { c.print("  %-9s"+format, append([]any{name}, args...)...) }
	row("who", "%s", r.Requester)
	row("what", "%s@%s", r.Account, r.Target)
	if r.Made != "" {
		row("account", "%s", r.Made)
	}
	row("for", "%s", formatSeconds(r.DurationSeconds))
	if r.Start != nil {
		row("from", "%s", c.when(*r.Start))
	}
	row("why", "%s", r.Reason)
	if r.TicketCheck != nil {
		row("ticket", "%s", r.TicketText())
	}

	if r.LastUse != nil {
		row("last use", "%s", r.LastUse.Text(c.when(r.LastUse.EndedAt), formatSeconds(r.LastUse.Seconds)))
	}
	if r.BreakGlass {
		row("how", "break-glass: without approval")
	}
	row("policy", "%s", strings.TrimSpace(first(r.Policy.Rule, "-")+" "+r.Policy.Text))
	if len(r.Needs) > 0 {
		row("needs", "%s", need(r.Needs))
	}
	if r.EditedAt != nil {
		row("edited", "%s; what was voted before is void", c.when(*r.EditedAt))
	}
	for _, a := range r.Objections {
		row("no", "%s%s", a.User, quoted(a.Comment))
	}
	c.describeTalk(r, row)
	if len(r.Waiting) > 0 && r.State == api.Pending {
		row("asked", "%s", strings.Join(r.Waiting, ", "))
	}
	if r.EscalatesAt != nil {
		row("then", "@%s from %s", strings.Join(r.EscalateTo, ", @"), c.when(*r.EscalatesAt))
	}
	row("asked at", "%s", c.when(r.CreatedAt))
	if r.URL != "" {
		row("link", "%s", r.URL)
	}
}

// runMine lists the caller's pending requests and grants that still hold.
func (c *cli) runMine(ctx context.Context) error {
	cl, p, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	list, err := requests(ctx, cl, api.RequestFilter{Mine: true})
	if err != nil {
		return err
	}
	open := []api.Request{}
	for _, r := range list {
		if isOpen(&r) {
			open = append(open, r)
		}
	}
	if ok, err := c.emit(open); ok {
		return err
	}
	var rows [][]string
	for _, r := range open {
		state := r.State
		if r.Grant != nil {
			state = r.Grant.State
			if r.Grant.State == api.Active {
				state += " until " + c.when(r.Grant.End)
			}
		}
		what := r.Account + "@" + r.Target
		if r.Requester != p.User { // a bot of theirs
			what += " for " + r.Requester
		}
		rows = append(rows, []string{r.ID, what, formatSeconds(r.DurationSeconds), state, r.Reason})
	}
	c.table("You have no open request and no access. Next: drawbolt ls", []string{"ID", "WHAT", "FOR", "STATE", "WHY"}, rows)
	return c.warnOfAccounts(ctx, cl)
}

// isOpen reports whether a request waits, or its grant holds or will.
func isOpen(r *api.Request) bool {
	return r.State == api.Pending || r.State == api.Approved && (r.Grant == nil || r.Grant.State != api.Ended)
}

// mine returns the id given, or that of the caller's only request that fits.
func (c *cli) mine(ctx context.Context, cl *api.Client, args []string, fits func(*api.Request) bool, what, verb string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	list, err := requests(ctx, cl, api.RequestFilter{Mine: true})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, r := range list {
		if fits(&r) {
			ids = append(ids, r.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", &failure{code: exitNotFound, text: "you have no " + what, next: "drawbolt status"}
	case 1:
		return ids[0], nil
	default:
		e := usage("which one? You have %s", strings.Join(ids, ", "))
		e.next = "drawbolt " + verb + " " + ids[0]
		return "", e
	}
}

func hasGrant(r *api.Request) bool {
	return r.State == api.Approved && r.Grant != nil && r.Grant.State != api.Ended
}

func isPending(r *api.Request) bool { return r.State == api.Pending }
