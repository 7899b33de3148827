package keeper

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

const (
	// CeremonyWithin is how long a ceremony goes on until it is over by itself.
	CeremonyWithin = 10 * time.Minute

	// MaxWrong is how many wrong shares or passphrases are looked at in a minute.
	MaxWrong = 5
)

// The refusals of a ceremony, besides those of a share and [vault.ErrWrongKey].
var (
	ErrBusy    = errors.New("another ceremony is going on")
	ErrNotYour = errors.New("no ceremony of this name is going on")
	ErrTooMany = errors.New("too many wrong ones; wait a minute")
)

// Progress is how far a ceremony is.
type Progress struct {
	Kind   string    `json:"kind"` // of keeper: "shares" or "passphrase"
	Given  int       `json:"given"`
	Needed int       `json:"needed"`
	Ends   time.Time `json:"ends,omitzero"` // zero: none goes on
}

// Ceremonies open, by what people give, the keeper that has wrapped a vault's keyset:
// one ceremony at a time, which only who knows its name goes on with or ends. What was
// given is forgotten at its end. It is safe for concurrent use.
//
// It does not know who is calling. Whoever may call can begin a ceremony, and then
// nobody else can for ten minutes.
type Ceremonies struct {
	wrapped func(context.Context) ([]byte, error)
	now     func() time.Time

	mu    sync.Mutex // held while a share is looked at
	one   *ceremony
	wrong []time.Time
}

type ceremony struct {
	name    string
	ends    time.Time
	wrapped []byte
	shares  *Gathering // nil: a passphrase is asked
}

// NewCeremonies needs what reads the wrapped keyset, at each beginning.
func NewCeremonies(wrapped func(context.Context) ([]byte, error), now func() time.Time) *Ceremonies {
	return &Ceremonies{wrapped: wrapped, now: now}
}

// ByPeople reports whether people open what a keeper of this kind has wrapped.
func ByPeople(kind string) bool { return kind == KindShares || kind == KindPassphrase }

// Start begins a ceremony and returns its name, which is as good as the right to go on
// with it.
func (c *Ceremonies) Start(ctx context.Context) (name string, p Progress, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current() != nil {
		return "", c.progress(), ErrBusy
	}
	one := &ceremony{ends: c.now().Add(CeremonyWithin)}
	if one.wrapped, err = c.wrapped(ctx); err != nil {
		return "", Progress{}, err
	}
	kind, err := KindOf(one.wrapped)
	switch {
	case err != nil:
		return "", Progress{}, err
	case !ByPeople(kind):
		return "", Progress{}, fmt.Errorf("a %s is opened without people", kind)
	case kind == KindShares:
		if one.shares, err = NewGathering(one.wrapped); err != nil {
			return "", Progress{}, err
		}
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	one.name = hex.EncodeToString(nonce)
	c.one = one
	return one.name, c.progress(), nil
}

// Give takes a share, or the passphrase. With the last one that was needed it returns
// the keeper, which has opened the keyset, and the ceremony is over. What is wrong
// changes nothing.
func (c *Ceremonies) Give(ctx context.Context, name string, s vault.Secret) (Progress, vault.Keeper, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, err := c.named(name)
	if err != nil {
		return Progress{}, nil, err
	}
	c.wrong = slices.DeleteFunc(c.wrong, func(t time.Time) bool { return c.now().Sub(t) >= time.Minute })
	if len(c.wrong) >= MaxWrong {
		return c.progress(), nil, ErrTooMany
	}
	k, err := one.give(s)
	if err == nil && k != nil {
		err = proves(ctx, k, one.wrapped)
	}
	switch {
	case errors.Is(err, ErrSameShare):
		return c.progress(), nil, err
	case err != nil:
		c.wrong = append(c.wrong, c.now())
		return c.progress(), nil, err
	case k == nil:
		return c.progress(), nil, nil
	}
	p := c.progress()
	p.Given, p.Ends = p.Needed, time.Time{}
	c.one = nil
	return p, k, nil
}

// give returns a keeper when there is enough.
func (o *ceremony) give(s vault.Secret) (vault.Keeper, error) {
	if o.shares == nil {
		return Passphrase(vault.NewSecret(s.Expose())), nil // the caller wipes what was given
	}
	missing, err := o.shares.Add(s)
	if err != nil || missing > 0 {
		return nil, err
	}
	return o.shares.Keeper()
}

func proves(ctx context.Context, k vault.Keeper, wrapped []byte) error {
	s, err := k.Unwrap(ctx, wrapped)
	s.Wipe()
	return err
}

// Cancel ends a ceremony.
func (c *Ceremonies) Cancel(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.named(name); err != nil {
		return err
	}
	c.one = nil
	return nil
}

// Progress is how far the ceremony is that goes on; it names nobody and nothing that
// was given.
func (c *Ceremonies) Progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress()
}

func (c *Ceremonies) current() *ceremony {
	if c.one != nil && !c.now().Before(c.one.ends) {
		c.one = nil
	}
	return c.one
}

func (c *Ceremonies) named(name string) (*ceremony, error) {
	one := c.current()
	if one == nil || subtle.ConstantTimeCompare([]byte(one.name), []byte(name)) != 1 {
		return nil, ErrNotYour
	}
	return one, nil
}

func (c *Ceremonies) progress() Progress {
	switch one := c.current(); {
	case one == nil:
		return Progress{}
	case one.shares == nil:
		return Progress{KindPassphrase, 0, 1, one.ends}
	default:
		return Progress{KindShares, len(one.shares.shares), one.shares.needed, one.ends}
	}
}
