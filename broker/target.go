package broker

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A TargetView is a target with what the caller may do on it.
type TargetView struct {
	Target   access.Target
	Accounts []AccountView
	// Admin says that the caller may see how the target is reached: its
	// address, its host keys and the way to it.
	Admin bool
	// Known are the leases, newest first, of secrets that the accounts still log in
	// with. FindTarget gives them to who has Admin.
	Known []access.Lease
}

// An AccountView is an account as the caller may use it.
type AccountView struct {
	Name        string
	Usable      bool      // there is a grant
	Until       time.Time // of the grant
	Request     string    // the id of the grant's request, or of a pending one
	MayAsk      bool
	Needs       []access.Need
	MaxDuration time.Duration
	Why         string // when it may not be asked for
}

// FindTarget returns a target that the caller may know.
func (b *Broker) FindTarget(ctx context.Context, by access.Caller, name string) (TargetView, error) {
	e := event(by, "target.read", name)
	if err := b.refresh(ctx); err != nil {
		return TargetView{}, b.refused(ctx, e, policyDown(err))
	}
	t, err := b.c.Store.Target(ctx, name)
	if err != nil {
		return TargetView{}, b.refused(ctx, e, unknownTarget(err, audit.Clean(name, 64)))
	}
	if err := b.mayLook(ctx, by, name); err != nil {
		return TargetView{}, b.refused(ctx, e, err)
	}
	grants, err := b.c.Store.OpenGrants(ctx, by.User.ID, b.now().UnixMicro())
	if err != nil {
		return TargetView{}, err
	}
	v := (&viewer{b: b, by: by, grants: grants}).view(ctx, t)
	if !v.Admin && len(v.Accounts) == 0 {
		return TargetView{}, b.refused(ctx, e, unknownTarget(access.ErrNotFound, name))
	}
	if v.Admin {
		v.Known, err = b.c.Store.KnownSecrets(ctx, t.ID, maxKnown)
	}
	return v, err
}

// maxKnown bounds who is told of as knowing the secrets of a target.
const maxKnown = 100

// write is the way of the administration's verbs: ask, change, save.
func (b *Broker) write(ctx context.Context, by access.Caller, action policy.Action, e audit.Event, fn func(tx *store.Tx, by access.Caller, e *audit.Event) error) error {
	return b.writeIf(ctx, question{action: action, by: by}, e, fn)
}

// writeIf is write where the question is of more than an action.
func (b *Broker) writeIf(ctx context.Context, q question, e audit.Event, fn func(tx *store.Tx, by access.Caller, e *audit.Event) error) error {
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, e, policyDown(err))
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		q := q
		var err error
		if q.by, err = b.current(ctx, tx, q.by); err != nil {
			return e, err
		}
		d, err := b.decideNow(ctx, q)
		if err != nil {
			return e, err
		}
		e.Rule = d.Rule
		return e, fn(tx, q.by, &e)
	})
}

func cloneDetails(m map[string]string) map[string]string {
	out := make(map[string]string, len(m)+4)
	for k, v := range m {
		out[k] = v
	}
	return out
}

// AddTarget adds a target with its accounts. Its name stays taken.
func (b *Broker) AddTarget(ctx context.Context, by access.Caller, t access.Target) (access.Target, error) {
	t.ID, t.Version = access.NewID(access.TargetPrefix), 1
	t.Locked, t.LockReason, t.Facts = false, "", nil
	if err := checkTarget(&t); err != nil {
		return t, err
	}
	if err := b.knownProgram(&t); err != nil {
		return t, err
	}
	if err := keepsCredentials(&t, nil); err != nil {
		return t, err
	}
	e := event(by, "target.add", t.ID)
	e.Target = t.Name
	err := b.write(ctx, by, policy.ActionTargetWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		t.CreatedAt = tx.Now()
		targetDetails(e, &t)
		if err := checkWay(ctx, tx, &t); err != nil {
			return err
		}
		return tx.AddTarget(ctx, &t)
	})
	return t, err
}

