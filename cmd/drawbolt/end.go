package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) endCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "end [REQUEST]",
		Short:             "Give a grant back: it ends at once and does not come back",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Approved}),
		RunE:              func(cmd *cobra.Command, args []string) error { return c.runEnd(cmd.Context(), args) },
	}
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
