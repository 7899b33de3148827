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
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// A RotationStep is the change, or the proof, of the password of one account that this
// server has begun and that no other server does meanwhile. It is worth nothing after
// Until. Whoever has it wipes it.
type RotationStep struct {
	ID      string
	Target  access.Target
	Hops    []access.Target // on the way there, in order
	Account access.Account
	Change  bool   // the password is to be changed, otherwise it is only proved
	Proved  bool   // a login has proved it before
	Failed  bool   // the last try came to nothing
	Node    string // this server
	Until   time.Time

	// Reset is the account that sets the password; nil: the account itself. ResetSecret is what it logs in with, which of a machine with
	// SSH may be a certificate; then it is empty.
	Reset       *access.Account
	ResetSecret vault.Secret

	Book rotate.Book // what is known of the password

	cause   access.Cause
	version int64 // of the rotation
	began   time.Time
}

// Wipe makes the secret of the step unreadable.
func (s RotationStep) Wipe() { s.ResetSecret.Wipe() }

// Rules are those for the account's passwords.
func (s RotationStep) Rules() rotate.Rules { return rulesOf(s.Account) }

// Make makes the next password of the account, or its next key.
func (s RotationStep) Make() (vault.Secret, error) { return makerOf(s.Account)() }

// DueRotations returns the accounts whose passwords are to be changed or proved now, the
// most urgent first, at most limit. It is the server's own.
func (b *Broker) DueRotations(ctx context.Context, limit int) ([]access.Rotation, error) {
	return b.c.Store.DueRotations(ctx, b.now(), limit)
}

// AbandonRotations gives up what this server had begun when it died, so that it is taken
// up at once and not when its lease is over. It is the server's own, before it begins any.
func (b *Broker) AbandonRotations(ctx context.Context) error {
	for {
		all, err := b.c.Store.RotationsAt(ctx, b.c.Node)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, r := range all {
			err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
				r, err := tx.Rotation(ctx, r.ID)
				if err != nil {
					return audit.Event{}, err
				}
				r.Abandon()
				e := rotationEvent("rotation.abandon", &r)
				detail(&e, "node", b.c.Node)
				return e, tx.SaveRotation(ctx, &r)
			})
			if err != nil {
				return err
			}
		}
	}
}

func rotationEvent(action string, r *access.Rotation) audit.Event {
	e := event(access.System(), action, r.ID)
	e.Target, e.Account = r.TargetName, r.Account
	return e
}

// BeginRotation takes the password of an account for this server, and opens what the
// account logs in with that sets it. It is no verb of a person: the server calls it for
// itself.
func (b *Broker) BeginRotation(ctx context.Context, id string) (RotationStep, error) {
	var s RotationStep
	if b.c.Vault == nil {
		return s, noVault()
	}
	known, err := b.c.Store.Rotation(ctx, id)
	if err != nil {
		return s, err
	}
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		s.Wipe()
		s = RotationStep{ID: id}
		// The target comes first, as in the verbs that change how it is managed.
		var err error
		if s.Target, err = tx.Target(ctx, known.TargetID); err != nil {
			return audit.Event{}, err
		}
		r, err := tx.Rotation(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		a, _ := s.Target.Account(r.Account)
		if a.Managed == nil {
			return audit.Event{}, notManaged(&s.Target, r.Account)
		}
		if s.Target.Locked {
			return audit.Event{}, lockedTarget(&s.Target)
		}
		now := tx.Now()
		s.Account, s.cause, s.began = a, r.Cause, now
		s.Change, s.Proved, s.Failed = r.Changes(now), !r.ProvedAt.IsZero(), r.Tries > 0
		if err := r.Begin(b.c.Node, now); err != nil {
			return audit.Event{}, err
		}
		e := rotationEvent("rotation.begin", &r)
		detail(&e, "node", b.c.Node)
		if s.Change {
			detail(&e, "cause", string(r.Cause))
		}
		if s.Hops, err = hopsOf(ctx, tx.Target, &s.Target); err != nil {
			return audit.Event{}, err
		}
		if err := b.reset(ctx, tx, &s, &e); err != nil {
			return audit.Event{}, err
		}
		if err := tx.SaveRotation(ctx, &r); err != nil {
			return audit.Event{}, err
		}
		s.Node, s.Until, s.version = r.Node, r.Until, r.Version
		return e, nil
	})
	if err != nil {
		s.Wipe()
		return RotationStep{}, err
	}
	s.Book = passwordBook{b, s.Target, s.Account}
	return s, nil
}

