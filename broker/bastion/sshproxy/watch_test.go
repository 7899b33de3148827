package sshproxy

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

func withDetect(rules ...string) option {
	return func(o *options) {
		o.rules.Detect = rules
		o.bastion = func(c *bastion.Config) { c.EchoWait = 10 * time.Second } // a busy machine is slow to echo
	}
}

// shellTarget is a target where the start files of the account, which are not ours,
// are not read: bash leaves that to the outermost shell.
func (h *house) shellTarget() {
	h.t.Helper()
	s := h.startSSHD("db01", "SetEnv SHLVL=5")
	h.addTarget("db01", s.addr, s.key)
}

// A typist sits at a terminal of the stock client, in a real bash.
type typist struct {
	t    *testing.T
	keys io.WriteCloser
	out  *lockedBuffer
	errs *lockedBuffer
	wait func() error
}

func (h *house) typist(t *testing.T) *typist {
	t.Helper()
	cmd := h.ssh("alice", "-tt", me(t)+"@db01", "exec env HOME="+t.TempDir()+" PS1='ready$ ' bash --norc --noprofile -i")
	x := &typist{t: t, out: &lockedBuffer{}, keys: must(cmd.StdinPipe())(t)}
	cmd.Stdout = x.out
	x.errs, x.wait = background(t, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("shown %q\ntold %q", x.out.String(), x.errs.String())
		}
	})
	x.ready(1)
	return x
}

// ready waits for the nth prompt.
func (x *typist) ready(n int) { x.t.Helper(); x.shows("ready$ ", n) }

func (x *typist) shows(part string, times int) {
	x.t.Helper()
	eventually(x.t, part, func() bool { return strings.Count(x.out.String(), part) >= times })
}

func (x *typist) types(text string) {
	x.t.Helper()
	_, err := io.WriteString(x.keys, text)
	check(x.t, err)
}

// detections returns the events of commands that were seen, "level: command: sent".
func (h *house) detections() (list []string) {
	h.t.Helper()
	ctx := context.Background()
	size := must(h.db.AuditSize(ctx))(h.t)
	for from := int64(0); from < size; {
		for _, leaf := range must(h.db.Leaves(ctx, store.LeafFilter{From: from, To: size, Limit: 1000}))(h.t) {
			if e := must(audit.Parse(leaf))(h.t); e.Action == "session.detect" {
				list = append(list, e.Details["level"]+": "+e.Details["command"]+": "+e.Details["sent"])
			}
			from++
		}
	}
	return list
}

func (h *house) wantDetection(want string) {
	h.t.Helper()
	eventually(h.t, "an event of "+want, func() bool {
		for _, d := range h.detections() {
			if d == want {
				return true
			}
		}
		return false
	})
}

// A warning is for the user, an alert is not; both are on record, and both find what
// comes out of the history. A password is no command.
func TestDetect(t *testing.T) {
	h := newHouse(t, withDetect("warn echo careful", "alert echo loud", "alert regexp ^secret"))
	h.shellTarget()
	h.grant("alice", "db01", time.Hour)
	x := h.typist(t)
	x.types("echo careful now\r")
	x.ready(2)
	h.wantDetection("warn: echo careful now: true")
	eventually(t, "the warning", func() bool { return x.errs.has("the role warns of this command (warn echo careful)") })
	x.types("echo loud 1\r")
	x.ready(3)
	h.wantDetection("alert: echo loud 1: true")
	x.types("\x1b[A\x7f2") // out of the history, and edited
	eventually(t, "what was edited", func() bool { return strings.HasSuffix(x.out.String(), "2") })
	x.types("\r")
	h.wantDetection("alert: echo loud 2: true")
	x.types("read -s -p 'Pass''word: ' p\r")
	x.shows("Password: ", 1)
	x.types("secret of mine\r")
	x.ready(5)
	x.types("exit\r")
	if err := x.wait(); err != nil {
		t.Errorf("%v\n%s", err, x.errs)
	}
	s := h.closed(1)[0]
	marks := h.recording(s, cast.Mark)
	for _, part := range []string{"detected warn: warn echo careful: sent: echo careful now", "detected alert: alert echo loud: sent: echo loud 2"} {
		if !strings.Contains(marks, part) {
			t.Errorf("no %q in the marks %q", part, marks)
		}
	}
	if d := h.detections(); len(d) != 3 || strings.Contains(marks, "secret") || x.errs.has("loud") {
		t.Errorf("events %q, marks %q, told %q", d, marks, x.errs)
	}
}

