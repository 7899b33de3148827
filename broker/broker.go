// Package broker holds the verbs of drawbolt: ask, approve, deny, extend,
// release, revoke, open, close, and the administration around them. It is the
// only place that decides and changes.
//
// Every exported verb takes the caller as a parameter and asks the policy
// first; a refusal is recorded in the audit log as well. A change and its event
// are one transaction of the store, so a verb that returns nil has happened and
// is told of, and one that returns an error has changed nothing.
//
// It trusts its callers (the protocol fronts) for the identity in
// access.Caller and for nothing else. It trusts the policy engine's answer only
// for the input that it built itself, from what the store says now. What no
// verb does: send anything to anybody. Notices are read from the audit log by
// followers.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// Config is what a Broker needs.
type Config struct {
	Store  *store.DB
	Policy *policy.Engine
	// BuiltIn is the digest of the bundle in the program, of which it is known what a
	// decision depends on; with any other, questions about many people take longer.
	BuiltIn string

	// The three certificate authorities, with their first keys. Vault has
	// these and those that take their place; without it none is rotated.
	UserCA, HostCA, IdentityCA *sshca.Authority
	Vault                      *vault.Vault

	// Signer signs the checkpoints of the audit log; its name is the log's
	// origin. Verifier is its public half.
	Signer   note.Signer
	Verifier note.Verifier
	// KeepCheckpoint also keeps each signed checkpoint outside the database,
	// where somebody who can change the database cannot reach. Optional.
	KeepCheckpoint func(message []byte) error

	Node string // the name of this server

	DecideWithin     time.Duration // how long a request waits for a decision; default 15m
	ActivationWindow time.Duration // how long an approved grant waits for its first use; default 4h
	DefaultDuration  time.Duration // of a request that names none; default 1h
	CertificateTTL   time.Duration // of the certificates for targets; default 5m
	IdentityTTL      time.Duration // of identity certificates; default 12h
	CheckpointEvery  time.Duration // default 1m
	StuckAfter       time.Duration // a removal of an account that has failed for so long is a finding; default 10m
	StaleAfter       time.Duration // sessions end when revocations could not be read for so long; default 60s
	KeepDays         int           // no recording is deleted earlier than so many days after its session's end
	PendingPerUser   int           // default 50
	SearchPlaces     int           // accounts on targets, for each of which the policy is asked in a search; default 10,000
	TrailPiece       int           // events of the audit log that are looked through at a time for what has no index; default 20,000
	SessionIdle      time.Duration // the bastion ends sessions without a byte of data after so long, which is told; default: nothing is
	Sessions         SessionLimits
	Tickets          TicketSystem // that says whether tickets hold; nil: none does
	Glass            GlassRules
	Digest           *Daily   // when people are told what the policy approved by itself; nil: never
	Search           bool     // recordings can be searched: their texts are in the store
	OnCall           OnCall   // the groups that schedules give; nil: none
	Programs         []string // names of those that change passwords, of which there are kinds of targets

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default slog.Default()
}

// A Broker is safe for concurrent use.
type Broker struct {
	c    Config
	keys keys

	mu         sync.Mutex // guards the policy data that is loaded
	generation int64

	circumstances atomic.Pointer[circumstances] // loaded with the policy data

	watchers watchers
	changes  *changes
	unpushed *unpushed
	looks    looks
	searches chan struct{} // those that are looked for now
	wake     chan struct{} // a change was made here: follow at once

	liveMu   sync.Mutex       // before hold.mu
	live     map[string]*Live // session id ->
	watching map[string]int   // user id -> sessions that they watch here

	position int64 // in the audit log, from where Run follows it
}

// New checks the configuration and loads the policy data. Nothing runs until
// Run.
func New(ctx context.Context, c Config) (*Broker, error) {
	defaultTo(&c.DecideWithin, 15*time.Minute)
	defaultTo(&c.ActivationWindow, 4*time.Hour)
	defaultTo(&c.DefaultDuration, time.Hour)
	defaultTo(&c.CertificateTTL, 5*time.Minute)
	defaultTo(&c.IdentityTTL, 12*time.Hour)
	defaultTo(&c.CheckpointEvery, time.Minute)
	defaultTo(&c.StuckAfter, 10*time.Minute)
	defaultTo(&c.StaleAfter, time.Minute)
	if c.PendingPerUser == 0 {
		c.PendingPerUser = 50
	}
	if c.SearchPlaces == 0 {
		c.SearchPlaces = 10_000
	}
	if c.TrailPiece == 0 {
		c.TrailPiece = 20_000
	}
	c.Sessions = c.Sessions.withDefaults()
	c.Glass.complete()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	switch {
	case c.Store == nil || c.Policy == nil || c.UserCA == nil || c.HostCA == nil || c.IdentityCA == nil:
		return nil, errors.New("broker: a store, a policy and three certificate authorities are needed")
	case c.Signer == nil || c.Verifier == nil:
		return nil, errors.New("broker: the audit log needs a signer and its verifier")
	case c.Node == "":
		return nil, errors.New("broker: this server needs a name")
	}
	b := &Broker{
		c: c, live: map[string]*Live{}, watching: map[string]int{}, wake: make(chan struct{}, 1),
		unpushed: newUnpushed(), looks: looks{on: map[lookKey]*look{}}, searches: make(chan struct{}, searchesAtOnce),
	}
	// Before the first session: whatever ends one comes after this.
	var err error
	if b.position, err = c.Store.AuditSize(ctx); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.changes = newChanges(b.position)
	if err := errors.Join(b.refresh(ctx), b.loadAuthorities(ctx)); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

func defaultTo(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func (b *Broker) now() time.Time { return b.c.Now().UTC() }

// change runs one change of the store and lets this server's followers know
// at once.
func (b *Broker) change(ctx context.Context, fn func(tx *store.Tx) (audit.Event, error)) error {
	var revokedAt []string
	err := b.c.Store.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e, err := fn(tx)
		revokedAt = tx.RevokedAt()
		return e, err
	})
	if err == nil {
		b.nudge()
		b.unpushed.add(revokedAt)
	}
	return err
}

func (b *Broker) nudge() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// event begins the event of an action of the caller. Names and addresses were
// checked at the edge; Clean keeps one that was not from stopping the log.
func event(by access.Caller, action, object string) audit.Event {
	e := audit.Event{Actor: by.User.ID, ActorName: audit.Clean(by.User.Name, audit.MaxName), Action: action, Object: audit.Clean(object, audit.MaxName)}
	if by.Source.IsValid() {
		e.Source = by.Source.String()
	}
	if by.Via != "" {
		e.Details = map[string]string{"via": by.Via}
	}
	return e
}

func detail(e *audit.Event, key, value string) {
	if value == "" {
		return
	}
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details[key] = audit.Clean(value, audit.MaxDetailValue)
}
