package slack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// TestRefusals: clicks that do not count are answered to who clicked, in the
// broker's own words, and change nothing.
func TestRefusals(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("erin", "root@db01")
	yes := button(t, card, "approve")
	id := c.Request.ID

	h.presses("erin", yes) // approves for others, and this is her own
	h.hears("erin", "vote.own")
	h.presses("mallory", yes) // is linked, and may not know of it
	h.hears("mallory", "DB-2102")
	h.presses("stranger", yes)
	h.hears("stranger", "DB-6193")

	foreign := h.fake.Press("UBOB", yes) // the id of an account is one in its own workspace only
	foreign.Payload["user"].(map[string]any)["team_id"] = "T0EVIL"
	h.does(foreign)
	h.hears("bob", "DB-6194")

	h.setGroups("dave", "engineers") // after the message, before the click
	h.presses("dave", yes)
	h.hears("dave", "DB-2102")

	stale := yes
	stale.Value = id + " " + strings.Repeat("0", 64)
	h.presses("bob", stale)
	h.hears("bob", "DB-3004")
	for _, value := range []string{"", "REQ-nonsense", "GRA-0000000000000000 x", id + " " + c.Request.Digest() + " more", "'; DROP TABLE requests; --", strings.Repeat("x", 5000)} {
		bad := yes
		bad.Value = value
		h.presses("bob", bad)
	}
	h.hears("bob", "DB-6199")
	if now := h.state(id); now.Grant != nil || len(now.Request.Approvals) != 0 {
		t.Fatalf("something counted: %+v", now.Request)
	}

	h.presses("bob", yes)
	h.shows(card, "Approved by")
	h.presses("bob", yes) // his own, again, from another copy
	h.hears("bob", "already approved by bob")
	h.setGroups("dave", "approvers")
	h.presses("dave", yes) // too late
	h.hears("dave", "already approved by bob")
	if n := h.events("request.approve", audit.Done); n != 1 {
		t.Errorf("%d approvals", n)
	}
}

