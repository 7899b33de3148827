package ticket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/ticket"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

// loopback is where the fakes are: a Checker goes there only when it may.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func checker(t *testing.T, c ticket.Config) *ticket.Checker {
	t.Helper()
	if c.Within == 0 {
		c.Within = time.Minute // a busy machine is no slow system
	}
	if c.Networks == nil {
		c.Networks = loopback
	}
	k, err := ticket.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

var alice = access.User{ID: "USR-1", Name: "alice", Attributes: map[string]string{"email": "alice@example.com"}}

func about(number string) broker.TicketQuestion {
	return broker.TicketQuestion{Ticket: number, User: alice, Target: "db01", Account: "root"}
}

// An issue in Jira.
type issue struct {
	Key, Summary, Description, Category, Assignee, Email, Component string
}

// jira answers as Jira does, and checks that it is asked as it should be.
func jira(t *testing.T, issues map[string]issue) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, token, _ := r.BasicAuth()
		if r.Method != http.MethodGet || user != "bot@example.com" || token != "s3cret" || r.Header.Get("Accept") != "application/json" ||
			r.URL.Query().Get("fields") == "" {
			t.Errorf("asked with %s %s %v", r.Method, r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		key, ok := strings.CutPrefix(r.URL.Path, "/rest/api/2/issue/")
		i, there := issues[key]
		if !ok || !there {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"errorMessages":["Issue Does Not Exist"]}`)
			return
		}
		fields := map[string]any{
			"summary": i.Summary, "description": i.Description, "labels": []string{"linux"}, "environment": nil,
			"components": []any{map[string]string{"name": i.Component}},
			"status":     map[string]any{"name": "In Progress", "statusCategory": map[string]string{"key": i.Category}},
			"assignee":   nil,
		}
		if i.Assignee != "" {
			fields["assignee"] = map[string]string{"name": i.Assignee, "emailAddress": i.Email, "displayName": "alice"}
		}
		json.NewEncoder(w).Encode(map[string]any{"key": i.Key, "fields": fields})
	}
}

func TestJira(t *testing.T) {
	good := issue{Key: "INC-1", Summary: "Disk full on DB01", Category: "indeterminate", Assignee: "alice"}
	with := func(change func(*issue)) issue { i := good; change(&i); return i }
	issues := map[string]issue{
		"INC-1":  good,
		"INC-2":  with(func(i *issue) { i.Key, i.Category = "INC-2", "done" }),
		"INC-3":  with(func(i *issue) { i.Key, i.Assignee, i.Email = "INC-3", "mallory", "mallory@example.com" }),
		"INC-4":  with(func(i *issue) { i.Key, i.Assignee = "INC-4", "" }),
		"INC-5":  with(func(i *issue) { i.Key, i.Summary = "INC-5", "Disk full on db011, old-db01 and db01.example.com" }),
		"INC-6":  with(func(i *issue) { i.Key = "INC-1" }), // moved
		"INC-7":  with(func(i *issue) { i.Key, i.Category = "INC-7", "" }),
		"INC-8":  with(func(i *issue) { i.Key, i.Assignee, i.Email = "INC-8", "a.kim", "Alice@Example.com" }),
		"INC-9":  with(func(i *issue) { i.Key, i.Summary, i.Component = "INC-9", "Disk full", "db01" }),
		"INC-10": with(func(i *issue) { i.Key, i.Summary = "INC-10", "db01 \u202egnp \x1b[2J "+strings.Repeat("x", 400) }),
	}
	s := serve(t, jira(t, issues))
	k := checker(t, ticket.Config{Kind: ticket.Jira, URL: s.URL, User: "bot@example.com", Token: secret("s3cret")})
	for number, why := range map[string]string{
		"INC-1": "", "INC-8": "", "INC-9": "", "INC-10": "",
		"INC-2": "is not open any more (In Progress)", "INC-3": "is assigned to mallory", "INC-4": "is nobody's",
		"INC-5": "does not name db01", "INC-6": "is not there", "INC-7": "is not open any more", "INC-99": "is not there",
		"INC-1/../INC-2": "knows no such ticket", "INC-1?expand=1": "knows no such ticket",
	} {
		got := k.CheckTicket(t.Context(), about(number))
		if got.Valid != (why == "") || !strings.Contains(got.Why, why) || got.ID != number {
			t.Errorf("%s: got %+v, want %q", number, got, why)
		}
		if err := access.CheckText("", got.Title, 200); err != nil {
			t.Errorf("%s: the title may be shown to nobody: %v", number, err)
		}
	}
	// The name that is displayed is whatever somebody typed.
	other := about("INC-3")
	other.User = access.User{ID: "USR-2", Name: "bob"}
	if got := k.CheckTicket(t.Context(), other); got.Valid {
		t.Errorf("the ticket of mallory, who is displayed as alice, holds for bob: %+v", got)
	}
}

func TestServiceNow(t *testing.T) {
	record := func(number, active, user, item string) string {
		return fmt.Sprintf(`{"number":%q,"active":%q,"state":"Implement","short_description":"new disks","description":"","assigned_to.user_name":%q,"assigned_to.email":"","cmdb_ci.name":%q}`, number, active, user, item)
	}
	answers := map[string]string{
		"CHG0030001": record("CHG0030001", "true", "alice", "db01"),
		"CHG0030002": record("CHG0030002", "false", "alice", "db01"),
		"CHG0030003": record("CHG0030003", "true", "mallory", "db01"),
		"CHG0030004": record("CHG0030004", "true", "alice", "db02"),
		"CHG0030005": record("CHG0030001", "true", "alice", "db01"), // another one than was asked for
		"CHG0030006": record("CHG0030006", "true", "alice", "db01") + "," + record("CHG0030006", "true", "alice", "db01"),
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		number, ok := strings.CutPrefix(r.URL.Query().Get("sysparm_query"), "number=")
		if !ok || r.URL.Path != "/api/now/table/change_request" || r.Header.Get("Authorization") != "Bearer s3cret" || r.URL.Query().Get("sysparm_limit") != "2" {
			t.Errorf("asked with %s %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"result":[%s]}`, answers[number])
	})
	k := checker(t, ticket.Config{Kind: ticket.ServiceNow, URL: s.URL, Table: "change_request", Token: secret("s3cret")})
	for number, why := range map[string]string{
		"CHG0030001": "", "CHG0030002": "is not open", "CHG0030003": "is assigned to mallory", "CHG0030004": "does not name db01",
		"CHG0030005": "is not there", "CHG0030006": "is not there", "CHG0039999": "is not there", "CHG0030001^ORnumber=CHG0030001": "knows no such ticket",
	} {
		if got := k.CheckTicket(t.Context(), about(number)); got.Valid != (why == "") || !strings.Contains(got.Why, why) {
			t.Errorf("%s: got %+v, want %q", number, got, why)
		}
	}
}

