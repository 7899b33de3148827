package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) exportCmd() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "export SESSION [--format cast|txt|events|bundle|mp4|sealed] [-o FILE]",
		Short: "Save the recording of a session, or all that proves it",
		Long: `Save the recording of a session: cast is asciicast v3 with its seal, which
asciinema plays and "drawbolt verify FILE" checks; txt is for reading; events are
the session's events of the audit log, a JSON object a line. A bundle is all of it
with the request, the approvals and the proofs, in a zip that verifies itself: with
"drawbolt verify FILE.zip", or in a browser that has no network. An mp4 is a video for
those who have no player of recordings: it proves nothing, pauses last 2 s at most, and
the server needs ffmpeg to make it. Sealed is the encrypted file, for an auditor's own
key. A file that exists is not overwritten without --yes. Of a damaged recording all
that can be read is saved, and of a long one 2 hours of video; the exit code is 1 then.`,
		Example: "  drawbolt export SES-9f2c -o evidence.cast\n  drawbolt export SES-9f2c --format bundle -o evidence.zip\n  drawbolt export SES-9f2c --format txt | less",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runExport(cmd.Context(), args[0], format, out)
		},
	}
	cmd.Flags().StringVar(&format, "format", "cast", "cast, txt, events, bundle, mp4 or sealed")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - or nothing: stdout")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(exportFormats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func exportFormats() []string { return []string{"cast", "txt", "events", "bundle", "mp4", "sealed"} }

func (c *cli) runExport(ctx context.Context, id, format, out string) error {
	if formats := exportFormats(); !slices.Contains(formats, format) {
		return usage("the format %q is not one: it is %s", format, strings.Join(formats, ", "))
	}
	if end := map[string]string{"bundle": "zip", "mp4": "mp4"}[format]; end != "" && c.outTTY && (out == "" || out == "-") {
		e := usage("a file of the format %s is no text for a terminal: name a file", format)
		e.next = "drawbolt export " + id + " --format " + format + " -o " + id + "." + end
		return e
	}
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	r, err := c.openExport(ctx, cl, id, format)
	if err != nil {
		return err
	}
	defer r.Close()
	return c.save(c.progress(r), out)
}

func (c *cli) openExport(ctx context.Context, cl *api.Client, id, format string) (io.ReadCloser, error) {
	switch format {
	case "bundle":
		return cl.Evidence(ctx, id)
	case "mp4":
		return cl.Video(ctx, id)
	case "events":
		return eventsOf(ctx, cl, id)
	case "sealed":
		return cl.SealedFile(ctx, id)
	default:
		return cl.Recording(ctx, id, format)
	}
}

// eventsOf returns the session's events that the audit log has now, as they are
// in its export but for their hashes.
func eventsOf(ctx context.Context, cl *api.Client, id string) (io.ReadCloser, error) {
	r, w := io.Pipe()
	after := int64(-1)
	page, err := cl.Events(ctx, api.EventFilter{Session: id, After: after, Limit: api.MaxEvents})
	if err != nil {
		return nil, err // before anything is written
	}
	go func() { // ends when r is closed
		for err == nil && len(page.Items) > 0 {
			for _, e := range page.Items {
				var line []byte
				if line, err = json.Marshal(e); err == nil {
					_, err = w.Write(append(line, '\n'))
				}
				if after = e.Seq; err != nil {
					break
				}
			}
			if err == nil && page.Next == "" {
				break
			}
			if err == nil {
				page, err = cl.Events(ctx, api.EventFilter{Session: id, After: after, Limit: api.MaxEvents})
			}
		}
		w.CloseWithError(err)
	}()
	return r, nil
}

// progress tells on a terminal how much has come, once a second.
func (c *cli) progress(r io.Reader) io.Reader {
	if !c.errTTY || c.quiet {
		return r
	}
	return &progress{r: r, c: c, last: c.now()}
}

type progress struct {
	r    io.Reader
	c    *cli
	n    int64
	last time.Time
	told bool
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if now := p.c.now(); now.Sub(p.last) >= time.Second {
		p.last, p.told = now, true
		fmt.Fprintf(p.c.stderr, "\r%d MB", p.n/1e6)
	}
	if err != nil && p.told {
		p.told = false
		fmt.Fprint(p.c.stderr, "\r\x1b[K")
	}
	return n, err
}

// save copies r to stdout or into a file, which appears only when it is whole.
func (c *cli) save(r io.Reader, out string) error {
	if out == "" || out == "-" {
		w := c.stdout
		if c.outTTY {
			w = &lineCleaner{w: w}
		}
		_, err := io.Copy(w, r)
		if l, ok := w.(*lineCleaner); ok {
			err = errors.Join(err, l.flush())
		}
		return damagedRecording(err)
	}
	if _, err := os.Lstat(out); err == nil {
		if err := c.confirm(out + " exists. Overwrite it?"); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".drawbolt-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	n, err := io.Copy(f, r)
	var damage error // of what came: all that can be read did
	if _, ok := errors.AsType[*api.Damaged](err); ok {
		damage, err = damagedRecording(err), nil
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), out)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	c.done("%s: %d bytes", out, n)
	return damage
}

// A lineCleaner passes lines to a terminal, each cleaned.
type lineCleaner struct {
	w    io.Writer
	rest []byte
}

func (l *lineCleaner) Write(p []byte) (int, error) {
	rest := append(l.rest, p...)
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found && len(rest) < 64<<10 {
			l.rest = bytes.Clone(rest)
			return len(p), nil
		}
		if _, err := io.WriteString(l.w, clean(string(line))+"\n"); err != nil {
			return 0, err
		}
		rest = after
	}
}

func (l *lineCleaner) flush() error {
	if len(l.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(l.w, clean(string(l.rest))+"\n")
	l.rest = nil
	return err
}
