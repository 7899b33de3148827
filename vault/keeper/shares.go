package keeper

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/drawbolt/drawbolt/vault"
)

// A share is, in base32 (RFC 4648) with dashes between for whoever types it,
//
//	set | needed id | scalar | checksum
//
// and a wrapped blob has behind its header
//
//	set | needed | a commitment for each of the needed shares
//
// by which each share is checked by itself, before the others are there. The key is
// HKDF-SHA-256 of the scalar of ristretto255 that the shares give together.
const (
	setSize      = 8
	scalarSize   = 32
	elementSize  = 32
	checksumSize = 4
	shareSize    = setSize + 2 + scalarSize + checksumSize

	// MaxShares bounds how many people a key is split among.
	MaxShares = 32
)

const shareKeyFor = "drawbolt vault root key of shares"

var shareText = base32.StdEncoding.WithPadding(base32.NoPadding)

// The refusals of a share.
var (
	ErrBadShare   = errors.New("this is not a share, or it was mistyped")
	ErrOtherShare = errors.New("this share is not one of this vault's")
	ErrSameShare  = errors.New("this share was given already")
)

// Split makes a root key of which any needed of so many shares give it back, and
// fewer give nothing of it (Shamir, How to share a secret, 1979). Each share is for one
// person; nothing else has the key.
func Split(shares, needed int) ([]vault.Secret, vault.Keeper, error) {
	if needed < 2 || needed > shares || shares > MaxShares {
		return nil, nil, fmt.Errorf("a key is split into 2 to %d shares, of which at least 2 are needed", MaxShares)
	}
	g := group.Ristretto255
	scalar := g.RandomNonZeroScalar(rand.Reader)
	split := secretsharing.New(rand.Reader, uint(needed-1), scalar) // it calls one less the threshold
	prefix := header(kindShares)
	set := make([]byte, setSize)
	rand.Read(set)
	prefix = append(append(prefix, set...), byte(needed))
	for _, c := range split.CommitSecret() {
		b, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil, nil, err
		}
		prefix = append(prefix, b...)
	}
	var list []vault.Secret
	for i, s := range split.Share(uint(shares)) {
		value, err := s.Value.MarshalBinary()
		if err != nil {
			return nil, nil, err
		}
		b := append(append(bytes.Clone(set), byte(needed), byte(i+1)), value...)
		sum := sha256.Sum256(b)
		list = append(list, vault.NewSecret(grouped(append(b, sum[:checksumSize]...))))
	}
	k, err := newShared(prefix, scalar)
	return list, k, err
}

func grouped(b []byte) []byte {
	text := shareText.EncodeToString(b)
	var out []byte
	for i := 0; i < len(text); i += 5 {
		if i > 0 {
			out = append(out, '-')
		}
		out = append(out, text[i:min(i+5, len(text))]...)
	}
	return out
}

// A Gathering collects shares until they are enough. It is not safe for concurrent
// use.
type Gathering struct {
	prefix      []byte
	set         []byte
	needed      int
	commitments []group.Element
	shares      []secretsharing.Share
}

// NewGathering begins to collect the shares of the key that wrapped this.
func NewGathering(wrapped []byte) (*Gathering, error) {
	body, err := checkHeader(wrapped, kindShares)
	if err != nil {
		return nil, err
	}
	if len(body) < setSize+1 {
		return nil, errors.New("wrapped key is cut short")
	}
	w := &Gathering{set: body[:setSize], needed: int(body[setSize])}
	body = body[setSize+1:]
	if w.needed < 2 || w.needed > MaxShares || len(body) < w.needed*elementSize {
		return nil, errors.New("wrapped key is cut short")
	}
	for i := range w.needed {
		c := group.Ristretto255.NewElement()
		if err := c.UnmarshalBinary(body[i*elementSize : (i+1)*elementSize]); err != nil {
			return nil, errors.New("wrapped key has a commitment that is none")
		}
		w.commitments = append(w.commitments, c)
	}
	w.prefix = wrapped[:len(wrapped)-len(body)+w.needed*elementSize]
	return w, nil
}

// Add takes a share and returns how many are missing still. One that is refused is not
// counted and changes nothing. Blanks, dashes and the case of letters do not matter.
func (w *Gathering) Add(share vault.Secret) (missing int, err error) {
	missing = w.needed - len(w.shares)
	text := strings.Map(func(c rune) rune {
		if strings.ContainsRune("- \t\r\n", c) {
			return -1
		}
		return c
	}, strings.ToUpper(string(share.Expose())))
	if len(text) > 2*shareSize {
		return missing, ErrBadShare
	}
	b, err := shareText.DecodeString(text)
	if err != nil || len(b) != shareSize || shareText.EncodeToString(b) != text { // the last letter has bits that are not used
		return missing, ErrBadShare
	}
	defer clear(b)
	if sum := sha256.Sum256(b[:shareSize-checksumSize]); !bytes.Equal(sum[:checksumSize], b[shareSize-checksumSize:]) {
		return missing, ErrBadShare
	}
	g := group.Ristretto255
	s := secretsharing.Share{ID: g.NewScalar().SetUint64(uint64(b[setSize+1])), Value: g.NewScalar()}
	if err := s.Value.UnmarshalBinary(b[setSize+2 : setSize+2+scalarSize]); err != nil {
		return missing, ErrBadShare
	}
	if !bytes.Equal(b[:setSize], w.set) || int(b[setSize]) != w.needed || s.ID.IsZero() || !secretsharing.Verify(uint(w.needed-1), s, w.commitments) {
		return missing, ErrOtherShare
	}
	for _, had := range w.shares {
		if had.ID.IsEqual(s.ID) {
			return missing, ErrSameShare
		}
	}
	if missing > 0 {
		w.shares = append(w.shares, s)
		missing--
	}
	return missing, nil
}

// Keeper returns the keeper whose key the shares give, when there are enough.
func (w *Gathering) Keeper() (vault.Keeper, error) {
	if n := w.needed - len(w.shares); n > 0 {
		return nil, fmt.Errorf("%d more shares are needed", n)
	}
	scalar, err := secretsharing.Recover(uint(w.needed-1), w.shares)
	if err != nil {
		return nil, err
	}
	return newShared(w.prefix, scalar)
}

// sharedKeeper is a keeper whose key was split, or given back by shares.
type sharedKeeper struct {
	prefix []byte
	key    vault.Secret
}

func newShared(prefix []byte, scalar group.Scalar) (vault.Keeper, error) {
	b, err := scalar.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, prefix[headerSize:headerSize+setSize], shareKeyFor, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return sharedKeeper{bytes.Clone(prefix), vault.NewSecret(key)}, nil
}

func (k sharedKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	return seal(k.key.Expose(), bytes.Clone(k.prefix), s)
}

func (k sharedKeeper) Unwrap(_ context.Context, wrapped []byte) (vault.Secret, error) {
	if _, err := checkHeader(wrapped, kindShares); err != nil {
		return vault.Secret{}, err
	}
	sealed, ok := bytes.CutPrefix(wrapped, k.prefix)
	if !ok {
		return vault.Secret{}, fmt.Errorf("wrapped for other shares: %w", vault.ErrWrongKey)
	}
	return open(k.key.Expose(), k.prefix, sealed)
}

// Missing is how many shares are missing still.
func (w *Gathering) Missing() int { return w.needed - len(w.shares) }
