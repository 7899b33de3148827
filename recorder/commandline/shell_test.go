package commandline

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// A terminal is a real program on a pseudo-terminal, with a Reader between.
type terminal struct {
	t    testing.TB
	file *os.File

	mu     sync.Mutex
	reader *Reader
	seen   strings.Builder
	before []string // lines as they were before their Enter
	after  []string // lines as they were shown to have been sent
}

func start(t testing.TB, columns int, name string, args ...string) *terminal {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + home, "ZDOTDIR=" + home, "TERM=xterm-256color", "LANG=C.UTF-8", "PS1=user@host:~$ ", "HISTFILE="}
	if err := os.WriteFile(home+"/.zshrc", []byte("PS1='user@host:~$ '\nbindkey -e\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: uint16(columns)})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, file: file, reader: New(columns)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 256)
		for {
			n, err := file.Read(buf)
			x.mu.Lock()
			x.seen.Write(buf[:n])
			x.after = append(x.after, x.reader.Shown(buf[:n])...)
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		file.Close()
		<-done
		if t.Failed() {
			t.Logf("%s: shown %q\nbefore %q\nafter %q", name, x.seen.String(), x.before, x.after)
		}
	})
	return x
}

func (x *terminal) wait(what string, ok func() bool) {
	x.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		x.mu.Lock()
		over := ok()
		x.mu.Unlock()
		if over {
			return
		}
	}
	x.t.Fatalf("waited too long for %s", what)
}

// sees waits until something was shown, so many times in all.
func (x *terminal) sees(part string, times int) {
	x.t.Helper()
	x.wait(part, func() bool { return strings.Count(x.seen.String(), part) >= times })
}

// prompt waits for the prompt, which has been shown so often, and a rest.
func (x *terminal) prompt() {
	x.t.Helper()
	size := -1
	x.wait("a prompt", func() bool {
		text := x.seen.String()
		rest := text[strings.LastIndex(text, "\n")+1:]
		still := len(text) == size
		size = len(text)
		if !still {
			time.Sleep(40 * time.Millisecond)
		}
		return still && strings.Contains(rest, "$ ")
	})
}

// line waits until the line before the cursor's Enter is this one.
func (x *terminal) line(want string) {
	x.t.Helper()
	x.wait(fmt.Sprintf("the line %q", want), func() bool { return x.reader.Settled() && x.reader.Line() == want })
}

// keys types. Before each Enter it waits until what was typed is shown.
func (x *terminal) keys(text string) {
	x.t.Helper()
	x.typed(text, true)
}

func (x *terminal) typed(text string, wait bool) {
	x.t.Helper()
	for p := []byte(text); len(p) > 0; {
		x.mu.Lock()
		n, enter := x.reader.Typed(p)
		x.mu.Unlock()
		x.write(p[:n])
		if p = p[n:]; !enter {
			continue
		}
		if wait {
			x.wait("an echo", x.reader.Settled)
		}
		x.mu.Lock()
		x.before = append(x.before, x.reader.Line())
		x.reader.Enter()
		x.mu.Unlock()
		x.write(p[:1])
		p = p[1:]
	}
}

func (x *terminal) write(p []byte) {
	x.t.Helper()
	if _, err := x.file.Write(p); err != nil {
		x.t.Fatal(err)
	}
}

// took waits until a line was shown to have been sent.
func (x *terminal) took(line string) {
	x.t.Helper()
	x.wait("the line "+line, func() bool { return slices.Contains(x.after, line) })
}

// both wants the last line to be known before its Enter, and after it.
func (x *terminal) both(line string) {
	x.t.Helper()
	x.took(line)
	if last := x.before[len(x.before)-1]; last != line {
		x.t.Errorf("before its Enter the line %q was %q", line, last)
	}
}

// never wants a text not to be in any line.
func (x *terminal) never(text string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range slices.Concat(x.before, x.after) {
		if strings.Contains(l, text) {
			x.t.Errorf("%q was taken for a command", l)
		}
	}
}

// forget forgets the lines that were read so far.
func (x *terminal) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.after = nil
}

