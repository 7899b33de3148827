package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) policyCmd() *cobra.Command {
	var in api.ExplainInput
	var length string
	explain := &cobra.Command{
		Use: "explain --target TARGET --as ACCOUNT", Short: "What the policy would say, and why",
		Long: `Ask what the policy would say without asking for access. The exit code is 0 when
it would allow, and 3 when it would refuse.`,
		Example: "  drawbolt policy explain --user alice --target db01 --as root --for 4h",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if in.DurationSeconds, err = seconds(length); err != nil {
				return err
			}
			if in.Target == "" || in.Account == "" {
				return usage("about what? Add --target TARGET and --as ACCOUNT")
			}
			return c.runExplain(cmd.Context(), in)
		},
	}
	f := explain.Flags()
	f.StringVar(&in.User, "user", "", "for this `user` instead of you")
	f.StringVar(&in.Target, "target", "", "on this `target`")
	f.StringVar(&in.Account, "as", "", "the `account`")
	f.StringVar(&in.Action, "action", "request", "to do `what`")
	f.StringVar(&length, "for", "", "for this `duration`")
	explain.RegisterFlagCompletionFunc("target", c.completeTargets)
	return nounCmd("policy", "The policy", explain)
}

func (c *cli) runExplain(ctx context.Context, in api.ExplainInput) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	d, err := cl.Explain(ctx, in)
	if err != nil {
		return err
	}
	ok, err := c.emit(d)
	if err != nil {
		return err
	}
	if !ok {
		c.showDecision(&d)
	}
	if !d.Allow {
		return silent(exitDenied)
	}
	return nil
}

func (c *cli) showDecision(d *api.Decision) {
	word := "refuse"
	if d.Allow {
		word = "allow"
	}
	c.print("%s", word)
	row := func(name, value string) {
		if value != "" {
			c.print("  %-11s%s", name, value)
		}
	}
	if d.Rule != "" {
		row("rule", strings.TrimPrefix(d.Role+" / "+d.Rule, " / "))
	}
	if d.Allow {
		var needs []api.Need
		for _, n := range d.Approvals {
			needs = append(needs, api.Need{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: n.EscalateAfterSeconds, EscalateTo: n.EscalateTo})
		}
		row("approvals", need(needs))
		if d.MaxDurationSeconds > 0 {
			row("at most", formatSeconds(d.MaxDurationSeconds))
		}
		if d.MFAWithinSeconds > 0 {
			row("2nd factor", "not older than "+formatDuration(time.Duration(d.MFAWithinSeconds)*time.Second))
		}
		if d.BreakGlass {
			row("break-glass", "nobody approves this: everybody is told")
		}
	}
	for i, r := range d.Reasons {
		name := "also"
		if i == 0 {
			name = "because"
		}
		row(name, fmt.Sprintf("%s (%s)", r.Text, r.Rule))
	}
	row("policy", d.PolicyDigest)
}
