package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/web/api"
)

// newTheatre is a house whose recordings can be played and verified.
func newTheatre(t *testing.T, change ...func(*Config)) *house {
	var h *house
	h = newHouse(t, append([]func(*Config){func(c *Config) {
		c.OpenView = func(_ context.Context, x access.Session) (io.ReadSeekCloser, error) {
			v, ok := h.views[x.ID]
			if !ok {
				return nil, fmt.Errorf("open view: %w", fs.ErrNotExist)
			}
			return unclosed{bytes.NewReader(v)}, nil
		}
		c.OpenSealed = func(_ context.Context, x access.Session) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(h.casts[x.ID])), nil
		}
	}}, change...)...)
	return h
}

// perform has alice do something in a shell on db01, and its recording and view made.
func (h *house) perform(width, height int, events ...cast.Event) access.Session {
	h.t.Helper()
	x := h.stage(width, height, events...)
	h.prepare(x)
	return x
}

// prepare makes the view of a session.
func (h *house) prepare(x access.Session) {
	h.t.Helper()
	var v bytes.Buffer
	w := view.NewWriter(&v)
	if err := errors.Join(view.Make(h.t.Context(), bytes.NewReader(h.casts[x.ID]), w.Write), w.Close()); err != nil {
		h.t.Fatal(err)
	}
	h.views[x.ID] = v.Bytes()
}

// stage is perform without the view.
func (h *house) stage(width, height int, events ...cast.Event) access.Session {
	h.t.Helper()
	ctx := h.t.Context()
	c := must(h.broker.Request(ctx, h.by("alice"), broker.Ask{Target: "db01", Account: "guest", Reason: "INC-7 replication lag"}))
	l := must(h.broker.Open(ctx, h.by("alice"), c.Grant.ID, broker.Opening{Kind: "shell", Client: "SSH-2.0-OpenSSH_9.9"}))
	if err := h.broker.Started(ctx, l); err != nil {
		h.t.Fatal(err)
	}
	var b bytes.Buffer
	w := must(cast.NewWriter(&b, cast.Header{ID: l.Session.ID, Kind: "shell", Started: time.Date(2026, 3, 2, 10, 42, 8, 0, time.UTC), Terminal: "xterm-256color", Width: width, Height: height}, h.signer))
	end := time.Duration(0)
	for _, e := range events {
		if err := w.Write(e); err != nil {
			h.t.Fatal(err)
		}
		end = e.At
	}
	must(w.Seal(cast.End{At: end, Reason: "exited"}))
	sum := sha256.Sum256(b.Bytes())
	if err := h.broker.Close(ctx, l, broker.Closing{Reason: "exited", Recording: access.Sealed{
		Name: l.Session.ID + ".sealed", SHA256: hex.EncodeToString(sum[:]), Size: int64(b.Len()), Events: int64(len(events)),
	}}); err != nil {
		h.t.Fatal(err)
	}
	h.casts[l.Session.ID] = b.Bytes()
	return must(h.broker.FindSession(ctx, h.by("carol"), l.Session.ID))
}

// typing is somebody who types at a shell, slowly, with pauses between.
type typing struct {
	at     time.Duration
	events []cast.Event
}

func (y *typing) out(text string) {
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.Output, Data: []byte(text)})
}

func (y *typing) in(text string) {
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.Input, Data: []byte(text)})
}

func (y *typing) wait(d time.Duration) { y.at += d }

const prompt = "\x1b[1;32mguest@db01\x1b[0m:~$ "

// run types a command and shows what it says.
func (y *typing) run(command, output string) {
	for _, c := range command {
		y.wait(50 * time.Millisecond)
		y.in(string(c))
		y.wait(5 * time.Millisecond)
		y.out(string(c))
	}
	y.wait(300 * time.Millisecond)
	y.in("\r")
	y.out("\r\n")
	y.wait(100 * time.Millisecond)
	y.out(strings.ReplaceAll(output, "\n", "\r\n") + prompt)
	y.wait(400 * time.Millisecond)
}

