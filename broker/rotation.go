package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/sshkey"
)

// ManageAccount makes the password of an account ours, or its key, as the credential
// says, "" being what it logs in with, and of one with certificates a password: it is
// proved, changed at once, and from then on as it is said. Plain is the one that is in
// force now; without it, it is that which is kept, or, where another account may set it,
// not needed. Of an account that is managed already it changes how; plain is then one
// that somebody else has set.
func (b *Broker) ManageAccount(ctx context.Context, by access.Caller, target, account, credential string, m access.Managed, plain []byte) error {
	secret := vault.NewSecret(plain)
	defer secret.Wipe()
	given := len(plain) > 0
	e := event(by, "account.manage", target)
	e.Target, e.Account = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName)
	return b.onAccount(ctx, by, policy.ActionSecretWrite, e, func(tx *store.Tx, e *audit.Event, t *access.Target, i int) error {
		return b.takeSecret(ctx, tx, e, t, i, credential, m, secret, given)
	})
}

// takeSecret has an account managed: what is known of its password or key is kept, and it
// is due to be proved and changed.
func (b *Broker) takeSecret(ctx context.Context, tx *store.Tx, e *audit.Event, t *access.Target, i int, credential string, m access.Managed, told vault.Secret, given bool) error {
	account := t.Accounts[i].Name
	was, err := planSecret(t, i, credential, m, given)
	if err != nil {
		return err
	}
	a := &t.Accounts[i]
	if given {
		if _, err := checkCredential(a.Credential, told); err != nil {
			return err
		}
	}
	manageDetails(e, *a, given)
	row, err := tx.AccountSecret(ctx, t.ID, account)
	fresh := errors.Is(err, access.ErrNotFound)
	if err != nil && !fresh {
		return err
	}
	entry, err := b.taken(tx, &row, t, was, *a, told, given)
	if err != nil {
		return err
	}
	defer entry.Wipe()
	if err := tx.SaveTarget(ctx, t); err != nil {
		return err
	}
	sealed, err := rotate.Marshal(entry)
	if err != nil {
		return err
	}
	defer sealed.Wipe()
	if err := b.keepSecret(ctx, tx, t, *a, sealed); err != nil {
		return err
	}
	r, err := tx.Rotation(ctx, access.RotationID(t.ID, account))
	if errors.Is(err, access.ErrNotFound) {
		r = access.Rotation{TargetID: t.ID, TargetName: t.Name, Account: account, AfterUse: m.AfterUse, Version: 1}
		r.Due(access.CauseTaken, tx.Now())
		return tx.AddRotation(ctx, &r)
	}
	if err != nil {
		return err
	}
	if r.AfterUse = m.AfterUse; r.Cause == access.CauseSchedule {
		r.DueAt, r.Cause = time.Time{}, ""
	}
	if given {
		r.Due(access.CauseTaken, tx.Now())
		r.NextAt = time.Time{}
	} else if r.DueAt.IsZero() && m.Every > 0 {
		r.Due(access.CauseSchedule, r.ChangedAt.Add(m.Every))
	}
	return tx.SaveRotation(ctx, &r)
}

// planSecret has an account managed, in t alone, and returns what it was. It refuses what
// needs no secret to be refused.
func planSecret(t *access.Target, i int, credential string, m access.Managed, given bool) (was access.Account, err error) {
	was = t.Accounts[i]
	a := &t.Accounts[i]
	login := a.Name + "@" + t.Name
	if credential == "" {
		if credential = access.CredentialPassword; was.Credential == access.CredentialKey {
			credential = access.CredentialKey
		}
	}
	switch {
	case credential != access.CredentialPassword && credential != access.CredentialKey:
		return was, access.Invalid("what is changed by drawbolt is a password or a key, not %s", strconv.QuoteToASCII(audit.Clean(credential, 64)))
	case was.Managed != nil && credential != was.Credential:
		return was, &access.Error{Kind: access.ErrConflict, Code: "DB-6502", Text: "the " + was.Credential + " of " + login + " is changed by drawbolt, and no " + credential,
			Next: "drawbolt account unmanage " + login + " --reason TEXT"}
	}
	a.Credential, a.Managed = credential, &m
	if err := t.Validate(); err != nil {
		return was, err
	}
	if err := rulesOf(*a).Check(); err != nil {
		return was, access.Invalid("%v", err)
	}
	if kept := was.Credential == credential; !given && !kept && m.Reset == "" && t.Provisioner == "" {
		return was, &access.Error{Kind: access.ErrInvalid, Code: "DB-6407", Text: "the " + credential + " that " + login + " has now must be known, because no other account may set it", Next: tellIt(login, credential)}
	}
	return was, nil
}

