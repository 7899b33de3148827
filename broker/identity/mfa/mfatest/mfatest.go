// Package mfatest is an authenticator in software: it makes passkeys and signs with
// them as WebAuthn level 3 describes, and where a test asks for it, as it must not
// be done. Its keys are in memory and worth nothing.
//
// It is for tests only; nothing that ships may import it.
package mfatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Bits of the flags in authenticator data (section 6.1).
const (
	present, verified, eligible, backedUp, attested = 1 << 0, 1 << 2, 1 << 3, 1 << 4, 1 << 6
)

// A Passkey is one key pair, and what a browser says around it. Its fields may be
// changed between two answers, each change a thing that must be refused.
type Passkey struct {
	Credential   []byte
	Key          *ecdsa.PrivateKey
	User         string // the user handle
	RelyingParty string // the id
	Origin       string
	Count        uint32 // of the next answer; 0: it does not count
	Unverified   bool   // its person is not verified
	Absent       bool   // nor there at all
	Eligible     bool   // it may be on several devices
	Algorithm    int    // COSE, as it says when it is made; default ES256
	CrossOrigin  bool   // the browser says that another site embeds the page
}

// New makes a passkey of a user for a place with this id, at which browsers are by
// this origin.
func New(relyingParty, origin, user string) *Passkey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("mfatest: " + err.Error()) // crypto/rand does not fail
	}
	id := make([]byte, 32)
	rand.Read(id)
	return &Passkey{Credential: id, Key: key, User: user, RelyingParty: relyingParty, Origin: origin, Count: 1, Eligible: true, Algorithm: -7}
}

// Made is what a browser sends when the passkey was made under a challenge.
func (p *Passkey) Made(challenge []byte) []byte {
	data := p.data(attested)
	data = append(data, make([]byte, 16)...) // of no known model
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.Credential)))
	data = append(data, p.Credential...)
	point, err := p.Key.PublicKey.Bytes()
	check(err)
	data = append(data, encode(map[int]any{1: 2, 3: p.Algorithm, -1: 1, -2: point[1:33], -3: point[33:]})...)
	return p.answer(map[string]any{
		"clientDataJSON":    b64(p.client("webauthn.create", challenge)),
		"attestationObject": b64(encode(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})),
	})
}

// Signed is what a browser sends when the passkey has signed a challenge. The
// counter grows with it.
func (p *Passkey) Signed(challenge []byte) []byte {
	data, client := p.data(0), p.client("webauthn.get", challenge)
	hash := sha256.Sum256(client)
	over := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.Key, over[:])
	check(err)
	if p.Count > 0 {
		p.Count++
	}
	return p.answer(map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64([]byte(p.User)),
	})
}

func (p *Passkey) data(flags byte) []byte {
	if !p.Absent {
		flags |= present
	}
	if !p.Unverified {
		flags |= verified
	}
	if p.Eligible {
		flags |= eligible | backedUp
	}
	hash := sha256.Sum256([]byte(p.RelyingParty))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), p.Count)
}

func (p *Passkey) client(kind string, challenge []byte) []byte {
	out, err := json.Marshal(map[string]any{"type": kind, "challenge": b64(challenge), "origin": p.Origin, "crossOrigin": p.CrossOrigin})
	check(err)
	return out
}

func (p *Passkey) answer(response map[string]any) []byte {
	out, err := json.Marshal(map[string]any{"id": b64(p.Credential), "rawId": b64(p.Credential), "type": "public-key", "response": response})
	check(err)
	return out
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(v any) []byte {
	mode, err := cbor.CTAP2EncOptions().EncMode()
	check(err)
	out, err := mode.Marshal(v)
	check(err)
	return out
}

func check(err error) {
	if err != nil {
		panic(fmt.Sprintf("mfatest: %v", err)) // a mistake in this package
	}
}