func (y *typing) mark(text string) {
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.Mark, Data: []byte(text)})
}

// anHour is what an engineer does, with four minutes in which nothing happens.
func anHour() []cast.Event {
	var y typing
	y.wait(200 * time.Millisecond)
	y.out(prompt)
	y.run("uptime", " 10:42:10 up 3 days, load average: 9.81, 8.02, 5.11\n")
	y.run("df -h /var", "Filesystem  Size  Used Avail Use% Mounted on\n/dev/sdb1   200G  197G  3.0G  99% \x1b[31m/var\x1b[0m\n")
	y.wait(4 * time.Minute)
	for i := range 12 {
		y.run(fmt.Sprintf("grep -c 'slot %d' /var/log/postgresql.log", i), fmt.Sprintf("%d\n", i*17))
		y.wait(20 * time.Second)
	}
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.Resize, Data: []byte("100x30")})
	y.run("sudo -k", "[sudo] password for guest: ")
	y.mark("12 keys hidden, echo off")
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.File, Data: must(cast.FileEvent{What: "close", Number: 1, Direction: "download", Path: "/var/log/postgresql.log", Size: 1234, SHA256: strings.Repeat("ab", 32), Result: "ok"}.MarshalText())})
	y.wait(3 * time.Second)
	y.run("DROP_TABLE=audit_old ./clean", "dropped \x1b[1maudit_old\x1b[0m\n")
	y.wait(time.Second)
	y.run("exit", "logout\n")
	return y.events
}

// read is an answer of the player's API to carol.
func read[T any](h *house, x access.Session, path string) T {
	h.t.Helper()
	return callJSON[T](h, "carol", "GET", "/v1/sessions/"+x.ID+"/play"+path, nil, 200)
}

// TestPlayIndexes wants, of each index, what asciinema-player demands of it, and
// every pause cut and none else.
func TestPlayIndexes(t *testing.T) {
	h := newTheatre(t)
	events := anHour()
	x := h.perform(80, 24, events...)
	p := read[api.Playback](h, x, "")
	end := events[len(events)-1].At
	if p.Duration != precise(end) || len(p.Segments) < 3 || p.Started.Format(time.RFC3339) != "2026-03-02T10:42:08Z" || len(p.Idle) != 1 {
		t.Fatalf("playback %+v", p)
	}
	for idle, most := range map[string]time.Duration{"0": time.Hour, "2": 2 * time.Second, "0.5": 500 * time.Millisecond} {
		index := read[api.PlayIndex](h, x, "/index?idle="+idle)
		want, before := time.Duration(0), time.Duration(0)
		for _, e := range events {
			want += min(e.At-before, most)
			before = e.At
		}
		if index.Version != 1 || index.Duration != precise(want) || index.Segments[0].Start != 0 || len(index.Segments) != len(p.Segments) {
			t.Errorf("idle %s: lasts %v in %d segments, want %v", idle, index.Duration, len(index.Segments), want)
		}
		last := -1.0
		for _, m := range index.Markers {
			if at := m[0].(float64); at < last || at > index.Duration {
				t.Errorf("idle %s: marker %v", idle, m)
			} else {
				last = at
			}
		}
		// The same bytes in all indexes, at the moments of each.
		shown, skipped, at := "", 0.0, time.Duration(0)
		var moments []float64
		for n, g := range index.Segments {
			if n > 0 && (g.Start <= index.Segments[n-1].Start || g.Start >= index.Duration) {
				t.Errorf("idle %s: segment %d begins at %v", idle, n, g.Start)
			}
			end := index.Duration
			if n+1 < len(index.Segments) {
				end = index.Segments[n+1].Start
			}
			part := read[api.PlayPart](h, x, "/"+g.URL)
			before := g.Start
			for i, e := range part.Events {
				at := e[0].(float64)
				if at < before || at > end || n+1 < len(index.Segments) && at == end || i == 0 && at != g.Start {
					t.Errorf("idle %s: event %d of segment %d at %v", idle, i, n, at)
				}
				before = at
				if text := e[2].(string); e[1] == "o" && text != "" {
					shown += text
					moments = append(moments, at)
				}
			}
			if n+1 == len(index.Segments) && before != index.Duration {
				t.Errorf("idle %s: the last event is at %v", idle, before)
			}
			for _, c := range part.Pauses {
				skipped += c[1]
			}
		}
		var all strings.Builder
		filter := cast.NewPictureFilter(&all)
		n := 0
		before = 0
		for _, e := range events {
			at += min(e.At-before, most)
			before = e.At
			if e.Stream == cast.Output {
				filter.Write(e.Data)
				if n < len(moments) && moments[n] != precise(at) {
					t.Errorf("idle %s: output %d is at %v, want %v", idle, n, moments[n], precise(at))
				}
				n++
			}
		}
		if shown != all.String() {
			t.Errorf("idle %s: shown %q, want %q", idle, shown, all.String())
		}
		// What is cut between two segments stands in no pause.
		if idle == "0" && skipped != 0 || idle != "0" && skipped > precise(end-want)+1e-6 {
			t.Errorf("idle %s: %v s skipped, of %v", idle, skipped, end-want)
		}
	}
}

