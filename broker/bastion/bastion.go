// Package bastion carries one live session, whatever its protocol: it is opened
// at the broker, recorded, given a credential, spliced chunk by chunk, and
// ended and accounted for exactly once.
//
// The order is the promise. A session is recorded before anything else happens
// in it, and without a recording there is none. Each chunk of data passes, in
// each direction, the check of the grant, then the recording, and only then the
// wire: so nothing reaches the target that is not on record, and nothing passes
// after the grant is gone. Whatever ends a session (its program, its user, the
// clock, a revocation, a fault, a panic), the recording is sealed and the broker
// told once.
//
// The package trusts the broker for every decision and the recorder for every
// record. It does not trust the protocol that calls it to be right: a panic
// there ends that session and no other. It knows no protocol and dials nothing.
package bastion

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
)

// A Broker opens and closes sessions; *broker.Broker is one.
type Broker interface {
	Open(ctx context.Context, by access.Caller, grantID string, o broker.Opening) (*broker.Live, error)
	Credential(ctx context.Context, l *broker.Live, key ssh.PublicKey) (*ssh.Certificate, error)
	Lend(ctx context.Context, l *broker.Live) (broker.Loan, error)
	HopCredential(ctx context.Context, l *broker.Live, hop int, key ssh.PublicKey) (*ssh.Certificate, error)
	Started(ctx context.Context, l *broker.Live) error
	Transferred(ctx context.Context, l *broker.Live, t broker.Transfer) error
	Detected(ctx context.Context, l *broker.Live, d broker.Detection) error
	Close(ctx context.Context, l *broker.Live, c broker.Closing) error
}

// A Recorder starts recordings, and urgent ones also where room is scarce;
// *recorder.Recorder is one.
type Recorder interface {
	Start(ctx context.Context, h recorder.Header) (*recorder.Recording, error)
	StartUrgent(ctx context.Context, h recorder.Header) (*recorder.Recording, error)
}

// Accounts makes accounts at targets that exist only while a grant does;
// *provision.Provisioner is one. Ensure returns nil when the session's account
// is there.
type Accounts interface {
	Ensure(ctx context.Context, l *broker.Live) error
}

// A Config says what the sessions run on. Broker and Recorder are needed.
type Config struct {
	Broker   Broker
	Recorder Recorder
	// Accounts makes the accounts that are made for a grant. Without it there are
	// no sessions in such accounts.
	Accounts Accounts
	// Idle ends a session after so long without a byte of its data in either
	// direction; keep-alives do not count. Default: 15 minutes.
	Idle time.Duration
	// EchoWait is how long Enter waits for what was typed before it to be shown,
	// when a rule ends sessions. Default: 250 milliseconds.
	EchoWait time.Duration
	// Sessions is how many may be live here at once; how many of them are whose,
	// and where, the Broker limits. Default: 2000.
	Sessions int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Log is for operators; what counts as evidence goes through the Broker.
	// Default: slog.Default.
	Log *slog.Logger
}

// A Bastion runs sessions. It is safe for concurrent use.
type Bastion struct {
	cfg Config

	live atomic.Int64
}

