// Package webhook tells a program of the operator's: each notice is a CloudEvent
// (version 1.0, structured JSON over HTTP) that is signed as Standard Webhooks say,
// so that a receiver knows who sent it and when, and can drop what comes twice.
// docs/formats/webhook.md is the contract.
//
// It trusts the notices. The receiver is told who asks for what and why, and can
// decide nothing: whoever reads the answer reads its status and no more.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

// Config is what a Channel needs.
type Config struct {
	Name       string
	Address    notify.Address
	SecretFile string // holds the secret to sign with: whsec_ and 24 to 64 bytes in base64
	Base       string // of the server's pages; the source of the events
	Out        *outbound.Client
	Now        func() time.Time // default time.Now
}

// A Channel is safe for concurrent use.
type Channel struct{ c Config }

// New checks the configuration, and the secret.
func New(c Config) (*Channel, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := c.Address.Check(); err != nil {
		return nil, fmt.Errorf("configure webhook: %w", err)
	}
	if c.SecretFile == "" {
		return nil, errors.New("configure webhook: secret_file is missing: a file with the secret to sign with")
	}
	if _, err := key(c.SecretFile); err != nil {
		return nil, fmt.Errorf("configure webhook: %w", err)
	}
	return &Channel{c}, nil
}

// Name implements notify.Channel.
func (c *Channel) Name() string { return c.c.Name }

// Notify implements notify.Channel.
func (c *Channel) Notify(ctx context.Context, n notify.Notice) error {
	at := c.c.Now()
	body, err := json.Marshal(c.event(n, at))
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	k, err := key(c.c.SecretFile)
	if err != nil {
		return err
	}
	id, timestamp := "drawbolt-"+strconv.FormatInt(n.Position, 10), strconv.FormatInt(at.Unix(), 10)
	return c.c.Address.Post(ctx, c.c.Out, http.Header{
		"Content-Type":      {"application/cloudevents+json; charset=utf-8"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {Sign(k, id, timestamp, body)},
	}, body)
}

// Sign returns the signature of a body: that of Standard Webhooks, version 1
// (https://github.com/standard-webhooks/standard-webhooks, "Verifying webhook
// authenticity").
func Sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func key(path string) ([]byte, error) {
	secret, err := outbound.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	text, marked := strings.CutPrefix(string(secret.Expose()), "whsec_")
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !marked || len(k) < 24 || len(k) > 64 {
		return nil, fmt.Errorf("%s does not hold whsec_ and 24 to 64 bytes in base64: (printf whsec_; openssl rand -base64 32) makes one", path)
	}
	return k, nil
}

// An event is a CloudEvent (https://github.com/cloudevents/spec, version 1.0.2).
// Fields of it and of data are only added.
type event struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject,omitempty"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            data   `json:"data"`
}

type data struct {
	Title    string   `json:"title"`
	URL      string   `json:"url"`
	Actor    string   `json:"actor"`
	Note     string   `json:"note"`
	Rule     string   `json:"rule"`
	Request  *request `json:"request"`
	Grant    *grant   `json:"grant"`
	Session  *session `json:"session"`
	Deciders []string `json:"deciders"`
}

type request struct {
	ID              string     `json:"id"`
	State           string     `json:"state"`
	RequesterID     string     `json:"requester_id"`
	Requester       string     `json:"requester"`
	Target          string     `json:"target"`
	Account         string     `json:"account"`
	Role            string     `json:"role"`
	Reason          string     `json:"reason"`
	Ticket          string     `json:"ticket"`
	DurationSeconds int64      `json:"duration_seconds"`
	BreakGlass      bool       `json:"break_glass"`
	CreatedAt       string     `json:"created_at"`
	ExpiresAt       string     `json:"expires_at"`
	Needs           []need     `json:"needs"`
	Approvals       []approval `json:"approvals"`
}

type need struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
}

type approval struct {
	UserID string `json:"user_id"`
	User   string `json:"user"`
	At     string `json:"at"`
}

type grant struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Start     string `json:"start"` // "" before the first use
	End       string `json:"end"`
	EndReason string `json:"end_reason"`
}

type session struct {
	ID      string `json:"id"`
	User    string `json:"user"`
	Target  string `json:"target"`
	Account string `json:"account"`
	Kind    string `json:"kind"`
}

func (c *Channel) event(n notify.Notice, now time.Time) event {
	m := notify.Say(n, c.c.Base)
	e := event{
		SpecVersion: "1.0", ID: strconv.FormatInt(n.Position, 10), Source: c.c.Base, Type: "drawbolt." + string(n.Kind), Time: stamp(n.At),
		DataContentType: "application/json",
		Data:            data{Title: m.Title, URL: m.URL, Actor: n.Actor, Note: n.Text, Rule: n.Rule, Deciders: []string{}},
	}
	for _, u := range n.Deciders {
		e.Data.Deciders = append(e.Data.Deciders, u.Name)
	}
	if s := n.Session; s != nil {
		e.Subject = s.ID
		e.Data.Session = &session{s.ID, s.UserName, s.TargetName, s.Account, s.Kind}
	}
	if n.Way != "" && n.For != nil {
		e.Subject = n.For.ID
	}
	if n.Case == nil {
		return e
	}
	r := &n.Case.Request
	e.Subject = r.ID
	e.Data.Request = &request{
		ID: r.ID, State: string(r.StateAt(now)), RequesterID: r.RequesterID, Requester: r.RequesterName, Target: r.TargetName, Account: r.Account, Role: r.Role,
		Reason: r.Reason, Ticket: r.Ticket, DurationSeconds: int64(r.Duration / time.Second), BreakGlass: r.BreakGlass,
		CreatedAt: stamp(r.CreatedAt), ExpiresAt: stamp(r.ExpiresAt), Needs: []need{}, Approvals: []approval{},
	}
	for _, x := range r.Needs {
		e.Data.Request.Needs = append(e.Data.Request.Needs, need{x.Count, x.Groups})
	}
	for _, a := range r.Approvals {
		e.Data.Request.Approvals = append(e.Data.Request.Approvals, approval{a.UserID, a.UserName, stamp(a.At)})
	}
	if g := n.Case.Grant; g != nil {
		reason := access.EndReason("")
		if r, _, ended := g.EndAt(now); ended {
			reason = r
		}
		e.Data.Grant = &grant{g.ID, string(g.StateAt(now)), stamp(g.Start), stamp(g.End), string(reason)}
	}
	return e
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
