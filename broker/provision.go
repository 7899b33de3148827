package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// provisionerTTL is how long the certificate for a target's provisioner is
// valid: for one login.
const provisionerTTL = time.Minute

// madeOf is how an account of the target is made; nil when it is always there,
// or when there is none.
func madeOf(t *access.Target, account string) *access.AccountTemplate {
	a, _ := t.Account(account)
	return a.Made
}

// planAccount returns the login name of the grant's account on the target. One
// that is made for the grant is planned at its first use.
func planAccount(ctx context.Context, tx *store.Tx, by access.Caller, g *access.Grant, t *access.Target) (string, error) {
	made := madeOf(t, g.Account)
	if made == nil {
		return g.Account, nil
	}
	p, err := tx.Provision(ctx, g.ID)
	if err == nil || !errors.Is(err, access.ErrNotFound) {
		return p.Login, err
	}
	planned, err := access.NewProvision(g, t, *made, tx.Now())
	if err != nil {
		return "", err
	}
	e := provisionEvent(by, "account.plan", planned)
	detail(&e, "template", made.String())
	tx.Also(e)
	return planned.Login, tx.AddProvision(ctx, planned)
}

func provisionEvent(by access.Caller, action string, p *access.Provision) audit.Event {
	e := event(by, action, p.ID)
	e.Request, e.Grant, e.Target, e.Account = p.RequestID, p.GrantID, p.TargetName, p.Account
	detail(&e, "login", p.Login)
	return e
}

// MadeAccount reports whether the session's account is made for its grant.
func (l *Live) MadeAccount() bool { return madeOf(&l.Target, l.Session.Account) != nil }

// accountPresent refuses a session whose account is made for the grant and is
// not there.
func (b *Broker) accountPresent(ctx context.Context, l *Live) error {
	if !l.MadeAccount() {
		return nil
	}
	p, err := b.c.Store.Provision(ctx, l.Grant.ID)
	if err != nil {
		return err
	}
	if p.State != access.Present || p.Login != l.Login {
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5023", Text: fmt.Sprintf("the account %s@%s is %s", p.Login, p.TargetName, p.State)}
	}
	return nil
}

// A Step is the creation or the removal of an account at a target that this
// server has begun and that no other server does meanwhile. It is worth nothing
// after Until.
type Step struct {
	Provision access.Provision
	Machine   access.Target   // where
	Hops      []access.Target // on the way there, in order
	// Done: nothing is to be done at the target.
	Done bool
}

// Creates tells a creation from a removal.
func (s Step) Creates() bool { return s.Provision.State == access.Creating }

// Account returns the account that is made for a grant. It is no verb of a
// person: the server calls it for a session, or for itself.
func (b *Broker) Account(ctx context.Context, grantID string) (access.Provision, error) {
	return b.c.Store.Provision(ctx, grantID)
}

// DueAccounts returns accounts whose grant is over and which are still to be
// removed, at most limit. It is the server's own.
func (b *Broker) DueAccounts(ctx context.Context, limit int) ([]access.Provision, error) {
	return b.c.Store.DueProvisions(ctx, b.now(), limit)
}

