package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/web/api"
)

// The socket on which a running server is told what only its machine may tell it:
// one question and one answer a connection, both JSON. Root and the server's own user
// are answered, and nobody over the network.
const (
	maxQuestion    = 64 << 10 // bytes
	questionWithin = 10 * time.Second
	answerWithin   = 3 * time.Minute
	maxCallers     = 16 // at once
)

func (c *Config) controlSocket() string { return filepath.Join(c.Data, "control.sock") }

// A question is what a verb on this machine asks of the server.
type question struct {
	Verb     string `json:"verb"`
	Ceremony string `json:"ceremony,omitempty"`
	Secret   []byte `json:"secret,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Node     string `json:"node,omitempty"`
}

// An answer has a problem, or what was asked for.
type answer struct {
	Problem  *api.Problem     `json:"problem,omitempty"`
	Status   *sealStatus      `json:"status,omitempty"`
	Vault    *vaultStatus     `json:"vault,omitempty"`
	Ceremony string           `json:"ceremony,omitempty"`
	Progress *keeper.Progress `json:"progress,omitempty"`
	Opened   bool             `json:"opened,omitempty"`
}

// serveControl answers until ctx ends.
func serveControl(ctx context.Context, path string, log *slog.Logger, do func(context.Context, uint32, question) (answer, error)) error {
	l, err := listenControl(path)
	if err != nil {
		return fmt.Errorf("listen on the control socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxCallers)
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		uid, err := peer(conn)
		if err != nil || uid != 0 && uid != uint32(os.Geteuid()) {
			log.WarnContext(ctx, "somebody else than root and the server's user called at the control socket", "uid", uid, "error", err)
			conn.Close()
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			answerOne(ctx, conn, uid, do)
		})
	}
}

func answerOne(ctx context.Context, conn net.Conn, uid uint32, do func(context.Context, uint32, question) (answer, error)) {
	conn.SetDeadline(time.Now().Add(questionWithin))
	var q question
	if json.NewDecoder(io.LimitReader(conn, maxQuestion)).Decode(&q) != nil {
		return
	}
	defer clear(q.Secret)
	conn.SetDeadline(time.Now().Add(answerWithin))
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	a, err := do(ctx, uid, q)
	if err != nil {
		a = answer{Problem: problemOf(err)}
	}
	json.NewEncoder(conn).Encode(a) // a caller who has gone hears nothing
}

func problemOf(err error) *api.Problem {
	p := &api.Problem{Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		p.Code, p.Detail, p.Next = e.Code, e.Text, e.Next
	}
	return p
}

// listenControl takes the place of a socket that a crash left.
func listenControl(path string) (*net.UnixListener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, errors.New("another server has it: " + path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The folder is closed to others before the socket is there.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ask asks the server that runs on this machine.
func (c *Config) ask(ctx context.Context, q question) (answer, error) {
	var a answer
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.controlSocket())
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return a, &access.Error{Kind: access.ErrUnavailable, Code: "DB-6371", Text: "no server runs on this folder", Next: "drawboltd serve"}
	}
	if err != nil {
		return a, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(answerWithin))
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return a, err
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return a, fmt.Errorf("the server gave no answer, which it owes to root and to its own user only: %w", err)
	}
	if p := a.Problem; p != nil {
		return a, &access.Error{Kind: access.ErrUnavailable, Code: p.Code, Text: p.Detail, Next: p.Next}
	}
	return a, nil
}
