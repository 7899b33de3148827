package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) watchCmd() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "watch SESSION",
		Short: "Watch a running session",
		Long: `Watch a running session from where it is now until it ends; q or Ctrl-C leaves.
What is shown there cannot act on your terminal, and what is typed there is not
shown. That you watch stands in the audit log, and the user is told unless the role
says otherwise. With --json each thing that happens is an object on a line.`,
		Example:           "  drawbolt watch SES-9f2c\n  drawbolt watch SES-9f2c --from 16:02",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeLive,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := api.WatchOptions{At: -1}
			if from != "" {
				var err error
				if o.At, err = parseOffset(from); err != nil {
					return err
				}
			}
			return c.runWatch(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "show what came since this `moment` of the session, too: 90s, 16:02 or 1:16:02")
	return cmd
}

func (c *cli) runWatch(ctx context.Context, id string, o api.WatchOptions) error {
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	w, err := cl.Watch(ctx, id, o)
	if err != nil {
		return err
	}
	defer w.Close()
	restore := c.leaveKeys(leave)
	defer restore()
	last := api.WatchEvent{}
	screen := cast.NewFilter(c.stdout)
	defer func() {
		if c.json == "" {
			screen.Close()
			if c.outTTY {
				fmt.Fprintln(c.stdout)
			}
		}
	}()
	outTTY := c.outTTY
	if c.json != "" {
		c.outTTY = false // one object a line
	}
	for {
		e, err := w.Next()
		switch {
		case ctx.Err() != nil:
			restore()
			c.say("You no longer watch %s.", id)
			if c.stopped() {
				return silent(exitInterrupt)
			}
			return nil
		case errors.Is(err, io.EOF) && (last.Kind == api.WatchEnd || last.Kind == api.WatchCut):
			restore()
			return c.watched(id, last)
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the connection to %s ended before the session", p.Server)
		case err != nil:
			return err
		}
		last = e
		if ok, err := c.emit(e); err != nil {
			return err
		} else if ok {
			continue
		}
		switch e.Kind {
		case api.WatchBegin:
			who := e.Session
			if who == nil {
				return errors.New("the server does not say what is watched")
			}
			c.say("%s watches %s: %s on %s@%s, since %s. Leave with q or Ctrl-C.", p.User, who.ID, who.User, who.Account, who.Target, c.when(who.OpenedAt))
			if e.Text != "" {
				c.say("Its input is paused by %s.", e.Text)
			}
		case api.WatchScreen:
			if outTTY {
				io.WriteString(c.stdout, "\x1b[0m\x1b[2J\x1b[H")
			}
			_, err = io.WriteString(screen, e.Text)
		case api.WatchOutput:
			_, err = io.WriteString(screen, e.Text)
		case api.WatchMark:
			c.say("\n[%s]", e.Text)
		}
		if err != nil {
			return err
		}
	}
}

// watched says how the watching ended.
func (c *cli) watched(id string, last api.WatchEvent) error {
	if last.Kind == api.WatchCut {
		return &failure{code: exitDenied, text: last.Text}
	}
	if c.json == "" {
		c.say("")
		c.done("%s is over: %s", id, last.Text)
		c.next("drawbolt replay %s", id)
	}
	return nil
}

// stopped reports whether Ctrl-C was pressed.
func (c *cli) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// leaveKeys calls leave when q or Ctrl-C is typed on the terminal, which shows
// nothing that is typed until restore is called.
func (c *cli) leaveKeys(leave func()) (restore func()) {
	f, ok := c.stdin.(*os.File)
	if !ok || !c.inTTY || !c.outTTY || c.json != "" {
		return func() {}
	}
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return func() {}
	}
	talk := c.stderr
	c.stderr = newLines{talk}
	go func() { // ends with the process, or with the key that leaves
		keys := bufio.NewReader(f)
		for {
			switch b, err := keys.ReadByte(); {
			case err != nil:
				return
			case b == 'q', b == 'Q', b == 0x03, b == 0x04:
				leave()
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		c.stderr = talk
		term.Restore(int(f.Fd()), state)
	})
}

// newLines writes to a terminal that makes no new lines of line feeds.
type newLines struct{ io.Writer }

func (w newLines) Write(p []byte) (int, error) {
	_, err := w.Writer.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")))
	return len(p), err
}

// completeLive completes the ids of sessions that run.
func (c *cli) completeLive(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := recall(cmd.Context(), c, "live", func(ctx context.Context, cl *api.Client) (api.List[api.Session], error) {
		return cl.Sessions(ctx, api.SessionFilter{Live: true, Limit: api.MaxPage})
	})
	var out []string
	for _, s := range list.Items {
		if strings.HasPrefix(s.ID, typed) {
			out = append(out, choice(s.ID, s.User+" "+s.Account+"@"+s.Target))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) messageCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "message SESSION TEXT",
		Short:             "Write a line to the user of a running session",
		Example:           "  drawbolt message SES-9f2c 'please leave the replica alone'",
		Args:              between(2, -1),
		ValidArgsFunction: c.completeLive,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.moderate(args[0], func(cl *api.Client) error {
				return cl.Message(cmd.Context(), args[0], strings.Join(args[1:], " "))
			}, "sent to the user of %s")
		},
	}
}

func (c *cli) pauseCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "pause SESSION",
		Short: "Hold back what the user of a running session types",
		Long: `Hold back what the user of a running session types and sends, in it and in every
other session under the same grant, and let no new one begin. Nothing of it is lost.
It lasts until drawbolt resume; the time of the grant goes on.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.completeLive,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.moderate(args[0], func(cl *api.Client) error { return cl.Pause(cmd.Context(), args[0]) }, "%s is paused, with all sessions under its grant")
		},
	}
}

func (c *cli) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "resume SESSION",
		Short:             "Let pass again what was typed in a session that is paused",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeLive,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.moderate(args[0], func(cl *api.Client) error { return cl.Resume(cmd.Context(), args[0]) }, "%s goes on")
		},
	}
}

func (c *cli) moderate(id string, do func(*api.Client) error, done string) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	if err := do(cl); err != nil {
		return err
	}
	c.done(done, id)
	return nil
}
