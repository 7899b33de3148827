// Package slack tells people in Slack what waits for them, and takes their
// answers there: cards with buttons, a command, forms, a home tab.
//
// It trusts Slack for which account of which workspace did something: because
// Slack's own connection brought it (Socket Mode), or because it is signed with
// the secret that Slack has given us. Whose account that is, is no matter of
// Slack's: it acts as the user who has linked it, in a login of their own. It
// trusts nothing else of what comes in. A button carries the digest of what its
// message showed, and what is done is done by the same verbs of the broker as
// everywhere else, by a caller without a second factor: where the policy wants
// one, there is no button.
//
// It decides nothing and keeps nothing but where its messages are, in the
// database. A message shows the state of its request, and whoever brings one up
// to date brings it to the newest: so it does not matter how often, how late and
// on which server that happens. No message holds a secret, or a link that is
// worth something to who finds it; a reason that somebody wrote is text in it and
// never markup.
package slack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	sdk "github.com/slack-go/slack"
	"golang.org/x/time/rate"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/vault"
)

// Kind is the kind of a linked account, and the name of the channel.
const Kind = "slack"

// How Slack reaches us.
const (
	SocketMode = "socket" // over a connection that we open
	HTTPMode   = "http"   // by requests to us, which are signed
)

// Config is what a Slack needs.
type Config struct {
	Broker *broker.Broker
	Store  Store
	Out    *outbound.Client // the way to Slack

	Mode          string        // SocketMode or HTTPMode
	BotToken      vault.Secret  // xoxb-…
	AppToken      vault.Secret  // xapp-…; with SocketMode
	SigningSecret vault.Secret  // with HTTPMode; an empty one would let everybody in
	Channel       string        // id of the conversation that hears of requests
	Alerts        string        // id of the one that hears of break-glass and of what is unusual; default Channel
	Quiet         *notify.Quiet // when only what is urgent is told; nil: never
	URL           string        // https://gw.example.com: where the pages are
	APIURL        string        // of Slack's API, where a proxy stands in front of it; default https://slack.com/api/

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default slog.Default()
}

// A Store keeps where messages are and what has counted already. It is shared by
// all servers. store.DB is one.
type Store interface {
	Posts(ctx context.Context, channel, subject string) ([]access.Post, error)
	SavePost(ctx context.Context, p access.Post) error
	RemovePost(ctx context.Context, p access.Post) error
	// Used reports whether Once has remembered the hash. It writes nothing.
	Used(ctx context.Context, hash string) (bool, error)
	// Once reports whether the hash is used for the first time; it is remembered
	// until then.
	Once(ctx context.Context, hash string, until time.Time) (bool, error)
}

// A Slack is one app in one workspace. It is safe for concurrent use.
type Slack struct {
	c     Config
	api   *sdk.Client
	slots chan struct{} // of the work that goes on; see Run
	// doubts bounds what is logged of those who only claim to be Slack: anybody can.
	doubts *rate.Limiter

	mu     sync.Mutex
	team   string                   // the workspace of the bot token; "" while it is not known
	clicks map[string]*rate.Limiter // by account
	drawn  map[string]drawing       // by request
}

