package view

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Worker makes views in a process of its own, which reads the recording from its
// standard input, has no files and no environment, little memory and little
// priority, and is killed when it hangs, or with this process. What is wrong with
// the code that looks at hostile bytes then costs one view.
type Worker struct {
	// Command is a program and its arguments that calls Work, and does so with last
	// set when "--last" is added. Needed.
	Command []string
	// Patience is how much processor time a process may take, besides a second for
	// each 256 KiB of the recording. Default: 30 seconds.
	Patience time.Duration

	room int64 // bytes of a view, maxView when 0
}

// Bounds of a process.
const (
	patience  = 30 * time.Second
	pace      = 256 << 10        // bytes that it must read in a second of processor time
	standing  = 10 * time.Minute // without reading and without working
	maxView   = 256 << 20        // bytes of its answer
	maxMemory = 512 << 20
	softly    = 128 << 20 // bytes of memory up to which it need not save
	maxCPU    = 2 * time.Hour
)

// Make makes the view as the function Make does. When the process fails on the
// bytes of the recording, the view ends there and says so in End.Cut. The error is
// that of each, of reading the recording, or of starting a process.
func (w Worker) Make(ctx context.Context, recording io.Reader, each func(Item) error) error {
	var last Segment // that was given
	segments, ended := 0, false
	why, err := w.read(ctx, nil, recording, func(i Item) error {
		if i.Segment != nil {
			last = *i.Segment
			segments++
		}
		ended = i.End != nil
		return each(i)
	})
	if err != nil || ended && why == "" {
		return err
	}
	if ended {
		return errors.New("make view: the process failed after its end: " + why)
	}
	if segments == 0 {
		last = Segment{Cols: 80, Rows: 24}
		if err := each(Item{Segment: &last}); err != nil {
			return err
		}
	}
	return each(Item{End: &End{Version: Version, Duration: last.At, Offset: last.Offset,
		Input: []int64{0}, Output: []int64{0}, Cut: plain("this is not all: " + why)}})
}

// Last returns what the function Last does.
func (w Worker) Last(ctx context.Context, recording io.Reader) (Segment, error) {
	var last *Segment
	why, err := w.read(ctx, []string{"--last"}, recording, func(i Item) error {
		if i.Segment != nil {
			last = i.Segment
		}
		return nil
	})
	switch {
	case err != nil:
		return Segment{}, err
	case last == nil:
		return Segment{}, errors.New("make last screen: " + plain(why))
	}
	return *last, nil
}

// exitRefused is the exit code of a process whose work returned an error.
const exitRefused = 3

// A refusal is that error.
type refusal string

func (r refusal) Error() string { return string(r) }

// read runs one process that says items.
func (w Worker) read(ctx context.Context, more []string, recording io.Reader, each func(Item) error) (why string, err error) {
	return w.run(ctx, more, recording, cmp.Or(w.room, maxView), func(out io.Reader) (bad, refused error) {
		bad = Read(out, func(i Item) error {
			refused = each(i)
			return refused
		})
		if len(more) > 0 && errors.Is(bad, ErrCut) { // it says one item, and no end
			bad = nil
		}
		return bad, refused
	})
}

// Copy runs one process that says something else than items, of at most so many
// bytes, and copies that to out. It is for those whose work is done by Apart; more
// are arguments. What came until the process failed on the bytes of the recording,
// or ended its work with an error, has been copied then; why says what it was. The
// error is that of writing to out, of reading the recording, or of starting a process.
func (w Worker) Copy(ctx context.Context, more []string, recording io.Reader, most int64, out io.Writer) (why string, err error) {
	why, err = w.run(ctx, more, recording, most, func(said io.Reader) (bad, refused error) {
		to := &taker{w: out}
		_, bad = io.Copy(to, said)
		return bad, to.failed
	})
	if r, ok := errors.AsType[refusal](err); ok {
		return r.Error(), nil
	}
	return why, err
}

// taker keeps the error of writing apart from that of reading.
type taker struct {
	w      io.Writer
	failed error
}

func (t *taker) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	t.failed = err
	return n, err
}

