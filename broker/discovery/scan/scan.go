// Package scan finds out which accounts systems have and how these are set up: machines
// with a provisioner, databases and directories once a day, each at an hour of its own, and
// when somebody asks for it. What is to be scanned, who may have it scanned and what is kept of it is for
// the broker's verbs; what it means, for package discovery.
//
// It changes nothing at the systems. It trusts the broker for what may be scanned, and
// its caller for the way there. It does not trust the systems: what one says is bounded
// in size and time, and read as hostile.
package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
)

// Config is what a Scanner needs.
type Config struct {
	Broker *broker.Broker
	// Run runs a command at the target of a scan, with the input, and returns what it
	// wrote to its standard output, at most that many bytes.
	Run func(ctx context.Context, d broker.Discovery, command string, input []byte, most int64) ([]byte, error)
	// Profile is what settings are held against. Default: the one of the program.
	Profile discovery.Profile
	// Scheduled says whether targets are scanned by themselves.
	Scheduled bool
	// Every is how often is looked for what is due. Default: 30 seconds.
	Every time.Duration
	// AtOnce is how many targets are scanned at the same time by themselves. Default: 4.
	AtOnce int
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// A Scanner is safe for concurrent use.
type Scanner struct{ cfg Config }

// New checks the Config. Nothing is scanned by itself until Run.
func New(cfg Config) (*Scanner, error) {
	if cfg.Broker == nil || cfg.Run == nil {
		return nil, errors.New("configure scans: a broker and a way to targets are needed")
	}
	if cfg.Profile == nil {
		var err error
		if cfg.Profile, err = discovery.DefaultProfile(); err != nil {
			return nil, err
		}
	}
	if cfg.Every <= 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = 4
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Scanner{cfg}, nil
}

// Run scans what is due until ctx ends, and returns when what it began has ended.
func (s *Scanner) Run(ctx context.Context) error {
	if !s.cfg.Scheduled {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		if err := s.scanDue(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "targets to scan could not be looked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// scanDue scans what is due, some at once, until nothing is.
func (s *Scanner) scanDue(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, s.cfg.AtOnce)
	due, err := s.cfg.Broker.DueDiscoveries(ctx, 100)
	for _, id := range due {
		select {
		case <-ctx.Done():
			return nil
		case places <- struct{}{}:
		}
		all.Go(func() {
			defer func() { <-places }()
			if err := s.ScanDue(ctx, id); err != nil && !errors.Is(err, access.ErrConflict) && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "a target was not scanned", "target", id, "error", err)
			}
		})
	}
	return err
}

// ScanDue scans a target that the broker has planned.
func (s *Scanner) ScanDue(ctx context.Context, targetID string) error {
	d, err := s.cfg.Broker.BeginDue(ctx, targetID)
	if err == nil {
		_, err = s.scan(ctx, d)
	}
	return err
}

// Scan scans a target for somebody, as its provisioner or as an account of it.
func (s *Scanner) Scan(ctx context.Context, by access.Caller, target, account string) (broker.Discovered, error) {
	d, err := s.cfg.Broker.BeginDiscovery(ctx, by, target, account)
	if err != nil {
		return broker.Discovered{}, err
	}
	return s.scan(ctx, d)
}

func (s *Scanner) scan(ctx context.Context, d broker.Discovery) (broker.Discovered, error) {
	found, err := s.explore(ctx, d)
	if err != nil {
		err = &access.Error{Kind: access.ErrUnavailable, Code: "DB-6469", Text: fmt.Sprintf("%s was not scanned: %v", d.Target.Name, err), Next: "drawbolt target check " + d.Target.Name}
	}
	return s.cfg.Broker.EndDiscovery(ctx, d, &found, s.cfg.Profile, err)
}

func (s *Scanner) explore(ctx context.Context, d broker.Discovery) (found discovery.Scan, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a scan: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, broker.DiscoveryWithin, errors.New("it took too long"))
	defer cancel()
	if d.Target.Kind != "" {
		return s.exploreDatabase(ctx, d)
	}
	output, err := s.cfg.Run(ctx, d, Command(d.Account, s.cfg.Profile), discovery.LinuxScript, discovery.MaxOutput)
	found, unread := discovery.ParseLinux(output)
	if unread == nil { // whatever the connection's end was like
		return found, nil
	}
	return found, errors.Join(unread, err)
}

// exploreDatabase logs in with the password of the account that scans.
func (s *Scanner) exploreDatabase(ctx context.Context, d broker.Discovery) (none discovery.Scan, err error) {
	loan, err := s.cfg.Broker.DiscoveryLend(ctx, d)
	if err != nil {
		return none, err
	}
	defer loan.Secret.Wipe()
	switch d.Target.Kind {
	case access.KindPostgres:
		return explorePostgres(ctx, d, loan.Secret)
	case access.KindMySQL:
		return exploreMySQL(ctx, d, loan.Secret)
	case access.KindLDAP, access.KindActiveDirectory:
		return exploreDirectory(ctx, d, loan.Secret)
	default:
		return none, fmt.Errorf("a %s is not scanned", access.KindName(d.Target.Kind))
	}
}

// Command is what the target's shell is to run with the script. An account that may not
// become root scans what it may read itself.
func Command(account string, p discovery.Profile) string {
	line := "sh -s -- " + strings.Join(p.Kernel(), " ")
	if account != "root" {
		line = "sudo -n -- " + line + " || " + line
	}
	return line
}