// New checks the configuration. It calls nobody.
func New(c Config) (*Slack, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Alerts == "" {
		c.Alerts = c.Channel
	}
	if c.APIURL == "" {
		c.APIURL = sdk.APIURL
	}
	if !strings.HasSuffix(c.APIURL, "/") {
		c.APIURL += "/"
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	switch {
	case c.Broker == nil || c.Store == nil || c.Out == nil:
		return nil, errors.New("slack: a broker, a store and a way to Slack are needed")
	case c.Channel == "":
		return nil, errors.New("slack: the channel that hears of requests is missing")
	case c.URL == "":
		return nil, errors.New("slack: the address of the pages is missing")
	case c.Mode != SocketMode && c.Mode != HTTPMode:
		return nil, fmt.Errorf("slack: the mode is %s or %s, not %q", SocketMode, HTTPMode, c.Mode)
	case len(c.BotToken.Expose()) == 0:
		return nil, errors.New("slack: the bot token is empty")
	case c.Mode == SocketMode && len(c.AppToken.Expose()) == 0:
		return nil, errors.New("slack: the app token is empty, and Socket Mode needs it")
	case c.Mode == HTTPMode && len(c.SigningSecret.Expose()) == 0:
		return nil, errors.New("slack: the signing secret is empty: everybody could sign with that")
	}
	if err := outbound.CheckURL(c.APIURL); err != nil {
		return nil, fmt.Errorf("slack: the address of the API: %w", err)
	}
	s := &Slack{c: c, slots: make(chan struct{}, maxWork), clicks: map[string]*rate.Limiter{}, drawn: map[string]drawing{}, doubts: rate.NewLimiter(rate.Every(doubtEvery), doubtBurst)}
	s.api = sdk.New(string(c.BotToken.Expose()), sdk.OptionAPIURL(c.APIURL), sdk.OptionHTTPClient(caller{c.Out}), sdk.OptionAppLevelToken(string(c.AppToken.Expose())))
	return s, nil
}

// A caller is the way to Slack in the form in which the library wants it.
type caller struct{ out *outbound.Client }

// Do implements what the library calls a client.
func (c caller) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	var body []byte
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	a, err := c.out.Do(ctx, outbound.Call{Method: r.Method, URL: r.URL.String(), Header: r.Header, Body: body, Limit: maxAnswer})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: strconv.Itoa(a.Status) + " " + http.StatusText(a.Status), StatusCode: a.Status, Header: a.Header,
		Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: int64(len(a.Body)), Request: r,
	}, nil
}

// Name is that of the channel.
func (s *Slack) Name() string { return Kind }

// workspace is that of the bot token. Slack is asked until it has said so.
func (s *Slack) workspace(ctx context.Context) (string, error) {
	s.mu.Lock()
	team := s.team
	s.mu.Unlock()
	if team != "" {
		return team, nil
	}
	var who *sdk.AuthTestResponse
	err := s.call(ctx, func(ctx context.Context) (err error) {
		who, err = s.api.AuthTestContext(ctx)
		return err
	})
	if err == nil && who.TeamID == "" {
		err = errors.New("it names no workspace")
	}
	if err != nil {
		return "", fmt.Errorf("ask Slack for the workspace of the bot token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.team = who.TeamID
	return s.team, nil
}

// call does one call of Slack, and does it again when Slack has said for how
// long it wants none; when that is longer than there is time, the error says so.
func (s *Slack) call(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		late, is := errors.AsType[*sdk.RateLimitedError](err)
		if !is {
			return err
		}
		if end, bounded := ctx.Deadline(); bounded && time.Until(end) < late.RetryAfter {
			return err
		}
		timer := time.NewTimer(late.RetryAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// code of a refusal of Slack: "channel_not_found". "" when it is none.
func codeOf(err error) string {
	if e, is := errors.AsType[sdk.SlackErrorResponse](err); is {
		return e.Err
	}
	return ""
}

func (s *Slack) requestURL(id string) string { return s.c.URL + "/r/" + url.PathEscape(id) }

// begin takes a place for work that goes on after Slack has its answer; false
// when there is none, or Run has ended. The work calls done.
func (s *Slack) begin() (done func(), ok bool) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, true
	default:
		return nil, false
	}
}

// wait returns when no work goes on; none begins any more.
func (s *Slack) wait() {
	for range maxWork {
		s.slots <- struct{}{}
	}
}

// mayClick counts what an account does.
func (s *Slack) mayClick(a access.ExternalAccount) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := a.Team + "/" + a.ID
	l := s.clicks[key]
	if l == nil {
		if len(s.clicks) >= maxPeople {
			clear(s.clicks)
		}
		l = rate.NewLimiter(rate.Every(clickEvery), clickBurst)
		s.clicks[key] = l
	}
	return l.AllowN(s.c.Now(), 1)
}
