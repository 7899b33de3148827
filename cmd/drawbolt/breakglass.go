package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) breakglassCmd() *cobra.Command {
	return nounCmd("breakglass", "Access that was taken without approval, and its reviews", c.glassLsCmd(), c.glassShowCmd(), c.glassReviewCmd())
}

func (c *cli) glassLsCmd() *cobra.Command {
	var f api.BreakGlassFilter
	cmd := &cobra.Command{
		Use: "ls", Short: "List break-glass, the newest first", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.BreakGlass{})
			if err != nil {
				return err
			}
			list, err := cl.BreakGlasses(cmd.Context(), f)
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.BreakGlass{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, b := range list.Items {
				rows = append(rows, []string{b.Request.ID, c.when(b.OpenedAt), b.Request.Requester, b.Request.Account + "@" + b.Request.Target, glassFinding(b), b.Request.Reason})
			}
			c.table("No break-glass that you may see.", []string{"REQUEST", "AT", "WHO", "WHERE", "REVIEW", "REASON"}, rows)
			if list.Next != "" {
				c.next("drawbolt breakglass ls --before %s", list.Next)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&f.Open, "open", false, "only what waits for a review")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "at most this `many`")
	cmd.Flags().StringVar(&f.Before, "before", "", "the page behind this `request`")
	return cmd
}

func glassFinding(b api.BreakGlass) string {
	if b.ClosedAt == nil && b.AcknowledgedBy != "" {
		return "open, " + b.AcknowledgedBy + " is on it"
	}
	if b.ClosedAt == nil {
		return "open"
	}
	return strings.ReplaceAll(b.Finding, "_", " ") + " (" + b.ClosedBy + ")"
}

func (c *cli) glassShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show REQUEST", Short: "Show one case with its sessions and its review", Args: between(1, 1), ValidArgsFunction: c.completeGlass,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.BreakGlass{})
			if err != nil {
				return err
			}
			b, err := cl.FindBreakGlass(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(b); ok {
				return err
			}
			c.printGlass(b)
			return nil
		},
	}
}

func (c *cli) printGlass(b api.BreakGlass) {
	c.print("%s  %s took %s@%s at %s", b.Request.ID, b.Request.Requester, b.Request.Account, b.Request.Target, c.when(b.OpenedAt))
	c.print("  reason   %s", b.Request.Reason)
	if g := b.Request.Grant; g != nil {
		c.print("  grant    %s until %s", g.State, c.when(g.End))
	}
	for _, s := range b.Sessions {
		c.print("  session  %s  %s, %s", s.ID, s.Kind, c.when(s.OpenedAt))
	}
	if b.AcknowledgedAt != nil {
		c.print("  on it    %s, since %s", b.AcknowledgedBy, c.when(*b.AcknowledgedAt))
	}
	if b.ClosedAt == nil {
		c.print("  review   open")
		if b.MayAcknowledge {
			c.next("drawbolt acknowledge %s", b.Request.ID)
		}
		if b.MayReview {
			c.next("drawbolt breakglass review %s --justified|--not-justified --note TEXT", b.Request.ID)
		}
		return
	}
	c.print("  review   %s, %s: %s", glassFinding(b), c.when(*b.ClosedAt), b.Text)
}

func (c *cli) glassReviewCmd() *cobra.Command {
	var justified, not bool
	var in api.GlassReviewInput
	cmd := &cobra.Command{
		Use: "review REQUEST --justified|--not-justified --note TEXT", Short: "Say whether it was justified, which closes the review",
		Long: `Say what you found of access that was taken without approval, which closes its
review. Whoever took it, or opened the login for it, cannot; nor can anybody while
the grant goes on.`,
		Example: "  drawbolt breakglass review REQ-4830 --justified --note 'SSO was down, see INC-77'",
		Args:    between(1, 1), ValidArgsFunction: c.completeGlass,
		RunE: func(cmd *cobra.Command, args []string) error {
			if justified == not {
				return usage("say one of --justified and --not-justified")
			}
			if in.Text == "" {
				return usage("what did you find? Add --note")
			}
			in.Finding = api.Justified
			if not {
				in.Finding = api.NotJustified
			}
			cl, _, err := c.client(api.BreakGlass{})
			if err != nil {
				return err
			}
			b, err := cl.ReviewBreakGlass(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(b); ok {
				return err
			}
			c.done("the review of %s is closed: %s", args[0], strings.ReplaceAll(b.Finding, "_", " "))
			return nil
		},
	}
	cmd.Flags().BoolVar(&justified, "justified", false, "it was")
	cmd.Flags().BoolVar(&not, "not-justified", false, "it was not")
	cmd.Flags().StringVar(&in.Text, "note", "", "what you found")
	return cmd
}

// completeGlass offers what waits for a review.
func (c *cli) completeGlass(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := recall(cmd.Context(), c, "breakglass", func(ctx context.Context, cl *api.Client) (api.List[api.BreakGlass], error) {
		return cl.BreakGlasses(ctx, api.BreakGlassFilter{Open: true})
	})
	var out []string
	for _, b := range list.Items {
		if strings.HasPrefix(b.Request.ID, typed) {
			out = append(out, choice(b.Request.ID, b.Request.Requester+" "+b.Request.Account+"@"+b.Request.Target))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
