package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
)

// Bounds of what is kept to log in with.
const (
	maxPassword = 1024     // bytes
	maxKeyFile  = 16 << 10 // bytes
	minRSA      = 2048     // bits
)

// SetCredential says what the bastion logs in with at an account: a certificate
// for each session, or a password or private key, which is put sealed into the
// vault in the place of the one before. No verb gives it out to a person. It is for
// the target as it is now: with another address or other host keys it is of no use
// any more.
func (b *Broker) SetCredential(ctx context.Context, by access.Caller, target, account, credential string, plain []byte) error {
	secret := vault.NewSecret(plain)
	defer secret.Wipe()
	e := event(by, "account.set", target)
	e.Target, e.Account = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName)
	fingerprint, err := checkCredential(credential, secret)
	if err != nil {
		return err
	}
	lent := credential != access.CredentialCertificate
	if lent && b.c.Vault == nil {
		return noVault()
	}
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, e, policyDown(err))
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		t, err := b.administered(ctx, tx, by, policy.ActionSecretWrite, target, &e)
		if err != nil {
			return e, err
		}
		i := slices.IndexFunc(t.Accounts, func(a access.Account) bool { return a.Name == account })
		if i < 0 {
			return e, access.Invalid("%s has no account %s", t.Name, strconv.QuoteToASCII(audit.Clean(account, 64)))
		}
		if t.Accounts[i].Managed != nil {
			return e, isManaged(&t, account)
		}
		detail(&e, "credential", credential)
		detail(&e, "key", fingerprint)
		if t.Accounts[i].Credential != credential {
			detail(&e, "credential_before", t.Accounts[i].Credential)
			t.Accounts[i].Credential = credential
			if err := t.Validate(); err != nil {
				return e, err
			}
			if err := tx.SaveTarget(ctx, &t); err != nil {
				return e, err
			}
		}
		if !lent {
			return e, nil
		}
		return e, b.keepSecret(ctx, tx, &t, t.Accounts[i], secret)
	})
}

func noVault() error {
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5005", Text: "this server has no vault for passwords and keys"}
}

// keepSecret seals the secret for the account as it is now, over the one before.
func (b *Broker) keepSecret(ctx context.Context, tx *store.Tx, t *access.Target, a access.Account, secret vault.Secret) error {
	row, err := tx.AccountSecret(ctx, t.ID, a.Name)
	fresh := errors.Is(err, access.ErrNotFound)
	if err != nil && !fresh {
		return err
	}
	if fresh { // above every version of an earlier secret of the account, which would pass for it
		row.Version = tx.Now().UnixMicro()
	}
	id, version := secretID(t, a), uint64(row.Version)+1
	if row.Sealed, err = b.c.Vault.Seal(id, version, secret); err != nil {
		return err
	}
	tx.Then(func() { b.c.Vault.Stored(id, version) }) // from now on no older one is the secret
	row.TargetID, row.Account, row.ChangedAt = t.ID, a.Name, tx.Now()
	if fresh {
		row.Version++
		return tx.AddAccountSecret(ctx, &row)
	}
	return tx.SaveAccountSecret(ctx, &row)
}

// secretID is what a secret is sealed for, besides its version: the account, what
// kind of credential it is, whether it is all that is known of a managed account's
// password, and where it is sent, which is the target by its
// address and host keys. Whoever may change a target, or its row in the database,
// cannot have the secret sent to a machine of theirs.
func secretID(t *access.Target, a access.Account) string {
	place := []any{t.ID, t.Name, a.Name, a.Credential, t.Address, t.HostKeys}
	if managed := a.Managed != nil; managed || t.Kind != "" || a.KnownAs != "" {
		place = append(place, t.Kind, a.KnownAs, managed)
	}
	b, err := json.Marshal(place)
	if err != nil {
		panic(err) // strings can be marshaled
	}
	sum := sha256.Sum256(b)
	return "account-secrets/" + hex.EncodeToString(sum[:])
}

// checkCredential checks what an account is to log in with. Of a key it returns
// the fingerprint. No error says anything of the secret.
func checkCredential(credential string, secret vault.Secret) (fingerprint string, err error) {
	b := secret.Expose()
	switch credential {
	case access.CredentialCertificate:
		if len(b) > 0 {
			return "", access.Invalid("for certificates no secret is kept")
		}
		return "", nil
	case access.CredentialPassword:
		if len(b) == 0 || len(b) > maxPassword {
			return "", access.Invalid("the password must have 1 to %d bytes", maxPassword)
		}
		if !utf8.Valid(b) || bytes.ContainsFunc(b, unicode.IsControl) {
			return "", access.Invalid("the password must be UTF-8 without control characters")
		}
		return "", nil
	case access.CredentialKey:
		return checkPrivateKey(b)
	default:
		return "", access.Invalid("an account logs in with a certificate, a password or a key")
	}
}

