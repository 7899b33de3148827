package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A FoundFilter picks accounts that scans have found, the gravest first.
type FoundFilter struct {
	Class  string
	Target string // name
	Owner  string // name
	Name   string
	Risk   discovery.Risk // this or a graver one; 0: any
	After  string         // the id of the last one of the page before
	Limit  int            // default 50, at most 500
}

// FoundAccounts lists the accounts that scans have found on targets of which the caller
// may see them. Who may see little of much gets a short page; the last id is where the
// next one begins.
func (b *Broker) FoundAccounts(ctx context.Context, by access.Caller, f FoundFilter) (list []access.FoundAccount, next string, err error) {
	e := event(by, "account.list", "")
	if err := b.mayReadAccounts(ctx, by, e); err != nil {
		return nil, "", err
	}
	if f.Class != "" && !slices.Contains(discovery.Classes(), discovery.Class(f.Class)) {
		var names []string
		for _, c := range discovery.Classes() {
			names = append(names, string(c))
		}
		return nil, "", &access.Error{Kind: access.ErrInvalid, Code: "DB-6465", Text: "there is no class of that name; there are " + strings.Join(names, ", "), Next: "drawbolt account ls --class unmanaged"}
	}
	sf := store.FoundFilter{Class: f.Class, Owner: f.Owner, Name: f.Name, Risk: int64(f.Risk), Limit: 50}
	if f.Limit > 0 {
		sf.Limit = min(f.Limit, 500)
	}
	if f.Target != "" {
		t, err := b.c.Store.Target(ctx, f.Target)
		if err != nil {
			return nil, "", unknownTarget(err, audit.Clean(f.Target, 64))
		}
		sf.TargetID = t.ID
	}
	if f.After != "" {
		if sf.After, err = b.c.Store.FoundAccount(ctx, f.After); err != nil {
			return nil, "", unknownFound(err, f.After)
		}
	}
	may := b.mayOnTarget(policy.ActionAccountRead, by)
	for looked := 0; looked < max(maxSieved, sf.Limit) && len(list) < sf.Limit; looked += sf.Limit {
		page, err := b.c.Store.FoundAccounts(ctx, sf)
		if err != nil {
			return nil, "", err
		}
		for _, a := range page {
			next = a.ID
			ok, err := may(ctx, a.TargetID)
			if err != nil {
				return nil, "", err
			}
			if ok {
				if list = append(list, a); len(list) == sf.Limit {
					break
				}
			}
		}
		if len(page) < sf.Limit {
			if len(list) < sf.Limit {
				next = ""
			}
			break
		}
		sf.After = page[len(page)-1]
	}
	return list, next, nil
}

// mayReadAccounts refuses who may see the accounts of no target.
func (b *Broker) mayReadAccounts(ctx context.Context, by access.Caller, e audit.Event) error {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, e); err != nil {
		return err
	}
	if b.reach(by).Any(policy.ActionAccountRead) {
		return nil
	}
	_, err := b.allow(ctx, question{action: policy.ActionAccountRead, by: by}, e)
	return err
}

// mayOnTarget asks once for each target. One that has gone is nobody's to see.
func (b *Broker) mayOnTarget(action policy.Action, by access.Caller) func(ctx context.Context, targetID string) (bool, error) {
	known := map[string]bool{}
	return func(ctx context.Context, targetID string) (bool, error) {
		if ok, asked := known[targetID]; asked {
			return ok, nil
		}
		t, err := b.c.Store.Target(ctx, targetID)
		if err == nil {
			_, err = b.decideNow(ctx, question{action: action, by: by, target: &t})
		}
		if err != nil && !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrNotFound) {
			return false, err
		}
		known[targetID] = err == nil
		return err == nil, nil
	}
}

func unknownFound(err error, id string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-6466", Text: "no scan has found the account " + audit.Clean(id, 64), Next: "drawbolt account ls"}
	}
	return err
}

// A FoundView is an account that was found, with all that is known of it.
type FoundView struct {
	access.FoundAccount
	Is   discovery.Finding
	Ways []discovery.Way // past the bastion, through this account
	// MayAdopt says that the caller may say whose it is, and take it over.
	MayAdopt bool
	// MayManage says that they may also have its password changed by us, and Managed that
	// it is already.
	MayManage, Managed bool
}

