package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) denyCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:               "deny REQUEST|BATCH --reason TEXT",
		Short:             "Say no to a request, or to those that were made together",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Inbox: true}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runDeny(cmd.Context(), args[0], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the requester will read it")
	return cmd
}

func (c *cli) runDeny(ctx context.Context, id, why string) error {
	why, err := c.because(why)
	if err != nil {
		return err
	}
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	if isBatch(id) {
		list, err := batch(ctx, cl, id, false)
		if err != nil {
			return err
		}
		return c.decideBatch(list, "denied", func(r api.Request) (api.Request, error) {
			return cl.Deny(ctx, r.ID, api.DenyInput{Digest: r.Digest, Reason: why})
		})
	}
	r, err := cl.Deny(ctx, id, api.DenyInput{Reason: why})
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("%s of %s is denied", r.ID, r.Requester)
	return nil
}

// because takes the reason for a no from the flag or the person. It is not the
// reason of a request, so DRAWBOLT_REASON does not count.
func (c *cli) because(flag string) (string, error) {
	if flag == "" && c.interactive() {
		var err error
		if flag, err = c.ask("Why: "); err != nil {
			return "", err
		}
	}
	if flag == "" {
		e := usage("a reason is needed")
		e.next = "--reason TEXT"
		return "", e
	}
	return flag, nil
}