// tellIt is what to type to manage an account with the password or key that it has now.
func tellIt(login, credential string) string {
	if credential == access.CredentialKey {
		return "drawbolt account manage " + login + " --key-file FILE"
	}
	return "drawbolt account manage " + login + " --password-stdin"
}

// taken is what is known of the password of an account that is ours from now on, or of its
// key.
func (b *Broker) taken(tx *store.Tx, row *store.AccountSecret, t *access.Target, was, a access.Account, told vault.Secret, given bool) (rotate.Entry, error) {
	switch {
	case was.Managed != nil:
		entry, err := b.entry(row, t, was)
		if err == nil && given {
			entry.Tell(vault.NewSecret(told.Expose()), tx.Now())
		}
		return entry, err
	case given:
		return rotate.NewEntry(vault.NewSecret(told.Expose()), tx.Now()), nil
	case was.Credential == a.Credential:
		kept, err := b.unsealed(row, t, was)
		if err != nil {
			return rotate.Entry{}, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5006", Text: "the " + a.Credential + " that is kept for " + a.Name + "@" + t.Name + " cannot be opened; give the one that is in force",
				Next: tellIt(a.Name+"@"+t.Name, a.Credential)}
		}
		return rotate.NewEntry(kept, tx.Now()), nil
	default:
		return rotate.NewUnknown(makerOf(a), tx.Now())
	}
}

func manageDetails(e *audit.Event, a access.Account, given bool) {
	m := a.Managed
	detail(e, "credential", a.Credential)
	if m.Every > 0 {
		detail(e, "every", m.Every.String())
	}
	detail(e, "after_use", strconv.FormatBool(m.AfterUse))
	detail(e, "reset", m.Reset)
	if m.Length > 0 {
		detail(e, "length", strconv.Itoa(m.Length))
	}
	detail(e, a.Credential+"_given", strconv.FormatBool(given))
}

// rulesOf are those for the passwords of an account. The name of the account is not in
// them, which directories refuse.
func rulesOf(a access.Account) rotate.Rules {
	return rotate.Rules{Length: a.Managed.Length, Classes: a.Managed.Classes, Never: a.Managed.Never, Not: []string{a.Name}}
}

// makerOf makes the next password of an account, or its next key.
func makerOf(a access.Account) func() (vault.Secret, error) {
	if a.Credential == access.CredentialKey {
		return sshkey.Make
	}
	return rulesOf(a).Make
}

// onAccount is the way of the verbs that change an account: ask, find it, change, save.
func (b *Broker) onAccount(ctx context.Context, by access.Caller, action policy.Action, e audit.Event, fn func(tx *store.Tx, e *audit.Event, t *access.Target, i int) error) error {
	if b.c.Vault == nil {
		return noVault()
	}
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, e, policyDown(err))
	}
	name, account := e.Target, e.Account
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		t, err := b.administered(ctx, tx, by, action, name, &e)
		if err != nil {
			return e, err
		}
		i := slices.IndexFunc(t.Accounts, func(a access.Account) bool { return a.Name == account })
		if i < 0 {
			return e, access.Invalid("%s has no account %s", t.Name, strconv.QuoteToASCII(audit.Clean(account, 64)))
		}
		return e, fn(tx, &e, &t, i)
	})
}

