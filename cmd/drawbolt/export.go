package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) exportCmd() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "export SESSION [--format cast|txt|sealed] [-o FILE]",
		Short: "Save the recording of a session",
		Long: `Save the recording of a session: cast is asciicast v3 with its seal, which
asciinema plays and "drawbolt verify FILE" checks; txt is for reading; sealed is the
encrypted file, for an auditor's own key. A file that exists is not overwritten
without --yes. Of a damaged recording all that can be read is saved, and the exit
code is 1.`,
		Example: "  drawbolt export SES-9f2c -o evidence.cast\n  drawbolt export SES-9f2c --format txt | less",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runExport(cmd.Context(), args[0], format, out)
		},
	}
	cmd.Flags().StringVar(&format, "format", "cast", "cast, txt or sealed")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - or nothing: stdout")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"cast", "txt", "sealed"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) runExport(ctx context.Context, id, format, out string) error {
	if formats := []string{"cast", "txt", "sealed"}; !slices.Contains(formats, format) {
		return usage("the format %q is not one: it is %s", format, strings.Join(formats, " or "))
	}
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	var r io.ReadCloser
	if format == "sealed" {
		r, err = cl.SealedFile(ctx, id)
	} else {
		r, err = cl.Recording(ctx, id, format)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return c.save(r, out)
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