// reset finds the account that sets the password, and opens what it logs in with.
func (b *Broker) reset(ctx context.Context, tx *store.Tx, s *RotationStep, e *audit.Event) error {
	name := s.Account.Managed.Reset
	if name == "" {
		if s.Target.Provisioner != "" {
			s.Reset = &access.Account{Name: s.Target.Provisioner, Credential: access.CredentialCertificate}
		}
		return nil
	}
	by, ok := s.Target.Account(name)
	if !ok {
		return access.Invalid("%s has no account %s any more", s.Target.Name, name)
	}
	s.Reset = &by
	detail(e, "reset", name)
	if !by.Lent() {
		return nil
	}
	row, err := tx.AccountSecret(ctx, s.Target.ID, name)
	if err == nil {
		detail(e, "reset_version", strconv.FormatInt(row.Version, 10))
		s.ResetSecret, err = b.unsealed(&row, &s.Target, by)
	}
	if err != nil {
		return fmt.Errorf("open the secret of %s@%s: %w", name, s.Target.Name, err)
	}
	return nil
}

// RotationCredential issues the certificate with which the server logs in for a step: at
// the hop of that index as its hop account, or, with the number of hops, at the target as
// the account that sets the password. It is for one minute, one key and one account, and
// only while the step is this server's and the target is what it was.
func (b *Broker) RotationCredential(ctx context.Context, s RotationStep, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
	now, at := b.now(), s.Target
	inside := hop >= 0 && hop < len(s.Hops)
	if inside {
		at = s.Hops[hop]
	}
	is, err := b.c.Store.Target(ctx, at.ID)
	if err != nil {
		return nil, err
	}
	r, err := b.c.Store.Rotation(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	if !sameWay(&is, &at) || r.Node != b.c.Node || !r.Until.Equal(s.Until) || !now.Before(s.Until) {
		return nil, lostRotation(&r)
	}
	c := sshca.Certificate{
		Kind: sshca.User, Key: key, Target: at.Name, KeyID: "drawbolt rotation " + s.ID,
		ValidAfter: now, ValidBefore: now.Add(provisionerTTL),
	}
	switch {
	case inside:
		c.Principal, c.PermitPortForwarding = at.HopAccount, true
	case hop != len(s.Hops) || s.Reset == nil || s.Reset.Credential != access.CredentialCertificate:
		return nil, errors.New("no certificate is for this login")
	case s.Reset.Name != is.Provisioner && !slices.ContainsFunc(is.Accounts, func(a access.Account) bool { return a.Name == s.Reset.Name && a.Credential == s.Reset.Credential }):
		return nil, lostRotation(&r)
	default:
		c.Principal = s.Reset.Name
	}
	return b.authority(sshca.User).Sign(ctx, b.serials(access.System(), nil), c)
}

// sameWay reports whether a target is reached as it was when a step began. Its other
// accounts may have changed: when many are taken over one after the other, they do.
func sameWay(is, was *access.Target) bool {
	return is.Name == was.Name && is.Address == was.Address && slices.Equal(is.HostKeys, was.HostKeys) && slices.Equal(is.Via, was.Via) &&
		is.HopAccount == was.HopAccount && is.Provisioner == was.Provisioner && is.Locked == was.Locked
}

func lostRotation(r *access.Rotation) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6401", Text: fmt.Sprintf("another server has taken over the password of %s@%s, or the target was changed", r.Account, r.TargetName)}
}

