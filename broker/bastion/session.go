package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/recorder"
)

// A Session is one live session between its opening and its end. Its methods
// are safe for concurrent use.
type Session struct {
	// Live is what the broker opened.
	Live *broker.Live

	bastion   *Bastion
	recording *recorder.Recording
	ctx       context.Context
	cancel    context.CancelCauseFunc
	unlink    func() bool // stops following the connection's context
	last      atomic.Int64
	idle      *time.Timer
	bytes     [8]atomic.Int64 // forwarded, by stream
	passages  atomic.Int64    // opened so far
	files     files
	watch     atomic.Pointer[Watch] // of its terminal
	tellings  tellings
}

func newSession(ctx context.Context, b *Bastion, live *broker.Live) *Session {
	s := &Session{Live: live, bastion: b}
	s.ctx, s.cancel = context.WithCancelCause(live.Context())
	s.unlink = context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })
	s.touch()
	s.idle = time.AfterFunc(time.Hour, s.checkIdle)
	s.idle.Reset(b.cfg.Idle) // only now, so that checkIdle finds the timer
	return s
}

// release frees what the session holds.
func (s *Session) release() {
	s.unlink()
	s.idle.Stop()
	s.cancel(errOver)
}

// Context ends when the session must end, with a cause to be read by the user.
func (s *Session) Context() context.Context { return s.ctx }

// End makes the session end for this cause; the first cause counts.
func (s *Session) End(cause error) { s.cancel(cause) }

// end marks the session as over: from here on nothing passes.
func (s *Session) end(err error) {
	if err == nil {
		err = errOver
	}
	s.cancel(err)
}

// Go calls f in a goroutine of its own and counts it in wg. A panic in f ends
// this session only.
func (s *Session) Go(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				s.cancel(s.fault(r))
			}
		}()
		f()
	})
}

// Credential gives the certificate with which the session logs in at its
// target, for a key that lives as long as the session. An account that is made
// for the grant is made first.
func (s *Session) Credential(ctx context.Context, key ssh.PublicKey) (*ssh.Certificate, error) {
	if accounts := s.bastion.cfg.Accounts; accounts != nil {
		if err := accounts.Ensure(ctx, s.Live); err != nil {
			return nil, fmt.Errorf("account for session %s: %w", s.Live.Session.ID, err)
		}
	}
	cert, err := Apart(func() (*ssh.Certificate, error) { return s.bastion.cfg.Broker.Credential(ctx, s.Live, key) })
	if err != nil {
		return nil, fmt.Errorf("credential for session %s: %w", s.Live.Session.ID, err)
	}
	return cert, nil
}

// Lend gives the password or key with which the session logs in at its target,
// for one login. It is to be called when the target has proven who it is.
func (s *Session) Lend(ctx context.Context) (broker.Loan, error) {
	loan, err := Apart(func() (broker.Loan, error) { return s.bastion.cfg.Broker.Lend(ctx, s.Live) })
	if err != nil {
		return broker.Loan{}, fmt.Errorf("secret for session %s: %w", s.Live.Session.ID, err)
	}
	return loan, nil
}

// HopCredential gives the certificate with which the session passes through
// the hop of that index on the way to its target.
func (s *Session) HopCredential(ctx context.Context, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
	cert, err := Apart(func() (*ssh.Certificate, error) { return s.bastion.cfg.Broker.HopCredential(ctx, s.Live, hop, key) })
	if err != nil {
		return nil, fmt.Errorf("credential of hop %d for session %s: %w", hop, s.Live.Session.ID, err)
	}
	return cert, nil
}

// Started says that the target has answered and the program runs.
func (s *Session) Started(ctx context.Context) error {
	_, err := Apart(func() (struct{}, error) { return struct{}{}, s.bastion.cfg.Broker.Started(ctx, s.Live) })
	if err != nil {
		return fmt.Errorf("start session %s: %w", s.Live.Session.ID, err)
	}
	return nil
}

// Check returns nil while data may pass, and otherwise why not.
func (s *Session) Check() error {
	if err := s.Live.Check(); err != nil {
		s.cancel(err)
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// Resize records a new size of the terminal. Only then may it be forwarded.
func (s *Session) Resize(width, height int) error {
	if err := s.Check(); err != nil {
		return err
	}
	if w := s.watch.Load(); w != nil {
		w.Resize(width)
	}
	return s.recorded(s.recording.Resize(width, height))
}

// Mark records a remark about something that is not data, such as a signal.
func (s *Session) Mark(format string, args ...any) error {
	if err := s.Check(); err != nil {
		return err
	}
	return s.recorded(s.recording.Mark(fmt.Sprintf(format, args...)))
}

// followRecording ends the session with its recording, also when nothing passes.
func (s *Session) followRecording() {
	ctx := s.recording.Context()
	context.AfterFunc(ctx, func() { _ = s.recorded(context.Cause(ctx)) })
}

func (s *Session) recorded(err error) error {
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNoRecording, err)
		s.cancel(err)
	}
	return err
}

// Forward passes p on to dst: checked, recorded, written, in this order.
func (s *Session) Forward(stream recorder.Stream, dst io.Writer, p []byte) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := s.recorded(s.recording.Write(stream, p)); err != nil {
		return err
	}
	s.touch()
	n, err := dst.Write(p)
	s.bytes[stream].Add(int64(n))
	return err
}

// Buffers of Pump: small while little comes, large once a read filled it.
const (
	smallBuffer = 512
	largeBuffer = 32 << 10
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// Pump forwards src to dst until src ends (nil) or something fails. An idle
// stream holds a small buffer only.
func (s *Session) Pump(stream recorder.Stream, dst io.Writer, src io.Reader) error {
	return pump(src, func(p []byte) error { return s.Forward(stream, dst, p) })
}

// pump gives what it reads to forward, until src ends (nil) or something fails.
func pump(src io.Reader, forward func([]byte) error) error {
	var small [smallBuffer]byte
	var large *[largeBuffer]byte
	defer func() {
		if large != nil {
			largeBuffers.Put(large)
		}
	}()
	buf := small[:]
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if err := forward(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case large == nil && n == len(buf):
			large = largeBuffers.Get().(*[largeBuffer]byte)
			buf = large[:]
		case large != nil && n <= smallBuffer:
			largeBuffers.Put(large)
			large, buf = nil, small[:]
		}
	}
}

// touch notes that data passed.
func (s *Session) touch() { s.last.Store(s.bastion.cfg.Now().UnixNano()) }

// checkIdle ends the session when no data has passed for too long, and
// otherwise comes back when that could be so.
func (s *Session) checkIdle() {
	quiet := s.bastion.cfg.Now().Sub(time.Unix(0, s.last.Load()))
	if s.Live.Held() != nil { // the user cannot type
		quiet = 0
		s.touch()
	}
	if rest := s.bastion.cfg.Idle - quiet; rest > 0 {
		s.idle.Reset(rest)
		return
	}
	s.cancel(ErrIdle)
}

// String names the session in logs.
func (s *Session) String() string { return "session " + strconv.Quote(s.Live.Session.ID) }