// AbandonSteps gives up the steps that this server had begun when it died, so
// that they are done again at once and not when their lease is over. It is the
// server's own, before it begins any. What such a step may still do at a target
// is over before the next one has the lock there.
func (b *Broker) AbandonSteps(ctx context.Context) error {
	all, err := b.c.Store.Provisions(ctx, "")
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Node != b.c.Node {
			continue
		}
		err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
			p, err := tx.Provision(ctx, p.ID)
			if err != nil {
				return audit.Event{}, err
			}
			p.Abandon()
			e := provisionEvent(access.System(), "account.abandon", &p)
			detail(&e, "node", b.c.Node)
			return e, tx.SaveProvision(ctx, &p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A HeldError refuses a login name that another provision has on the target.
type HeldError struct {
	Refusal *access.Error
	Holder  access.Provision
}

func (e *HeldError) Error() string { return e.Refusal.Error() }

// Unwrap makes errors.Is and errors.AsType see the refusal.
func (e *HeldError) Unwrap() error { return e.Refusal }

// BeginCreation takes the creation of a grant's account for this server. It
// refuses when the grant does not hold, when another server is at it, and, with
// a HeldError, when another provision has the login name. It is no verb of a
// person: the right to the account was decided when its session was opened.
func (b *Broker) BeginCreation(ctx context.Context, grantID string) (Step, error) {
	return b.beginStep(ctx, grantID, access.Creating, func(tx *store.Tx, g *access.Grant, p *access.Provision) error {
		if err := g.Usable(tx.Now()); err != nil {
			return err
		}
		holder, err := tx.LoginHolder(ctx, p.TargetID, p.Login)
		if err == nil && holder.ID != p.ID {
			return &HeldError{Holder: holder, Refusal: &access.Error{Kind: access.ErrConflict, Code: "DB-3024",
				Text: fmt.Sprintf("the account %s@%s belongs to another grant until it is removed", p.Login, p.TargetName)}}
		}
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return err
		}
		machine, err := tx.Target(ctx, p.TargetID)
		if err != nil {
			return unknownTarget(err, p.TargetName)
		}
		if made := madeOf(&machine, p.Account); machine.Locked || !made.Same(&p.Template) {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-2010", Rule: "grant.digest", Text: p.TargetName + " is locked, or is not what was approved any more"}
		}
		p.Machine = machine
		return p.Begin(access.Creating, b.c.Node, tx.Now())
	})
}

// BeginRemoval takes the removal of an account for this server, whose grant
// must be over. Of one that was only planned there is nothing to remove. It is
// no verb of a person: the server calls it for itself.
func (b *Broker) BeginRemoval(ctx context.Context, id string) (Step, error) {
	return b.beginStep(ctx, id, access.Removing, func(tx *store.Tx, g *access.Grant, p *access.Provision) error {
		if over(g, tx.Now()) == nil {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-3021", Text: fmt.Sprintf("the account %s@%s is in use: its grant holds", p.Login, p.TargetName)}
		}
		if p.State == access.Planned {
			return p.Skip(tx.Now())
		}
		return p.Begin(access.Removing, b.c.Node, tx.Now())
	})
}

func (b *Broker) beginStep(ctx context.Context, id string, to access.ProvisionState, begin func(*store.Tx, *access.Grant, *access.Provision) error) (Step, error) {
	known, err := b.c.Store.Provision(ctx, id)
	if err != nil {
		return Step{}, err
	}
	var s Step
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		// The grant comes first; see grantOf.
		g, err := tx.Grant(ctx, known.GrantID)
		if err != nil {
			return audit.Event{}, err
		}
		p, err := tx.Provision(ctx, known.ID)
		if err != nil {
			return audit.Event{}, err
		}
		was := p.State
		if err := begin(tx, &g, &p); err != nil {
			return audit.Event{}, err // who could not begin has nothing to report
		}
		s = Step{Provision: p, Done: p.State == access.Gone}
		e := provisionEvent(access.System(), stepAction(p.State), &p)
		detail(&e, "was", string(was))
		detail(&e, "node", b.c.Node)
		if p.Tries > 0 {
			detail(&e, "try", strconv.FormatInt(p.Tries+1, 10))
		}
		if err := tx.SaveProvision(ctx, &p); err != nil {
			return e, err
		}
		s.Provision.Version = p.Version
		return e, nil
	})
	if err != nil || s.Done {
		return s, err
	}
	s.Machine, s.Hops, err = b.machine(ctx, &s.Provision)
	if err != nil {
		return s, errors.Join(err, b.StepFailed(ctx, s, err.Error()))
	}
	return s, nil
}

// stepAction is the audit log's word for what leads to the state.
func stepAction(s access.ProvisionState) string {
	switch s {
	case access.Creating:
		return "account.create"
	case access.Removing:
		return "account.remove"
	case access.Present:
		return "account.present"
	default:
		return "account.gone"
	}
}

// machine says where an account is, and the way there. That is the target as
// it was when the account was made; the register's newer word counts only while
// it certainly speaks of the same machine: it has the address, or the pinned
// host keys.
func (b *Broker) machine(ctx context.Context, p *access.Provision) (access.Target, []access.Target, error) {
	m := p.Machine
	now, err := b.c.Store.Target(ctx, p.TargetID)
	switch {
	case errors.Is(err, access.ErrNotFound):
	case err != nil:
		return m, nil, err
	case now.Name == m.Name && now.Provisioner != "" && (now.Address == m.Address || sameKeys(now.HostKeys, m.HostKeys)):
		// Where its principals are was decided when it was made.
		folder := m.PrincipalsFolder
		m = now
		m.PrincipalsFolder = folder
	}
	hops, err := hopsOf(ctx, b.c.Store.Target, &m)
	return m, hops, err
}

func sameKeys(a, b []string) bool {
	if len(a) == 0 || len(a) != len(b) {
		return false
	}
	have := map[string]bool{}
	for _, k := range a {
		have[k] = true
	}
	for _, k := range b {
		if !have[k] {
			return false
		}
	}
	return true
}

// StepCredential issues the certificate with which the server logs in for a
// step: at the hop of that index as its hop account, or, with the number of
// hops, at the machine as its provisioner. It is for one minute, one key and
// one account that no role names, and only while the step is this server's.
func (b *Broker) StepCredential(ctx context.Context, s Step, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
	p, err := b.c.Store.Provision(ctx, s.Provision.ID)
	if err != nil {
		return nil, err
	}
	now := b.now()
	if p.Version != s.Provision.Version || !now.Before(p.Until) {
		return nil, lostStep(&s.Provision)
	}
	c := sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: s.Machine.Provisioner, Target: s.Machine.Name,
		KeyID:      fmt.Sprintf("drawbolt %s %s", p.GrantID, p.ID),
		ValidAfter: now, ValidBefore: now.Add(provisionerTTL),
	}
	if hop >= 0 && hop < len(s.Hops) {
		c.Principal, c.Target, c.PermitPortForwarding = s.Hops[hop].HopAccount, s.Hops[hop].Name, true
	}
	return b.authority(sshca.User).Sign(ctx, b.serials(access.System(), nil), c)
}