// A webhook signs what it answers, for the question that it was asked.
func TestWebhook(t *testing.T) {
	const key = "sixteen bytes at least"
	var forge func(q ticket.Question, a *ticket.Answer, sign func(nonce string, body []byte) string) (string, []byte)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q ticket.Question
		if err := json.Unmarshal(body, &q); err != nil || r.Method != http.MethodPost || q.User != "alice" || q.Email != "alice@example.com" || len(q.Nonce) < 16 ||
			r.Header.Get(ticket.SignatureHeader) != ticket.Sign([]byte(key), r.Header.Get(ticket.TimeHeader), body) {
			t.Errorf("asked with %v %s", r.Header, body)
		}
		a := &ticket.Answer{Ticket: q.Ticket, Valid: true, State: "open", Title: "disk full"}
		signature, reply := forge(q, a, func(nonce string, body []byte) string { return ticket.Sign([]byte(key), nonce, body) })
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(ticket.SignatureHeader, signature)
		w.Write(reply)
	})
	encode := func(a *ticket.Answer) []byte { b, _ := json.Marshal(a); return b }
	var old struct {
		signature string
		body      []byte
	}
	for _, tt := range []struct {
		name, why string
		forge     func(ticket.Question, *ticket.Answer, func(string, []byte) string) (string, []byte)
	}{
		{"signed", "", func(q ticket.Question, a *ticket.Answer, sign func(string, []byte) string) (string, []byte) {
			old.body = encode(a)
			old.signature = sign(q.Nonce, old.body)
			return old.signature, old.body
		}},
		{"replayed", "did not sign", func(ticket.Question, *ticket.Answer, func(string, []byte) string) (string, []byte) {
			return old.signature, old.body
		}},
		{"unsigned", "did not sign", func(_ ticket.Question, a *ticket.Answer, _ func(string, []byte) string) (string, []byte) {
			return "", encode(a)
		}},
		{"changed", "did not sign", func(q ticket.Question, a *ticket.Answer, sign func(string, []byte) string) (string, []byte) {
			signature := sign(q.Nonce, encode(a))
			a.Title = "something else"
			return signature, encode(a)
		}},
		{"another key", "did not sign", func(q ticket.Question, a *ticket.Answer, _ func(string, []byte) string) (string, []byte) {
			return ticket.Sign([]byte("another sixteen bytes"), q.Nonce, encode(a)), encode(a)
		}},
		{"another ticket", "does not hold", func(q ticket.Question, a *ticket.Answer, sign func(string, []byte) string) (string, []byte) {
			a.Ticket = "INC-2"
			return sign(q.Nonce, encode(a)), encode(a)
		}},
		{"no", "ask the change manager", func(q ticket.Question, a *ticket.Answer, sign func(string, []byte) string) (string, []byte) {
			a.Valid, a.Why = false, "ask the change manager"
			return sign(q.Nonce, encode(a)), encode(a)
		}},
		{"no JSON", "does not answer as it should", func(q ticket.Question, a *ticket.Answer, sign func(string, []byte) string) (string, []byte) {
			return sign(q.Nonce, []byte("yes")), []byte("yes")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forge = tt.forge
			k := checker(t, ticket.Config{Kind: ticket.Webhook, URL: s.URL + "/tickets?house=1", Secret: secret(key)})
			if got := k.CheckTicket(t.Context(), about("INC-1")); got.Valid != (tt.why == "") || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want %q", got, tt.why)
			}
		})
	}
}

