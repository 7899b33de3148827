package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// probeWithin is how long a check may take, and checkTTL how long a certificate
// for it is valid: for one login.
const (
	probeWithin = time.Minute
	checkTTL    = time.Minute
)

// A Probe is a check of a target that was allowed: what a session needs may be
// tried there, at these addresses and as these accounts, for a minute.
type Probe struct {
	Target   access.Target
	Hops     []access.Target // on the way there, in order
	Accounts []string        // to log in as

	by        access.Caller
	until     time.Time
	bootstrap string // hash of the token of the bootstrap that it is for
}

// BeginCheck allows the check of a target, as one account of it or, with an empty
// account, as all. Only who may change targets may have one checked, and only at
// the address that is stored: nobody learns by it what they may not know, or what
// else is in the network. The caller of BeginCheck calls EndCheck.
func (b *Broker) BeginCheck(ctx context.Context, by access.Caller, name, account string) (Probe, error) {
	return b.beginProbe(ctx, by, name, account, "")
}

func (b *Broker) beginProbe(ctx context.Context, by access.Caller, name, account, bootstrap string) (Probe, error) {
	e := event(by, "target.check", name)
	e.Target, e.Account = audit.Clean(name, audit.MaxName), audit.Clean(account, audit.MaxName)
	if err := b.refresh(ctx); err != nil {
		return Probe{}, b.refused(ctx, e, policyDown(err))
	}
	p := Probe{bootstrap: bootstrap}
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		caller, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		t, err := b.administered(ctx, tx, caller, policy.ActionTargetWrite, name, &e)
		if err != nil {
			return e, err
		}
		if t.Locked {
			return e, lockedTarget(&t)
		}
		if t.Kind != "" {
			return e, notChecked(&t)
		}
		detail(&e, "address", t.Address)
		wayDetails(&e, &t)
		p.Target, p.by, p.until = t, caller, tx.Now().Add(probeWithin)
		if p.Accounts, err = accountsToCheck(&t, account); err != nil {
			return e, err
		}
		p.Hops, err = hopsOf(ctx, tx.Target, &t)
		return e, err
	})
	return p, err
}

// administered returns a target for which the caller may do what the action
// names, and says in the event which it is. Who may not even know of the target is
// told that there is none.
func (b *Broker) administered(ctx context.Context, tx *store.Tx, by access.Caller, action policy.Action, name string, e *audit.Event) (access.Target, error) {
	t, err := tx.Target(ctx, name)
	if err != nil {
		return t, unknownTarget(err, audit.Clean(name, 64))
	}
	e.Object, e.Target = t.ID, t.Name
	d, err := b.decideNow(ctx, question{action: action, by: by, target: &t})
	if errors.Is(err, access.ErrDenied) && !b.knows(ctx, by, &t) {
		err = unknownTarget(access.ErrNotFound, t.Name)
	}
	e.Rule = d.Rule
	return t, err
}

func (b *Broker) knows(ctx context.Context, by access.Caller, t *access.Target) bool {
	return b.mayKnow(ctx, by, t, "") || slices.ContainsFunc(t.Accounts, func(a access.Account) bool { return b.mayKnow(ctx, by, t, a.Name) })
}

// accountsToCheck are those that are always there, with that for the way to
// others: one that is made for a grant is not there now.
func accountsToCheck(t *access.Target, only string) ([]string, error) {
	var list []string
	for _, a := range t.Accounts {
		if a.Made == nil && (only == "" || only == a.Name) {
			list = append(list, a.Name)
		}
	}
	if hop := t.HopAccount; hop != "" && (only == "" || only == hop) && !slices.Contains(list, hop) {
		list = append(list, hop)
	}
	if only != "" && len(list) == 0 {
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-1001", Text: fmt.Sprintf("%s has no account %s that is always there", t.Name, strconv.QuoteToASCII(audit.Clean(only, 64))), Next: "drawbolt target show " + t.Name}
	}
	return list, nil
}

// CheckCredential issues the certificate with which the server logs in for a
// check: at the hop of that index as its hop account, or, with the number of
// hops, at the target as the account, which must be one of the probe's or the
// provisioner. It is for one minute, one key and one account, and as long as the
// caller of the check may have it and the target is the one that was to be
// checked.
func (b *Broker) CheckCredential(ctx context.Context, p Probe, hop int, account string, key ssh.PublicKey) (*ssh.Certificate, error) {
	now, t, at := b.now(), p.Target, p.Target
	inside := hop >= 0 && hop < len(p.Hops)
	if inside {
		at = p.Hops[hop]
	}
	by, err := b.mayGoOn(ctx, p, t, at)
	if err != nil {
		return nil, err
	}
	c := sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: account, Target: t.Name, KeyID: "drawbolt check " + t.ID,
		ValidAfter: now, ValidBefore: now.Add(checkTTL),
	}
	switch {
	case inside:
		c.Principal, c.Target, c.PermitPortForwarding = at.HopAccount, at.Name, true
	case hop != len(p.Hops) || account == "" || !slices.Contains(p.Accounts, account) && account != t.Provisioner:
		return nil, access.Invalid("a check does not log in as %s", strconv.QuoteToASCII(audit.Clean(account, 64)))
	}
	return b.authority(sshca.User).Sign(ctx, b.serials(by, nil), c)
}

// mayGoOn returns the caller of a check that still holds: they may have it, its
// minute is not over, and the targets are what they were when it began.
func (b *Broker) mayGoOn(ctx context.Context, p Probe, targets ...access.Target) (access.Caller, error) {
	by := p.by
	for _, was := range targets {
		is, err := b.c.Store.Target(ctx, was.ID)
		if err != nil {
			return by, err
		}
		if is.Version != was.Version || is.Locked || !b.now().Before(p.until) {
			return by, &access.Error{Kind: access.ErrConflict, Code: "DB-3030", Text: was.Name + " was changed while it was checked, or the check took too long", Next: "drawbolt target check " + p.Target.Name}
		}
	}
	var err error
	if by.User, err = b.c.Store.User(ctx, by.User.ID); err != nil {
		return by, err
	}
	_, err = b.decide(ctx, question{action: policy.ActionTargetWrite, by: by, target: &p.Target})
	return by, err
}

// EndCheck puts on record what a check has found.
func (b *Broker) EndCheck(ctx context.Context, p Probe, steps []access.CheckStep) error {
	return b.c.Store.Record(context.WithoutCancel(ctx), checkedEvent(p, "target.checked", steps))
}

// maxFindings is how many failed steps an event names.
const maxFindings = 8

func checkedEvent(p Probe, action string, steps []access.CheckStep) audit.Event {
	e := event(p.by, action, p.Target.ID)
	e.Target, e.Outcome = p.Target.Name, audit.Done
	detail(&e, "steps", strconv.Itoa(len(steps)))
	n := 0
	for _, s := range steps {
		if s.State != access.CheckFailed {
			continue
		}
		e.Outcome, e.Reason = audit.Failed, "the check of the target found a fault"
		if n++; n <= maxFindings {
			detail(&e, fmt.Sprintf("finding_%d", n), fmt.Sprintf("%s %s %s: %s", s.Step, s.Target, s.Account, s.Detail))
		}
	}
	return e
}
