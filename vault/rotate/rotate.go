// Package rotate changes the passwords of accounts on other systems so that none
// is ever lost.
//
// A change takes place in two systems that know no common transaction: here and
// where the account is. So what is going to be set is written down first, and stays
// readable until a login has proved which password is in force:
//
//	stable(current)
//	  -> written down: pending(current, candidate)
//	  -> sent to the system
//	  -> a login with the candidate
//	  -> written down: stable(candidate), with current in its history
//
// After a crash, or an answer that does not say whether the change was made, the
// candidate and the current one are tried; then the password is set once more by
// another account, or, if there is none for that, older ones are tried. While the system may still make
// a change that it has not answered to, that is not over. Never more logins fail than
// the system's lockout allows, crashes included. A definite refusal of the system
// allows another candidate; an unclear answer never does.
//
// It trusts the Book to be durable and the system for what it says of a login. It does
// not decide when passwords are changed or who may read one, and keeps no audit log.
package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// A Rotator sets and tries the password of one account on one system. Both return
// soon after ctx has ended. No error has a password in it.
type Rotator interface {
	// Set makes password that of the account, which has current if it is known. It
	// returns nil when the system says that it did, and a *Refusal when it says that
	// it did not and nothing has changed. Any other error means that this is unclear.
	Set(ctx context.Context, current, password vault.Secret) error
	// Check logs in to the account. It returns nil when the password is accepted,
	// ErrWrong when the system says that it is not, ErrLocked when it takes no login
	// at all for now, and otherwise what kept it from knowing.
	//
	// Both return ErrUnreachable when nothing was asked of the system.
	Check(ctx context.Context, password vault.Secret) error
}

// A Refusal is a system's definite no: the password is as it was.
type Refusal struct {
	Why string // the system's words, cleaned; never the password
}

// Said is the beginning of what a system or a program said, on one line and without what a
// terminal would obey, unless there is one of the secrets in it.
func Said(output []byte, secrets ...vault.Secret) string {
	for _, s := range secrets {
		if b := s.Expose(); len(b) > 0 && bytes.Contains(output, b) {
			return "(what it says has a password in it)"
		}
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, string(output[:min(len(output), maxSaid)]))
	return strings.Join(strings.Fields(text), " ")
}

const maxSaid = 300 // bytes

func (r *Refusal) Error() string { return "the system refuses the password: " + r.Why }

// What may come of it. Errors that are none of these are unclear answers, and the
// change stays pending: try again later.
var (
	ErrWrong       = errors.New("the password is not accepted")
	ErrLocked      = errors.New("the account takes no logins now")
	ErrUnreachable = errors.New("the system cannot be reached")
	ErrBusy        = errors.New("another server works on this account")
	ErrFenced      = errors.New("another server has taken this account over")
	ErrUnknown     = errors.New("no password that is known is accepted")
)

// A WaitError says that nothing more may be done before a moment: the account would
// be locked out, or the system has refused too many passwords.
type WaitError struct {
	Until time.Time
	Why   string
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("%s: not before %s", e.Why, e.Until.UTC().Format(time.RFC3339))
}

// Config is what an Account needs.
type Config struct {
	Book    Book
	Rotator Rotator
	// Reset sets the password by the right of another account, whatever the one in
	// force is. nil: there is none, and a password that is changed by others is lost.
	Reset Rotator
	Rules Rules
	// Make makes a candidate where it is no password but a key. nil: by the Rules.
	Make func() (vault.Secret, error)
	// Grace is how long the system may still accept a password that was replaced, as
	// Active Directory does for some logins.
	Grace time.Duration
	// Late is how long after a change was sent, to which no clear answer came, the system
	// may still make it. Until then the change stays pending although another password
	// is in force. Default: 30 seconds.
	Late time.Duration
	// Failures of logins that the system may see within Window, before it locks the
	// account. Defaults: 2 in 30 minutes.
	Failures int
	Window   time.Duration
	Owner    string        // names this server; must be given
	Lease    time.Duration // how long an owner has the account to itself; default 2 minutes
	Now      func() time.Time
}

