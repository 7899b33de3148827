package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/notify/mail"
	"github.com/drawbolt/drawbolt/broker/notify/mattermost"
	"github.com/drawbolt/drawbolt/broker/notify/pagerduty"
	"github.com/drawbolt/drawbolt/broker/notify/teams"
	"github.com/drawbolt/drawbolt/broker/notify/webhook"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/test/servers"
)

const base = "https://gw.example.com"

var at = time.Date(2026, 3, 2, 9, 14, 7, 0, time.UTC)

// evil is what a requester may write to look like something else.
const evil = `INC-7 <b>approved</b> [press here](https://evil.example) **ok** @channel <!channel> ` + "`x` \u202e" + `"} Bcc: eve@example.com`

// samples are notices of which the messages are golden files.
func samples() map[string]notify.Notice {
	person := func(name string) access.User {
		return access.User{ID: "USR-" + name, Name: name, Attributes: map[string]string{"email": name + "@example.com"}}
	}
	alice := person("alice")
	target := &access.Target{ID: "TGT-1", Name: "db01", Labels: access.Labels{Environment: "prod", Tier: "1", Owner: "dba team"}}
	pending := access.Request{
		ID: "REQ-0123456789abcdef", RequesterID: alice.ID, RequesterName: "alice", TargetName: "db01", Account: "root", Reason: "INC-1234 replication lag", Ticket: "INC-1234",
		Duration: time.Hour, Role: "dba", Source: "198.51.100.7", State: access.Pending, CreatedAt: at, ExpiresAt: at.Add(15 * time.Minute),
		Needs: []access.Need{{Count: 1, Groups: []string{"db-leads"}}, {Count: 1, Groups: []string{"security"}}},
	}
	tricky, glass, denied, approved := pending, pending, pending, pending
	tricky.Reason = evil
	glass.BreakGlass, glass.Needs, glass.Reason, glass.State, glass.Duration = true, nil, "SSO down, primary DB not accepting writes", access.Approved, 30*time.Minute
	denied.State, denied.Note = access.Denied, "after the freeze"
	approved.State, approved.Approvals = access.Approved, []access.Approval{{UserID: "USR-bob", UserName: "bob", At: at.Add(time.Minute)}}
	of := func(k notify.Kind, r access.Request) notify.Notice {
		return notify.Notice{Kind: k, At: at, Actor: "alice", Case: &broker.Case{Request: r}, Requester: &alice, Target: target, Text: r.Reason}
	}
	asked, hostile := of(notify.Asked, pending), of(notify.Asked, tricky)
	asked.Deciders = []access.User{person("bob"), person("dave")}
	hostile.Deciders = asked.Deciders[:1]
	no, yes := of(notify.Denied, denied), of(notify.Approved, approved)
	no.Actor, no.Text = "bob", denied.Note
	yes.Actor, yes.Text = "bob", ""
	yes.Case.Grant = &access.Grant{ID: "GRA-0123456789abcdef", NotBefore: at, End: at.Add(4 * time.Hour)}
	overdue := of(notify.Escalated, pending)
	overdue.Actor, overdue.Deciders, overdue.Text = "", asked.Deciders, ""
	reviewed := of(notify.Reviewed, glass)
	reviewed.Actor, reviewed.Text = "carol", "justified: the provider was down"
	unusual := of(notify.Unusual, approved)
	unusual.Text, unusual.Rule = "mysqldump --all-databases", "alert mysqldump"
	unusual.Session = &access.Session{ID: "SES-0123456789abcdef", UserName: "alice", TargetName: "db01", Account: "root", Kind: "shell"}
	bob, dave := person("bob"), person("dave")
	question, answer, handed := of(notify.Questioned, pending), of(notify.Replied, pending), of(notify.HandedOver, pending)
	question.Actor, question.Text, question.For, question.Deciders = "bob", evil, &alice, asked.Deciders
	answer.Text, answer.For = "the replica lags, too", &bob
	handed.Actor, handed.Text, handed.For, handed.Deciders = "bob", "you know these disks", &dave, asked.Deciders
	onGlass, onAlarm, expected := of(notify.Acknowledged, glass), unusual, unusual
	onGlass.Actor, onGlass.Text = "carol", ""
	onAlarm.Kind, onAlarm.Actor, onAlarm.Text, onAlarm.Rule, onAlarm.Number = notify.Acknowledged, "carol", "", "", 1
	expected.Kind, expected.Actor, expected.Text, expected.Rule, expected.Number = notify.Expected, "carol", "the backup of CHG-7", "", 1
	reset := notify.Notice{Kind: notify.SignInReset, At: at, Actor: "root", Text: "INC-7 phone stolen " + evil, For: &bob, Way: "a passkey was taken away (" + evil + ")"}
	changed, copied := reset, reset
	changed.Kind, changed.Actor, changed.Text, changed.Way = notify.SignInChanged, "bob", "", "an authenticator was added"
	copied.Kind, copied.Actor, copied.Text = notify.PasskeyCopied, "bob", "the counter went back from 7 to 3: somebody may have a copy of this passkey"
	copied.Way = "a passkey was used that somebody has copied, and is blocked"
	all := map[string]notify.Notice{
		"way reset": reset, "way changed": changed, "way copied": copied,
		"questioned": question, "answered": answer, "handed over": handed, "on it, glass": onGlass, "on it, unusual": onAlarm, "expected": expected,
		"asked": asked, "hostile": hostile, "denied": no, "approved": yes, "escalated": overdue,
		"breakglass": of(notify.BreakGlass, glass), "reviewed": reviewed, "unusual": unusual,
		"test": {Kind: notify.Test, At: at, Actor: "root"},
	}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		n.Position = int64(4711 + i)
		all[name] = n
	}
	return all
}

