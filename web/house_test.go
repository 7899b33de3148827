package web

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

// A house is a server with the real broker behind it: SQLite, the default
// policy, certificate authorities, and four people.
type house struct {
	t      *testing.T
	server *Server
	broker *broker.Broker
	db     *store.DB
	logins *identity.Logins
	local  *local.Provider
	people map[string]access.User
	log    *lockedBuffer
	ready  error
	casts  map[string][]byte // session id -> its recording
	views  map[string][]byte // session id -> its view
	signer note.Signer       // of the audit log, and of the recordings that perform makes
	sealer note.Signer       // of recordings
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// plainSealer keeps authenticators as they are: these tests are not about it.
type plainSealer struct{}

func (plainSealer) Seal(id string, secret []byte) ([]byte, error) {
	return append([]byte(id+"\n"), secret...), nil
}

func (plainSealer) Open(id string, sealed []byte) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(id+"\n"))
	if !ok {
		return nil, errors.New("not sealed for this id")
	}
	return secret, nil
}

func password(name string) string { return "Tr0ubadour & " + name }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	ctx := t.Context()
	h := &house{t: t, people: map[string]access.User{}, log: &lockedBuffer{}, casts: map[string][]byte{}, views: map[string][]byte{}}
	log := slog.New(slog.NewTextHandler(h.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})
	bc := brokertest.Config(t, "gw-1", storetest.SQLite(t))
	skey, vkey, err := note.GenerateKey(rand.Reader, "drawbolt/gw.example.com")
	if err != nil {
		t.Fatal(err)
	}
	bc.Log, bc.Search, bc.Signer, bc.Verifier = log, true, must(note.NewSigner(skey)), must(note.NewVerifier(vkey))
	bc.SessionIdle = 15 * time.Minute
	db := bc.Store
	h.db, h.signer = db, bc.Signer
	h.broker = must(broker.New(ctx, bc))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	logins := db.Identities()
	h.logins = must(identity.New(identity.Config{Store: logins, Codes: logins, Key: key, Issuer: "https://gw.example.com"}))
	h.local = must(local.New(local.Config{Store: logins, Sealer: plainSealer{}, Issuer: "gw", RelyingParty: must(mfa.NewRelyingParty("https://gw.example.com")), Params: local.Params{Memory: 64, Time: 1, Threads: 1}}))

	session := access.SessionRules{Recording: "strict", Shell: true, Exec: true}
	admin := must(h.broker.Found(ctx, access.User{Name: "root", Groups: []string{"administrators"}}, []access.Role{
		{Name: "administrator", Groups: []string{"administrators"}, Rules: []access.Rule{{ID: "administer", Actions: []string{
			"target.read", "target.write", "user.read", "user.write", "key.write", "role.read", "role.write", "policy.read", "policy.write", "lock.read", "lock.write", "request.read", "session.list", "integration.read", "integration.write",
		}}}},
		{Name: "auditor", Groups: []string{"auditors"}, Rules: []access.Rule{{ID: "audit", Actions: []string{
			"request.read", "session.list", "session.replay", "audit.read", "audit.export", "target.read", "role.read",
		}}}},
		{Name: "responder", Groups: []string{"approvers"}, Rules: []access.Rule{{ID: "respond", Actions: []string{"approve", "deny", "request.read", "revoke", "session.list", "session.terminate", "lock.write"}}}},
		{Name: "engineer", Groups: []string{"engineers"}, Rules: []access.Rule{
			{ID: "with-approval", Actions: []string{"request", "extend"}, Accounts: []string{"root"}, MaxDuration: 4 * time.Hour,
				Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}}}, Session: session},
			{ID: "guest", Actions: []string{"request", "extend"}, Accounts: []string{"guest"}, MaxDuration: 8 * time.Hour, Session: session},
		}},
	}))
	h.people["root"] = admin
	for name, group := range map[string]string{"alice": "engineers", "bob": "approvers", "carol": "auditors", "dave": "approvers", "eve": "nobodies"} {
		h.people[name] = must(h.broker.AddUser(ctx, h.by("root"), access.User{Name: name, Groups: []string{group}}))
	}
	for name, u := range h.people {
		token, _, err := h.local.NewSetup(ctx, access.System(), u.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.local.Setup(ctx, token, []byte(password(name)), netip.MustParseAddr("192.0.2.1"), "cli"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"db01", "db02"} {
		must(h.broker.AddTarget(ctx, h.by("root"), access.Target{
			Name: name, Address: name + ".example.com:22", Labels: access.Labels{Environment: "prod", Tier: "1"},
			Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "guest", Credential: access.CredentialCertificate}},
		}))
	}
	rkey, rvkey, err := note.GenerateKey(rand.Reader, "recorder")
	if err != nil {
		t.Fatal(err)
	}
	h.sealer = must(note.NewSigner(rkey))
	c := Config{
		RecordingKeys: []string{rvkey},
		Broker:        h.broker, Logins: h.logins, Local: h.local, ExternalURL: "https://gw.example.com", SSHAddress: "gw.example.com:2222",
		Version: "test", VerifierKey: vkey, Log: log, Ready: func(context.Context) error { return h.ready },
		OpenCast: func(_ context.Context, x access.Session) (io.ReadSeekCloser, error) {
			return seekable{bytes.NewReader(h.casts[x.ID])}, nil
		},
		OpenSealed: func(_ context.Context, x access.Session) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("age-encryption.org/v1 " + x.ID)), nil
		},
	}
	for _, fn := range change {
		fn(&c)
	}
	if h.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); h.broker.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return h
}

