package main

import (
	"context"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) lsCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "ls [PATTERN]",
		Short:             "Targets and accounts: usable now, may be asked for",
		Example:           "  drawbolt ls\n  drawbolt ls 'db*'",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			pattern := "*"
			if len(args) == 1 {
				pattern = args[0]
			}
			return c.runLs(cmd.Context(), pattern)
		},
	}
}

func (c *cli) runLs(ctx context.Context, pattern string) error {
	targets, err := c.targetsLike(ctx, pattern)
	if err != nil {
		return err
	}
	if ok, err := c.emit(targets); ok {
		return err
	}
	var rows [][]string
	for _, t := range targets {
		for _, a := range t.Accounts {
			rows = append(rows, []string{a.Name + "@" + t.Name, c.accountState(t, a), longest(a), labels(t.Labels)})
		}
		if len(t.Accounts) == 0 {
			rows = append(rows, []string{t.Name, "no account", "", labels(t.Labels)})
		}
	}
	c.table("No targets. Somebody has to give you a role first.", []string{"ACCOUNT", "STATE", "LONGEST", "LABELS"}, rows)
	return nil
}

// targetsLike lists the targets whose name matches a shell pattern.
func (c *cli) targetsLike(ctx context.Context, pattern string) ([]api.Target, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, usage("the pattern %q is not one", pattern)
	}
	cl, _, err := c.client()
	if err != nil {
		return nil, err
	}
	part := pattern
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		part = pattern[:i]
	}
	list, err := cl.TargetsLike(ctx, part[:min(len(part), 64)]) // no name is longer
	if err != nil {
		return nil, err
	}
	out := []api.Target{}
	for _, t := range list.Items {
		if ok, _ := path.Match(pattern, t.Name); ok {
			out = append(out, t)
		}
	}
	if len(out) == 0 && pattern != "*" && !strings.ContainsAny(pattern, `*?[\`) {
		return nil, &failure{code: exitNotFound, text: "no target " + pattern + " that you may know of", next: "drawbolt ls"}
	}
	return out, nil
}

// accountState says what stands between the caller and the account.
func (c *cli) accountState(t api.Target, a api.Account) string {
	switch {
	case t.Locked:
		return "locked: " + t.LockReason
	case a.Usable && a.Until != nil:
		return "usable until " + c.when(*a.Until)
	case a.Usable:
		return "usable"
	case a.MayAsk && len(a.Needs) == 0:
		return "ask: granted at once"
	case a.MayAsk:
		return "ask: " + need(a.Needs)
	case a.Why != "":
		return "no: " + a.Why
	default:
		return "no"
	}
}

func longest(a api.Account) string {
	if a.MaxDurationSeconds == 0 {
		return ""
	}
	return formatSeconds(a.MaxDurationSeconds)
}

func labels(l api.Labels) string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"env", l.Environment}, {"tier", l.Tier}, {"criticality", l.Criticality}, {"owner", l.Owner},
	} {
		if p.value != "" {
			parts = append(parts, p.name+"="+p.value)
		}
	}
	return strings.Join(parts, " ")
}
