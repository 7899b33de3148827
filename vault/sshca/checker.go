package sshca

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Checker says whether a presented certificate is one that an authority of
// its kind may have issued and that is good now. It does not prove that
// whoever presents it holds the key; the SSH handshake does. It is a few
// words: build one for each connection. It is safe for concurrent use if
// Revoked is.
type Checker struct {
	// Authorities are the keys that may have signed, compared byte for
	// byte. None means that nothing is accepted.
	Authorities []ssh.PublicKey
	Kind        Kind
	// Remote is where the certificate comes from. While it is not set, a
	// certificate that is bound to a source address is refused.
	Remote netip.Addr
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Revoked is asked last, about certificates that are otherwise good. If
	// it is nil or fails, the certificate is refused.
	Revoked func(serial uint64) (bool, error)
}

// Check returns nil if cert is good for the principal: "account@target" (see
// [Principal]) for a user certificate, the user for an identity, the name the
// host was called by for a host.
func (c Checker) Check(cert *ssh.Certificate, principal string) error {
	if err := c.check(cert, principal); err != nil {
		return fmt.Errorf("check %.40q certificate: %w", string(c.Kind), err)
	}
	return nil
}

func (c Checker) check(cert *ssh.Certificate, principal string) error {
	if cert == nil || cert.Key == nil || cert.SignatureKey == nil || cert.Signature == nil {
		return errors.New("it is incomplete")
	}
	// Before anything walks into either key: each could be a chain of
	// certificates.
	for _, k := range []ssh.PublicKey{cert.SignatureKey, cert.Key} {
		if _, ok := k.(*ssh.Certificate); ok {
			return errors.New("a key in it is itself a certificate")
		}
	}
	r, ok := rules[c.Kind]
	if !ok {
		return errors.New("unknown kind")
	}
	if !c.trusts(cert.SignatureKey) {
		return errors.New("it is signed by another authority")
	}
	if err := checkSubject(cert.Key); err != nil {
		return err
	}
	if bytes.Equal(cert.Key.Marshal(), cert.SignatureKey.Marshal()) {
		return errors.New("its key is the authority's own")
	}
	if cert.CertType != r.certType {
		return fmt.Errorf("it has type %d, want %d", cert.CertType, r.certType)
	}
	if cert.Serial == 0 {
		return errors.New("it has no serial")
	}
	if err := r.checkPrincipals(cert.ValidPrincipals, principal); err != nil {
		return err
	}
	if err := c.checkOptions(cert.CriticalOptions, r); err != nil {
		return err
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	if err := r.checkValidity(cert, now()); err != nil {
		return err
	}
	if err := checkSignature(cert, principal, now); err != nil {
		return err
	}
	if c.Revoked == nil {
		return errors.New("revocation cannot be checked")
	}
	revoked, err := c.Revoked(cert.Serial)
	if err != nil {
		return fmt.Errorf("check revocation of serial %d: %w", cert.Serial, err)
	}
	if revoked {
		return fmt.Errorf("serial %d is revoked", cert.Serial)
	}
	return nil
}

func (c Checker) trusts(signer ssh.PublicKey) bool {
	signed := signer.Marshal()
	return slices.ContainsFunc(c.Authorities, func(a ssh.PublicKey) bool {
		if a == nil {
			return false
		}
		if _, ok := a.(*ssh.Certificate); ok {
			return false
		}
		return bytes.Equal(a.Marshal(), signed)
	})
}

func (r rule) checkPrincipals(got []string, want string) error {
	if len(got) == 0 {
		return errors.New("it has no principal")
	}
	if len(got) > r.names {
		return fmt.Errorf("it has %d principals, the most is %d", len(got), r.names)
	}
	for _, p := range got {
		if !r.principal.MatchString(p) {
			return fmt.Errorf("principal %.80q is not of the form %s", p, r.principal)
		}
	}
	if !slices.Contains(got, want) {
		return fmt.Errorf("it is for %q, not for %.80q", got, want)
	}
	return nil
}

func (c Checker) checkOptions(options map[string]string, r rule) error {
	for name, value := range options {
		if name != sourceOpt || !r.source {
			return fmt.Errorf("unknown critical option %.80q", name)
		}
		// One network, as Sign writes it; OpenSSH would take a list.
		network, err := netip.ParsePrefix(value)
		if err != nil {
			return fmt.Errorf("source address %.80q is not a network", value)
		}
		if !network.Contains(c.Remote.Unmap()) {
			return fmt.Errorf("it is for use from %s", network)
		}
	}
	return nil
}

func (r rule) checkValidity(cert *ssh.Certificate, now time.Time) error {
	// Compared unsigned, "for ever" is the greatest ValidBefore there is.
	after, before, unix := cert.ValidAfter, cert.ValidBefore, now.Unix()
	switch {
	case before > math.MaxInt64 || after >= before:
		return errors.New("it has no bounded validity")
	case before-after > uint64((r.longest+Skew)/time.Second):
		return fmt.Errorf("it is valid for longer than %s", r.longest)
	case unix < 0 || uint64(unix) < after:
		return errors.New("it is not valid yet")
	case uint64(unix) >= before:
		return errors.New("it has expired")
	default:
		return nil
	}
}

func checkSignature(cert *ssh.Certificate, principal string, now func() time.Time) error {
	switch cert.Signature.Format {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512:
	default:
		// Among others ssh-rsa, which is SHA-1.
		return fmt.Errorf("signatures of type %.40q are not accepted", cert.Signature.Format)
	}
	if len(cert.Signature.Rest) != 0 {
		return errors.New("bytes follow its signature")
	}
	cc := ssh.CertChecker{Clock: now, SupportedCriticalOptions: []string{sourceOpt}}
	return cc.CheckCert(principal, cert)
}