// FindFound returns an account that a scan has found, by its id or as NAME@TARGET.
func (b *Broker) FindFound(ctx context.Context, by access.Caller, id string) (FoundView, error) {
	e := event(by, "account.read", id)
	if err := b.refresh(ctx); err != nil {
		return FoundView{}, b.refused(ctx, e, policyDown(err))
	}
	f, t, err := b.foundNamed(ctx, b.c.Store.Target, b.c.Store.FoundAccount, b.c.Store.FoundAccountOf, id)
	if err == nil {
		e.Target, e.Account = t.Name, audit.Clean(f.Name, audit.MaxName)
		if _, denied := b.decideNow(ctx, question{action: policy.ActionAccountRead, by: by, target: &t}); errors.Is(denied, access.ErrDenied) {
			err = access.ErrNotFound
		} else if denied != nil {
			err = denied
		}
	}
	if err != nil {
		return FoundView{}, b.refused(ctx, e, unknownFound(err, id))
	}
	_, denied := b.decideNow(ctx, question{action: policy.ActionAccountAdopt, by: by, target: &t})
	v := FoundView{FoundAccount: f, Is: FindingOf(&f), MayAdopt: denied == nil}
	_, denied = b.decideNow(ctx, question{action: policy.ActionSecretWrite, by: by, target: &t})
	v.MayManage = v.MayAdopt && denied == nil
	if i := accountOf(&t, &f); i >= 0 {
		v.Managed = t.Accounts[i].Managed != nil
	}
	s, err := b.c.Store.TargetScan(ctx, t.ID)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return v, err
	}
	for _, w := range waysOf(&s) {
		if w.Account == f.Name {
			v.Ways = append(v.Ways, w)
		}
	}
	return v, nil
}

// foundNamed reads an account that was found, with its target.
func (b *Broker) foundNamed(ctx context.Context, target func(context.Context, string) (access.Target, error), byID func(context.Context, string) (access.FoundAccount, error),
	byName func(context.Context, string, string) (access.FoundAccount, error), id string) (f access.FoundAccount, t access.Target, err error) {
	if access.ValidID(access.FoundPrefix, id) {
		if f, err = byID(ctx, id); err != nil {
			return f, t, err
		}
		t, err = target(ctx, f.TargetID)
		return f, t, err
	}
	i := strings.LastIndex(id, "@")
	if i < 0 {
		return f, t, access.ErrNotFound
	}
	if t, err = target(ctx, id[i+1:]); err != nil {
		return f, t, err
	}
	f, err = byName(ctx, t.ID, id[:i])
	return f, t, err
}

func waysOf(s *access.TargetScan) (ways []discovery.Way) {
	if s.Ways != "" {
		_ = json.Unmarshal([]byte(s.Ways), &ways) // ours
	}
	return ways
}

// A PostureView is how a target stands by its last scan.
type PostureView struct {
	Scan    access.TargetScan
	Posture discovery.Posture
	Ways    []discovery.Way
}

func postureOf(s access.TargetScan) PostureView {
	v := PostureView{Scan: s, Ways: waysOf(&s), Posture: discovery.Posture{Score: -1}}
	if s.Faults != "" {
		_ = json.Unmarshal([]byte(s.Faults), &v.Posture) // ours
	}
	return v
}

// Posture returns how a target stands by its last scan.
func (b *Broker) Posture(ctx context.Context, by access.Caller, target string) (PostureView, error) {
	e := event(by, "account.posture", target)
	if err := b.refresh(ctx); err != nil {
		return PostureView{}, b.refused(ctx, e, policyDown(err))
	}
	t, err := b.c.Store.Target(ctx, target)
	if err == nil {
		e.Target = t.Name
		_, err = b.decideNow(ctx, question{action: policy.ActionAccountRead, by: by, target: &t})
		if errors.Is(err, access.ErrDenied) && !b.knows(ctx, by, &t) {
			err = access.ErrNotFound
		}
	}
	if err != nil {
		return PostureView{}, b.refused(ctx, e, unknownTarget(err, audit.Clean(target, 64)))
	}
	s, err := b.c.Store.TargetScan(ctx, t.ID)
	if errors.Is(err, access.ErrNotFound) || err == nil && s.TriedAt.IsZero() {
		return PostureView{}, &access.Error{Kind: access.ErrNotFound, Code: "DB-6467", Text: t.Name + " was not scanned yet", Next: "drawbolt account discover " + t.Name}
	}
	return postureOf(s), err
}