// golden compares with a file, or rewrites it when UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		ok(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	ok(t, err)
	if got != string(want) {
		t.Errorf("%s is not current; UPDATE_GOLDEN=1 rewrites it. Now:\n%s", name, got)
	}
}

// A receiver keeps what it is sent, and answers as it is told.
type receiver struct {
	*httptest.Server
	out *outbound.Client // that may call it

	mu     sync.Mutex
	calls  []call
	status int
	header http.Header
	hidden string // a secret part of its address
}

type call struct {
	header http.Header
	body   string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: 200, hidden: "/hooks/s3cr3t", header: http.Header{}}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil || q.Method != http.MethodPost || q.URL.Path != r.hidden || q.URL.RawQuery != "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		r.calls = append(r.calls, call{q.Header.Clone(), string(body)})
		for name := range r.header {
			w.Header().Set(name, r.header.Get(name))
		}
		w.WriteHeader(r.status)
		fmt.Fprint(w, "said")
	}))
	t.Cleanup(r.Close)
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	r.out = outbound.New(outbound.Config{Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
	t.Cleanup(r.out.Close)
	return r
}

func (r *receiver) answer(status int, header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.header = status, header
}

// take returns what has come since it was called last.
func (r *receiver) take() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.calls = nil }()
	return r.calls
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	ok(t, os.WriteFile(path, []byte(secret+"\n"), 0o600))
	return path
}

const signingKey = "0123456789abcdef0123456789abcdef"

var signingSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(signingKey))

// channels are the four that speak HTTP, at the receiver.
func (r *receiver) channels(t *testing.T) map[string]notify.Channel {
	t.Helper()
	address := notify.Address{File: secretFile(t, r.URL+r.hidden)}
	te, err := teams.New(teams.Config{Name: "teams", Address: address, Base: base, Out: r.out})
	ok(t, err)
	ma, err := mattermost.New(mattermost.Config{Name: "mattermost", Address: address, Base: base, Out: r.out})
	ok(t, err)
	pd, err := pagerduty.New(pagerduty.Config{Name: "pagerduty", URL: r.URL + r.hidden, KeyFile: secretFile(t, "R0UT1NGKEY"), Base: base, Out: r.out})
	ok(t, err)
	wh, err := webhook.New(webhook.Config{Name: "webhook", Address: address, SecretFile: secretFile(t, signingSecret), Base: base, Out: r.out, Now: func() time.Time { return at.Add(time.Second) }})
	ok(t, err)
	return map[string]notify.Channel{"teams": te, "mattermost": ma, "pagerduty": pd, "webhook": wh}
}

