package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Checkout shows the caller the secret of the account that a grant of theirs is for,
// and lends it to them alone until they check it in or the grant ends. The reason is
// that of the request when it is empty.
//
// That it is shown is on record before it is: whoever gets no answer checks it in and
// out again, since no lease gives its secret a second time. The caller wipes the loan.
// Refusals are ErrConflict while somebody uses the account, and ErrDenied where the
// grant or the policy does not let its holder see the secret.
func (b *Broker) Checkout(ctx context.Context, by access.Caller, id, reason string) (access.Lease, Loan, error) {
	e := event(by, "secret.checkout", id)
	if reason != "" {
		if err := access.CheckReason(reason); err != nil {
			return access.Lease{}, Loan{}, err
		}
	}
	if b.c.Vault == nil {
		return access.Lease{}, Loan{}, b.refused(ctx, e, noVault())
	}
	if err := b.refresh(ctx); err != nil {
		return access.Lease{}, Loan{}, b.refused(ctx, e, policyDown(err))
	}
	ticket, err := b.checkGranted(ctx, by, id)
	if err != nil {
		return access.Lease{}, Loan{}, b.refused(ctx, e, err)
	}
	var lease access.Lease
	var loan Loan
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		loan.Secret.Wipe() // of an attempt before
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		g, r, err := grantOf(ctx, tx, id)
		if err != nil {
			return e, unknownRequest(err, id)
		}
		e.Request, e.Target, e.Account = r.ID, r.TargetName, r.Account
		if g == nil || g.UserID != by.User.ID {
			return e, unknownRequest(access.ErrNotFound, id)
		}
		e.Object, e.Grant = g.ID, g.ID
		if err := g.Usable(tx.Now()); err != nil {
			return e, err
		}
		t, running, decision, err := b.askAgain(ctx, tx, by, g, r, ticket, policy.ActionCheckout)
		if err != nil {
			return e, err
		}
		e.Rule = decision.Rule
		detail(&e, "decision", decision.ID)
		rules := g.Rules.Narrow(sessionRules(decision.Rules)) // for this alone: it may be another rule
		a, _ := t.Account(g.Account)
		managed, err := changeable(ctx, tx, t.ID, g)
		if err != nil {
			return e, err
		}
		if err := mayShow(g, t, rules, managed); err != nil {
			return e, err
		}
		if err := b.alone(ctx, tx, by, g, t, running); err != nil {
			return e, err
		}
		if err := g.Activate(tx.Now()); err != nil {
			return e, err
		}
		if err := tx.SaveGrant(ctx, g); err != nil {
			return e, err
		}
		row, secret, err := b.unseal(ctx, tx, t, a)
		if err != nil {
			return e, err
		}
		loan.Secret = secret
		if e.Reason = audit.Clean(reason, audit.MaxReason); reason == "" {
			e.Reason = r.Reason
		}
		lease = access.Lease{
			ID: access.NewID(access.LeasePrefix), GrantID: g.ID, RequestID: r.ID, UserID: by.User.ID, UserName: by.User.Name,
			TargetID: t.ID, TargetName: t.Name, Account: g.Account, Credential: a.Credential, Secret: row.Version, Managed: managed,
			Reason: e.Reason, Via: by.Via, At: tx.Now(), Until: g.End, Version: 1,
		}
		if by.Source.IsValid() {
			lease.Source = by.Source.String()
		}
		detail(&e, "lease", lease.ID)
		detail(&e, "credential", a.Credential)
		detail(&e, "version", strconv.FormatInt(row.Version, 10))
		detail(&e, "end", g.End.UTC().Format(time.RFC3339))
		if !lease.Managed {
			detail(&e, "known", "until somebody sets another")
		}
		if err := tx.PasswordSeen(ctx, t.ID, g.Account, by.User.ID); err != nil {
			return e, err
		}
		if err := tx.HoldRotation(ctx, t.ID, g.Account, g.End); err != nil {
			return e, err
		}
		return e, tx.AddLease(ctx, &lease)
	})
	if err == nil {
		err = b.stillLent(ctx, lease.ID) // it may have been taken back meanwhile
	}
	if err != nil {
		loan.Secret.Wipe()
		return access.Lease{}, Loan{}, err
	}
	return lease, loan, nil
}