// TestPlayFinds searches in one recording.
func TestPlayFinds(t *testing.T) {
	h := newTheatre(t)
	x := h.perform(80, 24, anHour()...)
	for q, want := range map[string]int{
		"q=drop_table":                  3, // typed, shown and run
		"q=AUDIT_OLD&in=output":         2, // as it was typed, and as it was told
		"q=drop_table&in=command":       1,
		"q=postgresql&in=file":          1,
		"q=hidden&in=mark":              1,
		"q=nothing+of+the+kind":         0,
		"q=%3Cscript%3E":                0,
		"q=slot&in=command,keys&x=":     -1,
		"q=" + strings.Repeat("a", 201): -1,
		"in=command":                    -1,
		"q=a&in=secrets":                -1,
	} {
		resp := h.do(httpCall{method: "GET", path: "/v1/sessions/" + x.ID + "/play/find?" + q, token: h.token("carol")})
		body := text(resp)
		var hits api.PlayHits
		if err := json.Unmarshal([]byte(body), &hits); err != nil {
			t.Fatal(err)
		}
		if want < 0 && resp.StatusCode != 422 || want >= 0 && (resp.StatusCode != 200 || len(hits.Hits) != want) {
			t.Errorf("%s: %d, %d hits, want %d: %s", q, resp.StatusCode, len(hits.Hits), want, body)
		}
		if !slices.IsSortedFunc(hits.Hits, func(a, b api.PlayText) int { return int((a.At - b.At) * 1000) }) {
			t.Errorf("%s: not in order: %s", q, body)
		}
	}
}

// TestPlayIsAsked wants the player's parts refused to who may not replay, and
// every part that was given told.
func TestPlayIsAsked(t *testing.T) {
	h := newTheatre(t)
	x := h.perform(80, 24, anHour()...)
	paths := []string{"", "/index", "/index?idle=2", "/segments/0", "/segments/1?idle=0.5", "/screens/2", "/find?q=a"}
	for _, path := range paths {
		callJSON[api.Problem](h, "alice", "GET", "/v1/sessions/"+x.ID+"/play"+path, nil, 403)
		callJSON[api.Problem](h, "eve", "GET", "/v1/sessions/"+x.ID+"/play"+path, nil, 404)
	}
	callJSON[api.Problem](h, "alice", "POST", "/v1/sessions/"+x.ID+"/play/end", nil, 403)
	callJSON[api.Problem](h, "alice", "POST", "/v1/sessions/"+x.ID+"/check", api.Empty{}, 403)
	for _, n := range []string{"1000", "-1", "x"} {
		resp := h.do(httpCall{method: "GET", path: "/v1/sessions/" + x.ID + "/play/segments/" + n, token: h.token("carol")})
		if resp.StatusCode != 404 && resp.StatusCode != 422 {
			t.Errorf("segment %s: %d", n, resp.StatusCode)
		}
	}
	token := h.token("carol")
	call := func(method, path string) {
		t.Helper()
		if resp := h.do(httpCall{method: method, path: "/v1/sessions/" + x.ID + "/play" + path, token: token}); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text(resp))
		}
	}
	before := len(h.looks(x))
	for _, path := range paths {
		call("GET", path)
	}
	call("POST", "/end")
	g := read[api.Playback](h, x, "").Segments
	seen := fmt.Sprintf("0-%d", int(math.Ceil(g[2].At+1e-6)))
	if told := h.looks(x)[before:]; !slices.Equal(told[:3], []string{"play", "find", seen}) {
		t.Errorf("told %q, want the opening, the search and %s", told, seen)
	}
}

