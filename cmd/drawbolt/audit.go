package main

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) auditCmd() *cobra.Command {
	return nounCmd("audit", "The audit log: read it, prove it, export it",
		c.auditTailCmd(), c.auditSearchCmd(), c.auditVerifyCmd(), c.auditExportCmd(), c.auditCheckpointCmd(), c.auditKeyCmd())
}

func (c *cli) auditTailCmd() *cobra.Command {
	var follow bool
	var n int
	cmd := &cobra.Command{
		Use: "tail", Short: "The last events, and the next ones with --follow", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runAuditTail(cmd.Context(), n, follow) },
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "stay, and print each new event; with --json one object a line")
	cmd.Flags().IntVarP(&n, "lines", "n", 20, "how `many`")
	return cmd
}

// auditEvery is how often a followed log is looked at.
const auditEvery = 2 * time.Second

func (c *cli) runAuditTail(ctx context.Context, n int, follow bool) error {
	if n < 1 || n > api.MaxEvents {
		return usage("--lines must be 1 to %d", api.MaxEvents)
	}
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	list, err := cl.Events(ctx, api.EventFilter{After: -1, Limit: n, Newest: true})
	if err != nil {
		return err
	}
	if !follow {
		return c.showEvents(list.Items)
	}
	c.outTTY = false // one object a line
	last := int64(-1)
	for {
		for _, e := range list.Items {
			last = max(last, e.Seq)
			if ok, err := c.emit(e); err != nil {
				return err
			} else if !ok {
				c.print("%s", strings.Join(eventRow(e), "  "))
			}
		}
		if list.Next == "" || len(list.Items) == 0 {
			select {
			case <-ctx.Done():
				return silent(exitInterrupt)
			case <-time.After(auditEvery):
			}
		}
		if list, err = cl.Events(ctx, api.EventFilter{After: last, Limit: api.MaxEvents}); err != nil {
			return err
		}
	}
}

func (c *cli) auditSearchCmd() *cobra.Command {
	var f api.EventFilter
	var since, until string
	cmd := &cobra.Command{
		Use: "search", Short: "Find events", Args: between(0, 0),
		Example: "  drawbolt audit search --action 'request.*' --actor alice --since 7d\n  drawbolt audit search --object REQ-4821 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.Since, err = parsePast(since, c.now()); err != nil {
				return err
			}
			if f.Until, err = parsePast(until, c.now()); err != nil {
				return err
			}
			return c.runAuditSearch(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Actor, "actor", "", "`who` did it")
	fl.StringVar(&f.Action, "action", "", "what was done: request.create, or request.*")
	fl.StringVar(&f.Object, "object", "", "`id` of what it was done to")
	fl.StringVar(&f.Target, "target", "", "on which `target`")
	fl.StringVar(&f.Session, "session", "", "in which `session`")
	fl.StringVar(&since, "since", "", "from this `time` on: 7d (ago), 2026-03-01, or RFC 3339")
	fl.StringVar(&until, "until", "", "before this `time`")
	fl.IntVar(&f.Limit, "limit", 1000, "at most this `many`")
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

func (c *cli) runAuditSearch(ctx context.Context, f api.EventFilter) error {
	if f.Limit < 1 {
		return usage("--limit must be at least 1")
	}
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	f.After = -1
	all, err := pages(f.Limit, api.MaxEvents, func(limit int, after string) (api.List[api.Event], error) {
		f.Limit = limit
		if after != "" {
			if f.After, err = strconv.ParseInt(after, 10, 64); err != nil {
				return api.List[api.Event]{}, err
			}
		}
		return cl.Events(ctx, f)
	})
	if err != nil {
		return err
	}
	return c.showEvents(all)
}

func (c *cli) showEvents(events []api.Event) error {
	if events == nil {
		events = []api.Event{}
	}
	if ok, err := c.emit(events); ok {
		return err
	}
	var rows [][]string
	for _, e := range events {
		rows = append(rows, eventRow(e))
	}
	c.table("No events.", []string{"SEQ", "TIME", "WHO", "ACTION", "OUTCOME", "OBJECT", "WHERE", "WHY"}, rows)
	return nil
}

func eventRow(e api.Event) []string {
	where := e.Target
	if e.Account != "" {
		where = e.Account + "@" + e.Target
	}
	return []string{strconv.FormatInt(e.Seq, 10), e.Time.UTC().Format(time.RFC3339), first(e.ActorName, e.Actor),
		e.Action, e.Outcome, first(e.Object, "-"), first(where, "-"), e.Reason}
}

func (c *cli) auditVerifyCmd() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check an export, or the log of the server as it is now",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if isSession(args[0]) {
					return usage("%s is a session: drawbolt verify %s", args[0], args[0])
				}
				o.what = args[0]
				return c.runVerify(cmd.Context(), o)
			}
			return c.verifyLive(cmd.Context(), o)
		},
	}
	o.flags(cmd)
	return cmd
}

// verifyLive checks the log while it is being exported.
func (c *cli) verifyLive(ctx context.Context, o verifyOptions) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	var keys []note.Verifier
	if len(o.keys) > 0 {
		keys, err = readKeys(o.keys)
	} else {
		keys, err = serverKeys(ctx, cl)
		c.say("• the key comes from this server too; an auditor uses --key with one kept elsewhere")
	}
	if err != nil {
		return err
	}
	r, err := cl.ExportAudit(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return c.verifyAudit(bufio.NewReaderSize(r, 64<<10), keys, o)
}

func (c *cli) auditExportCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export [-o FILE]", Short: "Save the whole log in the format that verify checks", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			r, err := cl.ExportAudit(cmd.Context())
			if err != nil {
				return err
			}
			defer r.Close()
			return c.save(r, out)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - or nothing: stdout")
	return cmd
}

func (c *cli) auditCheckpointCmd() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "The signed head of the log; keep it elsewhere", Args: between(0, 0),
		Example: "  drawbolt audit checkpoint > monday.checkpoint\n  drawbolt audit verify export.txt --key audit.pub --checkpoint monday.checkpoint",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			p, err := cl.Checkpoint(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(p); ok {
				return err
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(p.Checkpoint, "\n"), "\n") {
				c.print("%s", line)
			}
			return nil
		},
	}
}

func (c *cli) auditKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "The public key of the evidence; keep it elsewhere", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			k, err := cl.AuditKey(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(k); ok {
				return err
			}
			c.print("%s", k.Key)
			for _, r := range k.Recordings {
				if r != k.Key {
					c.print("%s", r)
				}
			}
			return nil
		},
	}
}