// mayShow refuses what no policy permits: a secret that there is not, that was not
// granted, that would get around four eyes, or that would stay known although the
// rules do not say that it may.
func mayShow(g *access.Grant, t *access.Target, rules access.SessionRules, managed bool) error {
	denied := func(code, rule, text, next string) error {
		return &access.Error{Kind: access.ErrDenied, Code: code, Rule: rule, Text: text, Next: next}
	}
	a, _ := t.Account(g.Account)
	what, instead := g.Account+"@"+g.TargetName, otherUse(t, g)
	switch {
	case !a.Lent():
		return &access.Error{Kind: access.ErrInvalid, Code: "DB-6432", Text: what + " logs in with certificates, so there is no password to see", Next: instead}
	case rules.Checkout == "":
		return denied("DB-6433", "checkout.granted", "what was granted of "+what+" is its use through the bastion, and not to see its "+a.Credential, instead)
	case rules.FourEyes:
		return denied("DB-6434", "checkout.four_eyes", "nobody could watch what is done with the "+a.Credential+" of "+what+", and the rules want four eyes", instead)
	case !managed && rules.Checkout != access.CheckoutAny:
		return denied("DB-6435", "checkout.managed", "nobody would change the "+a.Credential+" of "+what+" afterwards, because the server does not manage it", instead)
	}
	return nil
}

// otherUse is what to type for the use of an account without seeing its secret.
func otherUse(t *access.Target, g *access.Grant) string {
	if !t.SSH() {
		return "drawbolt status " + g.RequestID
	}
	return "ssh " + g.Account + "@" + g.TargetName
}

// alone refuses a secret that somebody has, and one of an account in which others are.
func (b *Broker) alone(ctx context.Context, tx *store.Tx, by access.Caller, g *access.Grant, t *access.Target, running store.Running) error {
	what := g.Account + "@" + g.TargetName
	open, err := tx.Leases(ctx, store.LeaseFilter{Open: true, Target: g.TargetID, Account: g.Account, Limit: 1})
	switch {
	case err != nil:
		return err
	case len(open) == 0:
	case !open[0].ActiveAt(tx.Now()):
		return aboutToChange(g) // its end is put on record within a second
	case open[0].UserID != by.User.ID:
		return open[0].Taken()
	default:
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6436", Text: "you have checked " + what + " out already, and it is shown once; for another look check it in, and out again",
			Next: "drawbolt checkin " + g.TargetName + " --as " + g.Account}
	}
	if running.OnAccountOfOthers > 0 {
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6437", Rule: "checkout.exclusive", Text: "others have sessions in " + what + " now, and a check-out is for one person alone", Next: otherUse(t, g)}
	}
	return nil
}

// notLent refuses an account that somebody else has checked out.
func notLent(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, account string) error {
	l, err := tx.ActiveLease(ctx, t.ID, account, tx.Now())
	switch {
	case errors.Is(err, access.ErrNotFound):
		return nil
	case err != nil:
		return err
	case l.UserID != by.User.ID:
		return l.Taken()
	}
	return nil
}

// stillLent refuses a secret whose lease was ended before it was shown.
func (b *Broker) stillLent(ctx context.Context, id string) error {
	l, err := b.c.Store.Lease(ctx, id)
	if err == nil && !l.ActiveAt(b.now()) {
		err = &access.Error{Kind: access.ErrDenied, Code: "DB-6438", Text: "the check-out of " + l.Account + "@" + l.TargetName + " was ended before its " + l.Credential + " was shown", Next: "drawbolt status " + l.RequestID}
	}
	return err
}

// changeable reports whether the server changes the account's secret by itself. While
// it is about to, because somebody knows it who is through with it, nobody else is shown
// it.
func changeable(ctx context.Context, tx *store.Tx, targetID string, g *access.Grant) (bool, error) {
	r, err := tx.Rotation(ctx, access.RotationID(targetID, g.Account))
	switch {
	case errors.Is(err, access.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case r.Changes(tx.Now()) || tx.Now().Before(r.Until):
		return true, aboutToChange(g)
	}
	return true, nil
}

func aboutToChange(g *access.Grant) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6440", Text: "the secret of " + g.Account + "@" + g.TargetName + " is about to be changed; try again in a minute", Next: "drawbolt checkout " + g.TargetName + " --as " + g.Account}
}

