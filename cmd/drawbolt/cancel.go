package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "cancel [REQUEST|BATCH]",
		Short:             "Take a pending request back",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Pending}),
		RunE:              func(cmd *cobra.Command, args []string) error { return c.runCancel(cmd.Context(), args) },
	}
}

func (c *cli) runCancel(ctx context.Context, args []string) error {
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	if len(args) == 1 && isBatch(args[0]) {
		list, err := batch(ctx, cl, args[0], true)
		if err != nil {
			return err
		}
		return c.decideBatch(list, "cancelled", func(r api.Request) (api.Request, error) { return cl.Cancel(ctx, r.ID) })
	}
	id, err := c.mine(ctx, cl, args, isPending, "pending request", "cancel")
	if err != nil {
		return err
	}
	r, err := cl.Cancel(ctx, id)
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("%s is cancelled", r.ID)
	return nil
}
