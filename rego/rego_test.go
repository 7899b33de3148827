package rego_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/rego"
)

// roles reads the example roles that all tests of this package use.
func roles(t testing.TB) policy.Data {
	t.Helper()
	b, err := os.ReadFile("testdata/roles.json")
	if err != nil {
		t.Fatal(err)
	}
	var d policy.Data
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func engine(t testing.TB) *policy.Engine {
	t.Helper()
	// Longer than in service: a busy machine must not fail these tests.
	e, err := policy.New(policy.Config{Bundle: rego.Bundle, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetData(roles(t)); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRego runs the tests that are written in Rego.
func TestRego(t *testing.T) {
	results, err := policy.Test(t.Context(), rego.Bundle, roles(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 100 {
		t.Errorf("only %d Rego tests were found", len(results))
	}
	for _, r := range results {
		t.Run(r.Name, func(t *testing.T) {
			if r.Err != nil {
				t.Errorf("%s: %v", r.File, r.Err)
			}
		})
	}
}
