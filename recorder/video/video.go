// Package video makes a film of a recording: MP4 with H.264, for those who have
// nothing that plays a terminal. It proves nothing, and is no replacement for the
// recording: pauses are shortened, and only what was shown is in it.
//
// The one who was recorded chose the bytes. They are read in a process apart, as
// views are made (view.Worker), which draws the model of the terminal
// (recorder/screen) with a font of its own. The encoder, ffmpeg, is another process
// below that one: it is given pictures of one size, and never a byte of the
// recording as text, as a file or as a name. What leaves are pixels.
package video

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/view"
)

// Bounds of a film.
const (
	MaxLength = 2 * time.Hour // that it plays
	MaxPause  = 2 * time.Second

	// The largest screen of which all is seen.
	MaxColumns = 240
	MaxRows    = 70

	leastColumns = 80      // so that the line below has room
	maxBytes     = 4 << 30 // of the file
	patience     = 30 * time.Minute
)

// ErrNoEncoder says that there is no ffmpeg on this machine.
var ErrNoEncoder = errors.New("there is no ffmpeg in PATH")

// A Failure says why there is no film of this recording.
type Failure struct{ Why string }

func (f *Failure) Error() string { return "make video: " + f.Why }

// A Maker makes films, each in a process of its own.
type Maker struct {
	// Command is a program and its arguments that calls Work, with the arguments
	// "--encoder PATH" and "--size COLUMNSxROWS" that are added to it.
	Command []string
}

// Works reports whether there is an encoder on this machine now.
func (m Maker) Works() bool {
	_, err := exec.LookPath("ffmpeg")
	return err == nil
}

// Make writes the film of a recording, which it reads twice, to out, as it is
// made. cut says what is missing in a film that is otherwise whole, and is empty
// for nothing. The error is ErrNoEncoder, a *Failure when nothing was written,
// that of out, of reading the recording or of starting a process.
func (m Maker) Make(ctx context.Context, recording io.ReadSeeker, out io.Writer) (cut string, err error) {
	encoder, err := exec.LookPath("ffmpeg")
	if err != nil {
		return "", ErrNoEncoder
	}
	size, err := sizeOf(ctx, recording)
	if err != nil {
		return "", err
	}
	if _, err := recording.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("make video: read the recording: %w", err)
	}
	to := &counting{w: out}
	worker := view.Worker{Command: m.Command, Patience: patience}
	why, err := worker.Copy(ctx, []string{"--encoder", encoder, "--size", size.String()}, recording, maxBytes, to)
	if err == nil && to.n == 0 {
		err = &Failure{why}
	}
	return why, err
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// A Size is how many columns and rows of a terminal a film shows.
type Size struct{ Columns, Rows int }

// String returns the size as ParseSize reads it.
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Columns, s.Rows) }

// ParseSize reads a size such as 80x24, and refuses one that no film has.
func ParseSize(text string) (Size, error) {
	columns, rows, _ := strings.Cut(text, "x")
	c, err := strconv.Atoi(columns)
	r, rerr := strconv.Atoi(rows)
	if err != nil || rerr != nil || c < 1 || c > MaxColumns || r < 1 || r > MaxRows {
		return Size{}, fmt.Errorf("%q is not a size of at most %dx%d", text, MaxColumns, MaxRows)
	}
	return Size{c, r}, nil
}

// sizeOf is the size of the film: that of the largest screen in the recording.
func sizeOf(ctx context.Context, recording io.Reader) (Size, error) {
	c, err := cast.NewReader(recording)
	if err != nil {
		if d, ok := errors.AsType[*cast.DamageError](err); ok {
			return Size{}, &Failure{d.Error()}
		}
		return Size{}, fmt.Errorf("make video: %w", err)
	}
	columns, rows := screenOf(c.Header())
	size := Size{max(columns, leastColumns), rows}
	for ctx.Err() == nil {
		e, err := c.Next()
		if err == io.EOF {
			return Size{min(size.Columns, MaxColumns), min(size.Rows, MaxRows)}, nil
		}
		if _, ok := errors.AsType[*cast.DamageError](err); ok {
			continue
		}
		if err != nil {
			return Size{}, fmt.Errorf("make video: %w", err)
		}
		if columns, rows, ok := resized(e); ok {
			size = Size{max(size.Columns, columns), max(size.Rows, rows)}
		}
	}
	return Size{}, context.Cause(ctx)
}

// screenOf is the size at the beginning.
func screenOf(h cast.Header) (columns, rows int) {
	if h.Width < 1 || h.Height < 1 {
		return 80, 24
	}
	return h.Width, h.Height
}

// resized reads an event of the stream Resize.
func resized(e cast.Event) (columns, rows int, ok bool) {
	if e.Stream != cast.Resize {
		return 0, 0, false
	}
	n, err := fmt.Sscanf(string(e.Data), "%dx%d", &columns, &rows)
	return columns, rows, n == 2 && err == nil && columns > 0 && rows > 0
}
