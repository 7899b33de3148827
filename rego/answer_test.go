package rego_test

import (
	"bytes"
	"io/fs"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The answer that is ready with a rule is the one that the bundle would have put
// together without it.
func TestReadyAnswer(t *testing.T) {
	text, err := fs.ReadFile(rego.Bundle, "drawbolt.rego")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := fs.ReadFile(rego.Bundle, "reasons.rego")
	if err != nil {
		t.Fatal(err)
	}
	ready := []byte("ordinary := drawbolt.rules(drawbolt.roles(input.user), \"request\", input) if {")
	if bytes.Count(text, ready) != 1 {
		t.Fatalf("%q is not in the bundle once", ready)
	}
	long, err := policy.New(policy.Config{Timeout: 10 * time.Second, Bundle: fstest.MapFS{
		"drawbolt.rego": {Data: bytes.Replace(text, ready, append(ready, "\n\tinput.action == \"never\""...), 1)},
		"reasons.rego":  {Data: reasons},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := long.SetData(roles(t)); err != nil {
		t.Fatal(err)
	}
	short := engine(t)
	rapid.Check(t, func(rt *rapid.T) {
		in := nearly(rt)
		got, err := short.Decide(t.Context(), in)
		if err != nil {
			rt.Fatal(err)
		}
		want, err := long.Decide(t.Context(), in)
		if err != nil {
			rt.Fatal(err)
		}
		got.ID, got.PolicyDigest = want.ID, want.PolicyDigest
		if d := cmp.Diff(got, want); d != "" {
			rt.Fatalf("(-ready +put together):\n%s", d)
		}
	})
}

// Decisions share the data; the roles may change meanwhile.
func TestConcurrentDecisions(t *testing.T) {
	e := engine(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if d, err := e.Decide(t.Context(), ask()); err != nil || !d.Allow {
					t.Errorf("got %+v, %v", d, err)
				}
			}
		})
	}
	for range 5 {
		if err := e.SetData(roles(t)); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// TestOwnersOfOthers: whether somebody may see or replay a session of others does
// not hang on who those are, so a search may ask once for all of them.
func TestOwnersOfOthers(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(rt *rapid.T) {
		in := nearly(rt)
		in.Action = rapid.SampledFrom([]policy.Action{policy.ActionSessionList, policy.ActionSessionReplay}).Draw(rt, "action")
		other := rapid.StringMatching("USR-[0-9a-z]{16}").Filter(func(s string) bool { return s != in.User.ID })
		answer := func(owner string) bool {
			in.Request = policy.Request{Requester: owner}
			d, err := e.Decide(t.Context(), in)
			if err != nil {
				rt.Fatal(err)
			}
			return d.Allow
		}
		if one, two := other.Draw(rt, "one"), other.Draw(rt, "two"); answer(one) != answer(two) {
			rt.Fatalf("a session of %s is not as one of %s", one, two)
		}
	})
}
