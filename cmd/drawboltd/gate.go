package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/web/api"
)

// A gate is a server that is sealed and unsealed while it runs: sealed it answers for
// its health and refuses everything else, unsealed there is an App. What opens it comes
// over the control socket, or by itself where it takes no people.
type gate struct {
	config Config
	log    *slog.Logger
	since  time.Time
	// prepare is called for each App before it serves.
	prepare func(context.Context, *App) error

	db         *store.DB // of its own: for the wrapped keyset, and to put on record what happens here
	ceremonies *keeper.Ceremonies
	keepers    chan vault.Keeper // what has just opened the vault

	mu    sync.Mutex
	state string
	kind  string                  // of keeper
	app   *App                    // while the state is open
	end   context.CancelCauseFunc // ends it
}

// The states of a gate.
const (
	gateSealed  = "sealed"
	gateOpening = "opening"
	gateOpen    = "open"
)

// sealStatus is how a server stands, for drawboltd status.
type sealStatus struct {
	State    string           `json:"state"`
	Node     string           `json:"node"`
	Version  string           `json:"version"`
	Since    time.Time        `json:"since"`
	Keeper   string           `json:"keeper"`
	Stale    bool             `json:"stale"` // the vault was given another keeper elsewhere
	Ceremony *keeper.Progress `json:"ceremony,omitempty"`
}

// errSealed ends an App that is to be sealed.
var errSealed = errors.New("the server was sealed")

func newGate(ctx context.Context, c Config, log *slog.Logger) (*gate, error) {
	g := &gate{config: c, log: log, since: time.Now().UTC(), keepers: make(chan vault.Keeper, 1), state: gateSealed, prepare: func(context.Context, *App) error { return nil }}
	var err error
	if g.db, err = c.openDatabase(ctx); err != nil {
		return nil, err
	}
	g.ceremonies = keeper.NewCeremonies(func(ctx context.Context) ([]byte, error) { return vault.Wrapped(ctx, g.db.VaultRecords()) }, time.Now)
	return g, nil
}

// run serves until ctx ends.
func (g *gate) run(ctx context.Context) error {
	defer g.db.Close()
	k, err := g.automatic(ctx)
	people := peopleError{}
	if err != nil && !errors.As(err, &people) {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var control sync.WaitGroup
	defer control.Wait()
	defer stop()
	byPeople := k == nil
	control.Go(func() {
		err := serveControl(ctx, g.config.controlSocket(), g.log, g.do)
		if err == nil {
			return
		}
		g.log.ErrorContext(ctx, "nobody can seal or unseal this server", "error", err)
		if byPeople {
			stop() // and it would stay so
		}
	})
	for {
		sealed := func() error { return nil }
		if k == nil {
			if sealed, err = g.serveSealed(ctx); err != nil {
				return err
			}
			select {
			case k = <-g.keepers:
			case <-ctx.Done():
				return sealed()
			}
		}
		err := g.serveOpen(ctx, k, sealed)
		k = nil
		g.set(gateSealed, nil, nil)
		debug.FreeOSMemory() // with the keys that are in use no more
		if !errors.Is(err, errSealed) || ctx.Err() != nil {
			return err
		}
	}
}

// automatic opens what takes no people. An installation that is not set up has no
// keyset, and is told so when the App is made.
func (g *gate) automatic(ctx context.Context) (vault.Keeper, error) {
	wrapped, err := wrappedOf(ctx, g.db)
	if err != nil {
		return nil, err
	}
	kind, _, err := g.config.masterKey(wrapped)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.kind = kind
	g.mu.Unlock()
	k, err := g.config.keeperOf(wrapped)
	if people := (peopleError{}); err != nil && !errors.As(err, &people) {
		return nil, fmt.Errorf("open the master key: %w", err)
	}
	return k, err
}

func (g *gate) set(state string, a *App, end context.CancelCauseFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state, g.app, g.end = state, a, end
}

// serveOpen makes an App and runs it, until ctx ends, it fails, or it is sealed.
func (g *gate) serveOpen(ctx context.Context, k vault.Keeper, sealed func() error) error {
	a, err := newApp(ctx, g.config, g.log, opening{keeper: k})
	if err == nil {
		defer a.Close()
		err = g.prepare(ctx, a)
	}
	if err = errors.Join(err, sealed()); err != nil {
		return err
	}
	if err := a.Listen(); err != nil {
		return err
	}
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	g.set(gateOpen, a, end)
	g.log.InfoContext(ctx, "serving", "url", g.config.Server.ExternalURL, "ssh", a.sshd.Addr().String(), "node", g.config.Server.Name, "version", version)
	return a.Run(running)
}

// serveSealed answers for the server's health on its addresses, and refuses all else,
// until what it returns is called.
func (g *gate) serveSealed(ctx context.Context) (stop func() error, err error) {
	t, err := serverTLS(g.config)
	if err != nil {
		return nil, err
	}
	var servers []*http.Server
	var done sync.WaitGroup
	stop = func() error {
		for _, s := range servers {
			s.Close()
		}
		done.Wait()
		return nil
	}
	for _, at := range []struct {
		address string
		tls     bool
	}{{g.config.Server.Listen.HTTPS, true}, {g.config.Server.Listen.Metrics, false}} {
		if at.address == "" {
			continue
		}
		l, err := net.Listen("tcp", at.address)
		if err != nil {
			stop()
			return nil, fmt.Errorf("listen on %s: %w", at.address, err)
		}
		if at.tls {
			l = tls.NewListener(l, t)
		}
		s := &http.Server{
			Handler: sealedHandler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
			ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // peers' broken handshakes
		}
		servers = append(servers, s)
		done.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				g.log.ErrorContext(ctx, "the sealed server answers no more", "address", l.Addr().String(), "error", err)
			}
		})
	}
	g.log.WarnContext(ctx, "sealed: nothing is served until it is unsealed (drawboltd unseal)", "url", g.config.Server.ExternalURL, "node", g.config.Server.Name, "version", version)
	return stop, nil
}