// TestTwoAtOnce: two people press at the same moment. Where one yes is needed one
// of them gave it, and where two are, both.
func TestTwoAtOnce(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	for _, what := range []string{"root@db01", "root@db02"} {
		c, card := h.asked("alice", what)
		yes := button(t, card, "approve")
		var all sync.WaitGroup
		for range 3 {
			for _, who := range []string{"bob", "dave"} {
				d := h.fake.Press(slackID(who), yes)
				all.Go(func() {
					if _, err := h.fake.Deliver(context.Background(), d); err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		h.shows(card, "Approved by")
		now := h.state(c.Request.ID)
		if want := c.Request.Needs[0].Count; now.Grant == nil || len(now.Request.Approvals) != want {
			t.Errorf("%s: %d approvals, want %d", what, len(now.Request.Approvals), want)
		}
		must(h.Release(context.Background(), h.as("alice"), c.Request.ID))
	}
	if n := h.events("grant.open", audit.Done); n != 2 {
		t.Errorf("%d grants", n)
	}
}

// post sends bytes to an app as they are.
func post(t testing.TB, app http.Handler, header http.Header, contentType string, body []byte) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/slack/events", bytes.NewReader(body))
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	app.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestSignature: only what Slack has signed, not long ago, counts, and counts
// once: on another server and after a restart, too.
func TestSignature(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	c, card := h.asked("alice", "root@db02")
	secret := h.fake.SigningSecret
	contentType, body, err := h.fake.Press("UBOB", button(t, card, "approve")).Form()
	ok(t, err)
	now := time.Now()
	good := slacktest.Sign(secret, now, body)
	with := func(change func(http.Header)) http.Header {
		h := good.Clone()
		change(h)
		return h
	}
	other := append(bytes.Clone(body), '&')
	for name, try := range map[string]struct {
		header http.Header
		body   []byte
	}{
		"none":               {http.Header{}, body},
		"another secret":     {slacktest.Sign("other", now, body), body},
		"an empty secret":    {slacktest.Sign("", now, body), body},
		"another body":       {good, other},
		"another time":       {with(func(h http.Header) { h.Set("X-Slack-Request-Timestamp", fmt.Sprint(now.Unix()+1)) }), body},
		"six minutes old":    {slacktest.Sign(secret, now.Add(-6*time.Minute), body), body},
		"six minutes ahead":  {slacktest.Sign(secret, now.Add(6*time.Minute), body), body},
		"no time":            {with(func(h http.Header) { h.Del("X-Slack-Request-Timestamp") }), body},
		"two signatures":     {with(func(h http.Header) { h.Add("X-Slack-Signature", "v0=00") }), body},
		"an empty signature": {with(func(h http.Header) { h.Set("X-Slack-Signature", "v0=") }), body},
		"too large":          {slacktest.Sign(secret, now, bytes.Repeat([]byte("x"), 70_000)), bytes.Repeat([]byte("x"), 70_000)},
	} {
		if code, said := post(t, h.app, try.header, contentType, try.body); code != http.StatusUnauthorized && (name != "too large" || code != http.StatusRequestEntityTooLarge) {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
	// The payload in the address is nobody's business: only the body is signed.
	r := httptest.NewRequest(http.MethodPost, "/slack/events?"+string(body), strings.NewReader(""))
	for k, v := range slacktest.Sign(secret, now, nil) {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	if h.app.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
		t.Errorf("a payload in the address: %d", w.Code)
	}
	if len(h.state(c.Request.ID).Request.Approvals) != 0 {
		t.Fatal("a forged click counted")
	}

	if code, said := post(t, h.app, good, contentType, body); code != http.StatusOK {
		t.Fatalf("what is signed: %d %s", code, said)
	}
	h.shows(card, "more are needed")
	upper := with(func(h http.Header) {
		h.Set("X-Slack-Signature", "v0="+strings.ToUpper(strings.TrimPrefix(h.Get("X-Slack-Signature"), "v0=")))
	})
	for _, header := range []http.Header{good, upper} {
		if code, said := post(t, h.app, header, contentType, body); code != http.StatusUnauthorized || !strings.Contains(said, "DB-6195") {
			t.Errorf("a replay: %d %s", code, said)
		}
	}
	// Another process on the same database.
	h.stop()
	db := must(store.Open(context.Background(), store.Config{URL: h.url, Now: h.clock.now}))
	defer db.Close()
	after := h.open(slack.HTTPMode, db)
	if code, said := post(t, after, good, contentType, body); code != http.StatusUnauthorized {
		t.Errorf("a replay after a restart: %d %s", code, said)
	}
	// The same deed, signed anew, as Slack does when it thinks that it got lost.
	if code, _ := post(t, after, slacktest.Sign(secret, now.Add(time.Second), body), contentType, body); code != http.StatusOK {
		t.Errorf("a retry: %d", code)
	}
	if n := h.events("request.approve", audit.Done) + h.events("request.approve", audit.Refused); n != 1 {
		t.Errorf("%d votes were tried, one was meant", n)
	}
}

// TestEmptySecret: an app that would believe everybody does not begin.
func TestEmptySecret(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	for name, change := range map[string]func(*slack.Config){
		"an empty signing secret": func(c *slack.Config) { c.SigningSecret = vault.NewSecret(nil) },
		"no signing secret":       func(c *slack.Config) { c.SigningSecret = vault.Secret{} },
		"no bot token":            func(c *slack.Config) { c.BotToken = vault.Secret{} },
		"no app token":            func(c *slack.Config) { c.Mode, c.AppToken = slack.SocketMode, vault.Secret{} },
		"no channel":              func(c *slack.Config) { c.Channel = "" },
		"tokens over plain HTTP":  func(c *slack.Config) { c.APIURL = "http://slack.example.com/api/" },
		"another mode":            func(c *slack.Config) { c.Mode = "telepathy" },
	} {
		c := h.config(slack.HTTPMode, h.db)
		change(&c)
		if _, err := slack.New(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// With Socket Mode nothing is taken by HTTP, however it is signed.
	c := h.config(slack.SocketMode, h.db)
	body := []byte("payload={}")
	if code, _ := post(t, must(slack.New(c)), slacktest.Sign(h.fake.SigningSecret, time.Now(), body), "application/x-www-form-urlencoded", body); code != http.StatusUnauthorized {
		t.Errorf("by HTTP in Socket Mode: %d", code)
	}
	challenge := []byte(`{"type":"url_verification","challenge":"abc"}`)
	if code, said := post(t, h.app, slacktest.Sign(h.fake.SigningSecret, time.Now(), challenge), "application/json", challenge); code != http.StatusOK || !strings.Contains(said, "abc") {
		t.Errorf("the challenge: %d %s", code, said)
	}
}

// TestFlood: ten thousand clicks of one person are no ten thousand votes, events
// or answers, and others go on.
func TestFlood(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	c, card := h.asked("erin", "root@db01")
	yes := button(t, card, "approve")
	before := must(h.db.AuditSize(context.Background()))
	refused := 0
	contentType, form, err := h.fake.Press("UERIN", yes).Form()
	ok(t, err)
	at := h.clock.now()
	h.clock.held.Store(&at) // they come at once, however slow the machine is
	for i := range 10_000 {
		body := bytes.Replace(form, []byte("trigger-UERIN-"), fmt.Appendf(nil, "trigger-UERIN-%d-", i), 1)
		switch code, said := post(t, unsigned{h}, nil, contentType, body); code {
		case http.StatusOK:
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			refused++
		default:
			t.Fatalf("%d %s", code, said)
		}
	}
	h.clock.held.Store(nil)
	if refused < 9_000 {
		t.Errorf("only %d of 10,000 clicks were turned away", refused)
	}
	h.presses("bob", yes)
	h.shows(card, "Approved by")
	h.stop()
	if n := must(h.db.AuditSize(context.Background())) - before; n > 1_000 {
		t.Errorf("%d events of one flood", n)
	}
	if a := h.state(c.Request.ID).Request.Approvals; len(a) != 1 || a[0].UserName != "bob" {
		t.Errorf("%+v", a)
	}
}

// unsigned signs what passes, so that a flood is of good signatures.
type unsigned struct{ h *house }

func (u unsigned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	for k, v := range slacktest.Sign(u.h.fake.SigningSecret, time.Now(), body) {
		r.Header[k] = v
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	u.h.app.ServeHTTP(w, r)
}

// TestHostileText: what somebody writes cannot call a channel, lead elsewhere, or
// look like what we say.
func TestHostileText(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	for _, reason := range []string{
		"<!channel> <!here> <@UBOB> look", "<https://evil.example.com|Approved by bob>", "*Approved* `by` _bob_ ~no~ :white_check_mark:",
		"```\\ncode```", "&lt;!channel&gt; &amp; <", "@channel @everyone", strings.Repeat("x <!channel> ", 70), `","type":"button","url":"https://evil.example.com`,
	} {
		c := must(h.Request(ctx, h.as("alice"), broker.Ask{Target: "db01", Account: "root", Reason: reason, Duration: time.Hour}))
		h.tell(notify.Asked, c.Request.ID)
		card := h.card()
		if strings.Contains(card.Text, "<") || strings.Contains(card.Text, "&lt;!channel&gt;") != (strings.Contains(reason, "<!channel>")) && !strings.HasPrefix(reason, "&lt;") {
			t.Errorf("the text of %.40q is %q", reason, card.Text)
		}
		for _, text := range slacktest.Marked(card) {
			if strings.Contains(text, "evil") || strings.Contains(text, "<!channel") || strings.Contains(text, "Approved") {
				t.Errorf("markup of %.40q: %q", reason, text)
			}
		}
		must(h.Cancel(ctx, h.as("alice"), c.Request.ID))
	}
	// What hides or turns text around never gets as far.
	for _, reason := range []string{"INC-1 \u202egnp.exe", "INC-1 a\u200bb", "INC-1 \x1b[31m", "\u3164"} {
		if _, err := h.Request(ctx, h.as("alice"), broker.Ask{Target: "db01", Account: "root", Reason: reason}); err == nil {
			t.Errorf("the reason %q was taken", reason)
		}
	}
	h.does(h.fake.Command("UALICE", room, "db01 as root for 1h <!channel> `x` <https://evil.example.com|y>"))
	h.hears("alice", "Send")
	h.does(h.fake.Command("UALICE", room, "<!channel>"))
	h.hears("alice", "DB-1001")
}

// TestAnswersStayWithSlack: an address for an answer that is not Slack's is not
// called, though Slack vouches for what it stands in.
func TestAnswersStayWithSlack(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	called := make(chan struct{}, 1)
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	defer inside.Close()
	d := h.fake.Command("UBOB", room, "help")
	d.Payload["response_url"] = inside.URL + "/hook"
	h.does(d)
	h.hears("bob", "/access inbox") // in another way
	select {
	case <-called:
		t.Error("an address in our own network was called")
	default:
	}
}

// TestNothingSecret: no message holds a token or a link that is worth something.
func TestNothingSecret(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, _ := h.asked("alice", "root@db01")
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	h.tell(notify.Approved, c.Request.ID)
	for _, m := range append(h.fake.Messages(room), h.fake.Messages("DUALICE")...) {
		text := m.Text + string(m.Blocks)
		for _, bad := range []string{"xoxb", "xapp", "token=", "code=", "token", "password"} {
			if strings.Contains(text, bad) {
				t.Errorf("a message holds %q: %s", bad, text)
			}
		}
		for _, part := range strings.Split(text, "https://")[1:] {
			u, err := url.Parse("https://" + strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(`"|\`, r) })[0])
			if err != nil || u.RawQuery != "" || u.Host != "gw.example.com" {
				t.Errorf("a message leads to %v", u)
			}
		}
	}
}

// TestLostRightBetween: a vote that was given by a click is worth nothing any more
// once its giver has lost the right, before the second.
func TestLostRightBetween(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db02")
	h.presses("bob", button(t, card, "approve"))
	card = h.shows(card, "more are needed")
	h.setGroups("bob", "engineers")
	h.presses("dave", button(t, card, "approve"))
	h.shows(card, "UDAVE")
	if now := h.state(c.Request.ID); now.Grant != nil {
		t.Fatal("a lost right has counted")
	}
	h.presses("erin", button(t, card, "approve"))
	h.shows(card, "Approved by")

}

// TestForgedFlood: who only claims to be Slack, which anybody can, fills no log.
func TestForgedFlood(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	var lines atomic.Int64
	c := h.config(slack.HTTPMode, h.db)
	c.Log = slog.New(slog.NewTextHandler(counter{&lines}, nil))
	app := must(slack.New(c))
	for range 2_000 {
		if code, said := post(t, app, http.Header{}, "application/json", []byte("{}")); code != http.StatusUnauthorized || !strings.Contains(said, "DB-6195") {
			t.Fatalf("%d %s", code, said)
		}
	}
	if n := lines.Load(); n < 1 || n > 200 {
		t.Errorf("%d lines of 2,000 forged requests", n)
	}
}

// A counter counts what is written.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(1)
	return len(b), nil
}
