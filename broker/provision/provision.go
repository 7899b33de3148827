// Package provision makes accounts on targets that exist only while a grant
// does, and removes them when it is over, for whatever reason, again and again
// until they are gone.
//
// What there is to do stands in the database: the broker's verbs begin each step
// for one server and for a time (a lease), and put its end on record. This
// package does the step at the target, with one script that may be broken off
// anywhere and done again. So a crash, a second server or a target that is away
// leave nothing behind but a later try.
//
// It trusts the broker for what may be made, and its caller for the way to the
// target. It does not trust the target: a report is a few words of a fixed form,
// and one that lies can only hide its own state. Somebody who became root at the
// target can keep an account, as root can keep anything; what root did there is
// in the recording.
package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Config is what a Provisioner needs.
type Config struct {
	Broker *broker.Broker
	// Run runs a command at the machine of the step, as its provisioner, with
	// the input, and returns what it wrote to its standard output, at most
	// MaxOutput bytes. An error says that the command may not have run, or not
	// to its end.
	Run func(ctx context.Context, s broker.Step, command string, input []byte) ([]byte, error)
	// Every is how often is looked for accounts to remove. Default: 1 second.
	Every time.Duration
	// AtOnce is how many accounts are removed at the same time. Default: 8.
	AtOnce int
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// A Provisioner makes and removes accounts. It is safe for concurrent use.
type Provisioner struct {
	cfg Config

	ctx     context.Context // ends with Run
	cancel  context.CancelFunc
	working sync.WaitGroup
	mu      sync.Mutex // of stopped, and of adding to working
	stopped bool
}

// New checks the Config. Accounts are removed while Run runs.
func New(cfg Config) (*Provisioner, error) {
	if cfg.Broker == nil || cfg.Run == nil {
		return nil, errors.New("configure provision: a broker and a way to targets are needed")
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = 8
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	p := &Provisioner{cfg: cfg}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Run removes the accounts whose grant is over, until ctx ends. It returns when
// the steps that it, or Ensure, had begun have ended; those are broken off then,
// and done again after the next start.
func (p *Provisioner) Run(ctx context.Context) error {
	tick := time.NewTicker(p.cfg.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := p.removeDue(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.ErrorContext(ctx, "accounts to remove could not be looked for", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.working.Wait()
	return nil
}

// begin counts one piece of work in, unless the Provisioner has stopped.
func (p *Provisioner) begin(work func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.working.Go(work)
	}
	return !p.stopped
}

// removeDue removes what is due, some at once, and returns when all were tried.
func (p *Provisioner) removeDue(ctx context.Context) error {
	due, err := p.cfg.Broker.DueAccounts(ctx, 4*p.cfg.AtOnce)
	if err != nil {
		return err
	}
	places := make(chan struct{}, p.cfg.AtOnce)
	var all sync.WaitGroup
	for _, d := range due {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if err := p.remove(ctx, d.ID); err != nil && !errors.Is(err, access.ErrConflict) {
				p.cfg.Log.WarnContext(ctx, "an account was not removed", "target", d.TargetName, "login", d.Login, "error", err)
			}
		})
	}
	all.Wait()
	return nil
}

// remove takes one account away. A conflict says that another server is at it.
func (p *Provisioner) remove(ctx context.Context, id string) error {
	s, err := p.cfg.Broker.BeginRemoval(ctx, id)
	if err != nil || s.Done {
		return err
	}
	return p.do(ctx, s)
}

// margin is how much of a lease is left for the broker to put the end on
// record.
const margin = 30 * time.Second

// do does a step at its target, and puts its end on record.
func (p *Provisioner) do(ctx context.Context, s broker.Step) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = p.failed(ctx, s, fmt.Errorf("panic in a step: %v", r))
		}
	}()
	once, cancel := context.WithTimeout(ctx, access.StepLease-margin)
	defer cancel()
	line, err := command(s)
	if err != nil {
		return p.failed(ctx, s, err)
	}
	output, err := p.cfg.Run(once, s, line, []byte(script))
	r, unread := parse(output)
	switch {
	case unread == nil: // whatever the connection's end was like
		err = r.done(s)
	case err == nil:
		err = unread
	}
	if err != nil {
		return p.failed(ctx, s, err)
	}
	// It is done, whoever has gone meanwhile.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), margin)
	defer cancel()
	return p.cfg.Broker.StepDone(ctx, s, r.details)
}

func (p *Provisioner) failed(ctx context.Context, s broker.Step, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), margin)
	defer cancel()
	return errors.Join(why, p.cfg.Broker.StepFailed(ctx, s, why.Error()))
}

// again is how long is waited for a step that somebody else is at.
const again = 200 * time.Millisecond

// Ensure returns nil when the account of the session is there: at once when it
// is no account that is made for its grant, or is made already. It makes it
// otherwise, after it has removed one of an earlier grant that still has its
// name. What it began goes on when ctx ends, so that nothing is left half done.
func (p *Provisioner) Ensure(ctx context.Context, l *broker.Live) error {
	if !l.MadeAccount() {
		return nil
	}
	answer := make(chan error, 1)
	began := p.begin(func() {
		// It may go on without whoever waits, but not without end.
		own, cancel := context.WithTimeout(p.ctx, access.StepLease)
		defer cancel()
		answer <- p.make(ctx, own, l)
	})
	if !began {
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5024", Text: "the server is stopping"}
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the account: %w", context.Cause(ctx))
	}
}

// make waits for its turn while asked holds, and works until ctx ends.
func (p *Provisioner) make(asked, ctx context.Context, l *broker.Live) error {
	for {
		made, err := p.cfg.Broker.Account(ctx, l.Grant.ID)
		if err != nil || made.State == access.Present {
			return err
		}
		s, err := p.cfg.Broker.BeginCreation(ctx, l.Grant.ID)
		if err == nil {
			if err = p.do(ctx, s); err == nil {
				return nil
			}
			return notMade(&made, err)
		}
		if held, ok := errors.AsType[*broker.HeldError](err); ok {
			// The account of an earlier grant, which should be gone; or one whose
			// grant holds, and which is not removed.
			switch removed := p.remove(ctx, held.Holder.ID); {
			case removed == nil:
				continue
			case isCode(removed, "DB-3022"):
				err = removed
			default:
				return held
			}
		}
		if isCode(err, "DB-3021") { // somebody was faster
			if now, err := p.cfg.Broker.Account(ctx, l.Grant.ID); err == nil && now.State == access.Present {
				return nil
			}
		}
		if !isCode(err, "DB-3022") { // somebody is at it
			return err
		}
		select {
		case <-asked.Done():
			return err
		case <-ctx.Done():
			return err
		case <-time.After(again):
		}
	}
}

func isCode(err error, code string) bool {
	refused, ok := errors.AsType[*access.Error](err)
	return ok && refused.Code == code
}

// notMade hides from the user what the target said, unless it is a refusal that
// was written for them.
func notMade(a *access.Provision, err error) error {
	if refused, ok := errors.AsType[*access.Error](err); ok {
		return refused
	}
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5025", Text: fmt.Sprintf("the account %s could not be made on %s", a.Login, a.TargetName)}
}
