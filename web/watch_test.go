package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/api"
)

// oneKey wraps the keys of journals with one of its own.
type oneKey struct{ aead cipher.AEAD }

func (k oneKey) Wrap(id string, key []byte) ([]byte, error) {
	return k.aead.Seal(nil, nil, key, []byte(id)), nil
}

func (k oneKey) Unwrap(id string, wrapped []byte) ([]byte, error) {
	return k.aead.Open(nil, nil, wrapped, []byte(id))
}

// A stage is a house in which sessions run, over a real connection.
type stage struct {
	*house
	recorder *recorder.Recorder
	http     *httptest.Server
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	skey, _, err := note.GenerateKey(rand.Reader, "recorder")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{recorder: must(recorder.New(recorder.Config{
		Journals: filepath.Join(dir, "journals"), Sink: must(recorder.Directory(filepath.Join(dir, "sealed"))),
		Recipients: []age.Recipient{must(age.GenerateX25519Identity()).Recipient()}, Signer: must(note.NewSigner(skey)), Floor: 1,
		Wrapper: oneKey{must(cipher.NewGCMWithRandomNonce(must(aes.NewCipher(make([]byte, 32)))))},
	}))}
	s.house = newHouse(t, func(c *Config) { c.Follow = s.recorder.Follow })
	roles := map[string][]string{"auditor": {"session.watch"}, "responder": {"session.watch", "session.moderate"}}
	for name, more := range roles {
		r := must(s.broker.FindRole(t.Context(), s.by("root"), name))
		r.Rules[0].Actions = append(r.Rules[0].Actions, more...)
		must(s.broker.SetRole(t.Context(), s.by("root"), r))
	}
	s.http = httptest.NewTLSServer(s.server.Handler())
	t.Cleanup(s.http.Close)
	return s
}

// A running session, as the bastion would carry it.
type running struct {
	*broker.Live
	rec *recorder.Recording
	end func(reason string)
}