// looks lists what the audit log tells of looks at a recording.
func (h *house) looks(x access.Session) (list []string) {
	for _, e := range must(h.broker.Events(h.t.Context(), h.by("carol"), broker.EventFilter{Session: x.ID, Action: "session.replay", Limit: 1000})) {
		if e.Outcome == "refused" {
			continue
		}
		how := e.Details["how"]
		if how == "seen" {
			how = e.Details["seconds"]
		}
		list = append(list, how)
	}
	return list
}

// TestPlayBeforeItsView opens a recording whose view is not there yet, and then is.
func TestPlayBeforeItsView(t *testing.T) {
	h := newTheatre(t)
	x := h.stage(80, 24, anHour()...)
	callJSON[api.Problem](h, "carol", "GET", "/v1/sessions/"+x.ID+"/play", nil, 409)
	resp := h.do(httpCall{method: "GET", path: "/sessions/" + x.ID + "/play", cookie: h.token("carol")})
	if body := text(resp); resp.StatusCode != 200 || !strings.Contains(body, "being prepared") || strings.Contains(body, "postgresql") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if told := h.looks(x); len(told) != 0 {
		t.Errorf("nothing was shown, but told is %q", told)
	}
	h.prepare(x)
	if p := read[api.Playback](h, x, ""); len(p.Texts) == 0 {
		t.Errorf("playback %+v", p)
	}
}

// TestPlayedIsBounded keeps the views that are watched: no more bytes than it may,
// and none for long.
func TestPlayedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &played{now: time.Now, kept: map[string]*playedView{}}
		reads := 0
		get := func(name string, size int64, err error) {
			t.Helper()
			if _, got := c.get(t.Context(), name, func() (*playable, error) { reads++; return &playable{size: size}, err }); got != err {
				t.Errorf("%s: %v", name, got)
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		get("a", maxPlayed/2, nil)
		get("a", maxPlayed/2, nil)
		get("b", maxPlayed/2, nil)
		get("bad", 0, errNoView)
		get("bad", 0, errNoView)
		if reads != 4 || len(c.kept) != 2 {
			t.Errorf("%d read, %d kept", reads, len(c.kept))
		}
		get("c", maxPlayed/2, nil) // a goes
		get("b", maxPlayed/2, nil)
		get("a", maxPlayed/2, nil)
		if reads != 6 || len(c.kept) != 2 {
			t.Errorf("%d read, %d kept", reads, len(c.kept))
		}
		if _, err := c.get(t.Context(), "hostile", func() (*playable, error) { panic("hostile") }); err == nil {
			t.Error("a panic is no error")
		}
		time.Sleep(2 * keepPlayed)
		synctest.Wait()
		if len(c.kept) != 0 {
			t.Errorf("%d kept for long", len(c.kept))
		}
	})
}