// Checkin ends the lease under a grant: of the caller's own, which takes nothing but
// access away, or, by somebody who may revoke the grant, of another person. The
// grant goes on. What was shown is changed where the server can.
func (b *Broker) Checkin(ctx context.Context, by access.Caller, id, reason string) (access.Lease, error) {
	if reason != "" {
		if err := access.CheckReason(reason); err != nil {
			return access.Lease{}, err
		}
	}
	action := policy.ActionRevoke
	if g, err := b.c.Store.Grant(ctx, id); err == nil && g.UserID == by.User.ID {
		action = policy.ActionRelease // the holder of a grant is always the same
	}
	var lease access.Lease
	_, err := b.changeGrant(ctx, by, id, action, "secret.checkin", 0, func(tx *store.Tx, by access.Caller, _ *access.Request, g *access.Grant, _ policy.Decision, e *audit.Event) error {
		e.Reason = audit.Clean(reason, audit.MaxReason)
		list, err := tx.Leases(ctx, store.LeaseFilter{Open: true, Grant: g.ID, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 || !list[0].ActiveAt(tx.Now()) {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-6439", Text: g.Account + "@" + g.TargetName + " is not checked out under " + g.RequestID, Next: "drawbolt checkout " + g.TargetName + " --as " + g.Account}
		}
		lease = list[0]
		why := access.EndCheckedIn
		if by.User.ID != g.UserID {
			why = access.EndRevoked
		}
		return b.endLease(ctx, tx, &lease, why, by.User.Name, e)
	})
	return lease, err
}

// endLease ends a lease in the change of which e is the event, and has the secret
// changed.
func (b *Broker) endLease(ctx context.Context, tx *store.Tx, l *access.Lease, why access.EndReason, by string, e *audit.Event) error {
	if err := l.End(why, by, tx.Now()); err != nil {
		return err
	}
	detail(e, "lease", l.ID)
	detail(e, "holder", l.UserName)
	detail(e, "lease_end", string(why))
	if err := tx.SaveLease(ctx, l); err != nil {
		return err
	}
	if err := tx.HoldRotation(ctx, l.TargetID, l.Account, time.Time{}); err != nil {
		return err
	}
	return tx.RotationDue(ctx, l.TargetID, l.Account, access.CauseUse, tx.Now())
}

// prolongLease keeps the secret from being changed while it is lent, under a grant that
// lasts longer now.
func prolongLease(ctx context.Context, tx *store.Tx, g *access.Grant) error {
	list, err := tx.Leases(ctx, store.LeaseFilter{Open: true, Grant: g.ID, Limit: 1})
	if err != nil || len(list) == 0 {
		return err
	}
	return tx.HoldRotation(ctx, g.TargetID, g.Account, g.End)
}

// endLeases ends the leases that end with something else, each with an event of its
// own besides that of the change: those of a grant, a user or a target.
func (b *Broker) endLeases(ctx context.Context, tx *store.Tx, by access.Caller, of store.LeaseFilter, why access.EndReason) error {
	of.Open, of.Limit = true, 500
	for {
		list, err := tx.Leases(ctx, of)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			l := &list[i]
			e := event(by, "secret.checkin", l.GrantID)
			e.Request, e.Grant, e.Target, e.Account = l.RequestID, l.GrantID, l.TargetName, l.Account
			if err := b.endLease(ctx, tx, l, why, by.User.Name, &e); err != nil {
				return err
			}
			tx.Also(e)
		}
	}
}

// A LeaseView is a lease, and whether what was shown is still what the account logs in
// with: then its user knows it.
type LeaseView struct {
	access.Lease
	Known bool
}

// A LeaseFilter picks leases, newest first.
type LeaseFilter struct {
	Active       bool
	Target, User string // names
	Before       string // id of the last lease of the page before
	Limit        int    // default 50, at most 200
}

// Leases lists who has which secrets, and who had: those of the caller, or, to who may
// know which secrets there are, everybody's.
func (b *Broker) Leases(ctx context.Context, by access.Caller, f LeaseFilter) ([]LeaseView, error) {
	e := event(by, "secret.list", "")
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, e); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	sf := store.LeaseFilter{Before: f.Before, Limit: min(f.Limit, 200), User: by.User.ID}
	if f.Active {
		sf.Active = b.now()
	}
	switch _, err := b.decideNow(ctx, question{action: policy.ActionSecretRead, by: by}); {
	case err == nil:
		sf.User = ""
	case !errors.Is(err, access.ErrDenied):
		return nil, err
	}
	if f.User != "" && f.User != by.User.Name {
		if sf.User != "" {
			return nil, nil
		}
		u, err := b.c.Store.User(ctx, f.User)
		if err != nil {
			return nil, unknownUser(err, f.User)
		}
		sf.User = u.ID
	} else if f.User != "" {
		sf.User = by.User.ID
	}
	if f.Target != "" {
		t, err := b.c.Store.Target(ctx, f.Target)
		if errors.Is(err, access.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		sf.Target = t.ID
	}
	list, err := b.c.Store.Leases(ctx, sf)
	if err != nil {
		return nil, err
	}
	known, err := b.c.Store.StillKnown(ctx, list)
	if err != nil {
		return nil, err
	}
	out := make([]LeaseView, len(list))
	for i, l := range list {
		out[i] = LeaseView{l, known[l.ID]}
	}
	return out, nil
}

// lookForLeases adds the leases under the grants of cases.
func (b *Broker) lookForLeases(ctx context.Context, cases []Case) error {
	now := b.now()
	var ids []string
	for i := range cases {
		cases[i].Lease = nil
		if g := cases[i].Grant; g.ActiveAt(now) && g.Rules.Checkout != "" {
			ids = append(ids, g.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	list, err := b.c.Store.OpenLeasesUnder(ctx, ids)
	for i := range list {
		at := slices.IndexFunc(cases, func(c Case) bool { return c.Grant != nil && c.Grant.ID == list[i].GrantID })
		if list[i].ActiveAt(now) {
			cases[at].Lease = &list[i]
		}
	}
	return err
}
