package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

type hour struct{ now time.Time }

func (h *hour) Now() time.Time { return h.now }

func wrap(t *testing.T, k vault.Keeper) []byte {
	t.Helper()
	b, err := k.Wrap(t.Context(), vault.NewSecret([]byte("keyset")))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newCeremonies(t *testing.T, shares, needed int) (*keeper.Ceremonies, []vault.Secret, *hour) {
	t.Helper()
	list, k, err := keeper.Split(shares, needed)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := wrap(t, k)
	h := &hour{time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	return keeper.NewCeremonies(func(context.Context) ([]byte, error) { return wrapped, nil }, h.Now), list, h
}

func start(t *testing.T, c *keeper.Ceremonies) string {
	t.Helper()
	name, p, err := c.Start(t.Context())
	if err != nil || p.Given != 0 || p.Ends.IsZero() {
		t.Fatal(p, err)
	}
	return name
}

// TestCeremony: whoever does not know its name neither goes on with a ceremony nor ends
// it nor begins another one; a share counts once; and the right ones open the vault.
func TestCeremony(t *testing.T) {
	c, shares, h := newCeremonies(t, 5, 3)
	ctx := t.Context()
	name := start(t, c)
	if p, _, err := c.Give(ctx, name, shares[4]); err != nil || p.Given != 1 || p.Needed != 3 {
		t.Fatal(p, err)
	}
	for range 3 { // the same one
		if p, k, err := c.Give(ctx, name, shares[4]); !errors.Is(err, keeper.ErrSameShare) || p.Given != 1 || k != nil {
			t.Fatal(p, err)
		}
	}
	if _, p, err := c.Start(ctx); !errors.Is(err, keeper.ErrBusy) || p.Given != 1 {
		t.Error("a second ceremony:", p, err)
	}
	for _, other := range []string{"", "x", name[:31], name + "0"} {
		if _, _, err := c.Give(ctx, other, shares[0]); !errors.Is(err, keeper.ErrNotYour) {
			t.Errorf("a share by a stranger: %v", err)
		}
		if err := c.Cancel(other); !errors.Is(err, keeper.ErrNotYour) {
			t.Errorf("cancelled by a stranger: %v", err)
		}
	}
	if p, _, err := c.Give(ctx, name, shares[0]); err != nil || p.Given != 2 {
		t.Fatal(p, err)
	}
	p, k, err := c.Give(ctx, name, shares[2])
	if err != nil || k == nil || p.Given != 3 || !p.Ends.IsZero() {
		t.Fatal(p, err)
	}
	if _, _, err := c.Give(ctx, name, shares[1]); !errors.Is(err, keeper.ErrNotYour) {
		t.Error("it goes on after its end")
	}

	// It is over by itself, and what was given is forgotten.
	name = start(t, c)
	if _, _, err := c.Give(ctx, name, shares[0]); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(keeper.CeremonyWithin)
	if _, _, err := c.Give(ctx, name, shares[1]); !errors.Is(err, keeper.ErrNotYour) {
		t.Error("it goes on after ten minutes")
	}
	name = start(t, c)
	if err := c.Cancel(name); err != nil || c.Progress() != (keeper.Progress{}) {
		t.Error(err)
	}
}

// TestCeremonyFlood gives 1,000 wrong shares: few are looked at, none counts, and the
// ceremony goes on when the flood is over.
func TestCeremonyFlood(t *testing.T) {
	c, shares, h := newCeremonies(t, 5, 3)
	others, _, err := keeper.Split(5, 3)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	name := start(t, c)
	if _, _, err := c.Give(ctx, name, shares[0]); err != nil {
		t.Fatal(err)
	}
	looked, refused := 0, 0
	for i := range 1000 {
		wrong := others[i%5]
		if i%2 == 0 {
			wrong = vault.NewSecret(fmt.Appendf(nil, "%s%d", others[i%5].Expose(), i))
		}
		p, k, err := c.Give(ctx, name, wrong)
		switch {
		case k != nil || p.Given != 1:
			t.Fatal("a wrong share counts")
		case errors.Is(err, keeper.ErrBadShare), errors.Is(err, keeper.ErrOtherShare):
			looked++
		case errors.Is(err, keeper.ErrTooMany):
			refused++
		default:
			t.Fatal(err)
		}
		h.now = h.now.Add(100 * time.Millisecond)
	}
	if most := keeper.MaxWrong * 2; looked > most || refused != 1000-looked {
		t.Errorf("%d were looked at in 100 seconds, at most %d may be", looked, most)
	}
	if _, _, err := c.Give(ctx, name, shares[1]); !errors.Is(err, keeper.ErrTooMany) {
		t.Errorf("a right one in the flood: %v", err)
	}
	h.now = h.now.Add(time.Minute)
	if _, _, err := c.Give(ctx, name, shares[1]); err != nil {
		t.Fatal(err)
	}
	if _, k, err := c.Give(ctx, name, shares[2]); err != nil || k == nil {
		t.Fatal(err)
	}
}

func TestCeremonyOfPassphrase(t *testing.T) {
	right := keeper.Passphrase(vault.NewSecret([]byte("correct horse battery")))
	wrapped := wrap(t, right)
	c := keeper.NewCeremonies(func(context.Context) ([]byte, error) { return wrapped, nil }, time.Now)
	name := start(t, c)
	if p, k, err := c.Give(t.Context(), name, vault.NewSecret([]byte("wrong horse battery"))); !errors.Is(err, vault.ErrWrongKey) || k != nil || p.Needed != 1 {
		t.Error(p, err)
	}
	if _, k, err := c.Give(t.Context(), name, vault.NewSecret([]byte("correct horse battery"))); err != nil || k == nil {
		t.Error(err)
	}
	wrapped = []byte("dbkeeper\x01\x01 of a file")
	if _, _, err := c.Start(t.Context()); err == nil {
		t.Error("a ceremony for a key file")
	}
}
