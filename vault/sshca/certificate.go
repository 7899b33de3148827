package sshca

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Skew is how long before ValidAfter a certificate is valid already, for
// targets whose clock is late.
const Skew = time.Minute

const (
	maxNames  = 16
	maxKeyID  = 256
	minRSA    = 3072 // bits; NIST SP 800-57, 128-bit strength
	maxRSA    = 8192 // bits; beyond it only costs the verifier
	sourceOpt = "source-address"
)

// A rule says what a certificate of one kind looks like.
type rule struct {
	certType  uint32
	longest   time.Duration // from ValidAfter to ValidBefore, without Skew
	principal *regexp.Regexp
	names     int // most principals
	source    bool
}

const (
	accountGrammar = `[a-z_][a-z0-9_-]{0,31}`
	targetGrammar  = `[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?`
)

var (
	account = regexp.MustCompile(`\A` + accountGrammar + `\z`)
	target  = regexp.MustCompile(`\A` + targetGrammar + `\z`)

	rules = map[Kind]rule{
		User: {
			certType:  ssh.UserCert,
			longest:   10 * time.Minute,
			principal: regexp.MustCompile(`\A` + accountGrammar + `@` + targetGrammar + `\z`),
			names:     1,
			source:    true,
		},
		Identity: {
			certType:  ssh.UserCert,
			longest:   24 * time.Hour,
			principal: regexp.MustCompile(`\A[a-z0-9][a-z0-9._-]{0,63}\z`),
			names:     1,
			source:    true,
		},
		Host: {
			certType:  ssh.HostCert,
			longest:   30 * 24 * time.Hour,
			principal: target,
			names:     maxNames,
		},
	}
)

// Principal returns the one principal of a user certificate, for a target's
// AuthorizedPrincipalsFile: "account@target". A certificate for one target is
// worth nothing on another because no other lists it.
func Principal(accountName, targetName string) (string, error) {
	if !account.MatchString(accountName) {
		return "", fmt.Errorf("account %.80q is not of the form %s", accountName, accountGrammar)
	}
	if !target.MatchString(targetName) {
		return "", fmt.Errorf("target %.80q is not of the form %s", targetName, targetGrammar)
	}
	return accountName + "@" + targetName, nil
}

// A Certificate says what to sign.
type Certificate struct {
	Kind Kind
	// Key is the subject's: Ed25519, ECDSA, RSA of 3072 to 8192 bits, or one
	// of the first two on a security key. Never a certificate.
	Key ssh.PublicKey

	// Principal is the account of a user certificate and the user of an
	// identity certificate. Target is the target of a user certificate.
	// Names are those of a host certificate, at most 16. What does not
	// belong to the kind must be empty.
	Principal string
	Target    string
	Names     []string

	// KeyID is what the other side logs: 1 to 256 printable ASCII bytes.
	KeyID string

	// The certificate is valid from one minute before ValidAfter until
	// ValidBefore, both cut to whole seconds, at most 10 minutes apart for
	// a user, 24 hours for an identity, 30 days for a host.
	ValidAfter, ValidBefore time.Time

	// SourceAddress, when valid, is the only network from which a user or
	// identity certificate is accepted.
	SourceAddress netip.Prefix

	// What a user certificate permits beyond running one command without a
	// terminal. ~/.ssh/rc is never permitted.
	PermitPTY             bool
	PermitPortForwarding  bool
	PermitAgentForwarding bool
	PermitX11Forwarding   bool
}

