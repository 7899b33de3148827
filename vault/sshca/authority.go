// Package sshca issues and checks the SSH certificates (PROTOCOL.certkeys of
// OpenSSH) that drawbolt works with, in place of standing keys and passwords.
//
// There are three authorities, one for each [Kind]. They are separate keys so
// that a certificate of one kind is worth nothing where another is trusted: an
// identity certificate never logs in to a target, whatever is in it.
//
// Trusted: the vault that holds the keys, the caller that says whom a
// certificate is for, and the Serials that record it. Not trusted: anything in
// a certificate that somebody presents; [Checker] accepts what this package
// issues and nothing wider. A certificate without principals, which some
// checkers take as valid for everybody, is neither issued nor accepted.
//
// The package does not decide who may have a certificate, distributes no
// public keys, and does not revoke: it asks Checker.Revoked.
package sshca

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
)

// A Kind of certificate, and the authority that signs it.
type Kind string

const (
	User     Kind = "user"     // lets an account be used on a target; targets trust it
	Host     Kind = "host"     // proves a host to clients; clients trust it
	Identity Kind = "identity" // proves a person to the bastion; only the bastion trusts it
)

// recordID names the key of that generation of the kind's authority in the
// vault. The first has no number.
func (k Kind) recordID(generation int) (string, error) {
	if _, ok := rules[k]; !ok || generation < 1 {
		return "", fmt.Errorf("sshca: unknown kind of authority %.40q, generation %d", string(k), generation)
	}
	if generation == 1 {
		return "ssh/ca/" + string(k), nil
	}
	return fmt.Sprintf("ssh/ca/%s/%d", k, generation), nil
}

// An Authority signs certificates of one kind. It is safe for concurrent use.
type Authority struct {
	kind   Kind
	signer func() ssh.Signer // in a func so that no verb of fmt reaches the key
}

// Create makes the Ed25519 key of an authority and stores it in the vault. It
// returns [vault.ErrExists] and changes nothing when there is one already.
func Create(ctx context.Context, v *vault.Vault, kind Kind) (*Authority, error) {
	return CreateGeneration(ctx, v, kind, 1)
}

// CreateGeneration is Create for a further key of the same kind, which takes the
// place of the one before. Create makes generation 1.
func CreateGeneration(ctx context.Context, v *vault.Vault, kind Kind, generation int) (*Authority, error) {
	id, err := kind.recordID(generation)
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create %s authority: %w", kind, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create %s authority: %w", kind, err)
	}
	err = v.Put(ctx, id, vault.NewSecret(der), 1)
	if errors.Is(err, vault.ErrConflict) {
		return nil, fmt.Errorf("create %s authority: %w", kind, vault.ErrExists)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s authority: %w", kind, err)
	}
	return newAuthority(kind, key)
}

// Load reads an authority from the vault; [vault.ErrNotFound] when it was
// never created.
func Load(ctx context.Context, v *vault.Vault, kind Kind) (*Authority, error) {
	return LoadGeneration(ctx, v, kind, 1)
}

// LoadGeneration is Load for a further key of the same kind.
func LoadGeneration(ctx context.Context, v *vault.Vault, kind Kind, generation int) (*Authority, error) {
	id, err := kind.recordID(generation)
	if err != nil {
		return nil, err
	}
	der, _, err := v.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("load %s authority: %w", kind, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		// The cause could quote what it was given.
		return nil, fmt.Errorf("load %s authority: its key is not PKCS #8", kind)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load %s authority: its key is a %T, want Ed25519", kind, parsed)
	}
	return newAuthority(kind, key)
}

func newAuthority(kind Kind, key ed25519.PrivateKey) (*Authority, error) {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("use key of %s authority: %w", kind, err)
	}
	return &Authority{kind, func() ssh.Signer { return signer }}, nil
}

// Kind returns what the authority signs.
func (a *Authority) Kind() Kind { return a.kind }

// PublicKey returns the key to trust: for sshd's TrustedUserCAKeys, or a
// client's @cert-authority line.
func (a *Authority) PublicKey() ssh.PublicKey { return a.signer().PublicKey() }

// Serials hands out certificate serials.
type Serials interface {
	// NextSerial returns a serial that is not zero and that was never
	// returned before, by any process on the same store. The serial and
	// what it is for are durable before it returns: no certificate exists
	// that is not on record.
	NextSerial(ctx context.Context, c Certificate) (uint64, error)
}

// Sign issues a certificate for c. It checks all of c before it asks for a
// serial; a serial may stay without a certificate if what follows fails.
func (a *Authority) Sign(ctx context.Context, serials Serials, c Certificate) (*ssh.Certificate, error) {
	if c.Kind != a.kind {
		return nil, fmt.Errorf("sign certificate: the %s authority does not sign %.40q certificates", a.kind, string(c.Kind))
	}
	cert, err := c.unsigned()
	if err != nil {
		return nil, fmt.Errorf("sign %s certificate: %w", a.kind, err)
	}
	signer := a.signer()
	if bytes.Equal(cert.Key.Marshal(), signer.PublicKey().Marshal()) {
		return nil, fmt.Errorf("sign %s certificate: the key is the authority's own", a.kind)
	}
	cert.Serial, err = serials.NextSerial(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("take serial for %s certificate: %w", a.kind, err)
	}
	if cert.Serial == 0 {
		return nil, fmt.Errorf("take serial for %s certificate: got 0, which cannot be revoked", a.kind)
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		return nil, fmt.Errorf("sign %s certificate: %w", a.kind, err)
	}
	return cert, nil
}