// What is sent over HTTP is what the golden files say, signed where it is to be.
func TestMessages(t *testing.T) {
	r := newReceiver(t)
	for name, c := range r.channels(t) {
		var all strings.Builder
		list := samples()
		for _, sample := range slices.Sorted(maps.Keys(list)) {
			n := list[sample]
			ok(t, c.Notify(t.Context(), n))
			for _, call := range r.take() {
				var v any
				ok(t, json.Unmarshal([]byte(call.body), &v))
				var pretty strings.Builder
				e := json.NewEncoder(&pretty)
				e.SetEscapeHTML(false)
				e.SetIndent("", "  ")
				ok(t, e.Encode(v))
				fmt.Fprintf(&all, "== %s\n%s", sample, pretty.String())
				switch name {
				case "webhook":
					verify(t, call, n)
				default:
					if got := call.header.Get("Content-Type"); got != "application/json" {
						t.Errorf("%s has the type %q", name, got)
					}
				}
				if name != "webhook" && strings.ContainsRune(call.body, '\u202e') {
					t.Errorf("%s lets a character through that turns text around", name)
				}
			}
		}
		golden(t, name+".txt", all.String())
	}
}

// verify is what a receiver does, by the words of Standard Webhooks.
func verify(t *testing.T, c call, n notify.Notice) {
	t.Helper()
	id, timestamp, signature := c.header.Get("webhook-id"), c.header.Get("webhook-timestamp"), c.header.Get("webhook-signature")
	mac := hmac.New(sha256.New, []byte(signingKey))
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, c.body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); signature != want {
		t.Errorf("the signature is %q, want %q", signature, want)
	}
	if id != fmt.Sprintf("drawbolt-%d", n.Position) || timestamp != fmt.Sprint(at.Unix()+1) || c.header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
		t.Errorf("headers %v", c.header)
	}
	var e struct {
		SpecVersion, ID, Source, Type string
		Data                          struct{ Request *struct{ Reason string } }
	}
	ok(t, json.Unmarshal([]byte(c.body), &e))
	if e.SpecVersion != "1.0" || e.ID != fmt.Sprint(n.Position) || e.Source != base || e.Type != "drawbolt."+string(n.Kind) {
		t.Errorf("the event is %+v", e)
	}
}

// What the other side answers decides whether it is asked again; what goes wrong
// tells no secret.
func TestAnswers(t *testing.T) {
	r := newReceiver(t)
	for name, c := range r.channels(t) {
		for _, a := range []struct {
			status  int
			header  http.Header
			taken   bool
			forGood bool
			after   time.Duration
		}{
			{200, nil, true, false, 0}, {202, nil, true, false, 0}, {204, nil, true, false, 0},
			{400, nil, false, true, 0}, {413, nil, false, true, 0}, {422, nil, false, true, 0},
			{401, nil, false, false, 0}, {403, nil, false, false, 0}, {404, nil, false, false, 0}, {410, nil, false, false, 0},
			{429, http.Header{"Retry-After": {"7"}}, false, false, 7 * time.Second}, {500, nil, false, false, 0}, {503, nil, false, false, 0},
			{302, http.Header{"Location": {r.URL + r.hidden}}, false, false, 0}, {307, http.Header{"Location": {"http://169.254.169.254/"}}, false, false, 0},
		} {
			r.answer(a.status, a.header)
			r.take()
			err := c.Notify(t.Context(), samples()["breakglass"])
			later, _ := errors.AsType[*notify.Later](err)
			if (err == nil) != a.taken || errors.Is(err, notify.ErrRefused) != a.forGood || later != nil && later.After != a.after || later == nil && a.after != 0 {
				t.Errorf("%s, answered %d: %v", name, a.status, err)
			}
			if n := len(r.take()); n != 1 {
				t.Errorf("%s, answered %d, has called %d times", name, a.status, n)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "R0UT1NG")) {
				t.Errorf("%s tells a secret: %v", name, err)
			}
		}
		r.answer(200, nil)
	}
	// Gone, and inside where nothing is listed.
	closed := outbound.New(outbound.Config{})
	defer closed.Close()
	c, err := teams.New(teams.Config{Name: "teams", Address: notify.Address{File: secretFile(t, r.URL+r.hidden)}, Base: base, Out: closed})
	ok(t, err)
	if err := c.Notify(t.Context(), samples()["asked"]); !errors.Is(err, outbound.ErrAddress) || strings.Contains(err.Error(), "s3cr3t") || len(r.take()) > 0 {
		t.Errorf("an address inside: %v", err)
	}
	for _, bad := range []string{"http://chat.example.com/s3cr3t", "file:///etc/passwd", "https://user:s3cr3t@chat.example.com/"} {
		c, err := teams.New(teams.Config{Name: "teams", Address: notify.Address{File: secretFile(t, bad)}, Base: base, Out: r.out})
		ok(t, err)
		if err := c.Notify(t.Context(), samples()["asked"]); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("the address %s: %v", bad, err)
		}
	}
}

