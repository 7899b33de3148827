// Package ticket asks a ticket system whether a ticket holds for what somebody
// wants to do: whether it is there, is open, is theirs, and names the target.
//
// It trusts the system that the operator named, as far as TLS and the token, or
// the shared secret, prove that it is that one: whoever can change tickets there
// can make one hold. It does not trust what it says to be short, quick or well
// formed. Where that machine is reached is checked at the address that is dialled,
// and no redirect is followed. Whatever goes wrong means that the ticket does not
// hold, with a sentence that says why.
package ticket

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/vault"
)

// The kinds of systems.
const (
	Webhook    = "webhook"    // a program of the house, which answers whether the ticket holds
	Jira       = "jira"       // REST API version 2, of Data Center and Cloud
	ServiceNow = "servicenow" // Table API
)

// Config says which system is asked, and how.
type Config struct {
	Kind string
	// URL is where it is: https://jira.example.com, and of a webhook all of it.
	URL string
	// User and Token log in: both, as HTTP Basic; a token alone, as a Bearer.
	User  string
	Token vault.Secret
	// Secret signs what a webhook is asked, and what it answers; see Sign.
	Secret vault.Secret
	// Table is where ServiceNow looks; default "task", which has all others in it.
	Table string
	// Networks are those besides the public ones in which the system may be.
	Networks []netip.Prefix
	// Roots are the authorities of its certificate; nil: those of the machine.
	Roots *x509.CertPool

	Within time.Duration    // for one answer; default 2s
	Now    func() time.Time // default time.Now
}

const (
	keepFor     = time.Minute     // how long an answer is used again
	keepFailure = 5 * time.Second // how long it is not asked again after it could not tell
	maxKept     = 10_000
	maxAnswer   = 1 << 20 // bytes
	atOnce      = 8       // questions that wait for an answer
	maxText     = 200     // bytes of what is kept of a field
)

// A Checker is a broker.TicketSystem. It is safe for concurrent use.
type Checker struct {
	c      Config
	url    *url.URL
	client *http.Client
	ask    func(context.Context, broker.TicketQuestion) (access.TicketCheck, error)
	busy   chan struct{}

	mu   sync.Mutex
	kept map[question]answer
}

// A question is what an answer is kept for. The user's names in the system are
// part of it: who is given another one is asked about anew.
type question struct{ ticket, user, names, target, account string }

type answer struct {
	access.TicketCheck
	until time.Time
}

// New checks the configuration. Nobody is asked yet.
func New(c Config) (*Checker, error) {
	if c.Within == 0 {
		c.Within = 2 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Table == "" {
		c.Table = "task"
	}
	t := &Checker{c: c, busy: make(chan struct{}, atOnce), kept: map[question]answer{}}
	var err error
	if t.url, err = url.Parse(c.URL); err != nil || t.url.Host == "" || t.url.User != nil || t.url.Fragment != "" {
		return nil, errors.New("tickets: the URL must be like https://jira.example.com, without a user")
	}
	// What is asked and answered must not be read or changed on the way. A port of
	// this machine is no way.
	local, err := netip.ParseAddr(t.url.Hostname())
	if t.url.Scheme != "https" && (t.url.Scheme != "http" || err != nil || !local.IsLoopback()) {
		return nil, errors.New("tickets: the URL must begin with https://")
	}
	if c.Kind != Webhook && t.url.RawQuery != "" {
		return nil, errors.New("tickets: the URL has a query")
	}
	if !tableName.MatchString(c.Table) {
		return nil, errors.New("tickets: the table is a name like change_request")
	}
	switch c.Kind {
	case Webhook:
		if len(c.Secret.Expose()) < 16 {
			return nil, errors.New("tickets: a webhook needs a secret of at least 16 bytes")
		}
		t.ask = t.webhook
	case Jira:
		t.ask = t.looked(t.jira)
	case ServiceNow:
		t.ask = t.looked(t.serviceNow)
	default:
		return nil, fmt.Errorf("tickets: %q is neither %s nor %s nor %s", c.Kind, Webhook, Jira, ServiceNow)
	}
	if c.Kind != Webhook && len(c.Token.Expose()) == 0 {
		return nil, errors.New("tickets: a token is needed")
	}
	t.client = t.newClient()
	return t, nil
}

var tableName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// newClient asks the named system and nobody else: no proxy, no redirect, and
// only addresses at which it may be, whatever its name leads to today.
func (t *Checker) newClient() *http.Client {
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !mayDial(to.Addr().Unmap(), t.c.Networks) {
			return fmt.Errorf("%s is no public address, and tickets.networks does not name it", address)
		}
		return nil
	}}
	transport := &http.Transport{
		DialContext: dialer.DialContext, Proxy: nil, TLSClientConfig: tlsConfig(t.c.Roots), ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: time.Minute, MaxConnsPerHost: atOnce, // fetch bounds the time
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Close lets go of connections that are kept for the next question.
func (t *Checker) Close() { t.client.CloseIdleConnections() }

// CheckTicket asks the system, or remembers what it said within a minute.
func (t *Checker) CheckTicket(ctx context.Context, q broker.TicketQuestion) access.TicketCheck {
	key := question{q.Ticket, q.User.ID, strings.Join(namesOf(q.User), "\n"), q.Target, q.Account}
	now := t.c.Now()
	t.mu.Lock()
	a, ok := t.kept[key]
	t.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.TicketCheck
	}
	check, err := t.fetch(ctx, q)
	keep := keepFor
	if err != nil {
		keep = keepFailure
		check = access.TicketCheck{Why: "the ticket system " + err.Error()}
	}
	check = clean(check)
	check.ID = q.Ticket
	check.Valid = check.Valid && err == nil && check.Why == ""
	if ctx.Err() != nil { // the caller gave up, which says nothing about the system
		return check
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) >= maxKept {
		clear(t.kept)
	}
	t.kept[key] = answer{check, now.Add(keep)}
	return check
}