func checkPrivateKey(b []byte) (fingerprint string, err error) {
	if len(b) > maxKeyFile {
		return "", access.Invalid("the key has more than %d bytes", maxKeyFile)
	}
	private, err := ssh.ParseRawPrivateKey(b)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return "", &access.Error{Kind: access.ErrInvalid, Code: "DB-1001", Text: "the key has a passphrase; one is needed that has none", Next: "ssh-keygen -p -N '' -f COPY-OF-THE-KEY"}
	}
	block, rest := pem.Decode(b)
	if err != nil || block == nil || block.Type != "OPENSSH PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return "", access.Invalid("this is not one private key in the form of OpenSSH")
	}
	switch key := private.(type) {
	case *ed25519.PrivateKey, ed25519.PrivateKey, *ecdsa.PrivateKey:
	case *rsa.PrivateKey:
		if key.N.BitLen() < minRSA {
			return "", access.Invalid("the RSA key has %d bits: at least %d are needed", key.N.BitLen(), minRSA)
		}
	default:
		return "", access.Invalid("the key must be an ed25519, ecdsa or rsa key")
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return "", access.Invalid("the key must be an ed25519, ecdsa or rsa key")
	}
	return ssh.FingerprintSHA256(signer.PublicKey()), nil
}

// A Loan is a secret that is lent for one login. Whoever has it wipes it.
type Loan struct{ Secret vault.Secret }

// Lend opens the secret of a session's account, for one login at the session's
// target, while the right to the session holds. It is on record before it is
// lent.
func (b *Broker) Lend(ctx context.Context, l *Live) (Loan, error) {
	if err := l.Check(); err != nil {
		return Loan{}, err
	}
	loan, err := b.lend(ctx, &l.Target, l.Session.Account, sessionEvent(l, "secret.lend"), func(tx *store.Tx) error {
		g, err := tx.Grant(ctx, l.Session.GrantID)
		if err != nil {
			return err
		}
		if why := over(&g, tx.Now()); why != nil {
			return why
		}
		return nil
	})
	if err == nil {
		err = l.Check() // it may have ended meanwhile
	}
	if err != nil {
		loan.Secret.Wipe()
		return Loan{}, err
	}
	return loan, nil
}

// CheckLend is Lend for a check: of one of its accounts, as long as the caller of
// the check may have it and the target is the one that was to be checked.
func (b *Broker) CheckLend(ctx context.Context, p Probe, account string) (Loan, error) {
	by, err := b.mayGoOn(ctx, p, p.Target)
	if err != nil {
		return Loan{}, err
	}
	if !slices.Contains(p.Accounts, account) {
		return Loan{}, access.Invalid("a check does not log in as %s", strconv.QuoteToASCII(audit.Clean(account, 64)))
	}
	e := event(by, "secret.lend", p.Target.ID)
	e.Target, e.Account = p.Target.Name, account
	detail(&e, "for", "check")
	return b.lend(ctx, &p.Target, account, e, func(*store.Tx) error { return nil })
}

// lend opens the secret of an account for the target as it was when the caller
// looked at it, which is where it will be sent.
func (b *Broker) lend(ctx context.Context, was *access.Target, account string, e audit.Event, holds func(*store.Tx) error) (Loan, error) {
	if b.c.Vault == nil {
		return Loan{}, noVault()
	}
	var loan Loan
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		if err := holds(tx); err != nil {
			return e, err
		}
		t, err := tx.Target(ctx, was.ID)
		if err != nil {
			return e, unknownTarget(err, was.Name)
		}
		if t.Locked {
			return e, lockedTarget(&t)
		}
		a, _ := was.Account(account)
		now, ok := t.Account(account)
		if !ok || !a.Lent() || now.Credential != a.Credential || now.KnownAs != a.KnownAs {
			return e, &access.Error{Kind: access.ErrConflict, Code: "DB-3031", Text: account + "@" + was.Name + " logs in with something else since a moment ago; try again"}
		}
		a.Managed = now.Managed // it may be ours since a moment ago, or no more
		var row store.AccountSecret
		row, loan.Secret, err = b.unseal(ctx, tx, was, a)
		if row.Version > 0 {
			detail(&e, "credential", a.Credential)
			detail(&e, "version", strconv.FormatInt(row.Version, 10))
		}
		return e, err
	})
	if err != nil {
		loan.Secret.Wipe()
		return Loan{}, err
	}
	return loan, nil
}

// unseal opens the secret of an account for the target as it is given, which is where
// it will be used.
func (b *Broker) unseal(ctx context.Context, tx *store.Tx, t *access.Target, a access.Account) (store.AccountSecret, vault.Secret, error) {
	var secret vault.Secret
	row, err := tx.AccountSecret(ctx, t.ID, a.Name)
	if err == nil {
		secret, err = b.unsealed(&row, t, a)
	}
	if errors.Is(err, access.ErrNotFound) || errors.Is(err, vault.ErrTampered) {
		err = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5006", Text: "the " + a.Credential + " of " + a.Name + "@" + t.Name + " was kept for another address or other host keys than the target has now, or was altered; an administrator has to set it anew",
			Next: "drawbolt account set " + a.Name + "@" + t.Name}
	}
	return row, secret, err
}

// unsealed opens what is kept of an account for the target, which is where it is sent:
// of one that is managed, the password that is in force.
func (b *Broker) unsealed(row *store.AccountSecret, t *access.Target, a access.Account) (vault.Secret, error) {
	if a.Managed == nil {
		return b.c.Vault.Unseal(secretID(t, a), uint64(row.Version), row.Sealed)
	}
	entry, err := b.entry(row, t, a)
	if err != nil {
		return vault.Secret{}, err
	}
	defer entry.Wipe()
	return vault.NewSecret(entry.Current.Secret.Expose()), nil
}