// sealedHandler says that the process lives and that it is not ready.
func sealedHandler() http.Handler {
	refusal := problemOf(isSealed())
	refusal.Title, refusal.Status = http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		switch {
		case r.URL.Path == "/healthz" && r.Method == http.MethodGet:
			io.WriteString(w, "ok\n")
		case r.URL.Path == "/readyz" && r.Method == http.MethodGet:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "not ready: sealed\n")
		case strings.HasPrefix(r.URL.Path, "/v1/"):
			h.Set("Content-Type", api.ProblemType)
			w.WriteHeader(http.StatusServiceUnavailable)
			json.NewEncoder(w).Encode(refusal)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "%s (%s)\nNext: %s\n", refusal.Detail, refusal.Code, refusal.Next)
		}
	})
}

// do answers a question of the control socket.
func (g *gate) do(ctx context.Context, uid uint32, q question) (answer, error) {
	g.mu.Lock()
	state, app, end := g.state, g.app, g.end
	g.mu.Unlock()
	if app != nil && (q.Verb == "status" || q.Verb == "begin") {
		// Somebody may have given the vault another keeper this moment.
		if err := app.keys.vault.Refresh(ctx, nil); err != nil && !errors.Is(err, vault.ErrStale) {
			return answer{}, err
		}
	}
	switch q.Verb {
	case "status":
		s := g.status()
		return answer{Status: &s}, nil
	case "begin":
		return g.begin(ctx, uid, state, app)
	case "give":
		return g.give(ctx, uid, state, app, q)
	case "cancel":
		if err := g.ceremonies.Cancel(q.Ceremony); err != nil {
			return answer{}, ceremonyError(err)
		}
		return answer{}, g.record(ctx, uid, "vault.cancel", audit.Done, "", nil)
	case "seal":
		if app == nil {
			return answer{}, isSealed()
		}
		if err := g.record(ctx, uid, "vault.seal", audit.Done, q.Reason, nil); err != nil {
			return answer{}, err
		}
		end(errSealed)
		return answer{}, nil
	}
	if app == nil {
		return answer{}, isSealed()
	}
	return app.doVault(ctx, uid, q)
}

func (g *gate) status() sealStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := sealStatus{State: g.state, Node: g.config.Server.Name, Version: version, Since: g.since, Keeper: g.kind}
	if g.app != nil {
		s.Stale = g.app.keys.vault.Stale()
	}
	if p := g.ceremonies.Progress(); p.Needed > 0 {
		s.Ceremony = &p
	}
	return s
}