func (s *stage) run(kind, terminal string) running {
	s.t.Helper()
	ctx := s.t.Context()
	c := must(s.broker.Request(ctx, s.by("alice"), broker.Ask{Target: "db01", Account: "guest", Reason: "INC-7 look"}))
	l := must(s.broker.Open(ctx, s.by("alice"), c.Grant.ID, broker.Opening{Kind: kind, Client: "SSH-2.0-OpenSSH_9.9"}))
	x := running{Live: l, rec: must(s.recorder.Start(ctx, recorder.Header{ID: l.Session.ID, Kind: kind, Terminal: terminal, Width: 80, Height: 24}))}
	if err := s.broker.Started(ctx, l); err != nil {
		s.t.Fatal(err)
	}
	ended := false
	x.end = func(reason string) {
		if ended {
			return
		}
		ended = true
		if _, err := x.rec.Close(context.Background(), recorder.End{Reason: reason}); err != nil {
			s.t.Error(err)
		}
		if err := s.broker.Close(context.Background(), l, broker.Closing{Reason: reason}); err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(func() { x.end("exited") })
	return x
}

func (x running) shows(t *testing.T, text string) {
	t.Helper()
	if err := x.rec.Write(recorder.Output, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) client(name string) *api.Client {
	return &api.Client{Server: s.http.URL, Token: s.token(name), HTTP: s.http.Client()}
}

func (s *stage) watch(name, id string, o api.WatchOptions) *api.Watcher {
	s.t.Helper()
	w, err := s.client(name).Watch(s.t.Context(), id, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { w.Close() })
	return w
}

// until reads what is watched up to an event of that kind in which a text is.
func until(t *testing.T, w *api.Watcher, kind, part string) api.WatchEvent {
	t.Helper()
	for {
		e, err := w.Next()
		if err != nil {
			t.Fatalf("before %s %q: %v", kind, part, err)
		}
		if e.Kind == kind && strings.Contains(e.Text, part) {
			return e
		}
		if strings.Contains(e.Text, "hunter2") {
			t.Errorf("a key is shown: %+v", e)
		}
	}
}

var fromNow = api.WatchOptions{At: -1}

func (h *house) watched(n int) []audit.Event {
	h.t.Helper()
	var list []audit.Event
	for deadline := time.Now().Add(time.Minute); len(list) < n && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		list = must(h.broker.Events(h.t.Context(), h.by("carol"), broker.EventFilter{Action: "session.watched", Limit: 100}))
	}
	if len(list) != n {
		h.t.Fatalf("%d events of watching, want %d", len(list), n)
	}
	return list
}

// A watcher sees the screen as it stands, then what the user sees, within a second,
// and how it ends. What was typed is not shown.
func TestWatchSession(t *testing.T) {
	s := newStage(t)
	x := s.run("shell", "xterm")
	x.shows(t, "\x1b[2J\x1b[H$ vi\r\n\x1b[?1049h\x1b[5;10Hin the editor")
	if err := x.rec.Write(recorder.Input, []byte("hunter2\r")); err != nil {
		t.Fatal(err)
	}
	w := s.watch("carol", x.Session.ID, fromNow)
	begin := until(t, w, api.WatchBegin, "")
	if begin.Session == nil || begin.Session.User != "alice" || begin.Text != "" {
		t.Errorf("begin %+v", begin)
	}
	if e := until(t, w, api.WatchScreen, "in the editor"); e.Columns != 80 || e.Rows != 24 || strings.Contains(e.Text, "$ vi") {
		t.Errorf("screen %+v", e)
	}
	soonest := time.Hour // a busy machine may be late now and then
	for range 5 {
		shown := time.Now()
		x.shows(t, "then ")
		until(t, w, api.WatchOutput, "then ")
		soonest = min(soonest, time.Since(shown))
	}
	t.Logf("it is seen after %s", soonest)
	if soonest > time.Second {
		t.Errorf("it took %s", soonest)
	}
	x.shows(t, "now \xe2\x82")
	until(t, w, api.WatchOutput, "now ")
	x.shows(t, "\xac and \xff")
	if e := until(t, w, api.WatchOutput, "and"); e.Text != "€ and \uFFFD" {
		t.Errorf("got %q", e.Text)
	}
	if err := x.rec.Resize(120, 40); err != nil {
		t.Fatal(err)
	}
	if e := until(t, w, api.WatchResize, ""); e.Columns != 120 || e.Rows != 40 {
		t.Errorf("resize %+v", e)
	}
	if err := x.rec.Mark("paused by bob"); err != nil {
		t.Fatal(err)
	}
	until(t, w, api.WatchMark, "paused by bob")
	// From the beginning, too.
	all := s.watch("bob", x.Session.ID, api.WatchOptions{})
	until(t, all, api.WatchOutput, "$ vi")
	all.Close()
	x.end("exited")
	until(t, w, api.WatchEnd, "exited")
	if _, err := w.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	for _, e := range s.watched(2) {
		if e.Session != x.Session.ID || e.Details["from_seconds"] == "" || e.Details["to_seconds"] == "" || e.ActorName == "bob" && e.Details["from_seconds"] != "0.000" {
			t.Errorf("event %+v", e)
		}
	}
}

// What is shown as screens is text, colours and movements, whatever the session
// writes; and lines that no terminal has seen are lines.
func TestWatchScreens(t *testing.T) {
	s := newStage(t)
	x := s.run("exec", "")
	get := func(query string) (kinds string, last api.WatchEvent) {
		t.Helper()
		r, err := http.NewRequest("GET", s.http.URL+"/v1/sessions/"+x.Session.ID+"/watch?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.token("carol"))
		answer := must(s.http.Client().Do(r))
		defer answer.Body.Close()
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
				t.Fatal(err)
			}
			kinds += last.Kind + " "
		}
		return kinds, last
	}
	x.shows(t, "one\ntwo\n\x1b]0;title\x07\x1b]52;c;cGF5bG9hZA==\x07\x1b[6n\x1bP+q544e\x1b\\\x1b[31mred\x1b[0m<script>\x9b5n\u202e")
	kinds, e := get("form=screen&still=true")
	if kinds != "begin screen " || !strings.Contains(e.Text, "<script>") || !strings.Contains(e.Text, "two") {
		t.Errorf("%s%q", kinds, e.Text)
	}
	for _, part := range strings.Split(e.Text, "\x1b")[1:] {
		rest := strings.TrimLeft(part, "[0123456789;:")
		if !strings.HasPrefix(part, "[") || rest == "" || rest[0] != 'm' && rest[0] != 'H' {
			t.Errorf("a sequence %q is on the screen", part)
		}
	}
	for _, bad := range []string{"title", "cGF5", "\x07", "\u202e", "\u009b"} {
		if strings.Contains(e.Text, bad) {
			t.Errorf("%q is on the screen: %q", bad, e.Text)
		}
	}
	// As it was.
	time.Sleep(1100 * time.Millisecond)
	x.shows(t, "later\n")
	if _, e := get(fmt.Sprintf("form=screen&still=true&at=%.3f", e.At+0.5)); strings.Contains(e.Text, "later") || !strings.Contains(e.Text, "two") {
		t.Errorf("half a second later: %q", e.Text)
	}
	if _, e := get("form=screen&still=true&at=1000"); !strings.Contains(e.Text, "later") {
		t.Errorf("at a time that has not come: %q", e.Text)
	}
}

