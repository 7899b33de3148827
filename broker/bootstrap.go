package broker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// A Bootstrapping is what a script needs that makes a target trust us.
type Bootstrapping struct {
	Target      access.Target
	Authorities []ssh.PublicKey // of users: all that are to be trusted
	Logins      []Login
	Token       string // for the script alone; only its hash is kept
	ExpiresAt   time.Time
}

// A Login is an account of a target and the principal that it is to let in.
type Login struct{ Account, Principal string }

// BeginBootstrap makes the right of a script to have the target checked until a
// login at it is proven, and to tell its host keys when none is pinned. The one
// that the target had is worth nothing any more.
func (b *Broker) BeginBootstrap(ctx context.Context, by access.Caller, name string) (Bootstrapping, error) {
	e := event(by, "bootstrap.begin", name)
	e.Target = audit.Clean(name, audit.MaxName)
	if err := b.refresh(ctx); err != nil {
		return Bootstrapping{}, b.refused(ctx, e, policyDown(err))
	}
	out := Bootstrapping{Token: rand.Text(), Authorities: b.Authorities().Users}
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		t, err := b.administered(ctx, tx, by, policy.ActionTargetWrite, name, &e)
		if err != nil {
			return e, err
		}
		if t.Locked {
			return e, lockedTarget(&t)
		}
		if t.Kind != "" {
			return e, notChecked(&t)
		}
		if out.Logins, err = loginsOf(&t); err != nil {
			return e, err
		}
		out.Target, out.ExpiresAt = t, tx.Now().Add(access.BootstrapTTL)
		row := access.Bootstrap{
			TargetID: t.ID, UserID: by.User.ID, Token: tokenHash(out.Token), MFAAt: by.MFAAt,
			CreatedAt: tx.Now(), ExpiresAt: out.ExpiresAt, Version: 1,
		}
		old, err := tx.Bootstrap(ctx, t.ID)
		if errors.Is(err, access.ErrNotFound) {
			return e, tx.AddBootstrap(ctx, &row)
		} else if err != nil {
			return e, err
		}
		row.Version = old.Version
		return e, tx.SaveBootstrap(ctx, &row)
	})
	return out, err
}

func lockedTarget(t *access.Target) error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2014", Rule: "target.locked", Text: fmt.Sprintf("%s is locked: %q", t.Name, t.LockReason), Next: "drawbolt target unlock " + t.Name}
}

// loginsOf are the accounts in which we log in at the target: those that are
// always there, and the two that nobody may ask for. Those in which we log in with
// a secret have no principal.
func loginsOf(t *access.Target) ([]Login, error) {
	names, err := accountsToCheck(t, "")
	if err != nil {
		return nil, err
	}
	var list []Login
	seen := map[string]bool{"": true}
	for _, name := range append(names, t.Provisioner) {
		if seen[name] {
			continue
		}
		seen[name] = true
		if a, _ := t.Account(name); a.Lent() {
			continue
		}
		principal, err := sshca.Principal(name, t.Name)
		if err != nil {
			return nil, access.Invalid("%v", err)
		}
		list = append(list, Login{name, principal})
	}
	if len(list) == 0 {
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-1001", Text: t.Name + " has no account in which a login could be proven", Next: "drawbolt target set " + t.Name + " --account NAME"}
	}
	return list, nil
}

func notABootstrap() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4030", Text: "this is the token of no bootstrap, or another has taken its place", Next: "drawbolt target bootstrap TARGET"}
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// UseBootstrap lets the bearer of a bootstrap's token have the target checked, in
// the name of who made it and as far as that person may, and pins the host keys
// that the script has read at the target when none is pinned. A target whose keys
// are pinned keeps them. The caller of UseBootstrap calls EndBootstrap.
func (b *Broker) UseBootstrap(ctx context.Context, source netip.Addr, token string, hostKeys []string) (Probe, error) {
	by := access.Caller{User: access.User{ID: "unknown"}, Source: source, Via: "bootstrap"}
	e := event(by, "bootstrap.use", "")
	if err := b.refresh(ctx); err != nil {
		return Probe{}, b.refused(ctx, e, policyDown(err))
	}
	hash := tokenHash(token)
	known, err := b.c.Store.BootstrapOfToken(ctx, hash)
	if errors.Is(err, access.ErrNotFound) {
		err = notABootstrap()
	}
	if err != nil {
		return Probe{}, b.refused(ctx, e, err)
	}
	by.User.ID, by.MFAAt = known.UserID, known.MFAAt
	var name string
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		var err error
		if by, err = b.current(ctx, tx, by); err != nil {
			return e, err
		}
		e := event(by, "bootstrap.use", known.TargetID)
		// The target comes first, as in BeginBootstrap.
		t, err := b.administered(ctx, tx, by, policy.ActionTargetWrite, known.TargetID, &e)
		if err != nil {
			return e, err
		}
		if t.Locked {
			return e, lockedTarget(&t)
		}
		row, err := tx.Bootstrap(ctx, t.ID)
		if err != nil {
			return e, err
		}
		if row.Token != hash {
			return e, notABootstrap()
		}
		if err := row.Use(tx.Now()); err != nil {
			return e, err
		}
		name = t.Name
		if err := tx.SaveBootstrap(ctx, &row); err != nil {
			return e, err
		}
		if len(t.HostKeys) > 0 || len(hostKeys) == 0 {
			return e, nil
		}
		t.HostKeys = slices.Clone(hostKeys)
		if err := checkTarget(&t); err != nil {
			return e, err
		}
		targetDetails(&e, &t)
		return e, tx.SaveTarget(ctx, &t)
	})
	if err != nil {
		return Probe{}, err
	}
	return b.beginProbe(ctx, by, name, "", hash)
}

// EndBootstrap puts on record what the check of a bootstrap has found, and
// reports whether it proves a login. With that, the bootstrap's token is worth
// nothing any more.
func (b *Broker) EndBootstrap(ctx context.Context, p Probe, steps []access.CheckStep) (proven bool, err error) {
	if p.bootstrap == "" {
		return false, access.Invalid("this check is of no bootstrap")
	}
	if !access.LoggedIn(steps) {
		return false, b.EndCheck(ctx, p, steps)
	}
	err = b.change(context.WithoutCancel(ctx), func(tx *store.Tx) (audit.Event, error) {
		row, err := tx.Bootstrap(ctx, p.Target.ID)
		if err != nil {
			return audit.Event{}, err
		}
		if row.Token != p.bootstrap {
			return checkedEvent(p, "bootstrap.use", steps), notABootstrap()
		}
		row.Prove(tx.Now())
		return checkedEvent(p, "bootstrap.proven", steps), tx.SaveBootstrap(ctx, &row)
	})
	return err == nil, err
}
