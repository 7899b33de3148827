package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestExitCodes is the contract with scripts.
func TestExitCodes(t *testing.T) {
	problem := func(status int, code string) error {
		return fmt.Errorf("ask: %w", &api.Problem{Status: status, Code: code, Detail: "no"})
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"network", t.Context(), errors.New("connection refused"), 1},
		{"server broke", t.Context(), problem(500, ""), 1},
		{"part unavailable", t.Context(), problem(503, "DB-6005"), 1},
		{"conflict", t.Context(), problem(409, "DB-3003"), 1},
		{"too many", t.Context(), problem(429, "DB-6009"), 1},
		{"status nobody knows", t.Context(), problem(418, ""), 1},
		{"no answer in time", t.Context(), context.DeadlineExceeded, 1},
		{"not trusted", t.Context(), &tls.CertificateVerificationError{Err: errors.New("x")}, 1},
		{"usage", t.Context(), usage("x"), 2},
		{"cancelled at a prompt", t.Context(), cancelled("x"), 2},
		{"invalid", t.Context(), problem(422, "DB-1001"), 2},
		{"malformed", t.Context(), problem(400, ""), 2},
		{"denied", t.Context(), problem(403, "DB-2103"), 3},
		{"not logged in", t.Context(), problem(401, "DB-4001"), 4},
		{"expired", t.Context(), problem(409, "DB-3002"), 5},
		{"gone", t.Context(), problem(410, ""), 5},
		{"not found", t.Context(), problem(404, "DB-6001"), 6},
		{"grant over", t.Context(), problem(403, "DB-2006"), 7},
		{"grant over already", t.Context(), problem(409, "DB-3005"), 7},
		{"pending", t.Context(), silent(exitPending), 8},
		{"interrupted", over, fmt.Errorf("wait: %w", context.Canceled), 130},
		{"cancelled, but not by the person", t.Context(), context.Canceled, 1},
		{"ssh", t.Context(), silent(exitTransport), 255},
		{"remote command", t.Context(), silent(77), 77},
	} {
		if got := outcome(tt.ctx, tt.err).code; got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRequestCodes(t *testing.T) {
	for _, tt := range []struct {
		state, grant string
		want         int
	}{
		{api.Approved, api.Active, 0}, {api.Approved, api.Scheduled, 0}, {api.Approved, "", 0}, {api.Approved, api.Ended, 7},
		{api.Denied, "", 3}, {api.Expired, "", 5}, {api.Cancelled, "", 2}, {api.Pending, "", 8}, {"new", "", 1}, {"", "", 1},
	} {
		r := &api.Request{State: tt.state}
		if tt.grant != "" {
			r.Grant = &api.Grant{State: tt.grant}
		}
		if got := requestCode(r); got != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.state, tt.grant, got, tt.want)
		}
	}
}