// New checks the Config. It starts nothing.
func New(cfg Config) (*Bastion, error) {
	if cfg.Broker == nil || cfg.Recorder == nil {
		return nil, errors.New("configure bastion: a broker and a recorder are needed")
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 15 * time.Minute
	}
	if cfg.EchoWait <= 0 {
		cfg.EchoWait = 250 * time.Millisecond
	}
	if cfg.Sessions <= 0 {
		cfg.Sessions = 2000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Bastion{cfg: cfg}, nil
}

// An Order is what a session is opened with.
type Order struct {
	By      access.Caller
	GrantID string
	Opening broker.Opening

	// Of the terminal, when there is one.
	Terminal      string
	Width, Height int
}

// ErrFull is the kind of refusal when as many sessions run as may. It is
// access.ErrUnavailable.
var ErrFull = fmt.Errorf("no session is free: %w", access.ErrUnavailable)

// Live returns how many sessions are being carried.
func (b *Bastion) Live() int { return int(b.live.Load()) }

// Run opens a session, calls carry to carry it, and ends it. It returns when
// the session is over and accounted for. An error means that there was no
// session; what happened to a session that was is in the Ending.
//
// ctx is the connection's: when it ends, with a cause, so does the session.
// carry owns the two halves of the connection: it returns the exit status of
// what ran, if any, when both are closed or closing.
func (b *Bastion) Run(ctx context.Context, o Order, carry func(*Session) (*int, error)) (Ending, error) {
	defer b.live.Add(-1)
	if n := b.live.Add(1); n > int64(b.cfg.Sessions) {
		return Ending{}, &access.Error{Kind: ErrFull, Code: "DB-5401", Text: "the bastion carries as many sessions as it may; try again later", Rule: "session.limit"}
	}
	live, err := Apart(func() (*broker.Live, error) { return b.cfg.Broker.Open(ctx, o.By, o.GrantID, o.Opening) })
	if err != nil {
		return Ending{}, fmt.Errorf("open session: %w", err)
	}
	s := newSession(ctx, b, live)
	defer s.release()
	if s.recording, err = Apart(func() (*recorder.Recording, error) { return b.record(s, o) }); err != nil {
		err = fmt.Errorf("session %s: %w", live.Session.ID, err)
		s.end(fmt.Errorf("%w: %w", ErrNoRecording, err))
		b.close(s, Ending{Reason: ReasonRecording})
		return Ending{}, unrecorded(err)
	}
	s.followRecording()
	status, err := s.protect(carry)
	s.end(err)
	s.settleFiles()
	s.tellings.finish()
	ending := s.ending(status)
	b.close(s, ending)
	return ending, nil
}

func (b *Bastion) record(s *Session, o Order) (_ *recorder.Recording, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the recorder: %v", r)
		}
	}()
	fields := map[string]string{
		"user": o.By.User.Name, "target": s.Live.Target.Name, "account": s.Live.Grant.Account,
		"request": s.Live.Grant.RequestID, "grant": s.Live.Grant.ID,
		"source": o.By.Source.String(), "client": clip(o.Opening.Client, 255),
	}
	if len(s.Live.Target.Via) > 0 {
		fields["via"] = clip(strings.Join(s.Live.Target.Via, ","), 255)
	}
	start := b.cfg.Recorder.Start
	if s.Live.Grant.BreakGlass {
		start = b.cfg.Recorder.StartUrgent
	}
	return start(s.ctx, recorder.Header{
		ID: s.Live.Session.ID, Kind: o.Opening.Kind, Command: o.Opening.Command,
		Terminal: o.Terminal, Width: o.Width, Height: o.Height, Fields: fields,
	})
}

// closeTries and closeWait bound how long the end of a session waits for a
// database that is away.
const (
	closeTries = 4
	closeWait  = time.Minute
)

// close seals the recording and tells the broker. It outlives the connection:
// the session's end is evidence even when everything else has gone.
func (b *Bastion) close(s *Session, e Ending) {
	ctx := context.WithoutCancel(s.ctx)
	closing := broker.Closing{Reason: string(e.Reason), ExitStatus: e.ExitStatus}
	if e.Cause != nil {
		closing.Text = e.Cause.Error()
	}
	if s.recording != nil {
		sealed, err := s.recording.Close(ctx, recorder.End{Reason: string(e.Reason), ExitStatus: e.ExitStatus, At: b.cfg.Now()})
		if err != nil {
			// The journal stays, and the next start seals it.
			b.cfg.Log.ErrorContext(ctx, "seal recording", "session", s.Live.Session.ID, "error", err)
		} else {
			closing.Recording = access.Sealed{
				Name: sealed.Name, SHA256: hex.EncodeToString(sealed.SHA256[:]), Size: sealed.Size,
				Events: sealed.Events, Aborted: sealed.Aborted,
			}
			closing.Head = hex.EncodeToString(sealed.Head[:])
		}
		closing.Input = s.bytes[recorder.Input].Load()
		closing.Output = s.bytes[recorder.Output].Load() + s.bytes[recorder.Stderr].Load()
	}
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		once, cancel := context.WithTimeout(ctx, closeWait)
		err := b.cfg.Broker.Close(once, s.Live, closing)
		cancel()
		if err == nil {
			return
		}
		b.cfg.Log.ErrorContext(ctx, "close session", "session", s.Live.Session.ID, "try", try, "error", err)
		if try == closeTries {
			return // recovery at the next start closes it, as after a crash
		}
		time.Sleep(wait)
		wait *= 4
	}
}

// protect calls carry and turns a panic into an error that ends this session.
func (s *Session) protect(carry func(*Session) (*int, error)) (status *int, err error) {
	defer func() {
		if r := recover(); r != nil {
			status, err = nil, s.fault(r)
		}
	}()
	return carry(s)
}

func (s *Session) fault(r any) error {
	s.bastion.cfg.Log.Error("panic in a session", "session", s.Live.Session.ID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	return ErrFault
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
