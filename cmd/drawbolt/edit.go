package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) requestEditCmd() *cobra.Command {
	var length, reason, start string
	cmd := &cobra.Command{
		Use:   "edit REQUEST [--for DURATION] [--reason TEXT] [--start TIME]",
		Short: "Change what a pending request asks for; what was voted is void",
		Long: `Change what a pending request asks for. What the flags do not name stays. The
policy is asked again, and whoever has voted is asked again, too.`,
		Example:           "  drawbolt request edit REQ-4821 --for 30m --reason \"INC-1234 replication lag, reads only\"",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Pending}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runEdit(cmd.Context(), args[0], length, reason, start)
		},
	}
	f := cmd.Flags()
	f.StringVar(&length, "for", "", "for how long: a `duration` like 30m, 1h or 1h30m")
	f.StringVar(&reason, "reason", "", "why")
	f.StringVar(&start, "start", "", "not before this `time`")
	return cmd
}

func (c *cli) runEdit(ctx context.Context, id, length, reason, start string) error {
	in := api.EditInput{Reason: reason}
	var err error
	if in.DurationSeconds, err = seconds(length); err != nil {
		return err
	}
	if start != "" {
		at, err := parseMoment(start, c.now())
		if err != nil {
			return err
		}
		at = at.UTC()
		in.Start = &at
	}
	if in == (api.EditInput{}) {
		return usage("what is to change? Add --for, --reason or --start")
	}
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	r, err := cl.EditRequest(ctx, id, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("%s asks for %s@%s  %s  %s", r.ID, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Reason)
	if r.State == api.Pending {
		c.showPolicy(&r)
	}
	return nil
}