// Whatever the system does, the answer comes, and says no.
func TestTicketTrouble(t *testing.T) {
	stop := make(chan struct{})
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	for _, tt := range []struct {
		name, why string
		handle    http.HandlerFunc
		change    func(*ticket.Config)
	}{
		{"slow", "has not answered within 50ms", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		}, func(c *ticket.Config) { c.Within = 50 * time.Millisecond }},
		{"trickles", "has not answered within 200ms", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-stop:
				case <-r.Context().Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		}, func(c *ticket.Config) { c.Within = 200 * time.Millisecond }},
		{"redirect", "answers with status 302", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		}, nil},
		{"token is out", "does not let drawbolt in", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, nil},
		{"broken", "answers with status 500", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil},
		{"a page to log in", "does not answer with JSON", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>Log in</html>") }, nil},
		{"endless", "answers more than a ticket", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, nil},
		{"somewhere it must not be", "cannot be reached", func(http.ResponseWriter, *http.Request) { t.Error("a private address was dialled") },
			func(c *ticket.Config) { c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.handle)
			c := ticket.Config{Kind: ticket.Jira, URL: s.URL, Token: secret("s3cret")}
			if tt.change != nil {
				tt.change(&c)
			}
			if got := checker(t, c).CheckTicket(t.Context(), about("INC-1")); got.Valid || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want %q", got, tt.why)
			}
		})
	}
	close(stop)
}

// An answer is used again for a minute, for the same person and place only.
func TestTicketIsKept(t *testing.T) {
	var asked atomic.Int32
	answer := jira(t, map[string]issue{"INC-1": {Key: "INC-1", Summary: "db01", Category: "new", Assignee: "alice"}})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answer(w, r)
	})
	now := time.Now()
	k := checker(t, ticket.Config{Kind: ticket.Jira, URL: s.URL, User: "bot@example.com", Token: secret("s3cret"), Now: func() time.Time { return now }})
	want := func(what string, q broker.TicketQuestion, valid bool, n int32) {
		t.Helper()
		if got := k.CheckTicket(t.Context(), q); got.Valid != valid || asked.Load() != n {
			t.Errorf("%s: got %+v, asked %d times; want %t, %d", what, got, asked.Load(), valid, n)
		}
	}
	want("it fails", about("INC-1"), false, 1)
	want("it is not asked again at once", about("INC-1"), false, 1)
	now = now.Add(5 * time.Second)
	want("it is asked again soon", about("INC-1"), true, 2)
	want("and not again", about("INC-1"), true, 2)
	bob := about("INC-1")
	bob.User = access.User{ID: "USR-2", Name: "bob"}
	want("for somebody else", bob, false, 3)
	renamed := about("INC-1")
	renamed.User.Name = "bob"
	want("for who is called otherwise now", renamed, false, 4)
	now = now.Add(time.Minute)
	want("a minute later", about("INC-1"), true, 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	now = now.Add(time.Minute)
	if got := k.CheckTicket(ctx, about("INC-1")); got.Valid {
		t.Errorf("who gave up got %+v", got)
	}
	want("and leaves nothing behind", about("INC-1"), true, asked.Load()+1)
}

func TestTicketConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
		c    ticket.Config
	}{
		{"jira", true, ticket.Config{Kind: ticket.Jira, URL: "https://jira.example.com", Token: secret("t")}},
		{"no token", false, ticket.Config{Kind: ticket.Jira, URL: "https://jira.example.com"}},
		{"plain", false, ticket.Config{Kind: ticket.Jira, URL: "http://jira.example.com", Token: secret("t")}},
		{"named localhost", false, ticket.Config{Kind: ticket.Jira, URL: "http://localhost:8080", Token: secret("t")}},
		{"loopback", true, ticket.Config{Kind: ticket.Jira, URL: "http://127.0.0.1:8080", Token: secret("t")}},
		{"password in the URL", false, ticket.Config{Kind: ticket.Jira, URL: "https://u:p@jira.example.com", Token: secret("t")}},
		{"short secret", false, ticket.Config{Kind: ticket.Webhook, URL: "https://hooks.example.com/t", Secret: secret("short")}},
		{"table", false, ticket.Config{Kind: ticket.ServiceNow, URL: "https://x.service-now.com", Token: secret("t"), Table: "task/../sys_user"}},
		{"unknown", false, ticket.Config{Kind: "bugzilla", URL: "https://example.com", Token: secret("t")}},
	} {
		if _, err := ticket.New(tt.c); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