// Postures lists how targets stand, by their names, behind one of that name; next is
// where the next page begins.
func (b *Broker) Postures(ctx context.Context, by access.Caller, after string, limit int) (list []PostureView, next string, err error) {
	if err := b.mayReadAccounts(ctx, by, event(by, "account.postures", "")); err != nil {
		return nil, "", err
	}
	if limit <= 0 || limit > 200 {
		limit = 200
	}
	may := b.mayOnTarget(policy.ActionAccountRead, by)
	for looked := 0; looked < max(maxSieved, limit) && len(list) < limit; looked += limit {
		page, err := b.c.Store.TargetScans(ctx, after, limit)
		if err != nil {
			return nil, "", err
		}
		for _, s := range page {
			after = s.TargetName
			ok, err := may(ctx, s.TargetID)
			if err != nil {
				return nil, "", err
			}
			if ok && !s.TriedAt.IsZero() {
				if list = append(list, postureOf(s)); len(list) == limit {
					break
				}
			}
		}
		if len(page) < limit {
			if len(list) < limit {
				return list, "", nil
			}
			break
		}
	}
	return list, after, nil
}

// MaxManaged is how many accounts are managed at once.
const MaxManaged = 500

// A Management is what becomes of accounts that were found. A nil field changes
// nothing.
type Management struct {
	Owner   *string // name of a user; "": nobody
	Declare *string // "service", "shared", "emergency"; "": what the scan says
	Note    string
	// TakeOver adds the account to its target, so that it is had under a grant only and
	// recorded; who may ask for it is for the roles to say.
	TakeOver bool
}

// ManageFound gives accounts that were found an owner, says what they are, and takes
// them over: all of them or none.
func (b *Broker) ManageFound(ctx context.Context, by access.Caller, ids []string, m Management) ([]access.FoundAccount, error) {
	e := event(by, "account.adopt", "")
	if len(ids) == 1 {
		e.Object = audit.Clean(ids[0], audit.MaxName)
	}
	if ids = distinct(slices.Clone(ids)); len(ids) == 0 || len(ids) > MaxManaged {
		return nil, access.Invalid("name between 1 and %d accounts", MaxManaged)
	}
	if m.Owner == nil && m.Declare == nil && !m.TakeOver {
		return nil, access.Invalid("say whose the accounts are, what they are, or that they are taken over")
	}
	if err := b.refresh(ctx); err != nil {
		return nil, b.refused(ctx, e, policyDown(err))
	}
	var list []access.FoundAccount
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		list = nil
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		var owner access.User
		if m.Owner != nil && *m.Owner != "" {
			if owner, err = tx.User(ctx, *m.Owner); err != nil {
				return e, unknownUser(err, *m.Owner)
			}
		}
		var told audit.Event
		for i, id := range ids {
			told = e
			told.Details = cloneDetails(e.Details)
			f, err := b.manage(ctx, tx, by, id, owner, m, &told)
			if err != nil {
				return told, err
			}
			list = append(list, f)
			if i < len(ids)-1 {
				told.Outcome = audit.Done
				tx.Also(told)
			}
		}
		return told, nil
	})
	return list, err
}

func (b *Broker) manage(ctx context.Context, tx *store.Tx, by access.Caller, id string, owner access.User, m Management, e *audit.Event) (access.FoundAccount, error) {
	e.Object = audit.Clean(id, audit.MaxName)
	f, t, err := b.foundNamed(ctx, tx.Target, tx.FoundAccount, tx.FoundAccountOf, id)
	if err != nil {
		return f, unknownFound(err, id)
	}
	e.Object, e.Target, e.Account = f.ID, t.Name, audit.Clean(f.Name, audit.MaxName)
	d, err := b.decideNow(ctx, question{action: policy.ActionAccountAdopt, by: by, target: &t})
	if errors.Is(err, access.ErrDenied) && !b.knows(ctx, by, &t) {
		err = unknownFound(access.ErrNotFound, id)
	}
	if e.Rule = d.Rule; err != nil {
		return f, err
	}
	if err := isThere(&t, &f); err != nil {
		return f, err
	}
	if m.Owner != nil {
		f.OwnerID, f.OwnerName = owner.ID, owner.Name
		detail(e, "owner", f.OwnerName)
	}
	if m.Declare != nil {
		if err := f.Declare(*m.Declare, m.Note); err != nil {
			return f, err
		}
		detail(e, "declared", f.Declared)
		e.Reason = audit.Clean(m.Note, audit.MaxReason)
		if f.Declared != "" && f.Class != string(discovery.Managed) {
			f.Class = f.Declared
			f.Reasons = []string{"somebody said that it is: " + f.Declared}
		}
	}
	if m.TakeOver {
		if err := takeOver(ctx, tx, &t, &f); err != nil {
			return f, err
		}
		detail(e, "taken_over", "yes")
	}
	return f, tx.SaveFoundAccount(ctx, &f)
}
