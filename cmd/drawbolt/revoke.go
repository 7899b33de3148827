package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) revokeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke REQUEST --reason TEXT",
		Short: "Take somebody's grant away and cut its sessions",
		Args:  between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runRevoke(cmd.Context(), args[0], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the holder will read it")
	return cmd
}

func (c *cli) runRevoke(ctx context.Context, id, why string) error {
	why, err := c.because(why)
	if err != nil {
		return err
	}
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	r, err := cl.Revoke(ctx, id, why)
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("%s@%s is taken from %s (%s)", r.Account, r.Target, r.Requester, r.ID)
	return nil
}