// An Account is one account whose password is kept here. It is safe for concurrent
// use by any number of servers: one of them works on it at a time.
type Account struct{ c Config }

// New checks the config.
func New(c Config) (*Account, error) {
	if c.Book == nil || c.Rotator == nil || c.Owner == "" {
		return nil, errors.New("rotate: an account needs a book, a rotator and an owner")
	}
	if err := c.Rules.Check(); err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	if c.Make == nil {
		c.Make = c.Rules.Make
	}
	if c.Failures == 0 {
		c.Failures = 2
	}
	if c.Window == 0 {
		c.Window = 30 * time.Minute
	}
	if c.Late == 0 {
		c.Late = 30 * time.Second
	}
	if c.Lease == 0 {
		c.Lease = 2 * time.Minute
	}
	if c.Failures < 1 || c.Window < 0 || c.Lease < 0 || c.Grace < 0 || c.Late < 0 {
		return nil, errors.New("rotate: failures and times must be positive")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Account{c}, nil
}

// Limits of what a system may be asked.
const (
	maxRefused    = 3 // passwords that it refuses, within refusedWithin
	refusedWithin = time.Hour
	// wrongFor is how long a password that was not accepted is not tried again.
	wrongFor = 24 * time.Hour
)

// A Report says what was done.
type Report struct {
	Changed bool // another password is in force than was current before
	Drift   bool // somebody else had changed it
	Logins  int  // that were tried
}

// Rotate gives the account another password. A change that was begun before is
// brought to its end instead, if that gave the account a new one.
func (a *Account) Rotate(ctx context.Context) (Report, error) {
	return a.work(ctx, func(ctx context.Context, w *work) error {
		if err := w.settle(ctx); err != nil || w.renewed {
			return err
		}
		return w.change(ctx, a.c.Rotator)
	})
}

// Verify proves by a login that the current password is in force. A change that was
// begun is brought to its end, and a password that somebody else has set is found
// among the older ones, or replaced.
func (a *Account) Verify(ctx context.Context) (Report, error) {
	return a.work(ctx, func(ctx context.Context, w *work) error {
		if err := w.settle(ctx); err != nil || w.report.Logins > 0 {
			return err
		}
		if !w.wrong(w.entry.Current) {
			err := w.try(ctx, &w.entry.Current)
			if err == nil {
				return w.save(ctx)
			}
			if !errors.Is(err, ErrWrong) {
				return err
			}
		}
		w.report.Drift = true
		return w.search(ctx, w.entry.History)
	})
}

// Adopt writes down the first password of an account, as it was told, and proves it.
// It returns ErrWrong, and keeps nothing, when that is not in force.
func (a *Account) Adopt(ctx context.Context, password vault.Secret) error {
	if err := a.c.Rotator.Check(ctx, password); err != nil {
		return err
	}
	now := a.c.Now()
	_, err := a.c.Book.Save(ctx, Entry{Current: Password{Secret: password, State: Current, MadeAt: now, ProvedAt: now}}, 0)
	return err
}

// work claims the account and has it worked on.
func (a *Account) work(ctx context.Context, do func(context.Context, *work) error) (Report, error) {
	entry, version, err := a.c.Book.Load(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("read what is known of the account: %w", err)
	}
	now := a.c.Now()
	if entry.Owner != a.c.Owner && now.Before(entry.OwnedUntil) {
		return Report{}, ErrBusy
	}
	w := &work{a: a, entry: entry, version: version, before: entry.Current.Secret}
	w.entry.Owner, w.entry.OwnedUntil = a.c.Owner, now.Add(a.c.Lease)
	ctx, cancel := context.WithTimeout(ctx, a.c.Lease*3/4) // nothing is sent near the end of the lease
	defer cancel()
	err = do(ctx, w)
	return w.report, errors.Join(err, w.release())
}
