package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type searchOptions struct {
	api.SearchFilter
	since, until string
}

func (c *cli) searchCmd() *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:   "search WORDS",
		Short: "Find what was shown, typed and run in sessions",
		Long: `Find what was shown, typed and run, in the sessions whose recordings you may
replay, the newest first. All words must stand in one line, in any order;
"several in quotes" as they are. One of them has at least 3 characters. Upper and
lower case of a to z are the same. That you searched, for what, and which sessions
were shown stands in the audit log.`,
		Example: "  drawbolt search 'DROP TABLE' --in output,keys --target 'db*' --since 2026-02-01\n" +
			"  drawbolt search '\"rm -rf\"' --in command --user alice --since 30d\n  drawbolt search passwd --files --json=session,at_seconds,text",
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Query = args[0]
			return c.runSearch(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.In, "in", nil, "only in `these`: output, keys, command, file, mark")
	f.StringVar(&o.User, "user", "", "only in sessions of this `user`")
	f.StringVar(&o.Target, "target", "", "only on this `target`, or on those that a pattern like db* matches")
	f.StringVar(&o.Account, "account", "", "only at this `account`")
	f.StringVar(&o.since, "since", "", "in sessions opened from this `time` on: 7d (ago), 2026-03-01, or RFC 3339")
	f.StringVar(&o.until, "until", "", "in sessions opened before this `time`")
	f.StringVar(&o.Of, "request", "", "only under this request or grant, by its `id`")
	f.BoolVar(&o.Files, "files", false, "only in sessions in which a file was carried")
	f.IntVar(&o.Limit, "limit", 50, "at most this `many`")
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	cmd.RegisterFlagCompletionFunc("in", cobra.FixedCompletions([]string{"output", "keys", "command", "file", "mark"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// maxSearchPages is how often a search whose time ran out goes on by itself.
const maxSearchPages = 30

func (c *cli) runSearch(ctx context.Context, o searchOptions) error {
	if o.Limit < 1 {
		return usage("--limit must be at least 1")
	}
	var err error
	if o.Since, err = parsePast(o.since, c.now()); err != nil {
		return err
	}
	if o.Until, err = parsePast(o.until, c.now()); err != nil {
		return err
	}
	cl, p, err := c.client(api.SearchHit{})
	if err != nil {
		return err
	}
	limit, start := o.Limit, c.now()
	hits := []api.SearchHit{}
	var page api.SearchPage
	for range maxSearchPages {
		o.Limit = min(limit-len(hits), api.MaxHits)
		if page, err = cl.Search(ctx, o.SearchFilter); err != nil {
			return err
		}
		hits = append(hits, page.Items...)
		if page.Next == "" || len(hits) >= limit {
			break
		}
		o.Before = page.Next
	}
	took := c.now().Sub(start)
	if page.Reached != nil {
		c.say("▲ sessions before %s have not been looked at: narrow the search, or go on with --until", page.Reached.UTC().Format(time.RFC3339))
	}
	if page.Partial > 0 {
		c.say("▲ %d of the sessions are longer than what is kept of them for searching; the rest is in their recordings only", page.Partial)
	}
	if ok, err := c.emit(hits); ok {
		return err
	}
	var rows [][]string
	for _, h := range hits {
		rows = append(rows, []string{h.Session, c.when(h.Time), h.User + " → " + h.Account + "@" + h.Target, shortSource(h.In),
			strconv.Quote(around(h.Text, o.Query)), strings.TrimSuffix(p.Server, "/") + h.URL})
	}
	if len(rows) > 0 {
		c.table("", []string{"SESSION", "TIME", "WHO", "IN", "LINE", "LINK"}, rows)
	}
	what := "hits"
	if len(hits) == 1 {
		what = "hit"
	}
	more, open := "", ""
	if page.Next != "" && page.Reached == nil {
		more = "the newest "
	}
	if len(hits) > 0 {
		open = fmt.Sprintf(" Open: drawbolt replay %s --at %s", hits[0].Session, clock(hits[0].AtSeconds))
	}
	in := "sessions"
	if page.Sessions == 1 {
		in = "session"
	}
	c.say("%s%d %s in %s %s (%s s).%s", more, len(hits), what, thousands(page.Sessions), in, strconv.FormatFloat(took.Seconds(), 'f', 2, 64), open)
	return nil
}

// shortSource is what a source is called in a column.
func shortSource(in string) string {
	switch in {
	case "output":
		return "out"
	case "keys":
		return "key"
	case "command":
		return "cmd"
	default:
		return in
	}
}

// clock writes seconds as replay --at reads them.
func clock(s int64) string {
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// around is what fits into a column of a line: the part where the first word of
// the query stands.
func around(line, query string) string {
	const before, all = 20, 60
	runes := []rune(line)
	if len(runes) <= all {
		return line
	}
	from := 0
	if words := strings.Fields(strings.ReplaceAll(query, `"`, " ")); len(words) > 0 {
		if i := strings.Index(api.Fold(line), api.Fold(words[0])); i > 0 {
			from = max(0, utf8.RuneCountInString(line[:i])-before)
		}
	}
	from = min(from, len(runes)-all)
	out := string(runes[from : from+all])
	if from > 0 {
		out = "…" + out
	}
	if from+all < len(runes) {
		out += "…"
	}
	return out
}