func TestSecretsOfWebhooks(t *testing.T) {
	r := newReceiver(t)
	for _, bad := range []string{"hunter2", "whsec_", "whsec_aGVsbG8=", "whsec_!!!", signingKey} {
		_, err := webhook.New(webhook.Config{Name: "x", Address: notify.Address{URL: r.URL}, SecretFile: secretFile(t, bad), Out: r.out})
		if err == nil || strings.Contains(err.Error(), bad) && len(bad) > 6 {
			t.Errorf("the secret %q: %v", bad, err)
		}
	}
	if _, err := webhook.New(webhook.Config{Name: "x", Address: notify.Address{URL: r.URL}, Out: r.out}); err == nil {
		t.Error("a webhook is sent without a signature")
	}
}

// PagerDuty is told of one incident for each thing, which ends.
func TestIncidents(t *testing.T) {
	r := newReceiver(t)
	r.answer(202, nil)
	c := r.channels(t)["pagerduty"]
	type event struct {
		RoutingKey string `json:"routing_key"`
		Action     string `json:"event_action"`
		Key        string `json:"dedup_key"`
		Payload    *struct{ Summary, Source, Severity string }
	}
	told := func(name string) (list []event) {
		ok(t, c.Notify(t.Context(), samples()[name]))
		for _, call := range r.take() {
			var e event
			ok(t, json.Unmarshal([]byte(call.body), &e))
			if e.RoutingKey != "R0UT1NGKEY" || e.Action == "trigger" && (e.Payload == nil || e.Payload.Summary == "" || e.Payload.Source == "") || len(e.Key) > 255 {
				t.Errorf("%s: PagerDuty would not take %s", name, call.body)
			}
			list = append(list, e)
		}
		return list
	}
	glass, again, reviewed := told("breakglass")[0], told("breakglass")[0], told("reviewed")[0]
	if glass.Action != "trigger" || glass.Payload.Severity != "critical" || again.Key != glass.Key || reviewed.Action != "resolve" || reviewed.Key != glass.Key {
		t.Errorf("break-glass: %+v %+v %+v", glass, again, reviewed)
	}
	overdue, decided := told("escalated")[0], told("denied")[0]
	if overdue.Action != "trigger" || decided.Action != "resolve" || decided.Key != overdue.Key || overdue.Key == glass.Key {
		t.Errorf("overdue: %+v %+v", overdue, decided)
	}
	if on, alarm, last := told("on it, glass")[0], told("on it, unusual")[0], told("expected")[0]; on.Action != "acknowledge" || on.Key != glass.Key ||
		alarm.Action != "acknowledge" || last.Action != "resolve" || last.Key != alarm.Key || told("unusual")[0].Key != alarm.Key {
		t.Errorf("somebody is on it: %+v %+v %+v", on, alarm, last)
	}
	if list := told("test"); len(list) != 2 || list[0].Action != "trigger" || list[1].Action != "resolve" || list[0].Key != list[1].Key {
		t.Errorf("test: %+v", list)
	}
}

func mailChannel(t *testing.T, server string, out *outbound.Client, options ...func(*mail.Config)) *mail.Channel {
	t.Helper()
	c := mail.Config{Name: "mail", Server: server, From: "drawbolt <drawbolt@example.com>", People: true, Base: base, Out: out}
	for _, o := range options {
		o(&c)
	}
	m, err := mail.New(c)
	ok(t, err)
	return m
}

