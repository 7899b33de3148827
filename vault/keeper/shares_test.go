package keeper_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

func TestShares(t *testing.T) {
	shares, k, err := keeper.Split(5, 3)
	if err != nil || len(shares) != 5 {
		t.Fatal(len(shares), err)
	}
	secret := vault.NewSecret([]byte("the keyset"))
	wrapped, err := k.Wrap(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, some := range [][]int{{0, 1, 2}, {4, 2, 0}, {3, 4, 1}} {
		g, err := keeper.NewGathering(wrapped)
		if err != nil {
			t.Fatal(err)
		}
		for n, i := range some {
			if _, err := g.Keeper(); err == nil {
				t.Fatalf("%d shares are enough", n)
			}
			// As somebody types it.
			typed := vault.NewSecret([]byte(" " + strings.ReplaceAll(strings.ToLower(string(shares[i].Expose())), "-", " ") + "\n"))
			if missing, err := g.Add(typed); err != nil || missing != 2-n {
				t.Fatalf("share %d: %d missing, %v", i, missing, err)
			}
			if n < 2 {
				if missing, err := g.Add(shares[i]); !errors.Is(err, keeper.ErrSameShare) || missing != 2-n {
					t.Errorf("the same share again: %d, %v", missing, err)
				}
			}
		}
		back, err := g.Keeper()
		if err != nil {
			t.Fatal(err)
		}
		got, err := back.Unwrap(t.Context(), wrapped)
		if err != nil || !bytes.Equal(got.Expose(), secret.Expose()) {
			t.Fatal(err)
		}
		again, err := back.Wrap(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(t.Context(), again); err != nil {
			t.Error(err)
		}
	}
}

func TestSharesRefused(t *testing.T) {
	shares, k, err := keeper.Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	others, other, err := keeper.Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.Wrap(t.Context(), vault.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Unwrap(t.Context(), wrapped); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("by other shares: %v", err)
	}
	g, err := keeper.NewGathering(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	mine := string(shares[0].Expose())
	for name, c := range map[string]struct {
		share string
		want  error
	}{
		"empty": {"", keeper.ErrBadShare}, "cut": {mine[:len(mine)-1], keeper.ErrBadShare}, "long": {strings.Repeat("A", 10_000), keeper.ErrBadShare},
		"no base32": {"!" + mine[1:], keeper.ErrBadShare}, "another set": {string(others[0].Expose()), keeper.ErrOtherShare},
	} {
		if missing, err := g.Add(vault.NewSecret([]byte(c.share))); !errors.Is(err, c.want) || missing != 2 {
			t.Errorf("%s: %d missing, %v", name, missing, err)
		}
	}
	for i := range mine { // each letter mistyped
		b := []byte(mine)
		if b[i] == '-' {
			continue
		}
		b[i] = "AB"[b2i(b[i] == 'A')]
		if _, err := g.Add(vault.NewSecret(b)); err == nil {
			t.Fatalf("mistyped at %d, and taken", i)
		}
	}
	for i := range wrapped { // each byte changed
		b := bytes.Clone(wrapped)
		b[i] ^= 1
		g, err := keeper.NewGathering(b)
		if err != nil {
			continue
		}
		refused := false
		for _, s := range shares[:2] {
			if _, err := g.Add(s); err != nil {
				refused = true
			}
		}
		if refused {
			continue
		}
		back, err := g.Keeper()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := back.Unwrap(t.Context(), b); err == nil {
			t.Fatalf("byte %d changed, and opened", i)
		}
	}
	for _, c := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {33, 2}, {0, 0}} {
		if _, _, err := keeper.Split(c[0], c[1]); err == nil {
			t.Errorf("%d shares of which %d are needed", c[0], c[1])
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
