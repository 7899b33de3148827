package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) recordingCmd() *cobra.Command {
	return nounCmd("recording", "How long recordings are kept: rules, holds, deletion",
		c.recordingHoldCmd(), c.recordingLsCmd(), c.recordingUnholdCmd(), c.recordingRmCmd(), c.retentionShowCmd(), c.retentionSetCmd())
}

func (c *cli) recordingHoldCmd() *cobra.Command {
	var in api.HoldInput
	var since, until string
	cmd := &cobra.Command{
		Use: "hold [SESSION...] --reason TEXT", Short: "Keep recordings from being deleted",
		Long: `Put recordings under a hold: those of the sessions that are named, or of all that
--user, --target, --since and --until pick now, at most 500. While the hold stands,
no rule and nobody deletes them. A session may be under several holds.`,
		Example: "  drawbolt recording hold SES-9f2c --reason 'case 4711'\n  drawbolt recording hold --user alice --since 2026-03-01 --reason 'case 4711'",
		Args:    between(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Sessions = args
			for _, t := range []struct {
				text string
				to   **time.Time
			}{{since, &in.Since}, {until, &in.Until}} {
				if t.text == "" {
					continue
				}
				at, err := parsePast(t.text, c.now())
				if err != nil {
					return err
				}
				*t.to = &at
			}
			if some := in.User != "" || in.Target != "" || in.Since != nil || in.Until != nil; some == (len(args) > 0) {
				return usage("name the sessions, or pick them with --user, --target, --since or --until")
			}
			if in.Reason == "" {
				return usage("why? Add --reason")
			}
			return c.runHold(cmd.Context(), in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Reason, "reason", "", "why, such as the `number` of the case")
	f.StringVar(&in.User, "user", "", "sessions of this `user`")
	f.StringVar(&in.Target, "target", "", "sessions on this `target`")
	f.StringVar(&since, "since", "", "opened from this `time` on: 7d (ago), 2026-03-01, or RFC 3339")
	f.StringVar(&until, "until", "", "opened before this `time`")
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	return cmd
}

func (c *cli) runHold(ctx context.Context, in api.HoldInput) error {
	cl, _, err := c.client(api.Hold{})
	if err != nil {
		return err
	}
	h, err := cl.HoldRecordings(ctx, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(h); ok {
		return err
	}
	c.done("%s keeps the recordings of %d sessions: %s", h.ID, len(h.Sessions), h.Reason)
	return nil
}

func (c *cli) recordingLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the holds on recordings", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.Hold{})
			if err != nil {
				return err
			}
			list, err := cl.Holds(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(slices.Concat([]api.Hold{}, list.Items)); ok {
				return err
			}
			var rows [][]string
			for _, h := range list.Items {
				what := fmt.Sprintf("%d sessions", len(h.Sessions))
				if len(h.Sessions) == 1 {
					what = h.Sessions[0]
				}
				rows = append(rows, []string{h.ID, c.when(h.PlacedAt), h.By, what, h.Reason})
			}
			c.table("No holds.", []string{"ID", "PLACED", "BY", "WHAT", "REASON"}, rows)
			return nil
		},
	}
}

func (c *cli) recordingUnholdCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "unhold HOLD --reason TEXT", Short: "Lift a hold; it takes two people",
		Long: `Lift a hold, as the first of two people or as the second, within seven days. Until
a second one has said the same, the hold stands, and the exit code is 8.`,
		Example: "  drawbolt recording unhold HLD-7k2m --reason 'case 4711 is closed'",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.agree(cmd.Context(), reason, func(ctx context.Context, cl *api.Client) (api.Agreement, error) {
				return cl.LiftHold(ctx, args[0], reason)
			}, "the hold "+args[0]+" is lifted", "drawbolt recording unhold "+args[0])
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (c *cli) recordingRmCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "rm SESSION --reason TEXT", Short: "Delete a recording before its time; it takes two people",
		Long: `Delete the recording of a session, as the first of two people or as the second,
within seven days. Nobody can open it then, nor any copy of it, wherever that is
kept; the audit log keeps its hash and who deleted it. A recording under a hold, or
younger than what the server keeps every recording for, is not deleted. Until a
second person has said the same, nothing is, and the exit code is 8.`,
		Example: "  drawbolt recording rm SES-9f2c --reason 'erasure request 88'",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.agree(cmd.Context(), reason, func(ctx context.Context, cl *api.Client) (api.Agreement, error) {
				return cl.DeleteRecording(ctx, args[0], reason)
			}, "the recording of "+args[0]+" is deleted", "drawbolt recording rm "+args[0])
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

// agree does what takes two people.
func (c *cli) agree(ctx context.Context, reason string, do func(context.Context, *api.Client) (api.Agreement, error), done, again string) error {
	if reason == "" {
		return usage("why? Add --reason")
	}
	cl, _, err := c.client(api.Agreement{})
	if err != nil {
		return err
	}
	a, err := do(ctx, cl)
	if err != nil {
		return err
	}
	if ok, err := c.emit(a); ok && err != nil {
		return err
	}
	return c.agreed(a, done, again)
}

// agreed says whether a second person has still to say the same.
func (c *cli) agreed(a api.Agreement, done, again string) error {
	if a.Done {
		c.done("%s; %s had asked for it", done, a.First)
		return nil
	}
	c.say("• %s has asked for it; nothing is done before another person who may does the same", a.First)
	if a.Until != nil {
		c.say("  It lapses at %s.", a.Until.UTC().Format(time.RFC3339))
	}
	c.next("%s, by somebody else", again)
	return silent(exitPending)
}

func (c *cli) retentionShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rules", Short: "Print the rules of retention as JSON, as set-rules reads them", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.Retention{})
			if err != nil {
				return err
			}
			r, err := cl.Retention(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(r); ok {
				return err
			}
			return c.printJSON(r)
		},
	}
}

func (c *cli) retentionSetCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "set-rules -f FILE", Short: "Say how long recordings are kept; it takes two people",
		Long: `Put the rules of a JSON file, as "recording rules" prints it, in the place of those
of the same version, as the first of two people or as the second, who gives the same
file, within seven days. The first rule that selects a session counts: its recording
is deleted keep_days after the session's end. What no rule selects is kept for good.
Rules select by targets (names, labels) and accounts, as the target was when the
session was opened.`,
		Example: "  drawbolt recording rules > rules.json; $EDITOR rules.json; drawbolt recording set-rules -f rules.json",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("which file? Add -f FILE")
			}
			return c.runSetRetention(cmd.Context(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "JSON `file`; - is stdin")
	return cmd
}

func (c *cli) runSetRetention(ctx context.Context, file string) error {
	var r api.Retention
	if err := c.readJSON(file, &r); err != nil {
		return err
	}
	cl, _, err := c.client(api.RetentionAnswer{})
	if err != nil {
		return err
	}
	answer, err := cl.SetRetention(ctx, r)
	if err != nil {
		return err
	}
	if ok, err := c.emit(answer); ok && err != nil {
		return err
	}
	return c.agreed(answer.Agreement, fmt.Sprintf("the rules are set: version %d", answer.Version), "drawbolt recording set-rules -f "+file)
}
