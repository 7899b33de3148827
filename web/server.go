// Package web is drawbolt over HTTP: the JSON API of web/api under /v1 and the
// pages of web/ui for browsers. It says who calls, reads the question strictly,
// puts it to one verb of the broker, and writes the answer. It decides nothing:
// what a caller may do or see is the broker's to say.
//
// It trusts the identity package for what a token proves, and the addresses in
// Config.TrustedProxies for whom they forward. It trusts nothing in a request:
// bodies, headers, counts and times are limited, JSON that two readers could
// understand differently is refused, and a request of a browser that another
// site has caused changes nothing.
//
// It keeps no state but counters: sessions, logins and links live in the
// broker's store, so any number of servers may answer one person.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	bundles "github.com/drawbolt/drawbolt/policy/pack" // pack is how assets are packed here
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/web/ui"
)

// Config is what a Server needs.
type Config struct {
	Broker *broker.Broker
	Logins *identity.Logins
	Local  *local.Provider

	// OpenCast opens the recording of a session, decrypted (asciicast v3 with
	// its seal); OpenSealed opens it as it is kept; OpenView opens what was derived
	// of it (recorder/view), and says fs.ErrNotExist while that has not been made.
	// The broker has been asked before any is called. nil: this server has none to give.
	OpenCast   func(context.Context, access.Session) (io.ReadSeekCloser, error)
	OpenSealed func(context.Context, access.Session) (io.ReadCloser, error)
	OpenView   func(context.Context, access.Session) (io.ReadSeekCloser, error)

	// Film writes the film of a recording, as video.Maker does. nil: this server makes none.
	Film func(ctx context.Context, recording io.ReadSeeker, out io.Writer) (cut string, err error)

	// MayFilm reports whether Film can work here now. nil: it cannot, and no page
	// offers a film.
	MayFilm func() bool

	// System says how this server is set up and how it does, without its secrets. The
	// broker has been asked before. nil: this server does not say.
	System func(context.Context) ui.System

	// BundleSigner says who has signed a policy bundle, or why the servers would refuse
	// its signature. nil: bundles need not be signed.
	BundleSigner func(*bundles.Bundle) (signer string, err error)

	// CheckLog compares the audit log with what is kept of it outside the database. The
	// broker has been asked before. nil: nothing is kept outside.
	CheckLog func(context.Context) error

	// Follow reads the recording of a session while it is made. The broker has been
	// asked before. nil: this server shows no running sessions.
	Follow func(id string) (*recorder.Follower, error)

	// Enter lets a caller in to a target over this port: it says whether the
	// caller may know the target, and returns what carries the bytes of SSH.
	// nil: this server has no such way in.
	Enter func(ctx context.Context, by access.Caller, target string) (carry func(net.Conn), err error)

	// Check tries what a session at the target of a probe needs. nil: this server
	// checks no targets.
	Check func(context.Context, broker.Probe) []access.CheckStep
	// Discover has a target scanned for a caller, as an account of it or its
	// provisioner. nil: this server scans no targets.
	Discover func(ctx context.Context, by access.Caller, target, account string) (broker.Discovered, error)
	// PinnedTLS is the certificate, in PEM, by which a target knows this server
	// when it fetches something. Default: one of the authorities that its system
	// trusts must vouch for it.
	PinnedTLS []byte

	// Slack takes what Slack sends; it checks the signature itself. nil: nothing is
	// taken.
	Slack http.Handler
	// CheckSlack tries what the app in Slack needs. nil: there is none.
	CheckSlack func(context.Context) []access.CheckStep
	// SlackApp describes the app, for that mode, and says where Slack makes it.
	SlackApp func(mode string) (manifest []byte, create string)

	ExternalURL    string         // https://gw.example.com: what people type, without a path
	SSHAddress     string         // host:port of the SSH front, as clients reach it
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; default none
	Version        string         // of the program
	VerifierKey    string         // note verifier key of the audit log
	RecordingKeys  []string       // note verifier keys of recordings, where others

	// Ready reports whether this server can do its work now. Default: it can.
	Ready func(context.Context) error

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default slog.Default()
}

