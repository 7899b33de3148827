package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
)

// An Onboarding says how an account that a scan has found becomes ours.
type Onboarding struct {
	Owner      *string // name of a user; "": nobody; nil: as it is
	Credential string  // as in ManageAccount
	Managed    access.Managed
}

// at is how an account is managed: where nothing else is said, by the account that sets the
// passwords of others there already.
func (o Onboarding) at(t *access.Target, i int) access.Managed {
	m := o.Managed
	if m.Reset != "" || t.Provisioner != "" {
		return m
	}
	for _, a := range t.Accounts {
		if a.Managed != nil && a.Managed.Reset != "" && a.Managed.Reset != t.Accounts[i].Name {
			m.Reset = a.Managed.Reset
			break
		}
	}
	return m
}

// OnboardAccount takes over an account that a scan has found, or that was taken over
// before, and has its password changed by us, or its key: in one change, with the event
// of each. It asks whether the caller may do the one and the other. Of one that is managed
// already nothing is changed, which is ErrConflict with the code DB-6504.
func (b *Broker) OnboardAccount(ctx context.Context, by access.Caller, id string, o Onboarding) (access.FoundAccount, error) {
	e := event(by, "account.adopt", id)
	if err := b.mayOnboard(ctx, e); err != nil {
		return access.FoundAccount{}, err
	}
	var f access.FoundAccount
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		adopted := e
		adopted.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return adopted, err
		}
		var owner access.User
		if o.Owner != nil && *o.Owner != "" {
			if owner, err = tx.User(ctx, *o.Owner); err != nil {
				return adopted, unknownUser(err, *o.Owner)
			}
		}
		if f, err = b.manage(ctx, tx, by, id, owner, Management{Owner: o.Owner, TakeOver: true}, &adopted); err != nil {
			return adopted, err
		}
		managed := event(by, "account.manage", f.TargetName)
		t, err := b.administered(ctx, tx, by, policy.ActionSecretWrite, f.TargetName, &managed)
		if err != nil {
			return managed, err
		}
		i := accountOf(&t, &f)
		managed.Account = t.Accounts[i].Name
		if t.Accounts[i].Managed != nil {
			return managed, managedAlready(&t, t.Accounts[i].Name)
		}
		if err := b.takeSecret(ctx, tx, &managed, &t, i, o.Credential, o.at(&t, i), vault.Secret{}, false); err != nil {
			return managed, err
		}
		adopted.Outcome = audit.Done
		tx.Also(adopted)
		return managed, nil
	})
	return toldOf(f, err), err
}

// toldOf is what is told of an account beside why nothing became of it: nothing where that
// is because the caller may not.
func toldOf(f access.FoundAccount, err error) access.FoundAccount {
	if errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrNotFound) {
		return access.FoundAccount{}
	}
	return f
}

// PreviewOnboarding says whether OnboardAccount would do it, and otherwise why not. It
// changes nothing.
func (b *Broker) PreviewOnboarding(ctx context.Context, by access.Caller, id string, o Onboarding) (access.FoundAccount, error) {
	e := event(by, "account.preview", id)
	if err := b.mayOnboard(ctx, e); err != nil {
		return access.FoundAccount{}, err
	}
	f, t, err := b.foundNamed(ctx, b.c.Store.Target, b.c.Store.FoundAccount, b.c.Store.FoundAccountOf, id)
	if err != nil {
		return f, b.refused(ctx, e, unknownFound(err, id))
	}
	e.Target, e.Account = t.Name, audit.Clean(f.Name, audit.MaxName)
	for _, action := range []policy.Action{policy.ActionAccountAdopt, policy.ActionSecretWrite} {
		if _, err := b.decideNow(ctx, question{action: action, by: by, target: &t}); err != nil {
			if errors.Is(err, access.ErrDenied) && !b.knows(ctx, by, &t) {
				err = unknownFound(access.ErrNotFound, id)
			}
			return toldOf(f, err), b.refused(ctx, e, err)
		}
	}
	if o.Owner != nil && *o.Owner != "" {
		if _, err := b.c.Store.User(ctx, *o.Owner); err != nil {
			return f, unknownUser(err, *o.Owner)
		}
	}
	if err := isThere(&t, &f); err != nil {
		return f, err
	}
	if _, err := addFound(&t, &f); err != nil {
		return f, err
	}
	i := accountOf(&t, &f)
	if t.Accounts[i].Managed != nil {
		return f, managedAlready(&t, t.Accounts[i].Name)
	}
	_, err = planSecret(&t, i, o.Credential, o.at(&t, i), false)
	return f, err
}

// mayOnboard refuses what nobody may while there is no vault, or no policy.
func (b *Broker) mayOnboard(ctx context.Context, e audit.Event) error {
	if b.c.Vault == nil {
		return noVault()
	}
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, e, policyDown(err))
	}
	return nil
}

func managedAlready(t *access.Target, account string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6504", Text: "the " + secretName(t, account) + " of " + account + "@" + t.Name + " is changed by drawbolt already; nothing changed",
		Next: "drawbolt account show " + account + "@" + t.Name}
}

func isThere(t *access.Target, f *access.FoundAccount) error {
	if f.GoneAt.IsZero() {
		return nil
	}
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6468", Text: f.Name + "@" + t.Name + " is not there any more", Next: "drawbolt account discover " + t.Name}
}

// accountOf is the index of the account of a target that a found one is, or -1.
func accountOf(t *access.Target, f *access.FoundAccount) int {
	is := newAccount(t, f)
	return slices.IndexFunc(t.Accounts, func(a access.Account) bool {
		return a.Name == f.Name || is.KnownAs != "" && strings.EqualFold(a.KnownAs, is.KnownAs) || a.Name == is.Name && a.KnownAs == is.KnownAs
	})
}

// newAccount is the account of a target that a found one becomes. Where its name is none
// that people type, or none by which its system knows it, it is known as that.
func newAccount(t *access.Target, f *access.FoundAccount) access.Account {
	a := access.Account{Name: strings.ToLower(f.Name), Credential: access.CredentialCertificate}
	switch {
	case t.SSH():
		a.Name = f.Name
	case t.Kind == access.KindLDAP || t.Kind == access.KindActiveDirectory:
		a.KnownAs = FindingOf(f).Comment // the name of its entry
	case t.Kind == access.KindMySQL && strings.Contains(f.Name, "@"):
		a.Name, _, _ = strings.Cut(a.Name, "@")
		a.KnownAs = f.Name
	case a.Name != f.Name:
		a.KnownAs = f.Name
	}
	return a
}

// addFound adds an account that was found to its target, in t alone, unless it is there.
func addFound(t *access.Target, f *access.FoundAccount) (added bool, err error) {
	if accountOf(t, f) >= 0 {
		return false, nil
	}
	t.Accounts = append(slices.Clone(t.Accounts), newAccount(t, f))
	if err := t.Validate(); err != nil {
		return false, fmt.Errorf("take over %s: %w", audit.Clean(f.Name, 64), err)
	}
	return true, nil
}

// takeOver adds the account to its target.
func takeOver(ctx context.Context, tx *store.Tx, t *access.Target, f *access.FoundAccount) error {
	added, err := addFound(t, f)
	if err == nil && added {
		err = tx.SaveTarget(ctx, t)
	}
	if err != nil {
		return err
	}
	f.Class = string(discovery.Managed)
	f.Reasons = []string{"the bastion has taken it over; what else opens it is to be closed"}
	return nil
}