func trusting(t *testing.T, roots *x509.CertPool) *outbound.Client {
	o := outbound.New(outbound.Config{Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
	t.Cleanup(o.Close)
	return o
}

// A person who may decide gets a mail of their own, encrypted on the way; the
// requester gets how it ended; nobody else gets anything.
func TestMail(t *testing.T) {
	certificate, roots := servers.Certificate(t, "localhost")
	for _, implicit := range []bool{false, true} {
		s := servers.StartMail(t, &certificate, implicit)
		s.Password = "hunter2"
		scheme := map[bool]string{false: "smtp", true: "smtps"}[implicit]
		_, port, _ := strings.Cut(s.Address, ":")
		c := mailChannel(t, scheme+"://localhost:"+port, trusting(t, roots), func(c *mail.Config) { c.User, c.PasswordFile = "drawbolt", secretFile(t, "hunter2") })
		for _, sample := range []string{"asked", "approved", "breakglass", "denied", "hostile", "questioned", "answered", "handed over", "on it, glass", "expected", "test", "unusual"} {
			ok(t, c.Notify(t.Context(), samples()[sample]))
		}
		var to []string
		for _, m := range s.Mails() {
			if !m.Encrypted || m.User != "drawbolt" || m.From != "drawbolt@example.com" || len(m.To) != 1 {
				t.Errorf("%s: a mail came %+v", scheme, m)
			}
			to = append(to, m.To...)
		}
		if want := []string{"bob@example.com", "dave@example.com", "alice@example.com", "alice@example.com", "bob@example.com", "alice@example.com", "bob@example.com", "dave@example.com"}; !slices.Equal(to, want) {
			t.Errorf("%s: mails came to %q, want %q", scheme, to, want)
		}
	}
}

// What a mail says is in golden files. What people wrote makes no header and no
// markup, and the link only opens a page.
func TestMails(t *testing.T) {
	s := servers.StartMail(t, nil, false)
	c := mailChannel(t, "smtp://"+s.Address, trusting(t, nil), func(c *mail.Config) { c.To = []string{"ops@example.com"}; c.People = false })
	var all strings.Builder
	boundary := regexp.MustCompile(`[0-9a-f]{60}`)
	for _, sample := range []string{"answered", "approved", "asked", "breakglass", "denied", "escalated", "expected", "handed over", "hostile", "on it, glass", "on it, unusual", "questioned", "reviewed", "test", "unusual"} {
		before := len(s.Mails())
		ok(t, c.Notify(t.Context(), samples()[sample]))
		m := s.Mails()[before]
		text := boundary.ReplaceAllString(m.Text, "BOUNDARY")
		fmt.Fprintf(&all, "== %s\n%s\n", sample, text)
		headers, body, _ := strings.Cut(text, "\n\n")
		if strings.Contains(strings.ToLower(headers), "\nbcc:") || strings.Count(headers, "\nTo: ") != 1 || !strings.Contains(headers, "Auto-Submitted: auto-generated") {
			t.Errorf("%s has the headers\n%s", sample, headers)
		}
		_, html, _ := strings.Cut(body, "text/html")
		if strings.Contains(html, "<b>") || strings.Contains(html, "<!channel") || strings.Contains(body, "=E2=80=AE") {
			t.Errorf("%s: what the requester wrote is markup:\n%s", sample, body)
		}
	}
	golden(t, "mail.txt", all.String())
}

// Without encryption, without a certificate that holds, and with a password that is
// wrong, nothing is sent, and no password is told.
func TestMailIsEncrypted(t *testing.T) {
	certificate, roots := servers.Certificate(t, "localhost")
	withoutTLS, withTLS, implicit := servers.StartMail(t, nil, false), servers.StartMail(t, &certificate, false), servers.StartMail(t, &certificate, true)
	for _, s := range []*servers.MailServer{withoutTLS, withTLS, implicit} {
		s.Password = "right-password"
	}
	port := func(s *servers.MailServer) string { _, p, _ := strings.Cut(s.Address, ":"); return p }
	for name, c := range map[string]struct {
		server string
		roots  *x509.CertPool
	}{
		"no STARTTLS":                   {"smtp://localhost:" + port(withoutTLS), roots},
		"a stranger's certificate":      {"smtp://localhost:" + port(withTLS), nil},
		"a stranger's, from the start":  {"smtps://localhost:" + port(implicit), nil},
		"the wrong password":            {"smtp://localhost:" + port(withTLS), roots},
		"the wrong one, from the start": {"smtps://localhost:" + port(implicit), roots},
	} {
		m := mailChannel(t, c.server, trusting(t, c.roots), func(c *mail.Config) { c.User, c.PasswordFile = "drawbolt", secretFile(t, "wrong-password") })
		err := m.Notify(t.Context(), samples()["asked"])
		if err == nil || errors.Is(err, notify.ErrRefused) || strings.Contains(err.Error(), "wrong-password") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []*servers.MailServer{withoutTLS, withTLS, implicit} {
		if n := len(s.Mails()); n > 0 {
			t.Errorf("%d mails were sent", n)
		}
	}
	closed := outbound.New(outbound.Config{})
	if err := mailChannel(t, "smtp://"+withoutTLS.Address, closed).Notify(t.Context(), samples()["asked"]); !errors.Is(err, outbound.ErrAddress) {
		t.Errorf("a server inside: %v", err)
	}
	for _, bad := range []mail.Config{
		{Server: "mail.example.com", From: "a@example.com", People: true}, {Server: "smtp://u:p@mail.example.com", From: "a@example.com", People: true},
		{Server: "smtp://mail.example.com", From: "a@example.com"}, {Server: "smtp://mail.example.com", From: "nobody", People: true},
		{Server: "smtp://mail.example.com", From: "a@example.com", To: []string{"x@example.com\r\nBcc: y@example.com"}},
		{Server: "smtp://mail.example.com", From: "a@example.com", People: true, User: "u"}, {Server: "http://mail.example.com", From: "a@example.com", People: true},
	} {
		if _, err := mail.New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// A mail that is refused for good keeps no other; one that fails for now is sent
// again, and the others are not.
func TestMailRefused(t *testing.T) {
	s := servers.StartMail(t, nil, false)
	answer := map[string]error{"bob@example.com": &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}}
	var mu sync.Mutex
	s.Refuse = func(to string) error { mu.Lock(); defer mu.Unlock(); return answer[to] }
	set := func(to string, err error) { mu.Lock(); defer mu.Unlock(); answer[to] = err }
	c := mailChannel(t, "smtp://"+s.Address, trusting(t, nil))
	came := func() (list []string) {
		for _, m := range s.Mails() {
			list = append(list, m.To...)
		}
		return list
	}
	ok(t, c.Notify(t.Context(), samples()["asked"]))
	if got := came(); !slices.Equal(got, []string{"dave@example.com"}) {
		t.Errorf("mails came to %q", got)
	}
	busy := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try later"}
	set("bob@example.com", busy)
	n := samples()["asked"]
	n.Position += 100
	for range 3 {
		if err := c.Notify(t.Context(), n); err == nil || errors.Is(err, notify.ErrRefused) {
			t.Errorf("while the server is busy: %v", err)
		}
	}
	set("bob@example.com", nil)
	ok(t, c.Notify(t.Context(), n))
	if got := came(); !slices.Equal(got, []string{"dave@example.com", "dave@example.com", "bob@example.com"}) {
		t.Errorf("mails came to %q", got)
	}
	set("bob@example.com", &smtp.SMTPError{Code: 550, Message: "no"})
	before := len(came())
	if err := c.Notify(t.Context(), samples()["hostile"]); !errors.Is(err, notify.ErrRefused) {
		t.Errorf("when all are refused: %v", err)
	}
	set("bob@example.com", nil)
	ok(t, c.Notify(t.Context(), samples()["hostile"])) // as somebody wants it sent again
	if got := came()[before:]; !slices.Equal(got, []string{"bob@example.com"}) {
		t.Errorf("mails came to %q", got)
	}
	// A server that says nothing ends with the time that there is.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	silent := httptest.NewUnstartedServer(nil).Listener
	defer silent.Close()
	begin := time.Now()
	if err := mailChannel(t, "smtp://"+silent.Addr().String(), trusting(t, nil)).Notify(ctx, samples()["asked"]); err == nil || time.Since(begin) > 30*time.Second {
		t.Errorf("a silent server: %v after %s", err, time.Since(begin))
	}
}