// TestPlayHostile plays what was recorded of somebody who wants to reach the
// auditor's browser.
func TestPlayHostile(t *testing.T) {
	h := newTheatre(t)
	x := h.perform(80, 24, hostile()...)
	index := read[api.PlayIndex](h, x, "/index")
	for n, g := range index.Segments {
		part := read[api.PlayPart](h, x, "/"+g.URL)
		for _, text := range append([]string{part.Snapshot.Init}, texts(part)...) {
			if again := filtered(text); again != text {
				t.Errorf("segment %d: %q", n, text)
			}
		}
		if part.Snapshot.Cols > maxPlayedCols || part.Snapshot.Rows > maxPlayedRows {
			t.Errorf("segment %d is %dx%d", n, part.Snapshot.Cols, part.Snapshot.Rows)
		}
		for _, e := range part.Events {
			if e[1] == "r" && e[2] != "500x250" && e[2] != "80x24" {
				t.Errorf("resized to %v", e[2])
			}
			if e[1] != "o" && e[1] != "r" {
				t.Errorf("event %v", e)
			}
		}
		for _, l := range read[api.PlayScreen](h, x, fmt.Sprintf("/screens/%d", n)).Lines {
			if !view.Plain(l) {
				t.Errorf("screen %d: %q", n, l)
			}
		}
	}
}

func texts(p api.PlayPart) (list []string) {
	for _, e := range p.Events {
		if e[1] == "o" {
			list = append(list, e[2].(string))
		}
	}
	return list
}

// hostile tries what a page, a terminal and a list could fall for.
func hostile() []cast.Event {
	var y typing
	y.out(prompt)
	script := `<script>document.title="owned"</script><img src=x onerror="document.title='owned'">`
	y.run("echo '"+script+"'", script+"\n")
	y.run(`echo "\"><svg/onload=document.title='owned'>"`, "\"><svg/onload=document.title='owned'>\n")
	y.out("\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\x1bP+q\x1b\\\x1b[c\x1b[6n\x1b[?1003h\x1b[9999999b\x1b[8mhidden\x1b[0m\u202egnp.exe\u2066\n")
	for _, size := range []string{"16384x16384", "99999x1", "0x0", "-1x-1", "80x24"} {
		y.wait(time.Second)
		y.events = append(y.events, cast.Event{At: y.at, Stream: cast.Resize, Data: []byte(size)})
	}
	y.mark(`</script><script>document.title="owned"</script>`)
	y.events = append(y.events, cast.Event{At: y.at, Stream: cast.File, Data: must(cast.FileEvent{What: "refuse", Direction: "upload", Path: "/tmp/<b onmouseover=document.title='owned'>\x1b]0;owned\x07", Result: "refused"}.MarshalText())})
	y.wait(15 * time.Second)
	y.run("true", "\xff\xfe\n")
	return y.events
}

// TestCheckRecording has the server verify what is whole, and what is not.
func TestCheckRecording(t *testing.T) {
	h := newTheatre(t)
	x := h.perform(80, 24, anHour()...)
	check := func() api.RecordingCheck {
		t.Helper()
		return callJSON[api.RecordingCheck](h, "carol", "POST", "/v1/sessions/"+x.ID+"/check", api.Empty{}, 200)
	}
	if c := check(); !c.Whole || c.By != "carol" || c.At == nil {
		t.Errorf("check %+v", c)
	}
	whole := h.casts[x.ID]
	h.casts[x.ID] = bytes.Replace(whole, []byte("load average"), []byte("load overage"), 1)
	if c := check(); c.Whole || !strings.Contains(c.Finding, "the audit log says") {
		t.Errorf("altered: %+v", c)
	}
	page := text(h.do(httpCall{method: "GET", path: "/sessions/" + x.ID + "/play", cookie: h.token("carol")}))
	if !strings.Contains(page, "not whole") || !strings.Contains(page, "the audit log says") {
		t.Error("the page does not say that it is not whole")
	}
	// One whose seal is by somebody else, of whom the log says the same.
	skey, _, err := note.GenerateKey(nil, "mallory")
	if err != nil {
		t.Fatal(err)
	}
	h.signer = must(note.NewSigner(skey))
	x = h.perform(80, 24, anHour()...)
	if c := check(); c.Whole || !strings.Contains(c.Finding, "unknown key") {
		t.Errorf("sealed by another: %+v", c)
	}
}
