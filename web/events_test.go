package web

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// A pulse is a stream of changes that is read.
type pulse struct {
	t      *testing.T
	events chan [2]string // event and data; closed at the end of the stream
}

// listen connects as a browser's EventSource does.
func listen(t *testing.T, srv *httptest.Server, cookie, topic string) *pulse {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req := must(http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/events?topic="+topic, nil))
	req.AddCookie(&http.Cookie{Name: cookieName, Value: cookie})
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, text(resp))
	}
	p := &pulse{t, make(chan [2]string, 1000)}
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); resp.Body.Close(); <-ended })
	go func() {
		defer close(ended)
		defer close(p.events)
		var event [2]string
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ":")
			switch {
			case lines.Text() == "" && event[0] != "":
				p.events <- event
				event = [2]string{}
			case lines.Text() == ":":
				p.events <- [2]string{"beat"}
			case name == "event":
				event[0] = strings.TrimSpace(value)
			case name == "data":
				event[1] = strings.TrimSpace(value)
			}
		}
	}()
	return p
}

// next is the next event that is no heartbeat.
func (p *pulse) next() (event, data string) {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case e, ok := <-p.events:
			if !ok {
				return "ended", ""
			}
			if e[0] != "beat" {
				return e[0], e[1]
			}
		case <-late:
			p.t.Fatal("nothing was told for a minute")
		}
	}
}

// looks waits for a message that names an id.
func (p *pulse) looks(id string) {
	p.t.Helper()
	for {
		event, data := p.next()
		var c api.Changed
		if err := json.Unmarshal([]byte(data), &c); event != "look" || err != nil {
			p.t.Fatalf("told %s %s, want a look at %s", event, data, id)
		}
		for _, got := range c.IDs {
			if got == id {
				return
			}
		}
	}
}

// quiet wants nothing but heartbeats, as many.
func (p *pulse) quiet(beats int) {
	p.t.Helper()
	for n := 0; n < beats; {
		e, ok := <-p.events
		if !ok || e[0] != "beat" {
			p.t.Fatalf("told %v", e)
		}
		n++
	}
}

func livelyHouse(t *testing.T) (*house, *httptest.Server) {
	h := newHouse(t)
	h.server.eventsAlive, h.server.eventsPause = 100*time.Millisecond, time.Millisecond
	srv := h.serve()
	return h, srv
}

// TestEvents: each is told of what they may see, by its id and nothing else.
func TestEvents(t *testing.T) {
	h, srv := livelyHouse(t)
	first := h.ask("INC-1 the first")
	people := map[string]*pulse{}
	for _, who := range []string{"alice", "bob", "carol", "eve"} {
		people[who] = listen(t, srv, h.token(who), "requests")
	}
	of := listen(t, srv, h.token("bob"), "requests:"+first.ID)
	spy := listen(t, srv, h.token("eve"), "requests:"+first.ID)
	second := h.ask("INC-2 the second, with a secret in its reason")
	for _, who := range []string{"alice", "bob", "carol"} {
		people[who].looks(second.ID)
	}
	must(h.broker.Approve(t.Context(), h.by("bob"), first.ID, first.Digest, broker.Answer{}))
	for _, who := range []string{"alice", "bob", "carol"} {
		people[who].looks(first.ID)
	}
	event, data := of.next()
	if event != "look" || data != `{"ids":["`+first.ID+`"]}` {
		t.Errorf("of one request: %s %s", event, data)
	}
	for _, p := range []*pulse{people["eve"], spy} {
		p.quiet(5)
	}
}

// TestEventsAreCut: who may not look any more is told so, and then nothing.
func TestEventsAreCut(t *testing.T) {
	h, srv := livelyHouse(t)
	for _, c := range []struct {
		name string
		cut  func(token string)
		want string
	}{
		{"signed out", func(string) { must(h.logins.RevokeAll(t.Context(), access.System(), h.people["bob"].ID)) }, "DB-4001"},
		{"locked", func(string) {
			if err := h.broker.LockUser(t.Context(), h.by("root"), "bob", true, "INC-9 gone"); err != nil {
				t.Fatal(err)
			}
		}, "DB-4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := h.token("bob")
			p := listen(t, srv, token, "requests")
			begin := time.Now()
			c.cut(token)
			event, data := p.next()
			for event == "look" { // of before
				event, data = p.next()
			}
			if event != "cut" || !strings.Contains(data, c.want) {
				t.Errorf("told %s %s", event, data)
			}
			if event, data := p.next(); event != "ended" {
				t.Errorf("after the cut: %s %s", event, data)
			}
			t.Logf("cut after %s", time.Since(begin).Round(time.Millisecond))
		})
	}
	if alive := must(New(h.server.c)).eventsAlive; alive >= 5*time.Second {
		t.Errorf("a right that is lost is noticed after %s", alive)
	}
}

// TestEventsAreBounded floods the streams of one person; others have theirs.
func TestEventsAreBounded(t *testing.T) {
	h, srv := livelyHouse(t)
	token := h.token("alice")
	for range maxFollowed {
		listen(t, srv, token, "requests")
	}
	call := func(token, topic string) (int, string) {
		req := must(http.NewRequest("GET", srv.URL+"/v1/events?topic="+topic, nil))
		req.Header.Set("Authorization", "Bearer "+token)
		resp := must(srv.Client().Do(req))
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4000)) // a refusal is whole
		return resp.StatusCode, string(b)
	}
	if status, body := call(token, "requests"); status != 429 || !strings.Contains(body, "DB-6240") {
		t.Errorf("one more: %d %s", status, body)
	}
	listen(t, srv, h.token("bob"), "requests")
	h.server.follows = newCounter(0)
	if status, body := call(h.token("carol"), "requests"); status != 429 || !strings.Contains(body, "DB-6241") {
		t.Errorf("when the server has no more: %d %s", status, body)
	}
	for _, topic := range []string{"", "people", "requests:", strings.Repeat("x", 65)} {
		if status, body := call(h.token("carol"), topic); status != 422 {
			t.Errorf("topic %q: %d %s", topic, status, body)
		}
	}
}

// TestJump finds what the caller may know of, and nothing else.
func TestJump(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-77 replication lag")
	for _, c := range []struct {
		who, q string
		want   []string
	}{
		{"alice", "DB0", []string{"/targets/db01", "/targets/db02", "/r/" + r.ID}}, {"alice", "inc-77", []string{"/r/" + r.ID}}, {"alice", "bob", nil}, {"alice", r.ID, []string{"/r/" + r.ID}},
		{"eve", "db0", nil}, {"eve", r.ID, nil}, {"root", "bo", []string{"/people/bob"}}, {"alice", "%", nil}, {"alice", "<script>", nil},
	} {
		got := callJSON[api.List[api.Hit]](h, c.who, "GET", "/v1/jump?q="+strings.NewReplacer("%", "%25", "<", "%3C").Replace(c.q), nil, 200)
		var urls []string
		for _, hit := range got.Items {
			urls = append(urls, hit.URL)
		}
		if strings.Join(urls, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s finds by %q: %v, want %v", c.who, c.q, urls, c.want)
		}
	}
	callJSON[api.Problem](h, "alice", "GET", "/v1/jump", nil, 422)
}
