package video

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/screen"
	"github.com/drawbolt/drawbolt/recorder/view"
)

const (
	rate    = 10 // pictures a second
	between = time.Second / rate
	rest    = time.Second // that the last picture stands
	told    = 4 * time.Second
)

// Work is what the process of a Maker does: it gives up what it could do harm with,
// reads the recording from in, and has the encoder write the film to out. It
// returns the exit code.
func Work(ctx context.Context, in io.Reader, out, talk io.Writer, encoder, size string) int {
	return view.Apart(talk, func() error {
		s, err := ParseSize(size)
		if err != nil {
			return err
		}
		return encode(ctx, encoder, s, out, talk, func(pictures io.Writer) error { return shoot(ctx, in, s, MaxLength, pictures) })
	})
}

// encode runs the encoder on the pictures that draw writes, all of one size, and
// ends it as well when draw fails, so that what was drawn is a film.
func encode(ctx context.Context, encoder string, size Size, out, talk io.Writer, draw func(io.Writer) error) error {
	p := newPicture(size)
	// The death of the thread that starts it kills the encoder.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Fragments need no end to be played, and nobody has to wait for it. Every device
	// plays 4:2:0.
	cmd := exec.CommandContext(ctx, encoder, "-nostdin", "-hide_banner", "-loglevel", "error",
		"-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", fmt.Sprintf("%dx%d", p.width, p.height), "-framerate", strconv.Itoa(rate), "-i", "pipe:0",
		"-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p", "-g", strconv.Itoa(10*rate),
		"-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", "pipe:1")
	cmd.Env = []string{} // not this process's
	cmd.Stdout, cmd.Stderr = out, talk
	cmd.SysProcAttr = alone()
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the encoder: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the encoder: %w", err)
	}
	drawn := draw(in)
	in.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the encoder failed: %w", err)
	}
	return drawn
}

// A film is being drawn.
type film struct {
	out     io.Writer
	screen  *screen.Screen
	picture *picture
	header  cast.Header
	most    int // pictures

	drawn   int           // pictures
	changed bool          // since the last
	at      time.Duration // of the last event, in the recording
	plays   time.Duration // and in the film

	caption   string
	captionTo time.Duration // in the film
	damaged   string        // what could not be read, first
	large     bool          // the screen was, at some time
}

// shoot writes the pictures of a recording that plays no longer than most. The
// error is also what is missing in a film that is otherwise whole.
func shoot(ctx context.Context, recording io.Reader, size Size, most time.Duration, out io.Writer) error {
	c, err := cast.NewReader(recording)
	if err != nil {
		return err
	}
	f := &film{out: out, picture: newPicture(size), header: c.Header(), most: int(most / between), changed: true}
	columns, rows := screenOf(f.header)
	f.screen = screen.New(columns, rows)
	f.screen.NewLine = f.header.Terminal == ""
	f.sized(columns, rows)
	if f.header.Command != "" {
		f.tell("runs " + f.header.Command)
	}
	for {
		e, err := c.Next()
		switch d, damaged := errors.AsType[*cast.DamageError](err); {
		case err == io.EOF:
			if err := f.until(f.plays + rest); err != nil {
				return err
			}
			return f.missing()
		case damaged:
			f.damaged = cmp.Or(f.damaged, d.Error())
			f.tell(d.Error())
			continue
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		to := f.plays + min(max(0, e.At-f.at), MaxPause)
		if err := f.until(to); err != nil {
			return err
		}
		f.at, f.plays = e.At, to
		f.event(e)
	}
}

func (f *film) event(e cast.Event) {
	switch e.Stream {
	case cast.Output, cast.Stderr:
		_, _ = f.screen.Write(e.Data)
		f.changed = true
	case cast.Resize:
		if columns, rows, ok := resized(e); ok {
			f.screen.Resize(columns, rows)
			f.sized(columns, rows)
		}
	case cast.Hidden, cast.Mark:
		f.tell(string(e.Data))
	case cast.File:
		f.tell(cast.ParseFileEvent(e.Data).String())
	case cast.Exit:
		f.tell("exit status " + string(e.Data))
	}
}

func (f *film) sized(columns, rows int) {
	f.large = f.large || columns > MaxColumns || rows > MaxRows
	f.changed = true
}

// tell shows a text below the screen for some time.
func (f *film) tell(text string) {
	f.caption, f.captionTo, f.changed = text, f.plays+told, true
}

// missing says what the film does not show.
func (f *film) missing() error {
	var all []error
	if f.damaged != "" {
		all = append(all, errors.New(f.damaged))
	}
	if f.large {
		all = append(all, fmt.Errorf("the terminal was larger than %dx%d: a part of it is not in the video", MaxColumns, MaxRows))
	}
	return errors.Join(all...)
}

// until draws pictures up to a moment of the film.
func (f *film) until(to time.Duration) error {
	for ; time.Duration(f.drawn)*between < to; f.drawn++ {
		if f.drawn >= f.most {
			return errors.Join(fmt.Errorf("the video ends after %v, at %v of the session: it would be longer than may be", time.Duration(f.most)*between, f.at.Truncate(time.Second)), f.missing())
		}
		moment := time.Duration(f.drawn) * between
		f.draw(moment)
		if _, err := f.out.Write(f.picture.pixels); err != nil {
			return fmt.Errorf("give the encoder a picture: %w", err)
		}
	}
	return nil
}

// draw draws the picture of a moment.
func (f *film) draw(moment time.Duration) {
	p := f.picture
	if f.changed {
		p.screen(f.screen)
		f.changed = false
	}
	name := func(field string) string { return cmp.Or(f.header.Fields[field], "?") }
	when := f.header.Started.Add(f.at + max(0, moment-f.plays))
	p.line(0, fmt.Sprintf("%s  %s → %s@%s  %s", when.UTC().Format("2006-01-02 15:04:05 UTC"), name("user"), name("account"), name("target"), f.header.ID), plainLine)
	if moment >= f.captionTo {
		f.caption = ""
	}
	p.line(1, f.caption, brightLine)
}
