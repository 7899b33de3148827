package keeper

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/drawbolt/drawbolt/vault"
)

// Cost of Argon2id for new blobs: the second choice of RFC 9106, section 4,
// for machines without 2 GiB to spare.
var defaultCost = cost{passes: 3, memory: 64 << 10, lanes: 4}

const (
	minPassphrase = 12 // bytes
	saltSize      = 16 // RFC 9106, section 3.1
	costSize      = 4 + 4 + 1
)

// cost is how hard it is to try one passphrase.
type cost struct {
	passes uint32
	memory uint32 // KiB
	lanes  uint8
}

// check bounds what a blob may ask for, since it is read before anything in it
// is authenticated: at most 256 MiB and about twenty times the default work;
// at least what makes guessing costly.
func (c cost) check() error {
	switch {
	case c.passes < 1 || c.passes > 16,
		c.memory < 19<<10 || c.memory > 256<<10,
		c.lanes < 1 || c.lanes > 16:
		return fmt.Errorf("argon2id cost out of bounds: %d passes, %d KiB, %d lanes", c.passes, c.memory, c.lanes)
	default:
		return nil
	}
}

type passphraseKeeper struct{ passphrase vault.Secret }

// Passphrase returns a keeper whose key is derived with Argon2id (RFC 9106)
// and a fresh salt for every Wrap; cost and salt stand in the wrapped blob.
// Wrap refuses passphrases under 12 bytes. Each call takes 64 MiB and some
// tenths of a second. The keeper is safe for concurrent use.
func Passphrase(s vault.Secret) vault.Keeper { return passphraseKeeper{s} }

func (k passphraseKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	if n := len(k.passphrase.Expose()); n < minPassphrase {
		return nil, fmt.Errorf("passphrase has %d bytes, want at least %d", n, minPassphrase)
	}
	c := defaultCost
	prefix := header(kindPassphrase)
	prefix = binary.BigEndian.AppendUint32(prefix, c.passes)
	prefix = binary.BigEndian.AppendUint32(prefix, c.memory)
	prefix = append(prefix, c.lanes)
	salt := make([]byte, saltSize)
	rand.Read(salt)
	prefix = append(prefix, salt...)
	return seal(k.derive(c, salt), prefix, s)
}

func (k passphraseKeeper) Unwrap(_ context.Context, wrapped []byte) (vault.Secret, error) {
	body, err := checkHeader(wrapped, kindPassphrase)
	if err != nil {
		return vault.Secret{}, err
	}
	if len(body) < costSize+saltSize {
		return vault.Secret{}, errors.New("wrapped key is cut short")
	}
	c := cost{
		passes: binary.BigEndian.Uint32(body),
		memory: binary.BigEndian.Uint32(body[4:]),
		lanes:  body[8],
	}
	if err := c.check(); err != nil {
		return vault.Secret{}, err
	}
	salt, sealed := body[costSize:costSize+saltSize], body[costSize+saltSize:]
	return open(k.derive(c, salt), wrapped[:len(wrapped)-len(sealed)], sealed)
}

func (k passphraseKeeper) derive(c cost, salt []byte) []byte {
	return argon2.IDKey(k.passphrase.Expose(), salt, c.passes, c.memory, c.lanes, keySize)
}
