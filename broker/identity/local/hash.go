package local

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params are the cost of an argon2id hash (RFC 9106).
type Params struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8  // lanes
}

// DefaultParams take some 40 ms of one core of a small server and 19 MiB: the
// memory that the OWASP password storage cheat sheet asks for and one pass more.
// More memory would be harder on a guesser who has stolen the hashes, and as
// much harder on the broker while somebody floods it with logins.
var DefaultParams = Params{Memory: 19 << 10, Time: 3, Threads: 1}

// What is accepted in a stored hash. The upper bounds are there so that a hash
// that somebody has written into the database cannot take all memory.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
	minSalt    = 8
	maxSalt    = 64
	minKey     = 16
	maxKey     = 64
	maxPHC     = 256 // bytes

	saltSize = 16
	keySize  = 32
)

func (p Params) check() error {
	switch {
	case p.Threads < 1 || p.Threads > maxThreads:
		return fmt.Errorf("argon2id with %d lanes", p.Threads)
	case p.Time < 1 || p.Time > maxTime:
		return fmt.Errorf("argon2id with %d passes", p.Time)
	case p.Memory < 8*uint32(p.Threads) || p.Memory > maxMemory:
		return fmt.Errorf("argon2id with %d KiB", p.Memory)
	}
	return nil
}

// weaker reports whether some cost of p is lower than that of q.
func (p Params) weaker(q Params) bool {
	return p.Memory < q.Memory || p.Time < q.Time || p.Threads < q.Threads
}

// A phc is a parsed hash.
type phc struct {
	params    Params
	salt, key []byte
}

// String writes the hash in the form that the reference implementation and the
// PHC string format define: $argon2id$v=19$m=19456,t=3,p=1$salt$key.
func (h phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.params.Memory, h.params.Time, h.params.Threads, b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// parsePHC reads what String writes and nothing else: what it accepts is
// written back byte for byte.
func parsePHC(s string) (phc, error) {
	var h phc
	if len(s) > maxPHC {
		return h, fmt.Errorf("password hash of %d bytes", len(s))
	}
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, errors.New("not an argon2id hash of version 19")
	}
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return h, errors.New("password hash without its costs")
	}
	var n [3]uint64
	for i, prefix := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(costs[i], prefix)
		bits := 32
		if i == 2 {
			bits = 8
		}
		var err error
		if n[i], err = strconv.ParseUint(v, 10, bits); !ok || err != nil {
			return h, fmt.Errorf("password hash with the cost %q", costs[i])
		}
	}
	h.params = Params{Memory: uint32(n[0]), Time: uint32(n[1]), Threads: uint8(n[2])}
	if err := h.params.check(); err != nil {
		return h, err
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	h.key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	switch {
	case err1 != nil || err2 != nil:
		return h, errors.New("password hash that is not base64")
	case len(h.salt) < minSalt || len(h.salt) > maxSalt || len(h.key) < minKey || len(h.key) > maxKey:
		return h, errors.New("password hash with a salt or a key of a length that is not allowed")
	case h.String() != s: // leading zeros, line breaks inside the base64
		return h, errors.New("password hash that is not in its canonical form")
	}
	return h, nil
}

// A hasher makes and checks hashes. run is argon2.IDKey; a test counts it.
type hasher struct {
	params Params
	run    func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte
	dummy  phc
}

func newHasher(p Params) (*hasher, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	h := &hasher{params: p, run: argon2.IDKey}
	// What nobody's password hashes to, at the cost of a real one.
	h.dummy = phc{params: p, salt: make([]byte, saltSize), key: make([]byte, keySize)}
	rand.Read(h.dummy.salt)
	rand.Read(h.dummy.key)
	return h, nil
}

// hash returns the hash of a new password, with a fresh salt.
func (h *hasher) hash(password []byte) string {
	out := phc{params: h.params, salt: make([]byte, saltSize)}
	rand.Read(out.salt)
	out.key = h.derive(out, password, keySize)
	return out.String()
}

// verify reports whether the password has this hash, and whether the hash is
// weaker than those made now. The empty hash and one that does not parse cost
// as much as any other and match nothing.
func (h *hasher) verify(encoded string, password []byte) (ok, weak bool) {
	want, err := parsePHC(encoded)
	if err != nil {
		want = h.dummy
	}
	got := h.derive(want, password, uint32(len(want.key)))
	equal := subtle.ConstantTimeCompare(got, want.key) == 1
	return equal && err == nil, want.params.weaker(h.params)
}

func (h *hasher) derive(p phc, password []byte, size uint32) []byte {
	return h.run(password, p.salt, p.params.Time, p.params.Memory, p.params.Threads, size)
}
