// Package rotation changes and proves the passwords of managed accounts: after use, by
// schedule, on demand, when somebody leaves who has seen one, and each day by a login.
//
// What there is to do stands in the database: the broker's verbs begin each step for one
// server and for a time, and put its end on record. This package does the step at the
// system of the account, by the protocol of package rotate, which may be broken off
// anywhere and taken up again. So a crash, a second server or a system that is away leave
// nothing behind but a later try.
//
// It trusts the broker for what is to be done, and its caller for the way to machines with
// SSH. Of a system it trusts what it says of a login; its words are cut and cleaned before
// they are kept, and it is known by its host key or its certificate before it hears
// anything.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A System returns how the password of a step's account is set and tried.
type System func(s broker.RotationStep) (rotate.Rotator, error)

// Config is what a Worker needs.
type Config struct {
	Broker  *broker.Broker
	Systems map[string]System // by the kind of target
	// Every is how often is looked for what is due. Default: 1 second.
	Every time.Duration
	// AtOnce is how many accounts are worked on at the same time. Default: 16.
	AtOnce int
	// AtTarget is how many of them at one target. Default: 4.
	AtTarget int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// A Worker works on what is due while Run runs.
type Worker struct {
	cfg Config

	mu   sync.Mutex
	busy map[string]string // the rotations that it is at, and their targets
	at   map[string]int    // by target
	free chan struct{}     // a place is free
}

// New checks the Config.
func New(cfg Config) (*Worker, error) {
	if cfg.Broker == nil || len(cfg.Systems) == 0 {
		return nil, errors.New("configure rotation: a broker and a system are needed")
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = 16
	}
	if cfg.AtTarget <= 0 {
		cfg.AtTarget = 4
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Worker{cfg: cfg, busy: map[string]string{}, at: map[string]int{}, free: make(chan struct{}, 1)}, nil
}

// Run works on what is due until ctx ends. It returns when what it had begun has ended,
// which is broken off then, and taken up after the next start.
func (w *Worker) Run(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	var all sync.WaitGroup
	for away := false; ctx.Err() == nil; {
		more, err := w.begin(ctx, &all)
		if err != nil && ctx.Err() == nil && !away {
			w.cfg.Log.ErrorContext(ctx, "passwords to change could not be looked for", "error", err)
		}
		away = err != nil
		free := w.free
		if !more {
			free = nil // nothing waits for a place
		}
		select {
		case <-ctx.Done():
		case <-free:
		case <-tick.C:
		}
	}
	all.Wait()
	return nil
}

// ahead is how much of what is due is looked at, for one place: what waits for a target
// at which there is work already does not keep others waiting.
const ahead = 8

// begin begins what is due, as far as there are places. more says that something waits.
func (w *Worker) begin(ctx context.Context, all *sync.WaitGroup) (more bool, err error) {
	w.mu.Lock()
	places := w.cfg.AtOnce - len(w.busy)
	w.mu.Unlock()
	if places <= 0 {
		return true, nil
	}
	due, err := w.cfg.Broker.DueRotations(ctx, ahead*w.cfg.AtOnce)
	if err != nil {
		return false, err
	}
	for _, r := range due {
		if !w.take(&r) {
			more = true
			continue
		}
		all.Go(func() {
			defer w.leave(&r)
			if err := w.work(ctx, r.ID); err != nil && ctx.Err() == nil && !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrNotFound) {
				w.cfg.Log.WarnContext(ctx, "the password of an account is not as it should be", "target", r.TargetName, "account", r.Account, "error", err)
			}
		})
	}
	return more, nil
}

// take takes a place for a rotation.
func (w *Worker) take(r *access.Rotation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, is := w.busy[r.ID]; is || len(w.busy) >= w.cfg.AtOnce || w.at[r.TargetID] >= w.cfg.AtTarget {
		return false
	}
	w.busy[r.ID] = r.TargetID
	w.at[r.TargetID]++
	return true
}

func (w *Worker) leave(r *access.Rotation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, r.ID)
	if w.at[r.TargetID]--; w.at[r.TargetID] == 0 {
		delete(w.at, r.TargetID)
	}
	select {
	case w.free <- struct{}{}:
	default:
	}
}

// work does one step, and puts its end on record. A conflict says that another server is
// at it.
func (w *Worker) work(ctx context.Context, id string) error {
	s, err := w.cfg.Broker.BeginRotation(ctx, id)
	if err != nil {
		if isCode(err, "DB-6401") || isCode(err, "DB-6402") || errors.Is(err, access.ErrNotFound) || ctx.Err() != nil {
			return err
		}
		return errors.Join(err, w.cfg.Broker.BeginFailed(ctx, id, err))
	}
	defer s.Wipe()
	report, err := w.do(ctx, s)
	if err != nil && ctx.Err() != nil {
		// We are stopping: it is taken up at the next start, or when the lease is over.
		return err
	}
	return errors.Join(err, w.cfg.Broker.EndRotation(ctx, s, report, err))
}

func isCode(err error, code string) bool {
	refused, ok := errors.AsType[*access.Error](err)
	return ok && refused.Code == code
}

// grace is how long Active Directory may still accept a password that was replaced
// (OldPasswordAllowedPeriod, 60 minutes).
const grace = time.Hour

// do changes or proves the password. A panic is an unclear answer.
func (w *Worker) do(ctx context.Context, s broker.RotationStep) (report rotate.Report, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a rotation: %v", r)
		}
	}()
	system := w.cfg.Systems[s.Target.Kind]
	if system == nil {
		return report, fmt.Errorf("this server does not know how passwords are changed at a %s", access.KindName(s.Target.Kind))
	}
	rotator, err := system(s)
	if err != nil {
		return report, err
	}
	c := rotate.Config{
		Book: s.Book, Rotator: rotator, Rules: s.Rules(), Make: s.Make, Owner: s.Node, Now: w.cfg.Now,
		Failures: s.Account.Managed.Failures, Window: s.Account.Managed.Window,
	}
	if s.Reset != nil {
		c.Reset = rotator
	}
	if s.Target.Kind == access.KindActiveDirectory {
		c.Grace = grace
	}
	account, err := rotate.New(c)
	if err != nil {
		return report, err
	}
	// One that was only told, or with which something failed, is proved before it is
	// changed.
	if !s.Change || !s.Proved || s.Failed {
		report, err = account.Verify(ctx)
		if err != nil || !s.Change || report.Changed {
			return report, err
		}
	}
	changed, err := account.Rotate(ctx)
	changed.Logins += report.Logins
	changed.Drift = changed.Drift || report.Drift
	return changed, err
}
