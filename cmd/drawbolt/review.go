package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) reportCmd() *cobra.Command {
	return nounCmd("report", "Reports", c.reportAccessCmd())
}

func (c *cli) reportAccessCmd() *cobra.Command {
	var f api.HoldingFilter
	var asCSV bool
	cmd := &cobra.Command{
		Use: "access", Short: "Who has which role, how, and when it was used",
		Long: `Print who has which role, how they have it, and when they last used it. A use is a
session under a grant of the role, or a vote. Roles that let nobody ask for access
or vote leave no such trace, and are never called unused.`,
		Example: "  drawbolt report access --unused\n  drawbolt report access --role dba --csv > dba.csv",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Days < 1 {
				return usage("--days must be at least 1")
			}
			return c.runReportAccess(cmd.Context(), f, asCSV)
		},
	}
	cmd.Flags().StringVar(&f.Role, "role", "", "only this `role`")
	cmd.Flags().StringVar(&f.User, "user", "", "only this `user`")
	cmd.Flags().BoolVar(&f.Unused, "unused", false, "only what was not used in those days")
	cmd.Flags().IntVar(&f.Days, "days", 90, "how many `days` uses are counted for")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV")
	cmd.RegisterFlagCompletionFunc("role", c.completeRoles)
	return cmd
}

func (c *cli) runReportAccess(ctx context.Context, f api.HoldingFilter, asCSV bool) error {
	cl, _, err := c.client(api.Holding{})
	if err != nil {
		return err
	}
	list := []api.Holding{}
	f.Limit = 1000
	for {
		page, err := cl.Holdings(ctx, f)
		if err != nil {
			return err
		}
		list = append(list, page.Items...)
		if page.Next == "" || page.Next == f.After { // a server that goes round in circles is left
			break
		}
		f.After = page.Next
	}
	if asCSV {
		return api.HoldingsCSV(c.stdout, list)
	}
	if ok, err := c.emit(list); ok {
		return err
	}
	var rows [][]string
	for _, h := range list {
		rows = append(rows, []string{h.User, h.Role, strings.Join(h.How, ", "), c.lastUsed(h), strconv.Itoa(h.Uses)})
	}
	c.table("Nobody.", []string{"USER", "ROLE", "HOW", "LAST USED", "USES"}, rows)
	return nil
}

func (c *cli) lastUsed(h api.Holding) string {
	switch {
	case !h.Measured:
		return "not counted"
	case h.LastUsed == nil:
		return "never"
	default:
		return c.when(*h.LastUsed)
	}
}