// A Server answers HTTP. It is safe for concurrent use.
type Server struct {
	c           Config
	url         string // ExternalURL without a trailing slash
	secure      bool   // ExternalURL is https
	sshHost     string
	sshPort     int
	table       []route
	openAPI     []byte
	verifier    note.Verifier
	assets      assets
	handler     http.Handler
	sources     *limiter // of requests that need no login, or bear none that holds
	attempts    *limiter // of those among them that cost a password hash or a row
	persons     *limiter // of requests of one user
	emergencies *limiter // of logins with sealed codes
	polls       *counter // long polls a user
	checks      *limiter // of checks of targets, a user or a bootstrap's source
	checking    *counter // checks that go on, a user, and all
	reading     *counter // whole recordings and views that are read, a user
	filming     *counter // films that are made, a user
	films       *counter // and all
	proving     *counter // candidates of a policy that are looked at, a user
	provings    *counter // and all
	played      *played
	recorders   note.Verifiers // of the seals of recordings
	followed    *counter       // streams of what changes, a user
	follows     *counter       // and all

	bodyWithin  time.Duration // from the headers to the last byte of the body
	filmWithin  time.Duration // for a film to begin; then its answer begins without it
	watchAlive  time.Duration // a watcher is sent something at least so often, and its login looked at
	watchWithin time.Duration // for a watcher to take what was sent; then it is cut
	eventsAlive time.Duration // who follows what changes is asked about at least so often
	eventsPause time.Duration // and told at most so often
}

// The limits of what one peer may ask of the server.
const (
	maxBody      = 64 << 10 // bytes of a request's body
	maxHeader    = 32 << 10 // bytes of a request's headers
	headerWithin = 10 * time.Second
	answerWithin = 30 * time.Second // of an answer that is no stream and no long poll
	idleWithin   = 2 * time.Minute
	maxPolls     = 16 // long polls of one user at a time
	maxChecks    = 8  // checks of targets of one user at a time
	maxFilms     = 4  // films that are made at a time; one of them for a user
	maxProvings  = 2  // candidates of a policy that are looked at at a time; one of them for a user
	maxReading   = 2  // searches in recordings and verifications of one user at a time
)

// New checks the configuration and builds the routes. It starts nothing.
func New(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Ready == nil {
		c.Ready = func(context.Context) error { return nil }
	}
	if c.Broker == nil || c.Logins == nil || c.Local == nil {
		return nil, errors.New("web: a broker, its logins and its local users are needed")
	}
	u, err := url.Parse(c.ExternalURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("web: the external URL %q is not one like https://gw.example.com", c.ExternalURL)
	}
	host, port, err := net.SplitHostPort(c.SSHAddress)
	if err != nil {
		return nil, fmt.Errorf("web: the SSH address: %w", err)
	}
	portNumber, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("web: the SSH address: %w", err)
	}
	if host == "" {
		host = u.Hostname()
	}
	s := &Server{
		c: c, url: u.Scheme + "://" + u.Host, secure: u.Scheme == "https", sshHost: host, sshPort: portNumber,
		sources:     newLimiter(20, 100, c.Now),
		attempts:    newLimiter(2, 60, c.Now),
		persons:     newLimiter(50, 300, c.Now),
		emergencies: newLimiter(1.0/30, 10, c.Now),
		polls:       newCounter(maxPolls),
		checks:      newLimiter(2, 40, c.Now),
		checking:    newCounter(maxChecks),
		reading:     newCounter(maxReading),
		filming:     newCounter(1),
		films:       newCounter(maxFilms),
		proving:     newCounter(1),
		provings:    newCounter(maxProvings),
		played:      &played{now: c.Now, kept: map[string]*playedView{}},
		followed:    newCounter(maxFollowed),
		follows:     newCounter(maxFollows),

		bodyWithin: 20 * time.Second, filmWithin: 10 * time.Second, watchAlive: 5 * time.Second, watchWithin: 10 * time.Second,
		eventsAlive: 4 * time.Second, eventsPause: 500 * time.Millisecond,
	}
	if s.verifier, err = note.NewVerifier(c.VerifierKey); err != nil {
		return nil, fmt.Errorf("web: the key of the audit log: %w", err)
	}
	if s.recorders, err = recorderKeys(s.verifier, c.RecordingKeys); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if s.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.table = s.routes()
	if s.handler, err = s.build(); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return s, nil
}

// Handler returns the whole of what the outside sees.
func (s *Server) Handler() http.Handler { return s.handler }

// Ops returns what a supervisor asks on a port of its own: /healthz, that the
// process answers, and /readyz, that it can do its work.
func (s *Server) Ops() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.c.Ready(r.Context()); err != nil {
			s.text(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		s.text(w, http.StatusOK, "ready\n")
	})
	return mux
}

func (s *Server) text(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// Serve answers on a listener (of TLS, unless a proxy on this machine does it)
// until ctx ends, and then gives the running requests ten seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// Long polls end with base, which ends as soon as the server is told to stop.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug), // peers' broken handshakes
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	time.AfterFunc(time.Second, stop)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		srv.Close() // who has not finished by now is cut
	}
	<-done
	return nil
}

func (s *Server) now() time.Time { return s.c.Now().UTC() }
