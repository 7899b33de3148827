package mfa

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
)

// The limits of what a browser may send of a passkey, in bytes.
const (
	MaxAnswer     = 16 << 10 // one answer, as JSON
	maxCredential = 1023     // a credential id (WebAuthn level 3, section 4)
	maxPublicKey  = 700      // a COSE key: one of RSA with 4096 bits has some 530
)

// Algorithms are the COSE identifiers of those that a passkey may sign with, the
// preferred first: ES256, EdDSA, RS256. Nothing else is taken, and there is no
// "none" among them.
func Algorithms() []int {
	return []int{int(webauthncose.AlgES256), int(webauthncose.AlgEdDSA), int(webauthncose.AlgRS256)}
}

// A RelyingParty checks what passkeys have signed for one place: that of the
// address under which browsers know this server. It is safe for concurrent use.
type RelyingParty struct{ id, origin string }

// NewRelyingParty is for an address such as https://gw.example.com. Browsers
// make no passkeys for an address without TLS or with a number in the place of
// the host's name (WebAuthn level 3, section 5.1.2), and it refuses those.
func NewRelyingParty(address string) (*RelyingParty, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the address of passkeys: %w", err)
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return nil, fmt.Errorf("passkeys need an address with a name, not %s", address)
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("passkeys need https, not %s", address)
	}
	return &RelyingParty{id: strings.ToLower(host), origin: strings.ToLower("https://" + u.Host)}, nil
}

// ID names the place to browsers and authenticators.
func (r *RelyingParty) ID() string { return r.id }

// NewChallenge returns what a passkey is to sign: 32 random bytes, and the hash
// of what for, so that the signature is one over that, for whoever reads it
// later.
func NewChallenge(about ...string) []byte {
	c := make([]byte, 32, 64)
	rand.Read(c)
	bound := bindChallenge(about)
	return append(c, bound[:]...)
}

// About reports whether the challenge was made for that.
func About(challenge []byte, about ...string) bool {
	bound := bindChallenge(about)
	return len(challenge) == 64 && [32]byte(challenge[32:]) == bound
}

func bindChallenge(about []string) [32]byte {
	return sha256.Sum256([]byte("drawbolt passkey\x00" + strings.Join(about, "\x00")))
}

// A PublicKey is what is known of a passkey after it was made.
type PublicKey struct {
	Credential     []byte // its id, which its authenticator has chosen
	Key            []byte // COSE (RFC 9053)
	Count          uint32 // how often it has signed; 0: it does not count
	BackupEligible bool   // it may be on several devices of its person
	BackedUp       bool
}

// ReadMade returns what a browser's answer to the wish to make a passkey says was
// its challenge.
func ReadMade(answer []byte) (challenge []byte, err error) {
	if len(answer) > MaxAnswer {
		return nil, fmt.Errorf("the answer has %d bytes", len(answer))
	}
	made, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return base64.RawURLEncoding.Strict().DecodeString(made.Response.CollectedClientData.Challenge)
}