// UnmanageAccount leaves the password of an account to others: it stays kept, and is not
// changed any more. While it is not certain which one is in force that is refused,
// unless the system is gone.
func (b *Broker) UnmanageAccount(ctx context.Context, by access.Caller, target, account, reason string, gone bool) error {
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	e := event(by, "account.unmanage", target)
	e.Target, e.Account, e.Reason = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName), reason
	return b.onAccount(ctx, by, policy.ActionSecretWrite, e, func(tx *store.Tx, e *audit.Event, t *access.Target, i int) error {
		was := t.Accounts[i]
		if was.Managed == nil {
			return notManaged(t, account)
		}
		row, err := tx.AccountSecret(ctx, t.ID, account)
		if err != nil {
			return err
		}
		entry, err := b.entry(&row, t, was)
		if err != nil && !gone {
			return err
		}
		defer entry.Wipe()
		if !gone && (entry.Candidate != nil || entry.Current.ProvedAt.IsZero()) {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-6408", Text: "it is not certain which " + was.Credential + " of " + account + "@" + t.Name + " is in force, so all of them are kept",
				Next: "drawbolt account rotate " + account + "@" + t.Name}
		}
		a := &t.Accounts[i]
		if a.Managed = nil; err != nil {
			a.Credential = access.CredentialCertificate
		}
		detail(e, "gone", strconv.FormatBool(gone))
		if err := tx.SaveTarget(ctx, t); err != nil || !a.Lent() {
			return err
		}
		return b.keepSecret(ctx, tx, t, *a, entry.Current.Secret)
	})
}

// RotateAccount has the password of a managed account changed now.
func (b *Broker) RotateAccount(ctx context.Context, by access.Caller, target, account, reason string) error {
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	e := event(by, "account.rotate", target)
	e.Target, e.Account, e.Reason = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName), reason
	return b.onAccount(ctx, by, policy.ActionSecretRotate, e, func(tx *store.Tx, e *audit.Event, t *access.Target, i int) error {
		r, err := tx.Rotation(ctx, access.RotationID(t.ID, account))
		if errors.Is(err, access.ErrNotFound) || t.Accounts[i].Managed == nil {
			return notManaged(t, account)
		}
		if err != nil {
			return err
		}
		r.Due(access.CauseDemand, tx.Now())
		r.NextAt = time.Time{}
		return tx.SaveRotation(ctx, &r)
	})
}

// Passwords says how the managed passwords of a target stand, by account. It tells none.
func (b *Broker) Passwords(ctx context.Context, by access.Caller, target string) ([]access.Rotation, error) {
	e := event(by, "password.list", target)
	e.Target = audit.Clean(target, audit.MaxName)
	if err := b.refresh(ctx); err != nil {
		return nil, b.refused(ctx, e, policyDown(err))
	}
	t, err := b.c.Store.Target(ctx, target)
	if err != nil {
		return nil, b.refused(ctx, e, unknownTarget(err, audit.Clean(target, 64)))
	}
	if _, err := b.decideNow(ctx, question{action: policy.ActionSecretRead, by: by, target: &t}); err != nil {
		if errors.Is(err, access.ErrDenied) && !b.knows(ctx, by, &t) {
			err = unknownTarget(access.ErrNotFound, t.Name)
		}
		return nil, b.refused(ctx, e, err)
	}
	return b.c.Store.RotationsOf(ctx, t.ID)
}

// A KnownPassword is one that may be in force at an account.
type KnownPassword struct {
	Secret   vault.Secret
	State    rotate.State
	MadeAt   time.Time
	ProvedAt time.Time // of the last login with it; zero: none
}

