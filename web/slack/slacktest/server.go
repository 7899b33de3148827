// Package slacktest is a Slack for tests: its Web API, its sockets, the forms it
// signs, and people who press what they are shown. It holds its caller to what
// Slack documents: tokens, scopes, the limits of blocks, and that only a message
// that is there can be changed. It is for tests only.
package slacktest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Server is one workspace with one app. It is safe for concurrent use; while it
// serves, its exported fields are changed with Set.
type Server struct {
	Team          string
	BotToken      string
	AppToken      string
	SigningSecret string
	Scopes        []string
	EventsURL     string // where forms are sent; "" while there is a socket
	// Fault decides what happens to a call of a method before Slack looks at it.
	// The zero Fault is none.
	Fault func(method string, form url.Values) Fault

	mu       sync.Mutex
	messages []*Message
	views    map[string]json.RawMessage // by user: the form that is open
	homes    map[string]json.RawMessage
	problems []string
	calls    map[string]int
	gone     map[string]bool // users who have left
	number   int
	sockets  []*socket
	changed  chan struct{} // closed and replaced at each change

	listener net.Listener
	http     *http.Server
}

// A Fault is what goes wrong with a call.
type Fault struct {
	Delay   time.Duration
	Status  int           // of the answer; 0: none goes wrong
	Applied bool          // it was done all the same, and only the answer is lost
	After   time.Duration // Retry-After, with status 429
}

// A Message is one in a room, as it is now.
type Message struct {
	Room, TS, Thread string
	Text             string
	Blocks           json.RawMessage
	Only             string // the user who alone sees it
	Changes          int
}

// Start serves on a port of this machine.
func Start(team string) (*Server, error) {
	s := &Server{
		Team: team, BotToken: "xoxb-test-bot", AppToken: "xapp-test-app", SigningSecret: "8f742231b10e8888abcd99yyyzzz85a5",
		Scopes: []string{"chat:write", "chat:write.public", "commands", "im:write", "users:read", "users:read.email"},
		views:  map[string]json.RawMessage{}, homes: map[string]json.RawMessage{}, calls: map[string]int{}, gone: map[string]bool{}, changed: make(chan struct{}),
	}
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go s.http.Serve(s.listener)
	return s, nil
}

// Set changes the exported fields.
func (s *Server) Set(change func(*Server)) { s.change(func() { change(s) }) }

// URL is that of the API.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() + "/api/" }

// Close ends the server with its sockets.
func (s *Server) Close() {
	s.http.Close()
	s.DropSockets()
}

// Problems are the mistakes that callers have made.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Calls is how often a method was called and its call accepted.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Remove takes a message away, as an administrator of the workspace does.
func (s *Server) Remove(ts string) {
	s.change(func() {
		s.messages = slices.DeleteFunc(s.messages, func(m *Message) bool { return m.TS == ts })
	})
}

// Leave makes a user one who has left.
func (s *Server) Leave(user string) { s.change(func() { s.gone[user] = true }) }

// Messages are those in a room, the oldest first. Every direct message with a user
// is in the room D + the user's id.
func (s *Server) Messages(room string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.messages {
		if m.Room == room {
			list = append(list, *m)
		}
	}
	return list
}

// View is the form that a user sees; Home is their home tab.
func (s *Server) View(user string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[user]
}

// Home is the home tab of a user.
func (s *Server) Home(user string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes[user]
}