// editors are the shells that edit lines by themselves. zsh is not on every machine.
func editors() map[string][]string {
	list := map[string][]string{"bash": {"bash", "--norc", "--noprofile", "-i"}}
	if _, err := exec.LookPath("zsh"); err == nil {
		list["zsh"] = []string{"zsh", "-i"}
	}
	return list
}

func eachEditor(t *testing.T, columns int, f func(t *testing.T, x *terminal)) {
	for name, args := range editors() {
		t.Run(name, func(t *testing.T) {
			x := start(t, columns, args[0], args[1:]...)
			x.prompt()
			f(t, x)
		})
	}
}

func TestTyped(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		x.keys("echo one\r")
		x.both("echo one")
		x.prompt()
		x.keys("echo äß 漢字 two\r")
		x.both("echo äß 漢字 two")
		x.prompt()
		x.keys("\r")
		x.prompt()
		x.keys("   echo three  \r")
		x.both("echo three")
	})
}

func TestEditing(t *testing.T) {
	for _, test := range []struct{ name, keys, want string }{
		{"backspace", "echo onf\x7fe", "echo one"},
		{"kill the line", "rm -rf /nothing\x15echo two", "echo two"},
		{"kill a word", "echo nothing\x17three", "echo three"},
		{"insert at the front", "four\x01echo \x05x", "echo fourx"},
		{"move with arrows", "ech five\x1b[D\x1b[D\x1b[D\x1b[D\x1b[Do\x05", "echo five"},
		{"delete forward", "echoo six\x01\x1b[C\x1b[C\x1b[C\x04\x05", "echo six"},
		{"yank", "echo seven\x15\x19", "echo seven"},
		{"transpose", "ehco eight\x01\x06\x06\x14\x05", "echo eight"},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachEditor(t, 80, func(t *testing.T, x *terminal) {
				x.typed(test.keys, false)
				x.prompt()
				x.keys("\r")
				x.both(test.want)
			})
		})
	}
}

func TestHistory(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		x.keys("echo long ago\r")
		x.prompt()
		x.keys("true\r")
		x.prompt()
		x.forget()
		x.typed("\x1b[A\x1b[A", false)
		x.prompt()
		x.keys("\r")
		x.both("echo long ago")
		x.prompt()
		x.forget()
		x.typed("\x10", false) // the key before it, as a control character
		x.prompt()
		x.keys(" indeed\r")
		x.both("echo long ago indeed")
		// Recalled and sent in one go.
		x.prompt()
		x.forget()
		x.keys("\x1b[A\r")
		x.took("echo long ago indeed")
	})
}

func TestSearch(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		x.keys("echo hidden in history\r")
		x.prompt()
		x.keys("true\r")
		x.prompt()
		x.forget()
		x.typed("\x12hidd", false)
		x.sees("hidden", 3)
		time.Sleep(100 * time.Millisecond)
		x.keys("\r")
		x.took("echo hidden in history")
		if last := x.before[len(x.before)-1]; !strings.HasSuffix(last, "echo hidden in history") {
			t.Errorf("before its Enter the line was %q", last)
		}
	})
}

func TestCompletion(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		dir := t.TempDir()
		for _, name := range []string{"unmistakable", "twin-a", "twin-b"} {
			if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		x.keys("cd " + dir + "\r")
		x.prompt()
		x.typed("cat unmis\t", false)
		x.sees("unmistakable", 1)
		x.prompt()
		x.keys("\r")
		x.both("cat unmistakable")
		x.prompt()
		x.typed("cat tw\t", false)
		x.prompt()
		x.typed("\t\t", false) // shows both
		x.sees("twin-b", 1)
		time.Sleep(200 * time.Millisecond)
		x.typed("\x15cat twin-b", false)
		x.sees("twin-b", 2)
		x.keys("\r")
		x.both("cat twin-b")
	})
}