// begin opens what takes no people, or begins a ceremony.
func (g *gate) begin(ctx context.Context, uid uint32, state string, app *App) (answer, error) {
	if state == gateOpening || app != nil && !app.keys.vault.Stale() {
		return answer{}, &access.Error{Kind: access.ErrConflict, Code: "DB-6372", Text: "this server is not sealed", Next: "drawboltd status"}
	}
	k, err := g.automatic(ctx)
	people := peopleError{}
	switch {
	case err == nil:
		return g.opened(ctx, uid, app, k, keeper.Progress{})
	case !errors.As(err, &people):
		return answer{}, err
	}
	name, p, err := g.ceremonies.Start(ctx)
	if err != nil {
		return answer{}, ceremonyError(err)
	}
	return answer{Ceremony: name, Progress: &p}, g.record(ctx, uid, "vault.ceremony", audit.Done, "", &p)
}

func (g *gate) give(ctx context.Context, uid uint32, state string, app *App, q question) (answer, error) {
	s := vault.NewSecret(q.Secret)
	defer s.Wipe()
	p, k, err := g.ceremonies.Give(ctx, q.Ceremony, s)
	switch {
	case errors.Is(err, keeper.ErrNotYour), errors.Is(err, keeper.ErrTooMany), errors.Is(err, keeper.ErrSameShare):
		return answer{}, ceremonyError(err) // not looked at, or not wrong
	case err != nil:
		refusal := ceremonyError(err)
		return answer{}, errors.Join(refusal, g.record(ctx, uid, "vault.unseal", audit.Refused, refusal.Error(), &p))
	case k == nil:
		return answer{Progress: &p}, g.record(ctx, uid, "vault.share", audit.Done, "", &p)
	}
	return g.opened(ctx, uid, app, k, p)
}

// opened goes on with the keeper: of a sealed server, or of one that could not follow
// when the vault was given another keeper.
func (g *gate) opened(ctx context.Context, uid uint32, app *App, k vault.Keeper, p keeper.Progress) (answer, error) {
	if err := g.record(ctx, uid, "vault.unseal", audit.Done, "", &p); err != nil {
		return answer{}, err
	}
	if app != nil {
		return answer{Progress: &p, Opened: true}, app.keys.vault.Refresh(ctx, k)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == gateSealed {
		g.state = gateOpening
		g.keepers <- k // which has room: it is emptied before the state is sealed again
	}
	return answer{Progress: &p, Opened: true}, nil
}

// record puts on record what was done over the control socket.
func (g *gate) record(ctx context.Context, uid uint32, action string, outcome audit.Outcome, reason string, p *keeper.Progress) error {
	e := audit.Event{Actor: "system", Action: action, Object: g.config.Server.Name, Outcome: outcome, Reason: audit.Clean(reason, audit.MaxReason), Details: map[string]string{"uid": strconv.FormatUint(uint64(uid), 10)}}
	if p != nil && p.Needed > 0 {
		e.Details["progress"] = fmt.Sprintf("%d of %d", p.Given, p.Needed)
		e.Details["keeper"] = p.Kind
	}
	return g.db.Record(ctx, e)
}

// ceremonyError says what was wrong, and what to do.
func ceremonyError(err error) error {
	e := &access.Error{Kind: access.ErrInvalid, Text: err.Error()}
	switch {
	case errors.Is(err, keeper.ErrBusy):
		e.Kind, e.Code, e.Next = access.ErrConflict, "DB-6373", "drawboltd unseal --ceremony NAME, with the name that its starter has; it is over by itself after ten minutes"
	case errors.Is(err, keeper.ErrNotYour):
		e.Kind, e.Code, e.Next = access.ErrNotFound, "DB-6374", "drawboltd unseal"
	case errors.Is(err, keeper.ErrTooMany):
		e.Kind, e.Code, e.Next = access.ErrUnavailable, "DB-6375", "drawboltd unseal, in a minute"
	case errors.Is(err, keeper.ErrSameShare):
		e.Kind, e.Code, e.Next = access.ErrConflict, "DB-6376", "another share"
	case errors.Is(err, keeper.ErrBadShare), errors.Is(err, keeper.ErrOtherShare):
		e.Code, e.Next = "DB-6377", "the share as it was printed by drawboltd init or drawboltd rekey"
	case errors.Is(err, vault.ErrWrongKey):
		e.Code, e.Text, e.Next = "DB-6378", "this does not open the vault", "the newest passphrase or shares: drawboltd status says which kind"
	default:
		return err
	}
	return e
}