func (s *Server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Until waits until ok holds; it is asked at each change.
func (s *Server) Until(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/socket" {
		s.upgrade(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/response/") {
		s.respond(w, strings.Split(r.URL.Path, "/"), body)
		return
	}
	method := strings.TrimPrefix(r.URL.Path, "/api/")
	form, err := s.form(r, body)
	if err != nil {
		s.problem("%s: %v", method, err)
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	var fault Fault
	s.mu.Lock()
	faulty := s.Fault
	s.mu.Unlock()
	if faulty != nil {
		fault = faulty(method, form)
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
			if !fault.Applied {
				return
			}
		}
	}
	if fault.Status != 0 && !fault.Applied {
		if fault.Status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", strconv.Itoa(int(fault.After.Seconds())))
		}
		w.WriteHeader(fault.Status)
		return
	}
	answer, err := s.call(w, r, method, form)
	if fault.Status != 0 {
		w.WriteHeader(fault.Status)
		return
	}
	if err != nil {
		answer = map[string]any{"ok": false, "error": err.Error()}
	} else {
		answer["ok"] = true
		s.change(func() { s.calls[method]++ })
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// form reads a call; one in JSON becomes a form whose values are JSON.
func (s *Server) form(r *http.Request, body []byte) (url.Values, error) {
	if len(body) == 0 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return url.ParseQuery(string(body))
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	form := url.Values{}
	for k, v := range m {
		var text string
		if json.Unmarshal(v, &text) == nil {
			form.Set(k, text)
		} else {
			form.Set(k, string(v))
		}
	}
	return form, nil
}

func (s *Server) problem(format string, args ...any) {
	s.change(func() { s.problems = append(s.problems, fmt.Sprintf(format, args...)) })
}

// needs says which scope a method takes.
func needs(method string) (string, bool) {
	scope, is := map[string]string{
		"auth.test": "", "apps.connections.open": "", "chat.postMessage": "chat:write", "chat.update": "chat:write", "chat.postEphemeral": "chat:write",
		"users.info": "users:read", "views.open": "", "views.update": "", "views.publish": "",
	}[method]
	return scope, is
}

func (s *Server) call(w http.ResponseWriter, r *http.Request, method string, form url.Values) (map[string]any, error) {
	scope, known := needs(method)
	if !known {
		s.problem("there is no method %q", method)
		return nil, errors.New("unknown_method")
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		token = form.Get("token")
	}
	s.mu.Lock()
	want, granted := s.BotToken, slices.Clone(s.Scopes)
	if method == "apps.connections.open" {
		want = s.AppToken
	}
	s.mu.Unlock()
	if token != want {
		return nil, errors.New("invalid_auth")
	}
	if scope != "" && !slices.Contains(granted, scope) {
		return nil, errors.New("missing_scope")
	}
	switch method {
	case "auth.test":
		w.Header().Set("X-OAuth-Scopes", strings.Join(granted, ","))
		return map[string]any{"team": "Example", "team_id": s.Team, "user": "drawbolt", "user_id": "UBOT", "bot_id": "BBOT"}, nil
	case "apps.connections.open":
		return map[string]any{"url": "ws" + strings.TrimPrefix(strings.TrimSuffix(s.URL(), "/api/"), "http") + "/socket"}, nil
	case "users.info":
		user := form.Get("user")
		return map[string]any{"user": map[string]any{"id": user, "real_name": strings.ToLower(strings.TrimPrefix(user, "U")), "profile": map[string]any{"email": strings.ToLower(strings.TrimPrefix(user, "U")) + "@example.com"}}}, nil
	case "views.open", "views.publish", "views.update":
		return s.view(method, form)
	}
	return s.chat(method, form)
}

func (s *Server) chat(method string, form url.Values) (map[string]any, error) {
	if err := checkBlocks([]byte(form.Get("blocks")), 50); err != nil {
		s.problem("%s: %v", method, err)
		return nil, errors.New("invalid_blocks")
	}
	if text := form.Get("text"); text == "" || len([]rune(text)) > 4000 {
		s.problem("%s: the text has %d characters", method, len([]rune(text)))
		return nil, errors.New("msg_too_long")
	}
	room := form.Get("channel")
	s.mu.Lock()
	gone := s.gone[room]
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(room, "U"):
		if gone {
			return nil, errors.New("user_not_found")
		}
		room = "D" + room
	case !strings.HasPrefix(room, "C") && !strings.HasPrefix(room, "D"):
		return nil, errors.New("channel_not_found")
	}
	m := &Message{Room: room, Thread: form.Get("thread_ts"), Text: form.Get("text"), Blocks: json.RawMessage(form.Get("blocks"))}
	if method == "chat.update" {
		found := false
		s.change(func() {
			for _, old := range s.messages {
				if old.Room == room && old.TS == form.Get("ts") && old.Only == "" {
					old.Text, old.Blocks, found = m.Text, m.Blocks, true
					old.Changes++
				}
			}
		})
		if !found {
			return nil, errors.New("message_not_found")
		}
		return map[string]any{"channel": room, "ts": form.Get("ts")}, nil
	}
	if method == "chat.postEphemeral" {
		m.Only = form.Get("user")
	}
	s.change(func() {
		m.TS = s.stamp()
		s.messages = append(s.messages, m)
	})
	return map[string]any{"channel": room, "ts": m.TS, "message_ts": m.TS}, nil
}

// stamp is that of a new message; s.mu is held.
func (s *Server) stamp() string {
	s.number++
	return fmt.Sprintf("17720000%02d.%06d", s.number%100, s.number)
}

func (s *Server) view(method string, form url.Values) (map[string]any, error) {
	raw := json.RawMessage(form.Get("view"))
	if err := checkView(raw, method == "views.publish"); err != nil {
		s.problem("%s: %v", method, err)
		return nil, errors.New("invalid_arguments")
	}
	answer := map[string]any{"view": map[string]any{"id": "V1"}}
	switch method {
	case "views.publish":
		s.change(func() { s.homes[form.Get("user_id")] = raw })
	case "views.open":
		user, is := strings.CutPrefix(form.Get("trigger_id"), "trigger-")
		if !is {
			return nil, errors.New("invalid_trigger_id")
		}
		user, _, _ = strings.Cut(user, "-")
		s.change(func() { s.views[user] = raw })
	default:
		user := strings.TrimPrefix(form.Get("view_id"), "view-")
		s.change(func() { s.views[user] = raw })
	}
	return answer, nil
}

// respond takes an answer that only one user sees: /response/ROOM/USER.
func (s *Server) respond(w http.ResponseWriter, path []string, body []byte) {
	var in struct {
		Text   string          `json:"text"`
		Blocks json.RawMessage `json:"blocks"`
	}
	err := json.Unmarshal(body, &in)
	if err == nil {
		err = checkBlocks(in.Blocks, 50)
	}
	if err != nil || len(path) != 4 {
		s.problem("an answer: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.change(func() {
		s.messages = append(s.messages, &Message{Room: path[2], TS: s.stamp(), Text: in.Text, Blocks: in.Blocks, Only: path[3]})
	})
	io.WriteString(w, "ok")
}

// Sign makes the headers with which Slack vouches for a body.
func Sign(secret string, at time.Time, body []byte) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	return http.Header{"X-Slack-Request-Timestamp": {stamp}, "X-Slack-Signature": {"v0=" + hex.EncodeToString(mac.Sum(nil))}}
}

// post sends a form or an event to EventsURL, signed.
func (s *Server) post(ctx context.Context, contentType string, body []byte) (json.RawMessage, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.EventsURL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = Sign(s.SigningSecret, time.Now(), body)
	r.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s: %s", resp.Status, answer)
	}
	return answer, err
}