func (t *Checker) fetch(ctx context.Context, q broker.TicketQuestion) (access.TicketCheck, error) {
	ctx, cancel := context.WithTimeout(ctx, t.c.Within)
	defer cancel()
	select {
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	case <-ctx.Done():
		return access.TicketCheck{}, fmt.Errorf("is asked about other tickets; try again in some seconds")
	}
	check, err := t.ask(ctx, q)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("has not answered within %s; try again in some seconds", t.c.Within)
	}
	return check, err
}

// do sends a request and reads the answer, which must be JSON.
func (t *Checker) do(r *http.Request) (status int, header http.Header, body []byte, err error) {
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "drawbolt")
	answer, err := t.client.Do(r)
	if err != nil {
		// Not the error itself, which may name what is inside the house.
		return 0, nil, nil, errors.New("cannot be reached; ask the operator to look at it")
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, nil, errors.New("broke off its answer; try again in some seconds")
	case len(body) > maxAnswer:
		return 0, nil, nil, errors.New("answers more than a ticket")
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return 0, nil, nil, errors.New("does not let drawbolt in; ask the operator for a new token")
	case answer.StatusCode == http.StatusNotFound:
		return answer.StatusCode, answer.Header, nil, nil
	case answer.StatusCode != http.StatusOK:
		return 0, nil, nil, fmt.Errorf("answers with status %d; ask the operator to look at it", answer.StatusCode)
	}
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(kind) != "application/json" {
		return 0, nil, nil, errors.New("does not answer with JSON; is its address right?")
	}
	return answer.StatusCode, answer.Header, body, nil
}

// A found is a ticket as Jira and ServiceNow know it.
type found struct {
	state, title string
	open         bool
	assignee     string   // to show
	people       []string // other names of the assignee
	about        []string // where the target may be named
}

// looked asks by looking a ticket up, and decides here whether it holds.
func (t *Checker) looked(find func(context.Context, string) (*found, error)) func(context.Context, broker.TicketQuestion) (access.TicketCheck, error) {
	return func(ctx context.Context, q broker.TicketQuestion) (access.TicketCheck, error) {
		if !reference.MatchString(q.Ticket) { // it becomes part of an address
			return access.TicketCheck{}, errors.New("knows no such ticket")
		}
		f, err := find(ctx, q.Ticket)
		if err != nil {
			return access.TicketCheck{}, err
		}
		if f == nil {
			return access.TicketCheck{Why: q.Ticket + " is not there; name one that is"}, nil
		}
		check := access.TicketCheck{State: f.state, Assignee: f.assignee, Title: f.title}
		names := namesOf(q.User)
		switch {
		case !f.open:
			check.Why = fmt.Sprintf("%s is not open any more (%s); name one that is", q.Ticket, f.state)
		case f.assignee == "":
			check.Why = q.Ticket + " is nobody's; have it assigned to you"
		case !anyEqual(names, append(f.people, f.assignee)):
			check.Why = fmt.Sprintf("%s is assigned to %s; have it assigned to you, or name your own", q.Ticket, f.assignee)
		case !mentions(f.about, q.Target):
			check.Why = fmt.Sprintf("%s does not name %s; add it to the ticket", q.Ticket, q.Target)
		default:
			check.Valid = true
		}
		return check, nil
	}
}

var reference = regexp.MustCompile(`^[A-Z][A-Z0-9]{1,9}-?[0-9]{1,10}$`)

// namesOf are the names by which a ticket system may know the user. Attributes
// are an administrator's to set, never the user's own.
func namesOf(u access.User) []string {
	names := []string{u.Name}
	for _, attribute := range []string{"email", "ticket_user"} {
		if v := u.Attributes[attribute]; v != "" {
			names = append(names, v)
		}
	}
	return names
}

func anyEqual(names, people []string) bool {
	for _, n := range names {
		for _, p := range people {
			if p != "" && strings.EqualFold(n, p) {
				return true
			}
		}
	}
	return false
}

// mentions reports whether one of the texts has the name as a word of its own:
// db01 is not in db011, nor in old-db01. No text has an empty name.
func mentions(texts []string, name string) bool {
	if name == "" {
		return false
	}
	part := func(b byte) bool {
		return b == '-' || b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 0x80
	}
	name = strings.ToLower(name)
	for _, text := range texts {
		text = strings.ToLower(text)
		for at := 0; ; {
			i := strings.Index(text[at:], name)
			if i < 0 {
				break
			}
			from, to := at+i, at+i+len(name)
			// A dot ends a sentence, or goes on with a longer name.
			longer := to+1 < len(text) && text[to] == '.' && part(text[to+1])
			shorter := from > 1 && text[from-1] == '.' && part(text[from-2])
			if (from == 0 || !part(text[from-1])) && (to == len(text) || !part(text[to])) && !longer && !shorter {
				return true
			}
			at = from + 1
		}
	}
	return false
}

// clean takes out of an answer what must not be shown to people.
func clean(c access.TicketCheck) access.TicketCheck {
	for _, s := range []*string{&c.State, &c.Assignee, &c.Title, &c.Why} {
		*s = cleanText(*s)
	}
	return c
}

func cleanText(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if access.CheckText("", string(r), 8) != nil {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > maxText {
		s = s[:maxText]
		s = strings.ToValidUTF8(s, "")
	}
	return s
}
