package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) windowCmd() *cobra.Command {
	return nounCmd("window", "Maintenance windows and freezes of targets", c.windowLsCmd(), c.windowAddCmd(), c.windowRmCmd())
}

func (c *cli) windowLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the windows that are not over", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.Window{})
			if err != nil {
				return err
			}
			list, err := cl.Windows(cmd.Context())
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Window{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, w := range list.Items {
				open := "-"
				if w.Open {
					open = "open"
				}
				rows = append(rows, []string{w.ID, w.Kind, open, c.windowTime(&w), selected(w.Targets), w.By, w.Reason})
			}
			c.table("No windows.", []string{"ID", "KIND", "NOW", "WHEN", "TARGETS", "BY", "REASON"}, rows)
			return nil
		},
	}
}

// windowTime is when a window is open, in words.
func (c *cli) windowTime(w *api.Window) string {
	var parts []string
	if w.Hours != "" {
		parts = append(parts, first(strings.Join(w.Weekdays, ","), "daily"), w.Hours, first(w.TimeZone, "UTC"))
	}
	if w.From != nil {
		parts = append(parts, "from "+w.From.UTC().Format(time.RFC3339))
	}
	if w.To != nil {
		parts = append(parts, "to "+w.To.UTC().Format(time.RFC3339))
	}
	return strings.Join(parts, " ")
}

// selected is which targets are selected, in words.
func selected(s api.Selector) string {
	parts := []string{}
	if len(s.Names) > 0 {
		parts = append(parts, strings.Join(s.Names, ","))
	}
	for _, name := range []string{"environment", "tier", "criticality", "owner"} {
		if values := s.Labels[name]; len(values) > 0 {
			parts = append(parts, name+"="+strings.Join(values, ","))
		}
	}
	return first(strings.Join(parts, " "), "all")
}

type windowOptions struct {
	from, to, length string
	targets, labels  []string
	all              bool
	in               api.WindowInput
}