// Register reads a browser's answer to the wish to make a passkey, as JSON of the
// form RegistrationResponseJSON (WebAuthn level 3, section 5.1.8.1). The person
// must have been verified, by the authenticator's PIN or what it measures of them.
// Who has made the authenticator is not asked for and not believed.
func (r *RelyingParty) Register(challenge, answer []byte) (PublicKey, error) {
	if len(answer) > MaxAnswer {
		return PublicKey{}, fmt.Errorf("the answer has %d bytes", len(answer))
	}
	made, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read the answer: %w", err)
	}
	// The parsers of statements that nobody asked for are not reached.
	if f := made.Response.AttestationObject.Format; f != "none" && f != "packed" {
		return PublicKey{}, fmt.Errorf("an attestation of the form %.40q was not asked for", f)
	}
	var allowed []protocol.CredentialParameter
	for _, a := range Algorithms() {
		allowed = append(allowed, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(a)})
	}
	_, err = made.Verify(base64.RawURLEncoding.EncodeToString(challenge), r.id, []string{r.origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, true, true, nil, allowed, protocol.AttestationPolicy{}, protocol.SignaturePolicy{})
	if err != nil {
		return PublicKey{}, fmt.Errorf("check the answer: %w", err)
	}
	data := made.Response.AttestationObject.AuthData
	k := PublicKey{
		Credential: data.AttData.CredentialID, Key: data.AttData.CredentialPublicKey, Count: data.Counter,
		BackupEligible: data.Flags.HasBackupEligible(), BackedUp: data.Flags.HasBackupState(),
	}
	switch {
	case len(k.Credential) == 0 || len(k.Credential) > maxCredential:
		return PublicKey{}, fmt.Errorf("a credential id of %d bytes", len(k.Credential))
	case len(k.Key) > maxPublicKey:
		return PublicKey{}, fmt.Errorf("a public key of %d bytes", len(k.Key))
	case k.BackedUp && !k.BackupEligible:
		return PublicKey{}, errors.New("backed up, though that cannot be")
	}
	if _, err := webauthncose.ParsePublicKey(k.Key); err != nil {
		return PublicKey{}, fmt.Errorf("read the public key: %w", err)
	}
	return k, nil
}

// A Signed is a browser's answer to a challenge, read and not yet checked.
type Signed struct {
	Credential []byte // which passkey it says it was
	User       []byte // whose it says that is
	Challenge  []byte // what it says was signed
	parsed     *protocol.ParsedCredentialAssertionData
}

// ReadSigned reads an answer to a challenge, as JSON of the form
// AuthenticationResponseJSON (WebAuthn level 3, section 5.1.8.2). Nothing of it is
// proven before [RelyingParty.Check].
func ReadSigned(answer []byte) (Signed, error) {
	if len(answer) > MaxAnswer {
		return Signed{}, fmt.Errorf("the answer has %d bytes", len(answer))
	}
	p, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Signed{}, fmt.Errorf("read the answer: %w", err)
	}
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(p.Response.CollectedClientData.Challenge)
	if err != nil || len(p.RawID) > maxCredential {
		return Signed{}, errors.New("read the answer: a challenge or a credential of no such form")
	}
	return Signed{p.RawID, p.Response.UserHandle, challenge, p}, nil
}

// A Use is one signature of a passkey that holds.
type Use struct {
	Count    uint32
	BackedUp bool

	// What proves it to whoever has the public key (WebAuthn level 3, section 7.2).
	ClientData, AuthenticatorData, Signature []byte
}

// Check reports whether the passkey has signed the challenge here, with its person
// verified. It does not compare counters; see [WentBack].
func (r *RelyingParty) Check(s Signed, challenge []byte, k PublicKey) (Use, error) {
	if string(s.Credential) != string(k.Credential) {
		return Use{}, errors.New("another passkey")
	}
	err := s.parsed.Verify(base64.RawURLEncoding.EncodeToString(challenge), r.id, "", []string{r.origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, true, true, k.Key, protocol.SignaturePolicy{})
	if err != nil {
		return Use{}, fmt.Errorf("check the answer: %w", err)
	}
	flags := s.parsed.Response.AuthenticatorData.Flags
	if flags.HasBackupEligible() != k.BackupEligible || flags.HasBackupState() && !k.BackupEligible {
		return Use{}, errors.New("whether it may be on several devices has changed")
	}
	raw := s.parsed.Raw.AssertionResponse
	return Use{
		Count: s.parsed.Response.AuthenticatorData.Counter, BackedUp: flags.HasBackupState(),
		ClientData: raw.ClientDataJSON, AuthenticatorData: raw.AuthenticatorData, Signature: raw.Signature,
	}, nil
}

// WentBack reports whether a counter says that somebody else has a copy of the
// passkey: that it does not grow, though it counts (WebAuthn level 3, section
// 7.2, step 22).
func WentBack(was, is uint32) bool { return (was != 0 || is != 0) && is <= was }
