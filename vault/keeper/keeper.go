// Package keeper holds the root key that opens a vault: in a file beside the
// server, derived from a passphrase that somebody types, split among people of whom some
// come together, in the machine's TPM, in a PKCS#11 token, or in another server; the last
// two never give it out. [Ceremonies] are how people open it.
//
// A wrapped blob begins with a header that names its format and the kind of
// keeper that made it, so that the wrong keeper says so instead of "wrong
// key". Trusted: the key file, guarded by its owner and mode, or the
// passphrase. Not trusted: the blob; its sizes and its cost are bounded before
// anything is done with it.
//
// It cannot tell a wrong key from changed bytes.
package keeper

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/drawbolt/drawbolt/vault"
)

// A wrapped blob is
//
//	"dbkeeper" version kind | parameters of the kind | nonce ciphertext tag
//
// in AES-256-GCM, with everything before the nonce as associated data.
const (
	magic      = "dbkeeper"
	version    = 1
	headerSize = len(magic) + 2

	keySize    = 32
	maxWrapped = 128 << 10 // twice the largest secret
)

type kind byte

const (
	kindFile       kind = 1
	kindPassphrase kind = 2
	kindShares     kind = 3
	kindTransit    kind = 4
	kindTPM        kind = 5
	kindPKCS11     kind = 6
)

// The kinds of keepers, as configurations name them.
const (
	KindFile       = "file"
	KindPassphrase = "passphrase"
	KindShares     = "shares"
	KindTransit    = "transit"
	KindTPM        = "tpm"
	KindPKCS11     = "pkcs11"
)

// KindOf returns which kind of keeper has wrapped this. It is what the bytes say, which
// are not authenticated: only a keeper proves it.
func KindOf(wrapped []byte) (string, error) {
	if len(wrapped) < headerSize || string(wrapped[:len(magic)]) != magic {
		return "", errors.New("not a wrapped key")
	}
	names := []string{"", KindFile, KindPassphrase, KindShares, KindTransit, KindTPM, KindPKCS11}
	k := int(wrapped[headerSize-1])
	if k == 0 || k >= len(names) {
		return "", fmt.Errorf("wrapped by a keeper of kind %d, which this program does not know", k)
	}
	return names[k], nil
}

func (k kind) String() string {
	switch k {
	case kindFile:
		return "key file"
	case kindPassphrase:
		return "passphrase"
	case kindShares:
		return "key of shares"
	case kindTransit:
		return "transit key"
	case kindTPM:
		return "TPM"
	case kindPKCS11:
		return "PKCS#11 token"
	default:
		return fmt.Sprintf("kind %d", byte(k))
	}
}

func header(k kind) []byte { return append([]byte(magic), version, byte(k)) }

// checkHeader returns what follows the header.
func checkHeader(wrapped []byte, want kind) ([]byte, error) {
	if len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("wrapped key has %d bytes, the most is %d", len(wrapped), maxWrapped)
	}
	if len(wrapped) < headerSize || string(wrapped[:len(magic)]) != magic {
		return nil, errors.New("not a wrapped key")
	}
	if v := wrapped[len(magic)]; v != version {
		return nil, fmt.Errorf("wrapped key has format version %d, this program reads %d", v, version)
	}
	if got := kind(wrapped[len(magic)+1]); got != want {
		return nil, fmt.Errorf("wrapped by a %s, not by a %s: %w", got, want, vault.ErrWrongKey)
	}
	return wrapped[headerSize:], nil
}

// seal appends the nonce and the ciphertext to prefix and authenticates both.
func seal(key, prefix []byte, s vault.Secret) ([]byte, error) {
	a, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return a.Seal(prefix, nil, s.Expose(), prefix), nil
}

func open(key, prefix, sealed []byte) (vault.Secret, error) {
	a, err := newAEAD(key)
	if err != nil {
		return vault.Secret{}, err
	}
	clear, err := a.Open(nil, nil, sealed, prefix)
	if err != nil {
		return vault.Secret{}, vault.ErrWrongKey
	}
	return vault.NewSecret(clear), nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