// SetTarget changes a target. Version must be the version that the caller saw.
// A change of its address, of its host keys or of the way to it ends what was approved for it.
func (b *Broker) SetTarget(ctx context.Context, by access.Caller, t access.Target) (access.Target, error) {
	t.Accounts = slices.Clone(t.Accounts)
	for i := range t.Accounts {
		t.Accounts[i].Managed = nil // that has verbs of its own
	}
	if err := checkTarget(&t); err != nil {
		return t, err
	}
	e := event(by, "target.set", t.Name)
	e.Target = t.Name
	err := b.write(ctx, by, policy.ActionTargetWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		was, err := tx.Target(ctx, t.Name)
		if err != nil {
			return unknownTarget(err, t.Name)
		}
		if was.Version != t.Version {
			return staleVersion(t.Name)
		}
		if err := keepsCredentials(&t, was.Accounts); err != nil {
			return err
		}
		if err := keepsManaged(&t, &was); err != nil {
			return err
		}
		t.ID, t.CreatedAt, t.Locked, t.LockReason, t.Facts = was.ID, was.CreatedAt, was.Locked, was.LockReason, was.Facts
		e.Object = t.ID
		targetDetails(e, &t)
		if err := checkWay(ctx, tx, &t); err != nil {
			return err
		}
		return tx.SaveTarget(ctx, &t)
	})
	return t, err
}

// knownProgram refuses a kind of a program that the configuration does not name.
func (b *Broker) knownProgram(t *access.Target) error {
	name := access.ProgramOf(t.Kind)
	if name == "" || slices.Contains(b.c.Programs, name) {
		return nil
	}
	return &access.Error{Kind: access.ErrInvalid, Code: "DB-6500", Text: "the configuration of this server names no program " + name + " that changes passwords", Next: "drawboltd config show"}
}

// keepsCredentials refuses an account that would log in with something else than
// it did; one that is new, with something else than certificates. Only
// SetCredential changes that, together with the secret.
func keepsCredentials(t *access.Target, was []access.Account) error {
	for _, a := range t.Accounts {
		before := access.CredentialCertificate
		knownAs := a.KnownAs
		if j := slices.IndexFunc(was, func(w access.Account) bool { return w.Name == a.Name }); j >= 0 {
			before = was[j].Credential
			if was[j].Lent() {
				knownAs = was[j].KnownAs // that is what its secret is for
			}
		}
		if a.Credential != before || a.KnownAs != knownAs {
			return &access.Error{Kind: access.ErrInvalid, Code: "DB-1006", Text: a.Name + "@" + t.Name + " logs in with its " + before + ", which is changed by itself",
				Next: "drawbolt account set " + a.Name + "@" + t.Name}
		}
	}
	return nil
}

func staleVersion(name string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-3012", Text: name + " has been changed since you looked at it; look again"}
}

func targetDetails(e *audit.Event, t *access.Target) {
	detail(e, "address", t.Address)
	detail(e, "environment", t.Labels.Environment)
	detail(e, "tier", t.Labels.Tier)
	detail(e, "criticality", t.Labels.Criticality)
	detail(e, "owner", t.Labels.Owner)
	wayDetails(e, t)
	detail(e, "provisioner", t.Provisioner)
	detail(e, "principals_folder", t.PrincipalsFolder)
	detail(e, "scan_account", t.ScanAccount)
	for _, a := range t.Accounts {
		if a.Made != nil {
			detail(e, "made_"+a.Name, a.Made.String())
		}
	}
	detail(e, "kind", t.Kind)
	for i, k := range t.HostKeys {
		if cert, err := parseCertificate(k); err == nil {
			sum := sha256.Sum256(cert.Raw)
			detail(e, fmt.Sprintf("ca_%d", i+1), hex.EncodeToString(sum[:]))
		} else if key, err := parseKey(k); err == nil {
			detail(e, fmt.Sprintf("host_key_%d", i+1), ssh.FingerprintSHA256(key))
		}
	}
}