// The command at which the role ends sessions does not run, whether it is typed,
// pasted with its Enter, or called from the history.
func TestDetectEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		enter func(x *typist, file string)
	}{
		{"typed", func(x *typist, file string) {
			x.types("touch " + file)
			x.shows(file, 1)
			x.types("\r")
		}},
		{"pasted", func(x *typist, file string) { x.types("true\rtouch " + file + "\recho done\r") }},
		{"out of the history", func(x *typist, file string) {
			x.types("a=tou; history -s ${a}ch " + file + "\r")
			x.ready(2)
			x.types("\x1b[A")
			x.shows("touch "+file, 1)
			x.types("\r")
		}},
		{"in a search", func(x *typist, file string) {
			x.types("a=tou; history -s ${a}ch " + file + "\r")
			x.ready(2)
			x.types("\x12touc")
			x.shows("touc", 1)
			time.Sleep(100 * time.Millisecond)
			x.types("\r")
		}},
		{"with quotes", func(x *typist, file string) { x.types(`t\ou"c"h ` + file + "\r") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t, withDetect("warn nothing of it", "end touch"))
			h.shellTarget()
			h.grant("alice", "db01", time.Hour)
			dir := must(os.MkdirTemp("", "d"))(t) // short: a line of the terminal
			t.Cleanup(func() { os.RemoveAll(dir) })
			file := filepath.Join(dir, "made")
			x := h.typist(t)
			test.enter(x, file)
			x.wait()
			if !x.errs.has("session ended: the role ends sessions at this command; it is on record (rule session.detect) [DB-2407]") {
				t.Errorf("told %q", x.errs)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the command ran")
			}
			s := h.closed(1)[0]
			if s.EndReason != "detected" {
				t.Errorf("ended %+v", s)
			}
			if marks := h.recording(s, cast.Mark); !strings.Contains(marks, "detected end: end touch: not sent: ") {
				t.Errorf("marks %q", marks)
			}
			if d := h.detections(); len(d) != 1 || !strings.HasPrefix(d[0], "end: ") || !strings.HasSuffix(d[0], ": false") {
				t.Errorf("events %q", d)
			}
		})
	}
}

// What the documents say that gets around detection, does: it is an aid. The
// recording has it all the same, or says that there was something.
func TestDetectIsNoBoundary(t *testing.T) {
	for name, keys := range map[string]string{
		"a variable":      "X=to; ${X}uch %s\r",
		"an encoding":     "echo dG91Y2g= | base64 -d | xargs -I{} sh -c '{} %s'\r",
		"another program": ": > %s\r",
		"without an echo": "stty -echo\rtouch %s\r",
		"a whole screen":  "printf '\\033[?1049h'\rtouch %s\r",
		"of another name": "cp /usr/bin/tou[c]h t; ./t %s\r",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, withDetect("end touch"), func(o *options) { o.bastion = nil }) // what is not echoed is not waited for
			h.shellTarget()
			h.grant("alice", "db01", time.Hour)
			dir := must(os.MkdirTemp("", "d"))(t) // short: a line of the terminal
			t.Cleanup(func() { os.RemoveAll(dir) })
			file := filepath.Join(dir, "made")
			x := h.typist(t)
			first, second, two := strings.Cut(strings.ReplaceAll(keys, "%s", file), "\r")
			x.types("cd $HOME\r")
			x.ready(2)
			x.types(first + "\r")
			if two && second != "" {
				x.ready(3)
				x.types(second)
			}
			eventually(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
			x.types("exit\r")
			x.keys.Close()
			x.wait()
			s := h.closed(1)[0]
			typed, hidden := h.recording(s, recorder.Input), h.recording(s, cast.Hidden)
			if !strings.Contains(typed, file) && !strings.Contains(hidden, fmt.Sprint(len("touch "+file), " keys hidden")) || s.EndReason == "detected" {
				t.Errorf("recorded %q and %q, ended %s", typed, hidden, s.EndReason)
			}
		})
	}
}

// A role that detects something from now on does so in the sessions that run.
func TestDetectLater(t *testing.T) {
	h := newHouse(t)
	h.shellTarget()
	h.grant("alice", "db01", time.Hour)
	x := h.typist(t)
	ctx := context.Background()
	check(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := audit.Event{Actor: "system", ActorName: "system", Action: "role.set", Object: "engineers", Outcome: audit.Done}
		roles, err := tx.Roles(ctx)
		check(t, err)
		for i := range roles {
			if roles[i].Name == "engineers" {
				roles[i].Rules[0].Session.Detect = []string{"end echo later"}
				return e, tx.SaveRole(ctx, &roles[i])
			}
		}
		return e, access.ErrNotFound
	}))
	eventually(t, "the end", func() bool {
		if h.sessions()[0].State != access.Closed {
			io.WriteString(x.keys, "echo later\r") // the client may just have gone
			time.Sleep(50 * time.Millisecond)
			return false
		}
		return true
	})
	x.wait()
	if s := h.closed(1)[0]; s.EndReason != "detected" {
		t.Errorf("ended %s: %q", s.EndReason, x.errs)
	}
}

// A terminal of which somebody asks for everything at once is not slower than it
// has to be, and a flood of detections stays within bounds.
func TestDetectFlood(t *testing.T) {
	h := newHouse(t, withDetect("warn :", "end never"))
	h.shellTarget()
	h.grant("alice", "db01", time.Hour)
	x := h.typist(t)
	x.types(strings.Repeat(": x\r", 120))
	x.types("exit\r")
	x.wait()
	s := h.closed(1)[0]
	if n := len(h.detections()); n != 100 {
		t.Errorf("%d events", n)
	}
	if n := strings.Count(h.recording(s, cast.Mark), "detected warn"); n < 110 { // a line of a paste that is cut apart may be missed
		t.Errorf("%d marks", n)
	}
}