func (c *cli) windowAddCmd() *cobra.Command {
	var o windowOptions
	cmd := &cobra.Command{
		Use: "add maintenance|freeze --reason TEXT [FLAGS]", Short: "Add a maintenance window or a freeze",
		Long: `Add a window: once, from --from (now, unless said) to --to or for --for, or each
week with --hours, on the days on which it begins. While a maintenance window is
open, rules with require_maintenance_window hold for its targets. While a freeze is,
only rules with during_freeze do, and sessions under others end.`,
		Example: "  drawbolt window add maintenance --target 'db*' --from 22:00 --for 4h --reason 'CHG-88 new disks'\n" +
			"  drawbolt window add maintenance --target 'web*' --hours 22:00-04:00 --on saturday --zone Europe/Berlin --reason 'weekly patches'\n" +
			"  drawbolt window add freeze --label environment=prod --from 2026-12-20 --to 2027-01-04 --reason 'year end'",
		Args:              between(1, 1),
		ValidArgsFunction: cobra.FixedCompletions([]string{api.Maintenance, api.Freeze}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in.Kind = args[0]
			if err := o.read(c.now()); err != nil {
				return err
			}
			return c.runWindowAdd(cmd.Context(), o.in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.in.Reason, "reason", "", "why; people whom a freeze refuses read it")
	f.StringSliceVar(&o.targets, "target", nil, "`name` of a target, or its beginning and *; may be repeated")
	f.StringSliceVar(&o.labels, "label", nil, "`name=value` that targets have: environment, tier, criticality or owner; may be repeated")
	f.BoolVar(&o.all, "all", false, "every target")
	f.StringVar(&o.from, "from", "", "`time` of its beginning: 2026-03-01, 22:00, +2h or RFC 3339")
	f.StringVar(&o.to, "to", "", "`time` of its end")
	f.StringVar(&o.length, "for", "", "`duration` instead of --to")
	f.StringVar(&o.in.Hours, "hours", "", "each week in these `hours`, such as 22:00-04:00")
	f.StringSliceVar(&o.in.Weekdays, "on", nil, "`weekday` on which the hours begin; may be repeated; none: every day")
	f.StringVar(&o.in.TimeZone, "zone", "", "time `zone` of the hours, such as Europe/Berlin; UTC unless said")
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

// read makes the input of the flags. A window begins with a minute and ends with
// one.
func (o *windowOptions) read(now time.Time) error {
	switch o.in.Kind {
	case api.Maintenance, api.Freeze:
	default:
		return usage("%q is neither maintenance nor freeze", o.in.Kind)
	}
	if o.in.Reason == "" {
		return usage("why? Add --reason")
	}
	if some := len(o.targets) > 0 || len(o.labels) > 0; some == o.all {
		return usage("which targets? Add --target, --label, or --all alone")
	}
	o.in.Targets.Names = o.targets
	for _, l := range o.labels {
		name, value, ok := strings.Cut(l, "=")
		if name == "env" {
			name = "environment"
		}
		if !ok {
			return usage("the label %q is not one: environment=, tier=, criticality= or owner=", l)
		}
		if o.in.Targets.Labels == nil {
			o.in.Targets.Labels = map[string][]string{}
		}
		o.in.Targets.Labels[name] = append(o.in.Targets.Labels[name], value)
	}
	if o.to != "" && o.length != "" {
		return usage("--to and --for say the same")
	}
	if o.in.Hours == "" && o.to == "" && o.length == "" {
		return usage("until when? Add --to or --for, or --hours for each week")
	}
	from := now
	if o.from != "" {
		var err error
		if from, err = parseMoment(o.from, now); err != nil {
			return err
		}
	}
	if o.from != "" || o.in.Hours == "" || o.length != "" {
		from = from.Truncate(time.Minute).UTC()
		o.in.From = &from
	}
	if o.to == "" && o.length == "" {
		return nil
	}
	var to time.Time
	if o.length != "" {
		d, err := parseDuration(o.length)
		if err != nil {
			return err
		}
		to = from.Add(d)
	} else {
		var err error
		if to, err = parseMoment(o.to, now); err != nil {
			return err
		}
	}
	to = to.Add(time.Minute - 1).Truncate(time.Minute).UTC()
	o.in.To = &to
	return nil
}

func (c *cli) runWindowAdd(ctx context.Context, in api.WindowInput) error {
	cl, _, err := c.client(api.Window{})
	if err != nil {
		return err
	}
	w, err := cl.AddWindow(ctx, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(w); ok {
		return err
	}
	c.done("%s: %s of %s, %s", w.ID, w.Kind, selected(w.Targets), c.windowTime(&w))
	return nil
}

func (c *cli) windowRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm WINDOW", Short: "Remove a window: it ends now, or does not begin", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := c.confirm("Remove the window " + args[0] + "?"); err != nil {
				return err
			}
			if err := cl.RemoveWindow(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.done("%s is removed", args[0])
			return nil
		},
	}
}

func (c *cli) networkCmd() *cobra.Command {
	return nounCmd("network", "Names for networks, which rules use among their sources", c.networkLsCmd(), c.networkSetCmd(), c.networkRmCmd())
}

func (c *cli) networkLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the networks that have names", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.networks(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(list); ok {
				return err
			}
			var rows [][]string
			for _, n := range list {
				rows = append(rows, []string{n.Name, strings.Join(n.Ranges, " ")})
			}
			c.table("No network has a name.", []string{"NAME", "RANGES"}, rows)
			return nil
		},
	}
}

func (c *cli) networks(ctx context.Context) ([]api.Network, error) {
	cl, _, err := c.client(api.Network{})
	if err != nil {
		return nil, err
	}
	list, err := cl.Networks(ctx)
	if list.Items == nil {
		list.Items = []api.Network{}
	}
	return list.Items, err
}

func (c *cli) networkSetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME RANGE...", Short: "Give ranges of addresses a name, in the place of those that it had",
		Example: "  drawbolt network set admin-workstations 10.20.0.0/24 fd00:20::/64",
		Args:    between(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := c.networks(cmd.Context())
			if err != nil {
				return err
			}
			in := api.Network{Name: args[0], Ranges: args[1:]}
			for _, n := range list {
				if n.Name == in.Name {
					in.Version = n.Version
				}
			}
			cl, _, err := c.client(api.Network{})
			if err != nil {
				return err
			}
			n, err := cl.SetNetwork(cmd.Context(), in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(n); ok {
				return err
			}
			c.done("%s is %s", n.Name, strings.Join(n.Ranges, " "))
			return nil
		},
	}
}

func (c *cli) networkRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a network that no rule names", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := c.confirm("Remove the network " + args[0] + "?"); err != nil {
				return err
			}
			if err := cl.RemoveNetwork(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.done("%s is removed", args[0])
			return nil
		},
	}
}
