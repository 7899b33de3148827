package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// TestControlSocket: the socket is closed to others before anybody is answered, takes
// the place of one that a crash left and not of one that is in use, and a caller who
// sends too much, or nothing that is a question, hears nothing.
func TestControlSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "seal") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := Config{Data: dir}
	asked := 0
	serve := func() (stop func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- serveControl(ctx, c.controlSocket(), slog.New(slog.DiscardHandler), func(_ context.Context, uid uint32, q question) (answer, error) {
				asked++
				if uid != uint32(os.Geteuid()) {
					t.Errorf("called by %d", uid)
				}
				if q.Verb != "status" {
					return answer{}, isSealed()
				}
				return answer{Status: &sealStatus{State: gateSealed}}, nil
			})
		}()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if conn, err := net.Dial("unix", c.controlSocket()); err == nil {
				conn.Close()
				return func() {
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	ctx := t.Context()
	if _, err := c.ask(ctx, question{Verb: "status"}); err == nil || !strings.Contains(err.Error(), "no server runs") {
		t.Errorf("nobody there: %v", err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.controlSocket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	stop := serve()
	info, err := os.Stat(c.controlSocket())
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if a, err := c.ask(ctx, question{Verb: "status"}); err != nil || a.Status.State != gateSealed {
		t.Error(a, err)
	}
	var refusal *access.Error
	if _, err := c.ask(ctx, question{Verb: "vault.rotate"}); !errors.As(err, &refusal) || refusal.Code != "DB-6370" || refusal.Next == "" {
		t.Error(err)
	}
	if err := serveControl(ctx, c.controlSocket(), slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("two servers have one socket")
	}
	before := asked
	for _, sent := range []string{"", "nonsense\n", `{"verb":"` + strings.Repeat("x", maxQuestion) + `"}`} {
		conn, err := net.Dial("unix", c.controlSocket())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(sent)) // which it may refuse to read
		conn.(*net.UnixConn).CloseWrite()
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%.20q was answered", sent)
		}
		conn.Close()
	}
	stop()
	if asked != before {
		t.Errorf("%d questions were taken that are none", asked-before)
	}
	if _, err := os.Stat(filepath.Join(dir, "control.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the socket is left")
	}
}
