package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type approveOptions struct {
	id, length, note, digest string
	without                  []string
	fourEyes                 bool
}

func (c *cli) approveCmd() *cobra.Command {
	var o approveOptions
	cmd := &cobra.Command{
		Use:   "approve REQUEST|BATCH",
		Short: "Say yes to a request, or to those that were made together",
		Long: `Say yes to a request, as it is now: it is printed. With --digest the yes counts
only for what was seen before, so that a script cannot approve something else; that
of a batch is in the inbox.`,
		Example:           "  drawbolt approve REQ-4821\n  drawbolt approve REQ-4821 --for 30m --note \"read-only please\"",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Inbox: true}),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return c.runApprove(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.length, "for", "", "allow only this `duration`")
	f.StringSliceVar(&o.without, "without", nil, "take these `rights` away: shell, exec, files, uploads, forwards, agent, x11, checkout")
	f.BoolVar(&o.fourEyes, "four-eyes", false, "allow it only while somebody else watches")
	f.StringVar(&o.note, "note", "", "what the requester will read")
	f.StringVar(&o.digest, "digest", "", "`digest` of the request as you saw it")
	cmd.RegisterFlagCompletionFunc("without", cobra.FixedCompletions([]string{"shell", "exec", "files", "uploads", "forwards", "agent", "x11", "checkout"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) runApprove(ctx context.Context, o approveOptions) error {
	n, err := seconds(o.length)
	if err != nil {
		return err
	}
	cl, p, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	if isBatch(o.id) {
		return c.approveBatch(ctx, cl, o, n)
	}
	r, err := cl.FindRequest(ctx, o.id)
	if err != nil {
		return err
	}
	if r.State == api.Approved {
		return c.alreadyApproved(&r)
	}
	c.say("%s  %s asks for %s@%s  %s  %s", r.ID, r.Requester, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Reason)
	id := r.ID
	if r.InPlaceOf != "" {
		c.say("  you vote in the place of %s", r.InPlaceOf)
	}
	r, err = cl.Approve(ctx, id, o.input(&r, n))
	if pr := api.AsProblem(err); pr != nil && pr.Code == "DB-3001" {
		// Somebody was faster. That is no failure when they said the same.
		if now, ferr := cl.FindRequest(ctx, id); ferr == nil && now.State == api.Approved {
			return c.alreadyApproved(&now)
		}
	}
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	if left := missing(r.Needs); r.State == api.Pending && len(left) > 0 {
		c.done("%s has your approval, %s; %s still needed", r.ID, p.User, need(left))
		return nil
	}
	granted := r.DurationSeconds
	if r.Grant != nil {
		granted = r.Grant.DurationSeconds
	}
	c.done("%s is approved for %s", r.ID, formatSeconds(granted))
	c.say("  take it back: drawbolt revoke %s --reason TEXT", r.ID)
	return nil
}

// input is the yes to a request.
func (o *approveOptions) input(r *api.Request, length int64) api.ApproveInput {
	return api.ApproveInput{Digest: first(o.digest, r.Digest), DurationSeconds: length, Comment: o.note, Without: o.without, FourEyes: o.fourEyes}
}

// narrowed says what an approval has taken away.
func narrowed(a *api.Approval) string {
	text := ""
	if len(a.Without) > 0 {
		text += " without " + strings.Join(a.Without, " and ")
	}
	if a.FourEyes {
		text += " with four eyes"
	}
	return text
}

func (c *cli) alreadyApproved(r *api.Request) error {
	if ok, err := c.emit(*r); ok {
		return err
	}
	by := "the policy"
	if n := len(r.Approvals); n > 0 {
		by = r.Approvals[n-1].User + " " + c.age(r.Approvals[n-1].At) + " ago"
	}
	c.say("• %s is already approved by %s. Nothing changed.", r.ID, by)
	return nil
}