// RecoverPasswords returns every password of a managed account that may be in force, the
// likeliest first: for when all else fails. That they are read is on record before, and
// the password is changed a while later, or when the reader is locked.
func (b *Broker) RecoverPasswords(ctx context.Context, by access.Caller, target, account, reason string) ([]KnownPassword, error) {
	if err := access.CheckReason(reason); err != nil {
		return nil, err
	}
	e := event(by, "secret.recover", target)
	e.Target, e.Account, e.Reason = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName), reason
	var list []KnownPassword
	err := b.onAccount(ctx, by, policy.ActionSecretRecover, e, func(tx *store.Tx, e *audit.Event, t *access.Target, i int) error {
		if t.Accounts[i].Managed == nil {
			return notManaged(t, account)
		}
		row, err := tx.AccountSecret(ctx, t.ID, account)
		if err != nil {
			return err
		}
		entry, err := b.entry(&row, t, t.Accounts[i])
		if err != nil {
			return err
		}
		list = nil
		for _, p := range entry.Known() {
			list = append(list, KnownPassword{p.Secret, p.State, p.MadeAt, p.ProvedAt})
		}
		detail(e, "passwords", strconv.Itoa(len(list)))
		if err := tx.PasswordSeen(ctx, t.ID, account, by.User.ID); err != nil {
			return err
		}
		return tx.RotationDue(ctx, t.ID, account, access.CauseRead, tx.Now().Add(recoverFor))
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// recoverFor is how long passwords that an operator has read are left as they are.
const recoverFor = time.Hour

// entry opens all that is known of a managed account's password.
func (b *Broker) entry(row *store.AccountSecret, t *access.Target, a access.Account) (rotate.Entry, error) {
	s, err := b.c.Vault.Unseal(secretID(t, a), uint64(row.Version), row.Sealed)
	if err != nil {
		return rotate.Entry{}, err
	}
	defer s.Wipe()
	return rotate.Unmarshal(s)
}

func isManaged(t *access.Target, account string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6404", Text: "the " + secretName(t, account) + " of " + account + "@" + t.Name + " is changed by drawbolt, and by nothing else",
		Next: "drawbolt account unmanage " + account + "@" + t.Name + " --reason TEXT"}
}

func notManaged(t *access.Target, account string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6409", Text: "the " + secretName(t, account) + " of " + account + "@" + t.Name + " is not changed by drawbolt",
		Next: "drawbolt account manage " + account + "@" + t.Name}
}

// secretName is what an account has, or may have, that is changed.
func secretName(t *access.Target, account string) string {
	if a, _ := t.Account(account); a.Credential == access.CredentialKey {
		return a.Credential
	}
	return access.CredentialPassword
}

// noneManaged refuses to let go of a target while there are passwords that nobody else
// knows.
func noneManaged(t *access.Target) error {
	for _, a := range t.Accounts {
		if a.Managed != nil {
			return isManaged(t, a.Name)
		}
	}
	return nil
}

// keepsManaged keeps how accounts are managed, which has verbs of its own, and refuses a
// change of the target with which their passwords could not be opened any more.
func keepsManaged(t, was *access.Target) error {
	if t.Kind != was.Kind {
		return access.Invalid("%s is a %s, and stays one", was.Name, access.KindName(was.Kind))
	}
	for _, a := range was.Accounts {
		if a.Managed == nil {
			continue
		}
		i := slices.IndexFunc(t.Accounts, func(n access.Account) bool { return n.Name == a.Name })
		if i < 0 || t.Address != was.Address || !slices.Equal(t.HostKeys, was.HostKeys) {
			return isManaged(was, a.Name)
		}
		t.Accounts[i].Managed = a.Managed
	}
	return t.Validate()
}

// noSession refuses a session at a target that is no machine with SSH.
func noSession(t *access.Target, account string) error {
	if t.SSH() {
		return nil
	}
	return &access.Error{Kind: access.ErrInvalid, Code: "DB-6403", Text: fmt.Sprintf("%s is a %s, where nobody logs in through drawbolt: check the password of %s out", t.Name, access.KindName(t.Kind), account),
		Next: "drawbolt checkout " + account + "@" + t.Name}
}

// notChecked refuses to look for what Unix machines with SSH have, where it is not.
func notChecked(t *access.Target) error {
	if t.SSH() {
		return &access.Error{Kind: access.ErrInvalid, Code: "DB-6503", Text: fmt.Sprintf("%s is a %s, and only Unix machines are set up and checked by drawbolt: the passwords that are managed there are proved each day", t.Name, access.KindName(t.Kind)),
			Next: "drawbolt account ls " + t.Name}
	}
	return &access.Error{Kind: access.ErrInvalid, Code: "DB-6410", Text: fmt.Sprintf("%s is a %s, which has no SSH to be checked: the passwords that are managed there are proved each day", t.Name, access.KindName(t.Kind)),
		Next: "drawbolt account ls " + t.Name}
}
