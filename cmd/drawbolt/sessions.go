package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) sessionsCmd() *cobra.Command {
	var f api.SessionFilter
	cmd := &cobra.Command{
		Use:     "sessions [--live]",
		Short:   "Sessions and their recordings, the newest first",
		Example: "  drawbolt sessions --live\n  drawbolt sessions --target db01 --user alice --limit 200",
		Args:    between(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.runSessions(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.Live, "live", false, "only those that run now")
	fl.StringVar(&f.Target, "target", "", "only on this `target`")
	fl.StringVar(&f.User, "user", "", "only of this `user`")
	fl.IntVar(&f.Limit, "limit", 50, "at most this `many`")
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

func (c *cli) runSessions(ctx context.Context, f api.SessionFilter) error {
	if f.Limit < 1 {
		return usage("--limit must be at least 1")
	}
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	all, err := pages(f.Limit, api.MaxPage, func(limit int, before string) (api.List[api.Session], error) {
		f.Limit, f.Before = limit, before
		return cl.Sessions(ctx, f)
	})
	if err != nil {
		return err
	}
	if ok, err := c.emit(all); ok {
		return err
	}
	var rows [][]string
	for _, s := range all {
		state := s.State
		if s.State == "closed" {
			state = s.EndReason
			if s.ClosedAt != nil {
				state = formatDuration(s.ClosedAt.Sub(s.OpenedAt)) + " " + state
			}
		}
		if len(s.Risks) > 0 {
			state += " (" + strings.Join(s.Risks, ", ") + ")"
		}
		if s.Deleted != nil {
			state += ", recording deleted"
		}
		what := s.Kind
		if s.Command != "" {
			what += " " + s.Command
		}
		rows = append(rows, []string{s.ID, c.when(s.OpenedAt), s.User, s.Account + "@" + s.Target, state, what})
	}
	c.table("No sessions.", []string{"ID", "OPENED", "WHO", "WHERE", "STATE", "WHAT"}, rows)
	return nil
}

// pages reads page after page, each of at most most things, until there are
// enough or no more.
func pages[T any](limit, most int, get func(limit int, after string) (api.List[T], error)) ([]T, error) {
	all := []T{}
	after := ""
	for len(all) < limit {
		page, err := get(min(limit-len(all), most), after)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" || page.Next == after || len(page.Items) == 0 {
			break
		}
		after = page.Next
	}
	return all[:min(len(all), limit)], nil
}

// maxOpen is how many requests are looked through for those that are open.
const maxOpen = 1000

// requests lists all that fit, the newest first.
func requests(ctx context.Context, cl *api.Client, f api.RequestFilter) ([]api.Request, error) {
	return pages(maxOpen, api.MaxPage, func(limit int, before string) (api.List[api.Request], error) {
		f.Limit, f.Before = limit, before
		return cl.Requests(ctx, f)
	})
}
