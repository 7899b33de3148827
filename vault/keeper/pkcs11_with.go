//go:build pkcs11

package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/ThalesGroup/crypto11"

	"github.com/drawbolt/drawbolt/vault"
)

// A wrapped blob has behind its header
//
//	nonce (12) | length (2) and the key of what follows, in AES-GCM by the token
//
// with the header as associated data.
const tokenNonce = 12

type tokenKeeper struct {
	c  PKCS11
	mu *sync.Mutex
}

// NewPKCS11 returns a keeper whose key is in a PKCS#11 token. The token is opened for
// each use. It is safe for concurrent use.
func NewPKCS11(c PKCS11) (vault.Keeper, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return tokenKeeper{c, new(sync.Mutex)}, nil
}

// with calls do with the token's key. make: it is made if there is none.
func (k tokenKeeper) with(make bool, do func(*crypto11.SecretKey) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	pin, err := k.c.pin()
	if err != nil {
		return fmt.Errorf("read the PIN: %w", err)
	}
	token, err := crypto11.Configure(&crypto11.Config{Path: k.c.Module, TokenLabel: k.c.Token, Pin: pin, GCMIVLength: tokenNonce})
	if err != nil {
		return fmt.Errorf("open the PKCS#11 token: %w", err)
	}
	defer token.Close()
	keys, err := token.FindKeys(nil, []byte(k.c.Key))
	if err == nil && len(keys) == 0 {
		if !make {
			return fmt.Errorf("the token has no key %s: %w", k.c.Key, vault.ErrWrongKey)
		}
		var made *crypto11.SecretKey
		made, err = token.GenerateSecretKeyWithLabel([]byte(rand.Text()), []byte(k.c.Key), 8*keySize, crypto11.CipherAES)
		keys = append(keys, made)
	}
	if err != nil {
		return fmt.Errorf("find the key of the PKCS#11 token: %w", err)
	}
	return do(keys[0])
}

func (k tokenKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	key, nonce := make([]byte, keySize), make([]byte, tokenNonce)
	rand.Read(key)
	rand.Read(nonce)
	defer clear(key)
	prefix := header(kindPKCS11)
	err := k.with(true, func(at *crypto11.SecretKey) error {
		a, err := at.NewGCM()
		if err != nil {
			return err
		}
		sealed, err := sealByToken(func() []byte { return a.Seal(nil, nonce, key, prefix) })
		if err != nil {
			return err
		}
		prefix = append(prefix, nonce...)
		prefix = append(binary.BigEndian.AppendUint16(prefix, uint16(len(sealed))), sealed...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return seal(key, prefix, s)
}

// sealByToken makes an error of the panic with which the library says that a token does
// not seal: a cipher.AEAD has no other way.
func sealByToken(do func() []byte) (sealed []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the PKCS#11 token does not seal: %v", r)
		}
	}()
	return do(), nil
}

func (k tokenKeeper) Unwrap(_ context.Context, wrapped []byte) (vault.Secret, error) {
	body, err := checkHeader(wrapped, kindPKCS11)
	if err != nil {
		return vault.Secret{}, err
	}
	if len(body) < tokenNonce+2 || len(body) < tokenNonce+2+int(binary.BigEndian.Uint16(body[tokenNonce:])) {
		return vault.Secret{}, errors.New("wrapped key is cut short")
	}
	nonce, n := body[:tokenNonce], int(binary.BigEndian.Uint16(body[tokenNonce:]))
	sealed, rest := body[tokenNonce+2:][:n], body[tokenNonce+2+n:]
	var key []byte
	err = k.with(false, func(at *crypto11.SecretKey) error {
		a, err := at.NewGCM()
		if err != nil {
			return err
		}
		// Tokens do not agree on how they say that it is another key's, or changed.
		if key, err = a.Open(nil, bytes.Clone(nonce), sealed, wrapped[:headerSize]); err != nil {
			return fmt.Errorf("the PKCS#11 token does not open it (%w): %w", err, vault.ErrWrongKey)
		}
		return nil
	})
	if err != nil {
		return vault.Secret{}, err
	}
	defer clear(key)
	if len(key) != keySize {
		return vault.Secret{}, vault.ErrWrongKey
	}
	return open(key, wrapped[:len(wrapped)-len(rest)], rest)
}

func (c PKCS11) pin() (string, error) {
	f, err := os.Open(c.PINFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	defer clear(b)
	return strings.TrimRight(string(b), "\r\n"), err
}