// A watcher who does not read is cut, and neither the session nor another watcher
// notices.
func TestWatcherDoesNotRead(t *testing.T) {
	s := newStage(t)
	s.server.watchWithin = 5 * time.Second
	x := s.run("shell", "xterm")
	s.watch("bob", x.Session.ID, fromNow) // and nothing is read
	w := s.watch("carol", x.Session.ID, fromNow)
	until(t, w, api.WatchScreen, "")
	seen := make(chan bool)
	go func() {
		defer close(seen)
		for {
			if e, err := w.Next(); err != nil || strings.Contains(e.Text, "the last line") {
				seen <- err == nil
				return
			}
		}
	}()
	line := bytes.Repeat([]byte("a line that goes by without a reader\r\n"), 800) // 30 KiB
	var longest time.Duration
	written := 0
	for cut := false; !cut; { // the network's buffers take some MiB
		for range 50 {
			began := time.Now()
			if err := x.rec.Write(recorder.Output, line); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
			written += len(line)
			time.Sleep(2 * time.Millisecond)
		}
		cut = len(must(s.broker.Events(t.Context(), s.by("carol"), broker.EventFilter{Action: "session.watched", Limit: 100}))) > 0
		if written > 500<<20 {
			t.Fatal("bob is not cut")
		}
	}
	t.Logf("after %d MiB he is cut; the longest write took %s", written>>20, longest)
	if longest > 4*time.Second { // for bob it would wait for five
		t.Error("the session waited for a watcher")
	}
	x.shows(t, "the last line")
	if !<-seen {
		t.Error("the other watcher has not seen the end")
	}
	if e := s.watched(1)[0]; e.ActorName != "bob" {
		t.Errorf("event %+v", e)
	}
}

// Who may not know of a session learns nothing, and who loses the login or the right
// is cut.
func TestWatchRefused(t *testing.T) {
	s := newStage(t)
	s.server.watchAlive = 200 * time.Millisecond
	x := s.run("shell", "xterm")
	other := "SES-" + strings.Repeat("0", 16)
	for _, verb := range []string{"watch", "message", "pause", "resume"} {
		ask := func(name, id string) (int, string) {
			c := httpCall{method: "POST", path: "/v1/sessions/" + id + "/" + verb, token: s.token(name)}
			if verb == "watch" {
				c.method = "GET"
			}
			if verb == "message" {
				c.body = `{"text":"x"}`
			}
			r := s.do(c)
			return r.StatusCode, strings.ReplaceAll(text(r), id, "ID")
		}
		there, said := ask("eve", x.Session.ID)
		not, saidOfNone := ask("eve", other)
		if there != http.StatusNotFound || not != there || said != saidOfNone {
			t.Errorf("%s: %d %s, of none %d %s", verb, there, said, not, saidOfNone)
		}
		if code, _ := ask("alice", x.Session.ID); code != http.StatusForbidden {
			t.Errorf("%s by its own user: %d", verb, code)
		}
	}
	w := s.watch("carol", x.Session.ID, fromNow)
	until(t, w, api.WatchScreen, "")
	if _, err := s.logins.RevokeAll(t.Context(), access.System(), s.people["carol"].ID); err != nil {
		t.Fatal(err)
	}
	until(t, w, api.WatchCut, "not logged in")
	w = s.watch("bob", x.Session.ID, fromNow)
	until(t, w, api.WatchScreen, "")
	if err := s.broker.RemoveRole(t.Context(), s.by("root"), "responder"); err != nil {
		t.Fatal(err)
	}
	until(t, w, api.WatchCut, "you may not watch this session any more")
	for _, e := range s.watched(2) {
		if e.Reason == "" {
			t.Errorf("event %+v does not say why", e)
		}
	}
}

