package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) extendCmd() *cobra.Command {
	var length string
	cmd := &cobra.Command{
		Use:               "extend [REQUEST] --for DURATION",
		Short:             "Lengthen a grant; the policy is asked again",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Approved}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runExtend(cmd.Context(), args, length)
		},
	}
	cmd.Flags().StringVar(&length, "for", "", "by this `duration`, such as 30m")
	return cmd
}

func (c *cli) runExtend(ctx context.Context, args []string, length string) error {
	if length == "" {
		return usage("by how much? Add --for 30m")
	}
	n, err := seconds(length)
	if err != nil {
		return err
	}
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	id, err := c.mine(ctx, cl, args, hasGrant, "grant to extend", "extend")
	if err != nil {
		return err
	}
	r, err := cl.Extend(ctx, id, api.ExtendInput{DurationSeconds: n})
	if err != nil {
		return err
	}
	return c.concludeRequest(&r, false)
}