// checkTarget checks the form, and that every host key is one.
func checkTarget(t *access.Target) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for i, k := range t.HostKeys {
		if !t.SSH() {
			cert, err := parseCertificate(k)
			if err != nil {
				return access.Invalid("certificate %d of %s: %v", i+1, t.Name, err)
			}
			t.HostKeys[i] = base64.StdEncoding.EncodeToString(cert.Raw)
			continue
		}
		key, err := parseKey(k)
		if err != nil {
			return access.Invalid("host key %d of %s: %v", i+1, t.Name, err)
		}
		t.HostKeys[i] = keyText(key)
	}
	return nil
}

// RemoveTarget removes a target; sessions on it end. One through which others
// are reached stays.
func (b *Broker) RemoveTarget(ctx context.Context, by access.Caller, name string) error {
	e := event(by, "target.remove", name)
	e.Target = audit.Clean(name, audit.MaxName)
	return b.write(ctx, by, policy.ActionTargetWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		t, err := tx.Target(ctx, name)
		if err != nil {
			return unknownTarget(err, name)
		}
		e.Object = t.ID
		if err := noneManaged(&t); err != nil {
			return err
		}
		all, err := tx.Targets(ctx)
		if err != nil {
			return err
		}
		if err := notOnTheWay(all, t.Name); err != nil {
			return err
		}
		if err := revokeCertificates(ctx, tx, e, store.OnTarget(t.Name)); err != nil {
			return err
		}
		return tx.RemoveTarget(ctx, t.ID)
	})
}

// LockTarget denies every use of a target from now on and ends the sessions on
// it, or lifts that.
func (b *Broker) LockTarget(ctx context.Context, by access.Caller, name string, locked bool, reason string) error {
	action := "target.unlock"
	if locked {
		action = "target.lock"
		if err := access.CheckReason(reason); err != nil {
			return err
		}
	}
	e := event(by, action, name)
	e.Target = audit.Clean(name, audit.MaxName)
	e.Reason = audit.Clean(reason, audit.MaxReason)
	return b.write(ctx, by, policy.ActionLockWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		t, err := tx.Target(ctx, name)
		if err != nil {
			return unknownTarget(err, name)
		}
		e.Object = t.ID
		t.Locked, t.LockReason = locked, reason
		if locked {
			if err := revokeCertificates(ctx, tx, e, store.OnTarget(t.Name)); err != nil {
				return err
			}
			if err := b.endLeases(ctx, tx, by, store.LeaseFilter{Target: t.ID}, access.EndLocked); err != nil {
				return err
			}
		}
		return tx.SaveTarget(ctx, &t)
	})
}

// parseCertificate parses one certificate, as the base64 that stands in PEM, on one line.
func parseCertificate(text string) (*x509.Certificate, error) {
	if len(text) > 16<<10 {
		return nil, errors.New("it is too long")
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("it is not one certificate in base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("it is not one certificate in base64")
	}
	return cert, nil
}

// parseKey parses a public key in the form of authorized_keys. Only plain keys
// are taken, no certificates, and no options before them.
func parseKey(text string) (ssh.PublicKey, error) {
	if len(text) > 16<<10 {
		return nil, errors.New("it is too long")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return nil, errors.New("it is not one public key, such as those in authorized_keys")
	case len(options) > 0 || len(rest) > 0:
		return nil, errors.New("it must be one key without options")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, errors.New("it is a certificate, not a key")
	}
	if key.Type() == "ssh-dss" {
		return nil, errors.New("DSA keys are not taken")
	}
	return key, nil
}

func keyText(key ssh.PublicKey) string {
	b := ssh.MarshalAuthorizedKey(key)
	return string(b[:len(b)-1]) // without the newline
}