func lostStep(p *access.Provision) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-3022", Text: fmt.Sprintf("another server has taken over the account %s@%s", p.Login, p.TargetName)}
}

// StepDone puts on record that the step was done. When the step was another's
// by then, the creation is undone: the account is removed once more.
func (b *Broker) StepDone(ctx context.Context, s Step, report map[string]string) error {
	late := false
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		p, err := tx.Provision(ctx, s.Provision.ID)
		if err != nil {
			return audit.Event{}, err
		}
		late = p.Version != s.Provision.Version
		switch {
		case !late:
			err = p.Did(tx.Now())
		case s.Creates() && p.State == access.Gone:
			err = p.Late()
		default: // who took it over says how it ended
			return audit.Event{}, lostStep(&p)
		}
		if err != nil {
			return audit.Event{}, err
		}
		e := provisionEvent(access.System(), stepAction(p.State), &p)
		detail(&e, "node", b.c.Node)
		for k, v := range report {
			detail(&e, k, v)
		}
		return e, tx.SaveProvision(ctx, &p)
	})
	if err == nil && late {
		err = lostStep(&s.Provision)
	}
	return err
}

// StepFailed puts on record that the step was not done, and why. A removal that
// has failed for long is a finding of its own, each time.
func (b *Broker) StepFailed(ctx context.Context, s Step, problem string) error {
	ctx = context.WithoutCancel(ctx)
	stuck := false
	problem = audit.Clean(problem, audit.MaxDetailValue)
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		p, err := tx.Provision(ctx, s.Provision.ID)
		if err != nil {
			return audit.Event{}, err
		}
		if p.Version != s.Provision.Version {
			return audit.Event{}, lostStep(&p)
		}
		action := stepAction(p.State)
		if err := p.Fail(problem, tx.Now()); err != nil {
			return audit.Event{}, err
		}
		if stuck = p.Stuck(b.c.StuckAfter, tx.Now()); stuck {
			action = "account.stuck"
		}
		e := provisionEvent(access.System(), action, &p)
		e.Outcome, e.Reason = audit.Failed, audit.Clean(problem, audit.MaxReason)
		detail(&e, "tries", strconv.FormatInt(p.Tries, 10))
		detail(&e, "since", p.Since.UTC().Format(time.RFC3339))
		return e, tx.SaveProvision(ctx, &p)
	})
	if stuck && err == nil {
		b.c.Log.ErrorContext(ctx, "an account should be gone and is not", "target", s.Provision.TargetName, "login", s.Provision.Login, "grant", s.Provision.GrantID, "problem", problem)
	}
	return err
}

// An AccountMade is an account that exists for a grant, as a caller sees it.
type AccountMade struct {
	access.Provision
	Over  bool // the grant has ended: the account should be gone
	Stuck bool // and its removal has failed for long
}

// MadeAccounts lists the accounts that exist for grants and are not gone: the
// caller's own, and all on targets that the caller may read.
func (b *Broker) MadeAccounts(ctx context.Context, by access.Caller) ([]AccountMade, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "account.list", "")); err != nil {
		return nil, err
	}
	all, err := b.c.Store.Provisions(ctx, "")
	if err != nil {
		return nil, err
	}
	var list []AccountMade
	for _, p := range all {
		if p.UserID != by.User.ID {
			if _, err := b.decideNow(ctx, question{action: policy.ActionTargetRead, by: by, target: &p.Machine}); errors.Is(err, access.ErrDenied) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		g, err := b.c.Store.Grant(ctx, p.GrantID)
		if err != nil {
			return nil, err
		}
		now := b.now()
		list = append(list, AccountMade{Provision: p, Over: over(&g, now) != nil, Stuck: p.Stuck(b.c.StuckAfter, now)})
	}
	return list, nil
}

// GiveUpAccount ends the removal of an account that fails, because the caller
// says that the account is gone, or that the machine is.
func (b *Broker) GiveUpAccount(ctx context.Context, by access.Caller, id, reason string) error {
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	e := event(by, "account.give_up", id)
	e.Reason = reason
	return b.write(ctx, by, policy.ActionTargetWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		p, err := tx.Provision(ctx, id)
		if errors.Is(err, access.ErrNotFound) || !access.ValidID(access.ProvisionPrefix, id) {
			return &access.Error{Kind: access.ErrNotFound, Code: "DB-2109", Text: "there is no such account that was made for a grant", Next: "drawbolt account ls"}
		}
		if err != nil {
			return err
		}
		if err := p.GiveUp(tx.Now()); err != nil {
			return err
		}
		e.Object, e.Request, e.Grant, e.Target, e.Account = p.ID, p.RequestID, p.GrantID, p.TargetName, p.Account
		detail(e, "login", p.Login)
		return tx.SaveProvision(ctx, &p)
	})
}
