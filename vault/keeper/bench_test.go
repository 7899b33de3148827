package keeper_test

import (
	"path/filepath"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// BenchmarkUnwrap measures how long a keyset takes to be opened.
func BenchmarkUnwrap(b *testing.B) {
	path := filepath.Join(b.TempDir(), "key")
	if err := keeper.CreateFile(path); err != nil {
		b.Fatal(err)
	}
	file, err := keeper.File(path)
	if err != nil {
		b.Fatal(err)
	}
	tpm, err := keeper.NewTPM(keeper.TPM{Path: newTPM(b)})
	if err != nil {
		b.Fatal(err)
	}
	shares, split, err := keeper.Split(5, 3)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		k    vault.Keeper
	}{{"file", file}, {"passphrase", keeper.Passphrase(vault.NewSecret([]byte("correct horse battery")))}, {"tpm", tpm}, {"shares", split}} {
		b.Run(c.name, func(b *testing.B) {
			wrapped, err := c.k.Wrap(b.Context(), vault.NewSecret(make([]byte, 300)))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				k := c.k
				if c.name == "shares" {
					g, err := keeper.NewGathering(wrapped)
					for _, s := range shares[:3] {
						if err == nil {
							_, err = g.Add(s)
						}
					}
					if err == nil {
						k, err = g.Keeper()
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				if _, err := k.Unwrap(b.Context(), wrapped); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