// The page is used by keyboard alone, in both themes: the screen is drawn as it
// changes, a message goes out, the past is looked at, the session is cut.
func TestWatchPage(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			s := newStage(t)
			x := s.run("shell", "xterm")
			x.shows(t, "\x1b[1;32malice@db01\x1b[0m:\x1b[34m~\x1b[0m$ ls --color\r\n\x1b[44;97m tmp \x1b[0m \x1b[01;31mbackup.tar\x1b[0m 日本 é\r\n$ ")
			ctx := browser(t, scheme, true)
			do(t, ctx, chromedp.EmulateViewport(1000, 900))
			fire := s.run("shell", "xterm")
			if err := s.broker.Detected(t.Context(), fire.Live, broker.Detection{Level: access.DetectAlert, Rule: "alert x", Command: "x", Sent: true}); err != nil {
				t.Fatal(err)
			}
			s.run("exec", "")
			signIn(t, ctx, s.http.URL, "bob", "/sessions?live=true")
			if first := get(t, ctx, chromedp.Text(css(`main li:first-child`))); !strings.Contains(first, "detected") {
				t.Errorf("the first of the live sessions is %q", first)
			}
			picture(t, ctx, "watch-"+scheme+"-1-live")
			accessible(t, ctx, "the live sessions")
			do(t, ctx, chromedp.Click(css(`#wall`)))
			soon(t, ctx, `document.querySelector("[data-wall='`+x.Session.ID+`']").textContent.includes("backup.tar")`)
			accessible(t, ctx, "the live sessions with their screens")
			picture(t, ctx, "watch-"+scheme+"-1-wall")
			do(t, ctx, chromedp.Navigate(s.http.URL+"/targets"))
			for _, want := range []string{"bob watches this session", "bob no longer watches"} {
				if n := <-x.Notices(); n.Show != want {
					t.Errorf("notice %+v, want %s", n, want)
				}
			}
			do(t, ctx, chromedp.Navigate(s.http.URL+"/sessions/"+x.Session.ID+"/watch"), chromedp.WaitVisible(css(`#terminal div`)))
			wait := func(js string) {
				t.Helper()
				get(t, ctx, chromedp.Poll[bool](js))
			}
			has := func(selector, part string) {
				t.Helper()
				wait("document.querySelector(" + string(must(json.Marshal(selector))) + ").textContent.includes(" + string(must(json.Marshal(part))) + ")")
			}
			// tab goes to an element as somebody without a mouse does.
			tab := func(selector string) {
				t.Helper()
				for range 60 {
					do(t, ctx, chromedp.KeyEvent(kb.Tab))
					if get(t, ctx, chromedp.Evaluate[bool]("document.activeElement.matches("+string(must(json.Marshal(selector)))+")")) {
						return
					}
				}
				t.Fatalf("the keyboard does not reach %s", selector)
			}
			has("#terminal", "backup.tar")
			has("#said", "You watch this session; that is on record.")
			time.Sleep(1200 * time.Millisecond)
			x.shows(t, "<b>not bold</b> \x1b]0;x\x07done\r\n")
			has("#terminal", "<b>not bold</b> done")
			if err := x.rec.Mark("signal INT"); err != nil {
				t.Fatal(err)
			}
			has("#marks", "signal INT")
			picture(t, ctx, "watch-"+scheme+"-2-watch")
			accessible(t, ctx, "watching")
			// Back, and live again.
			tab("#moment")
			do(t, ctx, chromedp.KeyEvent(kb.Home))
			wait("!document.querySelector('#terminal').textContent.includes('not bold')")
			picture(t, ctx, "watch-"+scheme+"-3-back")
			tab("#golive")
			do(t, ctx, chromedp.KeyEvent(kb.Enter))
			has("#terminal", "not bold")
			// A message, a pause and its end.
			tab("input[name=text]")
			do(t, ctx, chromedp.KeyEvent("please stop"), chromedp.KeyEvent(kb.Enter))
			has("#said", "Sent.")
			if n := <-x.Notices(); !strings.Contains(n.Show, "bob watches") {
				t.Errorf("notice %+v", n)
			}
			if n := <-x.Notices(); n.Show != "message from bob: please stop" {
				t.Errorf("notice %+v", n)
			}
			tab("form[data-do=pause] button")
			do(t, ctx, chromedp.KeyEvent(kb.Enter))
			has("#said", "Input is paused.")
			if x.Held() == nil {
				t.Error("input passes")
			}
			tab("form[data-do=resume] button")
			do(t, ctx, chromedp.KeyEvent(kb.Enter))
			has("#said", "Input passes again.")
			if x.Held() != nil {
				t.Error("input is held")
			}
			tab("details summary")
			do(t, ctx, chromedp.KeyEvent(kb.Enter))
			tab("input[name=note]")
			do(t, ctx, chromedp.KeyEvent("wrong host"))
			tab("input[name=revoke]")
			do(t, ctx, chromedp.KeyEvent(" "))
			picture(t, ctx, "watch-"+scheme+"-4-end")
			tab("form[data-do=end] button")
			do(t, ctx, chromedp.KeyEvent(kb.Enter))
			has("#said", "The session is cut.")
			if err := x.Check(); !errors.Is(err, broker.ErrRevoked) {
				t.Errorf("the session: %v", err)
			}
			x.end("revoked")
			has("#said", "The session is over: revoked.")
			do(t, ctx, chromedp.EmulateViewport(360, 640))
			if w := width(t, ctx); w > 360 {
				t.Errorf("on a phone the page is %v wide", w)
			}
			picture(t, ctx, "watch-"+scheme+"-5-phone")
		})
	}
}