// completeRoles offers the names of roles.
func (c *cli) completeRoles(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	list := recall(cmd.Context(), c, "roles", func(ctx context.Context, cl *api.Client) (api.List[api.Role], error) { return cl.Roles(ctx) })
	var out []string
	for _, r := range list.Items {
		if strings.HasPrefix(r.Name, typed) {
			out = append(out, choice(r.Name, ""))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) reviewCmd() *cobra.Command {
	return nounCmd("review", "Reviews of who has which role", c.reviewStartCmd(), c.reviewLsCmd(), c.reviewShowCmd(),
		c.reviewDecideCmd("keep", api.Kept, "Keep rights", "kept"), c.reviewDecideCmd("remove", api.Removed, "Remove rights, at once", "removed"),
		c.reviewCloseCmd(), c.reviewExportCmd())
}

func (c *cli) reviewStartCmd() *cobra.Command {
	var in api.ReviewInput
	var all bool
	var due string
	cmd := &cobra.Command{
		Use: "start --role ROLE|--all --owner USER --due DATE", Short: "Begin a review",
		Long: `Begin a review: an item for each person and role, as it is now, which the owner
keeps or removes until the date. The owner is reminded three days before, at the
date, and each day after it; from the date on, whoever may review decides.`,
		Example: "  drawbolt review start --all --unused --owner bob --due 2026-03-31\n  drawbolt review start --role dba --role sre --owner bob --due 14d",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all == (len(in.Roles) > 0) {
				return usage("say what is reviewed: --role ROLE, or --all")
			}
			if in.Owner == "" || due == "" {
				return usage("say who decides and until when: --owner USER --due DATE")
			}
			var err error
			if in.DueAt, err = parseDue(due, c.now()); err != nil {
				return err
			}
			return c.onReview(func(cl *api.Client) (api.Review, error) { return cl.StartReview(cmd.Context(), in) }, func(r api.Review) {
				c.done("%s has begun: %s decides on %d rights until %s", r.ID, r.Owner, r.Items, c.when(r.DueAt))
				c.next("drawbolt review show %s", r.ID)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&in.Roles, "role", nil, "this `role`; may be given several times")
	f.BoolVar(&all, "all", false, "every role")
	f.BoolVar(&in.Unused, "unused", false, "only what was not used for 90 days")
	f.StringVar(&in.Owner, "owner", "", "`user` who decides")
	f.StringVar(&due, "due", "", "`date` until which: 2026-03-31 (its end), 14d (from now), or RFC 3339")
	cmd.RegisterFlagCompletionFunc("role", c.completeRoles)
	return cmd
}

// parseDue reads a date that lies ahead; of a day it is the end.
func parseDue(s string, now time.Time) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	if d, err := parseDuration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usage("%q is no date such as 2026-03-31 or 14d", s)
	}
	return t, nil
}

// onReview does something to a review and tells what came of it.
func (c *cli) onReview(do func(*api.Client) (api.Review, error), tell func(api.Review)) error {
	cl, _, err := c.client(api.Review{})
	if err != nil {
		return err
	}
	r, err := do(cl)
	if err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	tell(r)
	return nil
}

func (c *cli) reviewLsCmd() *cobra.Command {
	var f api.ReviewFilter
	cmd := &cobra.Command{
		Use: "ls", Short: "List reviews, the newest first", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.Review{})
			if err != nil {
				return err
			}
			list, err := cl.Reviews(cmd.Context(), f)
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Review{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, r := range list.Items {
				rows = append(rows, []string{r.ID, reviewState(r), r.Owner, c.when(r.DueAt), reviewRoles(r)})
			}
			c.table("No reviews.", []string{"REVIEW", "STATE", "OWNER", "DUE", "ROLES"}, rows)
			if list.Next != "" {
				c.next("drawbolt review ls --before %s", list.Next)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&f.Open, "open", false, "only those that are not closed")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "at most this `many`")
	cmd.Flags().StringVar(&f.Before, "before", "", "the page behind this `review`")
	return cmd
}

func reviewRoles(r api.Review) string {
	if len(r.Roles) == 0 {
		return "all"
	}
	return strings.Join(r.Roles, ",")
}

func reviewState(r api.Review) string {
	switch {
	case r.ClosedAt != nil:
		return "closed"
	case r.Overdue:
		return fmt.Sprintf("overdue, %d of %d open", r.Undecided, r.Items)
	default:
		return fmt.Sprintf("%d of %d open", r.Undecided, r.Items)
	}
}

func (c *cli) reviewShowCmd() *cobra.Command {
	var open bool
	cmd := &cobra.Command{
		Use: "show REVIEW", Short: "Show a review with its items", Args: between(1, 1), ValidArgsFunction: c.completeReviews,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.ReviewItem{})
			if err != nil {
				return err
			}
			r, err := cl.FindReview(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			items := []api.ReviewItem{}
			f := api.ItemFilter{Undecided: open, Limit: 1000}
			for {
				page, err := cl.ReviewItems(cmd.Context(), r.ID, f)
				if err != nil {
					return err
				}
				items = append(items, page.Items...)
				if page.Next == "" || page.Next == f.After {
					break
				}
				f.After = page.Next
			}
			if ok, err := c.emit(items); ok {
				return err
			}
			c.say("%s  %s  %s decides until %s: %s", r.ID, reviewRoles(r), r.Owner, c.when(r.DueAt), reviewState(r))
			var rows [][]string
			for _, i := range items {
				decided := i.Decision
				if decided != "" {
					decided += " (" + i.DecidedBy + ")"
				}
				rows = append(rows, []string{strconv.Itoa(i.N), i.User, i.Role, strings.Join(i.How, ", "), c.lastUsed(i.Holding), strconv.Itoa(i.Uses), decided})
			}
			c.table("No such items.", []string{"N", "USER", "ROLE", "HOW", "LAST USED", "USES", "DECIDED"}, rows)
			return nil
		},
	}
	cmd.Flags().BoolVar(&open, "open", false, "only what is not decided")
	return cmd
}

func (c *cli) reviewDecideCmd(verb, decision, short, done string) *cobra.Command {
	in := api.DecideInput{Decision: decision}
	cmd := &cobra.Command{
		Use: verb + " REVIEW N... --reason TEXT", Short: short, Example: "  drawbolt review " + verb + " CMP-4711 3 4 9 --reason 'as agreed with the team'",
		Args: between(2, -1), ValidArgsFunction: c.completeReviews,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Items = nil
			for _, a := range args[1:] {
				n, err := strconv.Atoi(a)
				if err != nil {
					return usage("%q is no number of an item: drawbolt review show %s", a, args[0])
				}
				in.Items = append(in.Items, n)
			}
			if in.Reason == "" {
				return usage("why? Add --reason")
			}
			return c.onReview(func(cl *api.Client) (api.Review, error) { return cl.DecideReview(cmd.Context(), args[0], in) }, func(r api.Review) {
				c.done("%d %s; %d of %d are open", len(in.Items), done, r.Undecided, r.Items)
				if r.Undecided == 0 {
					c.next("drawbolt review close %s", r.ID)
				}
			})
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why")
	return cmd
}

func (c *cli) reviewCloseCmd() *cobra.Command {
	var in api.CloseInput
	cmd := &cobra.Command{
		Use: "close REVIEW", Short: "End a review", Args: between(1, 1), ValidArgsFunction: c.completeReviews,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onReview(func(cl *api.Client) (api.Review, error) { return cl.CloseReview(cmd.Context(), args[0], in) }, func(r api.Review) {
				c.done("%s is closed: %d rights, %d of them undecided", r.ID, r.Items, r.Undecided)
				c.next("drawbolt review export %s", r.ID)
			})
		},
	}
	cmd.Flags().BoolVar(&in.Undecided, "undecided", false, "although some items are not decided; they are told of as such")
	return cmd
}

func (c *cli) reviewExportCmd() *cobra.Command {
	var asCSV bool
	cmd := &cobra.Command{
		Use: "export REVIEW", Short: "Print everything of a review, with where its decisions stand in the audit log",
		Long: `Print a review as JSON or CSV. "event" is the number of the event that decided, which
drawbolt audit export has with its proof; the checkpoint in the JSON is signed and
covers them.`,
		Args: between(1, 1), ValidArgsFunction: c.completeReviews,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.ReviewExport{})
			if err != nil {
				return err
			}
			x, err := cl.ExportReview(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asCSV {
				return x.CSV(c.stdout)
			}
			if ok, err := c.emit(x); ok {
				return err
			}
			return c.printJSON(x)
		},
	}
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV")
	return cmd
}

// completeReviews offers the open reviews.
func (c *cli) completeReviews(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := recall(cmd.Context(), c, "reviews", func(ctx context.Context, cl *api.Client) (api.List[api.Review], error) {
		return cl.Reviews(ctx, api.ReviewFilter{Open: true})
	})
	var out []string
	for _, r := range list.Items {
		if strings.HasPrefix(r.ID, typed) {
			out = append(out, choice(r.ID, r.Owner+" "+reviewRoles(r)))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