// run runs one process and has its answer taken, of at most so many bytes. why
// says how it failed on the recording. take says what is wrong with the answer, and
// what came between otherwise.
func (w Worker) run(ctx context.Context, more []string, recording io.Reader, most int64, take func(io.Reader) (bad, refused error)) (why string, err error) {
	if len(w.Command) == 0 {
		return "", errors.New("make view: no command")
	}
	// The death of the thread that starts it kills the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	said := &bounded{room: 4 << 10}
	cmd := exec.CommandContext(ctx, w.Command[0], append(w.Command[1:len(w.Command):len(w.Command)], more...)...)
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none", "GOGC=100"}
	cmd.Dir = string(os.PathSeparator)
	cmd.Stderr = said
	cmd.SysProcAttr = alone()
	keepFiles()
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", fmt.Errorf("make view: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("make view: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("make view: %w", err)
	}

	fed := &progress{r: recording}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		// A process that is gone takes no more, which is seen when it is waited for.
		if _, _ = io.Copy(in, fed); fed.failed != nil {
			cancel(fed.failed)
		}
		in.Close()
	})
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { w.watch(cmd.Process, cancel, &fed.n, stop) })

	answer := &io.LimitedReader{R: out, N: most}
	err, refused := take(answer)
	if answer.N <= 0 || err != nil && !errors.Is(err, ErrCut) {
		cancel(err) // it would wait for somebody to read on
	}
	exit := cmd.Wait()
	close(stop)
	watching.Wait()
	in.Close()
	feeding.Wait()
	switch {
	case refused != nil:
		return "", refused
	case fed.failed != nil:
		return "", fmt.Errorf("make view: read the recording: %w", fed.failed)
	case caller.Err() != nil:
		return "", context.Cause(caller)
	case errors.Is(context.Cause(ctx), errTooLong):
		return errTooLong.Error(), nil
	case errors.Is(context.Cause(ctx), errStands):
		return "", fmt.Errorf("make view: %w", errStands)
	case answer.N <= 0:
		return "it is too large", nil
	case exit == nil && err == nil:
		return "", nil
	case cmd.ProcessState.ExitCode() == exitRefused:
		return "", refusal(said.String())
	case err != nil && !errors.Is(err, ErrCut):
		return "the process that makes it said what it must not: " + err.Error(), nil
	default:
		return "the process that makes it failed: " + cmd.ProcessState.String(), nil
	}
}

var (
	errTooLong = errors.New("making it took too long")
	errStands  = errors.New("the process that makes it stands still")
)

// watch ends a process that works and does not read on, which is the recording's
// fault, or that does neither. How long that takes is no measure: it has the least
// priority, and may have to wait for all others.
func (w Worker) watch(p *os.Process, cancel context.CancelCauseFunc, fed *atomic.Int64, stop chan struct{}) {
	most := cmp.Or(w.Patience, patience)
	began := time.Now()
	tick := time.NewTicker(min(most/4, time.Second))
	defer tick.Stop()
	moved, before, read := began, time.Duration(0), int64(0)
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now, n := spent(p, began), fed.Load()
		if now != before || n != read {
			moved, before, read = time.Now(), now, n
		}
		switch {
		case now > most+time.Duration(n/pace)*time.Second:
			cancel(errTooLong)
			return
		case time.Since(moved) > standing:
			cancel(errStands)
			return
		}
	}
}

// progress counts what is read, and keeps the error of reading apart from that of
// passing it on.
type progress struct {
	r      io.Reader
	n      atomic.Int64
	failed error
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n.Add(int64(n))
	if err != nil && err != io.EOF {
		p.failed = err
	}
	return n, err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	room int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.room)
	b.room -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}

func (b *bounded) String() string { return strings.TrimSpace(plain(b.Buffer.String())) }

// Work is what the process of a Worker does: it reads the recording from in, and
// writes the items to out, or only the last segment. It returns the exit code.
func Work(ctx context.Context, in io.Reader, out, talk io.Writer, last bool) int {
	return Apart(talk, func() error {
		w := bufio.NewWriterSize(out, 64<<10)
		err := func() error {
			if last {
				s, err := Last(ctx, in)
				if err != nil {
					return err
				}
				return Write(w, Item{Segment: &s})
			}
			return Make(ctx, in, func(i Item) error { return Write(w, i) })
		}()
		return errors.Join(err, w.Flush())
	})
}

// Apart has this process give up, for good, what it could do harm with, and do the
// work of one that a Worker started. It returns the exit code, and says an error of
// the work, which is told to who started it.
func Apart(talk io.Writer, work func() error) int {
	if err := confine(); err != nil {
		fmt.Fprintln(talk, "confine the process:", err)
		return exitRefused
	}
	if err := work(); err != nil {
		fmt.Fprintln(talk, err)
		return exitRefused
	}
	return 0
}