// wallOf reads the wall of some sessions.
func (s *stage) wallOf(name string, ids ...string) (next func() api.WallEvent) {
	s.t.Helper()
	r := must(http.NewRequest("GET", s.http.URL+"/v1/wall?id="+strings.Join(ids, "&id="), nil))
	r.Header.Set("Authorization", "Bearer "+s.token(name))
	answer := must(s.http.Client().Do(r))
	s.t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != 200 {
		s.t.Fatalf("the wall: %d %s", answer.StatusCode, text(answer))
	}
	lines := bufio.NewScanner(answer.Body)
	return func() (e api.WallEvent) {
		s.t.Helper()
		if !lines.Scan() {
			s.t.Fatal("the wall has ended")
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			s.t.Fatal(err)
		}
		return e
	}
}

// TestWall: the last lines of several sessions come in one answer; that is watching,
// to who may, on record, told to the users, and cut like it. It is not four eyes.
func TestWall(t *testing.T) {
	s := newStage(t)
	s.server.watchAlive = 200 * time.Millisecond
	one, two := s.run("shell", "xterm"), s.run("shell", "xterm")
	one.shows(t, strings.Repeat("before\r\n", 20)+"\x1b[31mlast\x1b[0m <b>line</b> \x1b]0;t\x07$ ")
	two.shows(t, "two\r\n")
	next := s.wallOf("bob", one.Session.ID, two.Session.ID, "SES-0000000000000000")
	seen := map[string]api.WallEvent{}
	for len(seen) < 3 {
		e := next()
		seen[e.Session] = e
	}
	if got := seen[one.Session.ID].Text; !strings.HasSuffix(got, "before\nlast <b>line</b> $") || strings.Count(got, "\n") != wallLines-1 || seen[one.Session.ID].Over {
		t.Errorf("of the first: %q", got)
	}
	if e := seen["SES-0000000000000000"]; !e.Over || !strings.Contains(e.Text, "no session") {
		t.Errorf("of one that is not: %+v", e)
	}
	if n := <-one.Notices(); n.Show != "bob watches this session" {
		t.Errorf("the user is told %+v", n)
	}
	two.shows(t, "more\r\n")
	if e := next(); e.Session != two.Session.ID || e.Text != "two\nmore" {
		t.Errorf("then: %+v", e)
	}
	two.end("exited")
	for e := next(); !e.Over || e.Session != two.Session.ID; e = next() {
	}
	if err := s.broker.RemoveRole(t.Context(), s.by("root"), "responder"); err != nil {
		t.Fatal(err)
	}
	for e := next(); !e.Over || !strings.Contains(e.Text, "you may not watch this session any more"); e = next() {
	}
	for _, e := range s.watched(2) {
		if e.ActorName != "bob" {
			t.Errorf("event %+v", e)
		}
	}
	for _, name := range []string{"alice", "eve"} {
		e := s.wallOf(name, one.Session.ID)()
		if !e.Over || strings.Contains(e.Text, "line") {
			t.Errorf("%s sees %+v", name, e)
		}
	}
	callJSON[api.Problem](s.house, "carol", "GET", "/v1/wall?id="+strings.Repeat("SES-0000000000000000&id=", 8)+"x", nil, 422)
}
