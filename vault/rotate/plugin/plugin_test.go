//go:build unix

package plugin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/plugin"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

// TestMain is the program, too, when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "appliance" {
		os.Exit(program(os.Args[2]))
	}
	os.Exit(m.Run())
}

// program is what an operator would write for an appliance.
func program(verb string) int {
	var q struct {
		Format                   int
		Target, Address, Account string
		Current, Password        []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil || q.Format != 1 || q.Target != "switch1" {
		fmt.Println("not a question:", err)
		return 1
	}
	conn, err := net.DialTimeout("tcp", q.Address, 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return 12
	}
	defer conn.Close()
	line := map[string]any{"verb": verb, "account": q.Account, "current": q.Current, "password": q.Password}
	if err := json.NewEncoder(conn).Encode(line); err != nil {
		return 1
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	switch {
	case err != nil:
		fmt.Println(err)
		return 1
	case answer == "done\n":
		return 0
	case answer == "wrong\n":
		return 11
	default:
		fmt.Print(answer)
		return 10
	}
}

// An appliance keeps one password.
type appliance struct {
	mu       sync.Mutex
	password string
}

func (a *appliance) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var q struct {
				Verb, Account     string
				Current, Password []byte
			}
			if json.NewDecoder(conn).Decode(&q) == nil {
				fmt.Fprintln(conn, a.answer(q.Verb, string(q.Current), string(q.Password)))
			}
		}()
	}
}

func (a *appliance) answer(verb, _, password string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case verb == "check" && password != a.password:
		return "wrong"
	case verb == "set" && password == "refused":
		return "the password \x1b[31mrefused\x1b[0m is too simple"
	case verb == "set":
		a.password = password
	}
	return "done"
}

func TestRotator(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &appliance{password: "First-Passw0rd"}
	go a.serve(l)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rotatetest.Run(t, rotatetest.Subject{Address: l.Addr().String(), First: "First-Passw0rd", Refused: "refused",
		New: func(address string) rotate.Rotator {
			return plugin.Rotator{Command: []string{self, "appliance"}, Target: "switch1", Address: address, Account: "admin"}
		},
		Change: func(password string) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.password = password
			return nil
		},
	})
}

func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) plugin.Rotator {
		path := filepath.Join(dir, fmt.Sprint(time.Now().UnixNano()))
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return plugin.Rotator{Command: []string{path, "an argument"}, Target: "t", Address: "a:1", Account: "x"}
	}
	password := vault.NewSecret([]byte("canary-4711"))
	for text, want := range map[string]error{
		"exit 0": nil, "exit 11": rotate.ErrWrong, "exit 12": rotate.ErrUnreachable, "exit 13": rotate.ErrLocked,
	} {
		if err := script(text).Check(t.Context(), password); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	var no *rotate.Refusal
	for _, text := range []string{"exit 1", "exit 11", "kill -9 $$", "exit 255", "exec /nowhere"} {
		err := script(text).Set(t.Context(), password, password)
		if err == nil || errors.As(err, &no) || errors.Is(err, rotate.ErrUnreachable) || errors.Is(err, rotate.ErrWrong) {
			t.Errorf("%s is no clear answer to a change: %v", text, err)
		}
	}
	if err := script("tr -d '\\n' | base64 -d 2>/dev/null; cat; echo canary-4711; exit 10").Set(t.Context(), password, password); !errors.As(err, &no) || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	// Its arguments and its environment have nothing of ours.
	t.Setenv("DRAWBOLT_CANARY", "canary-4711")
	if err := script(`printf '%s,' "$@"; env | grep -c canary; exit 10`).Set(t.Context(), password, password); !errors.As(err, &no) || !strings.HasSuffix(no.Why, "an argument,set,0") {
		t.Error(err)
	}
	if err := script(`yes | head -c 1000000; exit 10`).Set(t.Context(), password, password); !errors.As(err, &no) || len(no.Why) > 300 {
		t.Error(err)
	}
	if err := (plugin.Rotator{Command: []string{"/nowhere"}}).Set(t.Context(), password, password); !errors.Is(err, rotate.ErrUnreachable) {
		t.Error(err)
	}

	// One that does not end is killed with what it has started.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mark := filepath.Join(dir, "child")
	pid := ""
	go func() {
		defer cancel()
		for ctx.Err() == nil && !strings.HasSuffix(pid, "\n") {
			time.Sleep(10 * time.Millisecond)
			b, _ := os.ReadFile(mark)
			pid = string(b)
		}
	}()
	err := script("sleep 1000 & echo $! > "+mark+"; wait").Set(ctx, password, password)
	if <-ctx.Done(); err == nil || errors.As(err, &no) || pid == "" {
		t.Fatalf("%v, with the child %q", err, pid)
	}
	for try := 0; running(strings.TrimSpace(pid)); try++ {
		if try == 1200 { // a minute
			t.Fatal("what the program has started lives on")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func running(pid string) bool {
	f, err := os.Open("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	return !strings.Contains(string(b), ") Z ")
}