// serve answers over a real connection until the test ends: after browsers, whose
// pages hold connections open.
func (h *house) serve() *httptest.Server {
	srv := httptest.NewTLSServer(h.server.Handler())
	h.t.Cleanup(srv.Close)
	return srv
}

// A seekable is a recording in memory.
type seekable struct{ *bytes.Reader }

func (seekable) Close() error { return nil }

// by is a person as the broker's own tests would have it.
func (h *house) by(name string) access.Caller {
	return access.Caller{User: h.people[name], Via: "cli", Source: netip.MustParseAddr("192.0.2.1"), MFAAt: time.Now()}
}

// token logs a person in.
func (h *house) token(name string) string {
	h.t.Helper()
	token, _, err := h.logins.Issue(h.t.Context(), h.people[name], netip.MustParseAddr("192.0.2.1"), "cli", time.Time{})
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// record has alice run one command as guest on db01, and its recording sealed.
func (h *house) record(command, output string) access.Session {
	h.t.Helper()
	ctx := h.t.Context()
	c := must(h.broker.Request(ctx, h.by("alice"), broker.Ask{Target: "db01", Account: "guest", Reason: "INC-7 look"}))
	l := must(h.broker.Open(ctx, h.by("alice"), c.Grant.ID, broker.Opening{Kind: "exec", Command: command, Client: "SSH-2.0-OpenSSH_9.9"}))
	if err := h.broker.Started(ctx, l); err != nil {
		h.t.Fatal(err)
	}
	var b bytes.Buffer
	journal := sha256.Sum256([]byte(l.Session.ID))
	w := must(cast.NewWriter(&b, cast.Header{ID: l.Session.ID, Kind: "exec", Started: time.Now().UTC().Truncate(time.Microsecond), Command: command}, h.sealer))
	if err := w.Write(cast.Event{At: time.Second, Stream: cast.Output, Data: []byte(output)}); err != nil {
		h.t.Fatal(err)
	}
	must(w.Seal(cast.End{At: 2 * time.Second, Reason: "exited", Journal: journal}))
	sum := sha256.Sum256(b.Bytes())
	status := 0
	if err := h.broker.Close(ctx, l, broker.Closing{Reason: "exited", ExitStatus: &status, Head: hex.EncodeToString(journal[:]), Recording: access.Sealed{
		Name: l.Session.ID + ".sealed", SHA256: hex.EncodeToString(sum[:]), Size: int64(b.Len()), Events: 1,
	}}); err != nil {
		h.t.Fatal(err)
	}
	h.casts[l.Session.ID] = b.Bytes()
	return must(h.broker.FindSession(ctx, h.by("carol"), l.Session.ID))
}

// A call is one HTTP request.
type httpCall struct {
	method, path string
	token        string
	cookie       string
	header       map[string]string
	body         string
	from         string // RemoteAddr; default 192.0.2.1:4711
}

func (h *house) do(c httpCall) *http.Response {
	h.t.Helper()
	r := httptest.NewRequest(c.method, "https://gw.example.com"+c.path, strings.NewReader(c.body))
	r.RemoteAddr = "192.0.2.1:4711"
	if c.from != "" {
		r.RemoteAddr = c.from
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.cookie != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: c.cookie})
	}
	if c.body != "" {
		r.Header.Set("Content-Type", "application/json")
		if !strings.HasPrefix(c.path, "/v1/") {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.server.Handler().ServeHTTP(w, r)
	return w.Result()
}

// callJSON calls the API and decodes the answer, which must have this status.
func callJSON[T any](h *house, name, method, path string, in any, status int) T {
	h.t.Helper()
	c := httpCall{method: method, path: path}
	if name != "" {
		c.token = h.token(name)
	}
	if in != nil {
		c.body = string(must(json.Marshal(in)))
	}
	resp := h.do(c)
	body := text(resp)
	if resp.StatusCode != status {
		h.t.Fatalf("%s %s as %s: %d, want %d\n%s", method, path, name, resp.StatusCode, status, body)
	}
	var out T
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		h.t.Fatalf("%s %s as %s: %v\n%s", method, path, name, err, body)
	}
	return out
}

func text(r *http.Response) string {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Sprintf("read: %v", err)
	}
	return string(b)
}

// ask files alice's request for root on db01.
func (h *house) ask(reason string) api.Request {
	h.t.Helper()
	return callJSON[api.Request](h, "alice", "POST", "/v1/requests", api.RequestInput{Target: "db01", Account: "root", DurationSeconds: 3600, Reason: reason}, 200)
}
