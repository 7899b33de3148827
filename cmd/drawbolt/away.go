package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type awayOptions struct {
	to, from, until, reason, user string
	end, all                      bool
}

func (c *cli) awayCmd() *cobra.Command {
	var o awayOptions
	cmd := &cobra.Command{
		Use:   "away [--to USER --until TIME]",
		Short: "Hand your votes to somebody while you are away",
		Long: `Let somebody vote in your place until a time, at most 30 days later. They vote as
themselves, with the groups that you have then, and one of you counts. Without
flags: who votes for whom, as far as it concerns you.`,
		Example: "  drawbolt away --to carol --until +14d --reason holidays\n  drawbolt away --end",
		Args:    between(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.runAway(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "`user` who votes for you")
	f.StringVar(&o.from, "from", "", "not before this `time`")
	f.StringVar(&o.until, "until", "", "up to this `time`: 2026-03-14T08:00:00Z, 09:00 or +14d")
	f.StringVar(&o.reason, "reason", "", "why; it stands in the audit log")
	f.BoolVar(&o.end, "end", false, "take your votes back")
	f.BoolVar(&o.all, "all", false, "who votes for whom, of everybody")
	f.StringVar(&o.user, "user", "", "of this `user` instead of you, for administrators")
	return cmd
}

func (c *cli) runAway(ctx context.Context, o awayOptions) error {
	cl, p, err := c.client(api.Delegation{})
	if err != nil {
		return err
	}
	user := first(o.user, p.User)
	switch {
	case o.end && o.to != "":
		return usage("--end takes votes back and --to hands them over: one of them")
	case o.end:
		if err := cl.EndDelegation(ctx, user); err != nil {
			return err
		}
		c.done("%s votes for themselves", user)
		return nil
	case o.to == "" && (o.from != "" || o.until != ""):
		return usage("who votes meanwhile? Add --to USER")
	case o.to == "":
		return c.listAway(ctx, cl, o.all)
	case o.until == "":
		return usage("until when? Add --until TIME, for example --until +14d")
	}
	in := api.DelegationInput{Delegate: o.to, Reason: o.reason}
	if in.Until, err = parseMoment(o.until, c.now()); err != nil {
		return err
	}
	in.Until = in.Until.UTC()
	if o.from != "" {
		from, err := parseMoment(o.from, c.now())
		if err != nil {
			return err
		}
		from = from.UTC()
		in.From = &from
	}
	d, err := cl.Delegate(ctx, user, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(d); ok {
		return err
	}
	c.done("%s votes for %s until %s", d.Delegate, d.User, c.when(d.Until))
	c.say("  take it back: drawbolt away --end")
	return nil
}

func (c *cli) listAway(ctx context.Context, cl *api.Client, all bool) error {
	list, err := cl.Delegations(ctx, all)
	if err != nil {
		return err
	}
	if list.Items == nil {
		list.Items = []api.Delegation{}
	}
	if ok, err := c.emit(list.Items); ok {
		return err
	}
	var rows [][]string
	for _, d := range list.Items {
		rows = append(rows, []string{d.User, d.Delegate, c.when(d.From), c.when(d.Until), first(d.Reason, "-")})
	}
	c.table("Everybody votes for themselves. Next: drawbolt away --to USER --until +14d", []string{"AWAY", "VOTES", "FROM", "UNTIL", "WHY"}, rows)
	return nil
}
