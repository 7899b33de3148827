package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) endCmd() *cobra.Command {
	var in api.SessionEnd
	cmd := &cobra.Command{
		Use:   "end [REQUEST | SESSION --reason TEXT]",
		Short: "Give a grant back, or cut somebody's session",
		Long: `Give a grant of yours back: it ends at once and does not come back. Or cut a running
session, which leaves its grant as it is unless --revoke takes that away, too.`,
		Example:           "  drawbolt end REQ-4821\n  drawbolt end SES-9f2c --reason 'wrong host' --revoke",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Approved}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && isSession(args[0]) {
				return c.runEndSession(cmd.Context(), args[0], in)
			}
			if in.Reason != "" || in.Revoke {
				return usage("--reason and --revoke go with a session: drawbolt end SESSION --reason TEXT")
			}
			return c.runEnd(cmd.Context(), args)
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why a session is cut; its user will read it")
	cmd.Flags().BoolVar(&in.Revoke, "revoke", false, "with a session: take its grant away, too")
	return cmd
}

func (c *cli) runEndSession(ctx context.Context, id string, in api.SessionEnd) error {
	var err error
	if in.Reason, err = c.because(in.Reason); err != nil {
		return err
	}
	cl, _, err := c.client(api.Session{})
	if err != nil {
		return err
	}
	s, err := cl.EndSession(ctx, id, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(s); ok {
		return err
	}
	if in.Revoke {
		c.done("%s is cut, and %s@%s is taken from %s (%s)", s.ID, s.Account, s.Target, s.User, s.Request)
		return nil
	}
	c.done("%s is cut; %s may open another one under %s", s.ID, s.User, s.Request)
	return nil
}

func (c *cli) runEnd(ctx context.Context, args []string) error {
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	id, err := c.mine(ctx, cl, args, hasGrant, "grant to give back", "end")
	if err != nil {
		return err
	}
	r, err := cl.End(ctx, id)
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("%s@%s is given back (%s)", r.Account, r.Target, r.ID)
	return nil
}
