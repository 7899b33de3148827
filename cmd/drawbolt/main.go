// Command drawbolt is the client of drawbolt: for those who ask for access, those
// who approve it, engineers who connect with their own ssh, auditors, and
// administrators.
//
// It decides nothing; the server does. What it protects is its user: it talks to
// the one server whose certificate it knows, sends a token to no other, keeps its
// files readable for their owner alone, and makes every text that came from the
// server fit for a terminal before it prints it. It links no server code.
//
// Data goes to stdout, talk to stderr. The exit codes are in exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := &cli{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		env: os.Getenv, now: time.Now,
		inTTY: isTerminal(os.Stdin), outTTY: isTerminal(os.Stdout), errTTY: isTerminal(os.Stderr),
	}
	code := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