func TestWrapped(t *testing.T) {
	eachEditor(t, 30, func(t *testing.T, x *terminal) {
		long := "echo " + strings.Repeat("0123456789 ", 8) + "end"
		x.keys(long + "\r")
		x.both(long)
		x.prompt()
		x.forget()
		x.typed("\x1b[A", false)
		x.sees("9 end", 3)
		x.prompt()
		x.typed("\x01\x1b[C\x1b[C\x1b[C\x1b[C -n\x05", false)
		x.line("echo -n" + strings.TrimPrefix(long, "echo"))
		x.keys("\r")
		x.both("echo -n" + strings.TrimPrefix(long, "echo"))
	})
}

func TestPaste(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		// With brackets: nothing is sent before Enter.
		x.typed("\x1b[200~echo one\recho two\x1b[201~", false)
		x.sees("two", 1)
		time.Sleep(200 * time.Millisecond)
		if len(x.before) != 0 {
			t.Errorf("a paste sent %q", x.before)
		}
		x.keys("\r")
		x.took("echo one\necho two")
		// Without: line by line, typed ahead.
		x.prompt()
		x.typed("echo three\recho four\recho five\r", false)
		for _, l := range []string{"echo three", "echo four", "echo five"} {
			x.took(l)
		}
	})
}

func TestTypedAhead(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		x.keys("sleep 1\r")
		x.typed("echo ahead\r", false)
		x.took("echo ahead")
		x.prompt()
		x.keys("echo after\r")
		x.both("echo after")
	})
}

func TestInterrupted(t *testing.T) {
	eachEditor(t, 80, func(t *testing.T, x *terminal) {
		x.typed("echo never-sent", false)
		x.sees("-sent", 1)
		x.typed("\x03", false)
		x.wait("another prompt", func() bool {
			text := x.seen.String()
			last := text[strings.LastIndex(text, "\n")+1:]
			return strings.Contains(last, "$ ") && !strings.Contains(last, "-sent")
		})
		x.keys("echo sent\r")
		x.both("echo sent")
		x.never("never-sent")
	})
}

func TestContinued(t *testing.T) {
	x := start(t, 80, "bash", "--norc", "--noprofile", "-i")
	x.prompt()
	x.keys("echo one \\\r")
	x.sees("> ", 1)
	x.keys("two\r")
	x.both("echo one two")
}

// What is typed at a prompt for a password is not shown, and is no command: not
// before its Enter, not after, and not when it was typed ahead.
func TestPassword(t *testing.T) {
	x := start(t, 80, "bash", "--norc", "--noprofile", "-i")
	x.prompt()
	x.keys("read -s -p 'Password: ' p\r")
	x.sees("Password: ", 1)
	time.Sleep(500 * time.Millisecond) // until nothing is echoed, which is not seen
	x.typed("hunter2 secret\r", false)
	x.prompt()
	x.keys("echo after\r")
	x.both("echo after")
	x.prompt()
	x.typed("read -s q; echo\rhunter3 secret\r", false)
	time.Sleep(time.Second)
	x.typed("\r", false) // bash drops what was typed when it stops to echo
	x.prompt()
	x.keys("echo at last\r")
	x.took("echo at last")
	x.never("hunter2")
	x.never("hunter3")
}

// dash leaves editing to the terminal's line discipline.
func TestCooked(t *testing.T) {
	x := start(t, 80, "dash", "-i")
	x.prompt()
	x.keys("echo onf")
	x.sees("onf", 1)
	x.typed("\x7f", false)
	x.sees("\b \b", 1)
	x.keys("e\r")
	x.both("echo one")
	x.prompt()
	x.typed("rm nothing\x15", false)
	x.sees("\b \b", 1+len("rm nothing"))
	x.keys("echo two\r")
	x.both("echo two")
}

// A program that draws the whole screen gets its keys and is not looked at, and
// neither is what was typed within when it has gone.
func TestWholeScreen(t *testing.T) {
	x := start(t, 80, "bash", "--norc", "--noprofile", "-i")
	x.prompt()
	x.keys(`printf '\033[?1049h'; read x; printf '\033[?1049l'` + "\r")
	x.sees("\x1b[?1049h", 1)
	x.keys("rm -rf within\r")
	x.sees("\x1b[?1049l", 1)
	x.prompt()
	x.keys("echo after\r")
	x.both("echo after")
	x.never("within")
}
