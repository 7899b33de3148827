//go:build linux

package view

import (
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// TestShell: what a real shell on a real terminal shows and is typed is in the view,
// but for what is typed at a prompt for a password.
func TestShell(t *testing.T) {
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "TERM=xterm-256color", "LANG=C.UTF-8", "PS1=root@db01:~# ", "HISTFILE="}
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 60})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var events []cast.Event
	var shown strings.Builder
	began := time.Now()
	add := func(s cast.Stream, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, cast.Event{At: time.Since(began), Stream: s, Data: slices.Clone(data)})
		if s == cast.Output {
			shown.Write(data)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 4096); ; {
			n, err := file.Read(buf)
			if n > 0 {
				add(cast.Output, buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		file.Close()
		<-done
	}()
	sees := func(text string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			all := shown.String()
			if at := strings.Index(all, text); at >= 0 {
				shown.Reset()
				shown.WriteString(all[at+len(text):])
				mu.Unlock()
				return
			}
			mu.Unlock()
			if time.Now().After(end) {
				t.Fatalf("%q is not shown, but %q", text, all)
			}
		}
	}
	keys := func(text string, echoes bool) {
		t.Helper()
		for _, r := range text {
			add(cast.Input, []byte(string(r)))
			if _, err := file.WriteString(string(r)); err != nil {
				t.Fatal(err)
			}
			if echoes && r > ' ' && r < 0x7f {
				sees(string(r))
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	prompt := "root@db01:~# "
	sees(prompt)
	keys("echo größer", true)
	keys("\x7f\x7f than\r", false)
	sees("größ than")
	sees(prompt)
	keys("read -s -p 'Password for root: '\r", true)
	sees("Password for root: ")
	keys("root\r", false)
	sees(prompt)
	keys("seq -f 'line %g of many' 500\r", true)
	sees("line 500 of many")
	sees(prompt)
	keys("printf '\\033[?1049h\\033[5;5Hdrawn\\033[?1049l\\n'\r", true)
	sees("\x1b[?1049l")
	sees(prompt)
	keys("\x1b[A\x1b[A", false)
	sees("500")
	keys("\r", false)
	sees("line 500 of many")

	mu.Lock()
	recording := record(t, cast.Header{Kind: "shell", Terminal: "xterm-256color", Width: 60, Height: 24}, events...)
	mu.Unlock()
	m := makeView(t, recording)
	wants(t, "keys", m.in(Keys), "echo größ than", "read -s -p 'Password for root: '", "seq -f 'line %g of many' 500", `printf '\033[?1049h\033[5;5Hdrawn\033[?1049l\n'`)
	wants(t, "commands", m.in(Command), "echo größ than", "read -s -p 'Password for root: '", "seq -f 'line %g of many' 500",
		`printf '\033[?1049h\033[5;5Hdrawn\033[?1049l\n'`, "seq -f 'line %g of many' 500")
	output := m.in(Output)
	for _, want := range []string{"größ than", prompt + "echo größ than", "line 1 of many", "line 250 of many", "line 500 of many", "drawn"} {
		if !slices.ContainsFunc(output, func(line string) bool { return strings.TrimSpace(line) == strings.TrimSpace(want) }) {
			t.Errorf("%q is not in the output", want)
		}
	}
	if t.Failed() {
		t.Logf("output %q", output[:min(len(output), 30)])
	}
}
