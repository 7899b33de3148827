package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
)

func TestAuthorize(t *testing.T) {
	all := access.SessionRules{Shell: true, Exec: true, Files: []string{"upload *"}, Forwards: []string{"local *:*"}, Agent: true, X11: true}
	free := []Action{OpenSession, Terminal, Env, Resize, Signal, EndOutput, Exit, KeepAlive, LastOne, HostKeys}
	for _, a := range free {
		if err := Authorize(access.SessionRules{}, a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	for a, rules := range map[Action]access.SessionRules{Shell: {Shell: true}, Exec: {Exec: true}, SFTP: {Files: []string{"upload *"}}, Forward: {Forwards: []string{"local *:*"}}, Agent: {Agent: true}, X11: {X11: true}} {
		if err := Authorize(rules, a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		without := all
		switch a {
		case Shell:
			without.Shell = false
		case Exec:
			without.Exec = false
		case SFTP:
			without.Files = nil
		case Forward:
			without.Forwards = nil
		case Agent:
			without.Agent = false
		case X11:
			without.X11 = false
		}
		if err := Authorize(without, a); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s without its rule: %v", a, err)
		}
	}
	for _, a := range []Action{"", Jump, "made-up", "SHELL", "shell "} {
		if err := Authorize(all, a); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%q under rules that allow all: %v", a, err)
		}
	}
	for _, a := range append(free, Shell, Exec, SFTP, Forward, Agent, X11, "") {
		want := a == KeepAlive || a == LastOne
		if err := AuthorizeHop(a); (err == nil) != want {
			t.Errorf("%q on a hop: %v", a, err)
		}
	}
	if err := AuthorizeHop(Jump); err != nil {
		t.Error(err)
	}
}

func TestAuthorizeCommand(t *testing.T) {
	if err := AuthorizeCommand(access.SessionRules{Exec: true}, "anything; at all"); err != nil {
		t.Error(err)
	}
	rules := access.SessionRules{Exec: true, Commands: []string{"uptime", "cat /var/log/*", "not a * rule;"}}
	for command, want := range map[string]bool{
		"uptime": true, "cat /var/log/x": true, "uptime; id": false, "cat /etc/shadow": false, "not a x rule;": false, "": false,
	} {
		if err := AuthorizeCommand(rules, command); (err == nil) != want || err != nil && !errors.Is(err, access.ErrDenied) {
			t.Errorf("%q: %v", command, err)
		}
	}
}

func TestAuthorizeForward(t *testing.T) {
	rules := access.SessionRules{Forwards: []string{"local db.internal:5432", "remote 127.0.0.1:8000-8100", "remote 10.0.0.0/8:*", "local unix:/run/*.sock", "not a rule", "local 192.0.2.0/24:80"}}
	at := netip.MustParseAddr
	own := []netip.Addr{at("192.0.2.7")}
	for i, test := range []struct {
		tunnel Tunnel
		want   bool
	}{
		{Tunnel{Host: "db.internal", Address: at("192.0.2.1"), Port: 5432}, true},
		{Tunnel{Host: "db.internal", Address: at("192.0.2.1"), Port: 5433}, false},
		{Tunnel{Host: "db.internal", Address: at("192.0.2.1")}, false},
		{Tunnel{Host: "db.internal", Address: at("127.0.0.1"), Port: 5432}, false},
		{Tunnel{Remote: true, Host: "db.internal", Address: at("192.0.2.1"), Port: 5432}, false},
		{Tunnel{Host: "x", Address: at("192.0.2.1"), Port: 80}, true},
		{Tunnel{Host: "x", Address: own[0], Port: 80}, false},
		{Tunnel{Remote: true, Host: "localhost", Address: at("127.0.0.1"), Port: 8050}, true},
		{Tunnel{Remote: true, Host: "localhost", Address: at("127.0.0.1")}, false}, // any port, and the rule has some
		{Tunnel{Remote: true, Host: "10.1.1.1", Address: at("10.1.1.1")}, true},
		{Tunnel{Host: "10.1.1.1", Address: at("10.1.1.1")}, false},
		{Tunnel{Socket: "/run/a.sock"}, true},
		{Tunnel{Socket: "/run/a/b.sock"}, false},
		{Tunnel{Remote: true, Socket: "/run/a.sock"}, false},
		{Tunnel{}, false},
	} {
		if err := AuthorizeForward(rules, test.tunnel, own); (err == nil) != test.want || err != nil && err != error(ErrForward) {
			t.Errorf("%d, %+v: %v", i, test.tunnel, err)
		}
	}
	for host, want := range map[string]bool{"db.internal": true, "DB.internal": true, "other.internal": false} {
		if got := ResolveForward(rules, host, 5432); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	if !ResolveForward(rules, "any.example", 80) || ResolveForward(rules, "any.example", 81) {
		t.Error("the answer for any host depends on the network of port 80 alone")
	}
}

func TestReasons(t *testing.T) {
	for want, err := range map[Reason]error{
		ReasonExpired: &access.Error{Kind: broker.ErrExpired}, ReasonRevoked: &access.Error{Kind: broker.ErrRevoked},
		ReasonReleased: &access.Error{Kind: broker.ErrReleased}, ReasonLocked: &access.Error{Kind: broker.ErrLocked},
		ReasonTerminated: &access.Error{Kind: broker.ErrTerminated}, ReasonRefused: &access.Error{Kind: broker.ErrRefused},
		ReasonUnwatched: &access.Error{Kind: broker.ErrUnwatched},
		ReasonDoubt:     &access.Error{Kind: broker.ErrDoubt}, ReasonIdle: ErrIdle, ReasonStopped: ErrStopped, ReasonFault: ErrFault,
		ReasonRecording: fmt.Errorf("%w: %w", ErrNoRecording, io.ErrShortWrite), ReasonAborted: fmt.Errorf("%w: %w", ErrGone, io.EOF),
		ReasonFailed: errors.New("no route"),
	} {
		if got := reasonOf(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

// A refusing Broker opens nothing.
type refusing struct{ Broker }

func (refusing) Open(context.Context, access.Caller, string, broker.Opening) (*broker.Live, error) {
	return nil, access.ErrDenied
}

type unused struct{}

func (unused) Start(context.Context, recorder.Header) (*recorder.Recording, error) {
	panic("a recording was started for a session that was not opened")
}
func (unused) StartUrgent(context.Context, recorder.Header) (*recorder.Recording, error) {
	panic("a recording was started for a session that was not opened")
}

func TestRefusedOpening(t *testing.T) {
	b, err := New(Config{Broker: refusing{}, Recorder: unused{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Run(t.Context(), Order{}, func(*Session) (*int, error) { t.Error("carried"); return nil, nil })
	if !errors.Is(err, access.ErrDenied) || b.Live() != 0 {
		t.Errorf("got %v, %d live", err, b.Live())
	}
}

// A Broker whose sessions wait to be opened.
type waiting struct {
	refusing
	entered, leave chan struct{}
}

func (w waiting) Open(context.Context, access.Caller, string, broker.Opening) (*broker.Live, error) {
	w.entered <- struct{}{}
	<-w.leave
	return nil, access.ErrDenied
}

func TestSessionLimit(t *testing.T) {
	w := waiting{entered: make(chan struct{}), leave: make(chan struct{})}
	b, err := New(Config{Broker: w, Recorder: unused{}, Sessions: 2})
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		_, err := b.Run(t.Context(), Order{}, func(*Session) (*int, error) { t.Error("carried"); return nil, nil })
		return err
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { run() })
		<-w.entered
	}
	var e *access.Error
	if err := run(); !errors.Is(err, ErrFull) || !errors.Is(err, access.ErrUnavailable) || !errors.As(err, &e) || e.Code != "DB-5401" {
		t.Errorf("the third of two: %v", err)
	}
	if b.Live() != 2 {
		t.Errorf("%d live", b.Live())
	}
	close(w.leave)
	all.Wait()
	if b.Live() != 0 {
		t.Errorf("%d are left", b.Live())
	}
}
