package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

type replayOptions struct {
	what  string
	at    string
	speed float64
	keys  bool
	idle  string
}

func (c *cli) replayCmd() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay SESSION|FILE",
		Short: "Play a recording in the terminal",
		Long: `Play a recording of a session, or a .cast file. What was recorded cannot act on
your terminal: titles, clipboard, links and queries are taken out. That a session
was replayed stands in the audit log. Without a terminal it is not timed.`,
		Example: "  drawbolt replay SES-9f2c --speed 4 --idle 2s\n  drawbolt replay SES-9f2c --at 16:02 --keys",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.what = args[0]
			return c.runReplay(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.at, "at", "", "begin at this `moment` of the recording: 90s, 16:02 (minutes) or 1:16:02")
	f.Float64Var(&o.speed, "speed", 1, "how many `times` as fast")
	f.BoolVar(&o.keys, "keys", false, "show what was typed, too")
	f.StringVar(&o.idle, "idle", "", "shorten longer pauses to this `duration`")
	return cmd
}

func (c *cli) runReplay(ctx context.Context, o replayOptions) error {
	play := cast.PlayOptions{Speed: o.speed, Keys: o.keys}
	if !(o.speed > 0) || math.IsInf(o.speed, 0) {
		return usage("--speed must be a number above 0")
	}
	var err error
	if o.at != "" {
		if play.At, err = parseOffset(o.at); err != nil {
			return err
		}
	}
	if o.idle != "" {
		if play.IdleLimit, err = parseDuration(o.idle); err != nil {
			return err
		}
	}
	if !c.outTTY {
		play.Speed = math.Inf(1)
	}
	r, err := c.openRecording(ctx, o.what)
	if err != nil {
		return err
	}
	defer r.Close()
	// Everything passes the player's filter, which needs no help of clean.
	err = cast.Play(ctx, c.stdout, r, play)
	if c.outTTY {
		fmt.Fprintln(c.stdout)
	}
	return damagedRecording(err)
}

// damagedRecording says what of a recording is damaged, all else of which was
// given.
func damagedRecording(err error) error {
	if d, ok := errors.AsType[*api.Damaged](err); ok { // the server knows more
		return &failure{code: exitError, text: d.Error(), cause: err}
	}
	if d, ok := errors.AsType[*cast.DamageError](err); ok {
		return &failure{code: exitError, text: d.Error(), cause: err}
	}
	return err
}

// isSession reports whether an argument names a session and not a file.
func isSession(s string) bool { return strings.HasPrefix(s, "SES-") }

// openRecording opens the recording of a session, or a file. "-" is stdin.
func (c *cli) openRecording(ctx context.Context, what string) (io.ReadCloser, error) {
	if isSession(what) {
		cl, _, err := c.client()
		if err != nil {
			return nil, err
		}
		return cl.Recording(ctx, what, "cast")
	}
	return c.openInput(what)
}

// openInput opens a file for reading; "-" is stdin.
func (c *cli) openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.stdin), nil
	}
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &failure{code: exitNotFound, text: fmt.Sprintf("there is no file %q", name), cause: err}
	}
	return f, err
}

// parseOffset reads a moment of a recording: a duration, M:SS or H:MM:SS.
func parseOffset(s string) (time.Duration, error) {
	bad := usage("the moment %q is not one: write it like 90s, 16:02 or 1:16:02", s)
	if s == "0" {
		return 0, nil
	}
	if !strings.Contains(s, ":") {
		d, err := parseDuration(s)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, bad
	}
	var total int64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || i > 0 && (n > 59 || len(p) != 2) {
			return 0, bad
		}
		total = total*60 + int64(n)
	}
	return time.Duration(total) * time.Second, nil
}

// The kinds of evidence that are files, told apart by how they begin.
const (
	kindBundle    = "bundle"
	kindRecording = "recording"
	kindAudit     = "audit"
)

// kindOf looks at the beginning of r.
func kindOf(r *bufio.Reader) (string, error) {
	b, err := r.Peek(len("drawbolt-audit/"))
	switch {
	case bytes.HasPrefix(b, []byte("drawbolt-audit/")):
		return kindAudit, nil
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return kindBundle, nil
	case bytes.HasPrefix(b, []byte("{")):
		return kindRecording, nil
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	case bytes.HasPrefix(b, []byte("age-encryption")):
		return "", usage("this is a sealed recording, which is encrypted: verify the session, or an exported .cast file")
	default:
		return "", usage("this is neither a .cast recording nor a bundle of evidence nor an audit export")
	}
}