// EndRotation puts on record how a step ended. What has failed for long, and a password
// that somebody else had set, are told besides.
func (b *Broker) EndRotation(ctx context.Context, s RotationStep, report rotate.Report, problem error) error {
	ctx = context.WithoutCancel(ctx)
	stuck := false
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		r, err := tx.Rotation(ctx, s.ID)
		if err != nil {
			return audit.Event{}, err
		}
		now := tx.Now()
		if r.Node != b.c.Node || !r.Until.Equal(s.Until) {
			return audit.Event{}, lostRotation(&r)
		}
		e := rotationEvent("rotation.prove", &r)
		if s.Change || report.Changed {
			e.Action = "rotation.change"
			detail(&e, "cause", string(s.cause))
		}
		detail(&e, "logins", strconv.Itoa(report.Logins))
		if report.Drift && s.Proved {
			drift := rotationEvent("rotation.drift", &r)
			drift.Reason = "somebody else had set the password"
			detail(&drift, "reset", strconv.FormatBool(report.Changed))
			tx.Also(drift)
		}
		wait, waits := errors.AsType[*rotate.WaitError](problem)
		switch {
		case problem == nil:
			r.Did(report.Changed, r.Version != s.version, s.Account.Managed.Every, now)
			if report.Changed {
				if err := tx.PasswordUnseen(ctx, r.ID, s.began); err != nil {
					return e, err
				}
			}
			return e, tx.SaveRotation(ctx, &r)
		case errors.Is(problem, rotate.ErrBusy) || errors.Is(problem, rotate.ErrFenced):
			r.Postpone(now.Add(time.Minute))
		case waits:
			r.Fail(problemOf(problem), wait.Until, now)
		default:
			r.Fail(problemOf(problem), time.Time{}, now)
		}
		e.Outcome, e.Reason = audit.Failed, audit.Clean(problemOf(problem), audit.MaxReason)
		detail(&e, "tries", strconv.FormatInt(r.Tries, 10))
		detail(&e, "again", r.NextAt.UTC().Format(time.RFC3339))
		if stuck = r.Alarm(b.c.StuckAfter, now); stuck {
			alarm := rotationEvent("rotation.stuck", &r)
			alarm.Reason = e.Reason
			detail(&alarm, "since", r.Since.UTC().Format(time.RFC3339))
			tx.Also(alarm)
		}
		return e, tx.SaveRotation(ctx, &r)
	})
	if stuck && err == nil {
		b.c.Log.ErrorContext(ctx, "the password of an account could not be changed or proved for long", "target", s.Target.Name, "account", s.Account.Name, "problem", problemOf(problem))
	}
	return err
}

// problemOf says what went wrong, in one line that fits everywhere.
func problemOf(err error) string { return audit.Clean(err.Error(), audit.MaxDetailValue) }

// BeginFailed puts on record that a step could not be begun, so that it is not tried
// again at once.
func (b *Broker) BeginFailed(ctx context.Context, id string, problem error) error {
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		r, err := tx.Rotation(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		if err := r.Begin(b.c.Node, tx.Now()); err != nil {
			return audit.Event{}, err // somebody else is at it
		}
		if errors.Is(problem, access.ErrDenied) { // the target is locked
			r.Postpone(tx.Now().Add(lockedAgain))
		} else {
			r.Fail(problemOf(problem), time.Time{}, tx.Now())
		}
		e := rotationEvent("rotation.begin", &r)
		e.Outcome, e.Reason = audit.Failed, audit.Clean(problemOf(problem), audit.MaxReason)
		detail(&e, "tries", strconv.FormatInt(r.Tries, 10))
		if r.Alarm(b.c.StuckAfter, tx.Now()) {
			alarm := rotationEvent("rotation.stuck", &r)
			alarm.Reason = e.Reason
			tx.Also(alarm)
		}
		return e, tx.SaveRotation(ctx, &r)
	})
}

// lockedAgain is when a locked target is looked at again.
const lockedAgain = 10 * time.Minute

// A passwordBook keeps what is known of an account's password in the place of its
// secret, for the target as it was when the step began.
type passwordBook struct {
	b       *Broker
	target  access.Target
	account access.Account
}

// Load implements rotate.Book.
func (k passwordBook) Load(ctx context.Context) (rotate.Entry, uint64, error) {
	row, err := k.b.c.Store.AccountSecret(ctx, k.target.ID, k.account.Name)
	if err != nil {
		return rotate.Entry{}, 0, err
	}
	entry, err := k.b.entry(&row, &k.target, k.account)
	return entry, uint64(row.Version), err
}

// Save implements rotate.Book.
func (k passwordBook) Save(ctx context.Context, e rotate.Entry, version uint64) (uint64, error) {
	s, err := rotate.Marshal(e)
	if err != nil {
		return 0, err
	}
	defer s.Wipe()
	sealed, err := k.b.c.Vault.Seal(secretID(&k.target, k.account), version+1, s)
	if err != nil {
		return 0, err
	}
	err = k.b.c.Store.ReplaceAccountSecret(ctx, &store.AccountSecret{
		ID: access.RotationID(k.target.ID, k.account.Name), TargetID: k.target.ID, Account: k.account.Name, Sealed: sealed, ChangedAt: k.b.now(), Version: int64(version),
	})
	if errors.Is(err, access.ErrConflict) {
		return 0, rotate.ErrFenced
	}
	if err == nil {
		k.b.c.Vault.Stored(secretID(&k.target, k.account), version+1)
	}
	return version + 1, err
}
