// Package brokertest furnishes brokers for tests: everything below them is real,
// and nothing of it outlives the test.
//
// It trusts nothing and is trusted by nobody: no program links it.
package brokertest

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// Config returns what a broker of that node needs, with the default policy, and
// without a store when url is empty. The store is closed at the end of the test.
func Config(t testing.TB, node, url string) broker.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	ok(t, keeper.CreateFile(path))
	k, err := keeper.File(path)
	ok(t, err)
	vc := vault.Config{Backend: vault.NewMemory(), Keeper: k}
	ok(t, vault.Init(t.Context(), vc))
	v, err := vault.Open(t.Context(), vc)
	ok(t, err)
	c := broker.Config{Vault: v, Node: node, Programs: []string{"switch"}, CheckpointEvery: time.Hour, Log: slog.New(slog.DiscardHandler), Policy: Policy(t, rego.Bundle)}
	for kind, to := range map[sshca.Kind]**sshca.Authority{sshca.User: &c.UserCA, sshca.Host: &c.HostCA, sshca.Identity: &c.IdentityCA} {
		*to, err = sshca.Create(t.Context(), v, kind)
		ok(t, err)
	}
	secret, public, err := audit.NewKey("drawbolt.example/log")
	ok(t, err)
	c.Signer, err = note.NewSigner(secret)
	ok(t, err)
	c.Verifier, err = note.NewVerifier(public)
	ok(t, err)
	if url != "" {
		c.Store, err = store.Open(t.Context(), store.Config{URL: url})
		ok(t, err)
		t.Cleanup(func() { _ = c.Store.Close() })
	}
	return c
}

// Policy returns an engine for the bundle. It has time: a busy machine must not
// turn a test's answer into "unavailable".
func Policy(t testing.TB, bundle fs.FS) *policy.Engine {
	t.Helper()
	e, err := policy.New(policy.Config{Bundle: bundle, Timeout: 10 * time.Second})
	ok(t, err)
	return e
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