// unsigned checks c and returns the certificate without nonce, serial and
// signature.
func (c Certificate) unsigned() (*ssh.Certificate, error) {
	r, ok := rules[c.Kind]
	if !ok {
		return nil, fmt.Errorf("unknown kind %.40q", string(c.Kind))
	}
	key, err := subjectKey(c.Key)
	if err != nil {
		return nil, err
	}
	principals, err := c.principals(r)
	if err != nil {
		return nil, err
	}
	if err := checkKeyID(c.KeyID); err != nil {
		return nil, err
	}
	after, before := c.ValidAfter.Unix(), c.ValidBefore.Unix()
	switch length := time.Duration(before-after) * time.Second; {
	case after < int64(Skew/time.Second) || before > 1<<40:
		return nil, errors.New("validity is not set, or not of this age")
	case before <= after:
		return nil, errors.New("validity ends before it starts")
	case length > r.longest:
		return nil, fmt.Errorf("validity of %s is longer than %s", length, r.longest)
	}
	cert := &ssh.Certificate{
		Key:             key,
		CertType:        r.certType,
		KeyId:           c.KeyID,
		ValidPrincipals: principals,
		ValidAfter:      uint64(after) - uint64(Skew/time.Second),
		ValidBefore:     uint64(before),
		Permissions: ssh.Permissions{
			CriticalOptions: map[string]string{},
			Extensions:      map[string]string{},
		},
	}
	if c.SourceAddress != (netip.Prefix{}) {
		if !r.source {
			return nil, fmt.Errorf("a %s certificate has no source address", c.Kind)
		}
		if !c.SourceAddress.IsValid() || c.SourceAddress != c.SourceAddress.Masked() || c.SourceAddress.Addr().Is4In6() {
			return nil, fmt.Errorf("source address %s is not a network", c.SourceAddress)
		}
		cert.CriticalOptions[sourceOpt] = c.SourceAddress.String()
	}
	for name, permit := range map[string]bool{
		"permit-pty":              c.PermitPTY,
		"permit-port-forwarding":  c.PermitPortForwarding,
		"permit-agent-forwarding": c.PermitAgentForwarding,
		"permit-X11-forwarding":   c.PermitX11Forwarding,
	} {
		if permit {
			cert.Extensions[name] = ""
		}
	}
	if c.Kind != User && len(cert.Extensions) > 0 {
		return nil, fmt.Errorf("a %s certificate permits nothing on a target", c.Kind)
	}
	return cert, nil
}

func (c Certificate) principals(r rule) ([]string, error) {
	if c.Kind == Host {
		if c.Principal != "" || c.Target != "" {
			return nil, errors.New("a host certificate has names, no principal or target")
		}
		if len(c.Names) == 0 || len(c.Names) > r.names {
			return nil, fmt.Errorf("a host certificate has 1 to %d names, not %d", r.names, len(c.Names))
		}
		for _, n := range c.Names {
			if !r.principal.MatchString(n) {
				return nil, fmt.Errorf("host name %.80q is not of the form %s", n, r.principal)
			}
		}
		return slices.Clone(c.Names), nil
	}
	if len(c.Names) != 0 {
		return nil, fmt.Errorf("a %s certificate has one principal, no names", c.Kind)
	}
	if c.Kind == User {
		p, err := Principal(c.Principal, c.Target)
		if err != nil {
			return nil, err
		}
		return []string{p}, nil
	}
	if c.Target != "" {
		return nil, fmt.Errorf("a %s certificate has no target", c.Kind)
	}
	if !r.principal.MatchString(c.Principal) {
		return nil, fmt.Errorf("principal %.80q is not of the form %s", c.Principal, r.principal)
	}
	return []string{c.Principal}, nil
}

// checkKeyID keeps line ends and escapes out of other machines' logs.
func checkKeyID(id string) error {
	if id == "" || len(id) > maxKeyID {
		return fmt.Errorf("key id has %d bytes, want 1 to %d", len(id), maxKeyID)
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return errors.New("key id is not printable ASCII")
		}
	}
	return nil
}

// subjectKey returns k, parsed anew so that it is what its bytes say, or an
// error if no certificate is issued for such a key.
func subjectKey(k ssh.PublicKey) (ssh.PublicKey, error) {
	if k == nil {
		return nil, errors.New("no key")
	}
	if _, ok := k.(*ssh.Certificate); ok {
		return nil, errors.New("the key is itself a certificate")
	}
	key, err := ssh.ParsePublicKey(k.Marshal())
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	return key, checkSubject(key)
}

func checkSubject(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		k, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return errors.New("RSA key of unknown size")
		}
		pub, ok := k.CryptoPublicKey().(*rsa.PublicKey)
		if !ok {
			return errors.New("RSA key of unknown size")
		}
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits, want %d to %d", n, minRSA, maxRSA)
		}
		return nil
	default:
		return fmt.Errorf("keys of type %.40q are not accepted", key.Type())
	}
}
