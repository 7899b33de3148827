// Package push brings the list of revoked certificates to the targets at which
// one of them lets somebody in, at once: each target fetches it as well, and this
// shortens the minute until then.
//
// It holds nothing that must not be lost. The broker says which targets are to
// learn of a revocation, and each try brings the list of its moment. After a
// crash, or after the last try, the target fetches the list.
//
// It trusts the broker for the list and its caller for the way to the target. It
// does not trust the target: one that is slow or says too much costs one of some
// places for a time, and one that lies can only hide its own state. At the target
// it replaces what a bootstrap has made, and nothing else.
package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Config is what a Pusher needs.
type Config struct {
	Broker *broker.Broker
	// Run runs a command at the target, as its provisioner, with the input, and
	// returns what it wrote to its standard output, bounded. The error is an
	// access.ErrUnauthenticated when the target does not let the provisioner in.
	Run func(ctx context.Context, d broker.Delivery, command string, input []byte) ([]byte, error)
	// Within is how long a try may take. Default: broker.DeliveryWithin.
	Within time.Duration
	// Pauses are those before each further try at a target. Default: 2, 6 and 18
	// seconds.
	Pauses []time.Duration
	// Patience is how long a target waits for its turn. Default: 1 minute, in
	// which it has fetched the list.
	Patience time.Duration
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// Tries at the same time: eight, of which some are kept for targets that have not
// failed. Those that hang do not hold up the others.
const (
	places     = 6
	latePlaces = 2 // for a target that failed when it was tried last
)

// A Pusher is safe for concurrent use.
type Pusher struct {
	cfg          Config
	first, later chan struct{} // places

	mu       sync.Mutex
	couriers map[string]*courier // by the target's id, while there is work
	failed   map[string]bool     // targets that failed when they were tried last
}

// A courier brings the list to one target, one try after another.
type courier struct {
	target  access.Target
	news    chan struct{} // waiting has grown
	waiting []*round      // guarded by Pusher.mu
}

// A round is one push, until each of its targets was reached or missed.
type round struct {
	mu   sync.Mutex
	push broker.Push
	open int
}

// New checks the Config. Nothing is pushed until Run.
func New(cfg Config) (*Pusher, error) {
	if cfg.Broker == nil || cfg.Run == nil {
		return nil, errors.New("configure push: a broker and a way to targets are needed")
	}
	if cfg.Within <= 0 {
		cfg.Within = broker.DeliveryWithin
	}
	if cfg.Patience <= 0 {
		cfg.Patience = time.Minute
	}
	if cfg.Pauses == nil {
		cfg.Pauses = []time.Duration{2 * time.Second, 6 * time.Second, 18 * time.Second}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Pusher{
		cfg: cfg, first: make(chan struct{}, places), later: make(chan struct{}, latePlaces),
		couriers: map[string]*courier{}, failed: map[string]bool{},
	}, nil
}

// Run pushes until ctx ends, and returns when what it has begun has ended.
func (p *Pusher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		targets, err := p.cfg.Broker.AwaitRevocation(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.cfg.Log.ErrorContext(ctx, "the list of revoked certificates is not pushed; targets fetch it", "error", err)
			continue
		}
		r := &round{push: broker.Push{Targets: len(targets)}, open: len(targets)}
		for _, t := range targets {
			if c := p.add(t, r); c != nil {
				all.Go(func() { p.work(ctx, c) })
			}
		}
	}
}

// add has the target's courier take part in the round. It returns one that is new
// and does not work yet.
func (p *Pusher) add(t access.Target, r *round) *courier {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, works := p.couriers[t.ID]
	if !works {
		c = &courier{target: t, news: make(chan struct{}, 1)}
		p.couriers[t.ID] = c
	}
	c.waiting = append(c.waiting, r)
	if works {
		select {
		case c.news <- struct{}{}:
		default: // it will look anyway
		}
		return nil
	}
	return c
}

// take takes the rounds that wait for the courier. Without one, and with none
// that it has taken before, its work is over.
func (p *Pusher) take(c *courier, before []*round) []*round {
	p.mu.Lock()
	defer p.mu.Unlock()
	rounds := append(before, c.waiting...)
	c.waiting = nil
	if len(rounds) == 0 {
		delete(p.couriers, c.target.ID)
	}
	return rounds
}

// work tries until nothing waits for the courier. A try brings the list of its
// moment: what was there for each round that it has taken before.
func (p *Pusher) work(ctx context.Context, c *courier) {
	var rounds []*round
	for tries := 0; ; tries++ {
		if rounds = p.take(c, rounds); len(rounds) == 0 {
			return
		}
		err := p.try(ctx, c.target.ID)
		p.note(c.target.ID, err)
		if final(err) || tries >= len(p.cfg.Pauses) || !p.pause(ctx, c, p.cfg.Pauses[tries]) {
			for _, r := range rounds {
				p.settle(ctx, r, c.target.Name, err)
			}
			rounds, tries = nil, -1
		}
	}
}

// final reports whether another try would change nothing, or would do harm: an
// sshd of today shuts out an address from which logins fail, and that is this
// server's.
func final(err error) bool {
	return err == nil || errors.Is(err, errForeign) || errors.Is(err, errCrowded) || errors.Is(err, access.ErrNotFound) || errors.Is(err, access.ErrUnauthenticated)
}

var errCrowded = errors.New("too many other targets are slow")

// note remembers how a target was.
func (p *Pusher) note(targetID string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil || errors.Is(err, access.ErrNotFound):
		delete(p.failed, targetID)
	case !errors.Is(err, errCrowded): // it was not tried
		p.failed[targetID] = true
	}
}

// pause waits before the next try: until something newer is to be brought, at
// most. It reports whether there is a next one.
func (p *Pusher) pause(ctx context.Context, c *courier, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c.news:
	case <-time.After(d):
	}
	return true
}

func (p *Pusher) try(ctx context.Context, targetID string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a push: %v", r)
		}
	}()
	p.mu.Lock()
	place := p.first
	if p.failed[targetID] {
		place = p.later
	}
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(p.cfg.Patience):
		return errCrowded
	case place <- struct{}{}:
	}
	defer func() { <-place }()
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.Within, errors.New("it took too long"))
	defer cancel()
	d, err := p.cfg.Broker.BeginDelivery(ctx, targetID)
	if err != nil {
		return err
	}
	output, err := p.cfg.Run(ctx, d, command(d), input(d))
	if said := parse(output); err == nil || !errors.Is(said, errSilent) {
		return said // whatever the connection's end was like
	}
	return err
}

// settle notes how a target of the round ended. The last one ends the round.
func (p *Pusher) settle(ctx context.Context, r *round, target string, why error) {
	r.mu.Lock()
	if r.open--; why != nil {
		r.push.Missed = append(r.push.Missed, broker.Missed{Target: target, Why: why})
	}
	push, open := r.push, r.open
	r.mu.Unlock()
	if open > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	slices.SortFunc(push.Missed, func(a, b broker.Missed) int { return strings.Compare(a.Target, b.Target) })
	if err := p.cfg.Broker.EndPush(ctx, push); err != nil {
		p.cfg.Log.ErrorContext(ctx, "how a push ended is not on record", "error", err)
	}
	if n := len(push.Missed); n > 0 {
		p.cfg.Log.WarnContext(ctx, "the list of revoked certificates was not brought to every target; they fetch it", "targets", push.Targets, "missed", n)
	}
}
