package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Sealed codes are how somebody gets in on the worst day, when whatever people
// log in with otherwise is down. They are printed once, one for each envelope;
// some of them together open one short login of the emergency user, and after
// that none of the set opens anything.
//
// A code is 130 random bits, so its hash needs no salt and no cost, and nobody
// has to be locked out after so many wrong ones: it cannot be guessed. Its last
// four characters are a checksum, so that a slip of the pen is told from a code
// that is wrong; that says nothing of which codes there are.
const (
	codeChars  = 26 // 130 bits
	checkChars = 4
	groupChars = 5

	// MaxCodes is how many codes a set has at most.
	MaxCodes = 16
	// CodeLoginTTL is how long a login lasts that codes have opened.
	CodeLoginTTL = time.Hour
)

const sealedAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's

// A CodeSet is a set of sealed codes of which Need together open a login.
type CodeSet struct {
	ID        string // CodeSetPrefix
	UserID    string // whose login they open
	Need      int
	CreatedAt time.Time
	VoidedAt  time.Time // zero: valid
	UsedAt    time.Time // zero: never
	Codes     []SealedCode
}

// CodeSetPrefix is that of the ids of sets of codes.
const CodeSetPrefix = "SET"

// A SealedCode is one code of a set, without the code.
type SealedCode struct {
	N          int    // from 1
	Hash       []byte // SHA-256; empty once the set is void
	HolderID   string // user who has the envelope; "": nobody that is known here
	HolderName string
	Used       bool // with the login that the set has opened
}

// CodeStore keeps sets of codes, of which one is valid at most. Implementations
// are safe for concurrent use, make each method one transaction, and write its
// audit event in that transaction.
type CodeStore interface {
	// CreateCodes saves a set in the place of the one that was valid.
	CreateCodes(ctx context.Context, by access.Caller, s CodeSet) error

	// ValidCodes returns the set that is valid, or ErrNotFound.
	ValidCodes(ctx context.Context) (CodeSet, error)

	// VoidCodes makes the set that is valid void, or returns ErrNotFound.
	VoidCodes(ctx context.Context, by access.Caller, reason string, at time.Time) error

	// UseCodes calls match with the set that is valid, which says by their numbers
	// which codes were shown, or refuses. Then it makes the set void and saves the
	// login, of the set's user, who is returned. Of any number of calls for one set
	// exactly one succeeds. ErrNotFound when no set is valid, ErrDenied when its
	// user is locked. Whatever comes of it, there is an event.
	UseCodes(ctx context.Context, l Login, reason string, match func(CodeSet) ([]int, error)) (access.User, error)
}

// A Holder is who gets an envelope. The zero Holder is somebody who is not known
// here.
type Holder struct{ ID, Name string }

// NewCodes makes a set of codes for the emergency user, one for each holder, and
// makes the set void that was valid. The codes are returned once and kept
// nowhere. The policy cannot be asked: whoever may run it has the vault's root key.
func (l *Logins) NewCodes(ctx context.Context, by access.Caller, user access.User, holders []Holder, need int) ([]string, CodeSet, error) {
	switch {
	case l.c.Codes == nil:
		return nil, CodeSet{}, errNoCodes
	case !user.Emergency:
		return nil, CodeSet{}, access.Invalid("%s is no emergency user", user.Name)
	case len(holders) > MaxCodes:
		return nil, CodeSet{}, access.Invalid("a set has at most %d codes", MaxCodes)
	case need < 2 || need > len(holders):
		return nil, CodeSet{}, access.Invalid("of %d codes, between 2 and %d open a login: nobody opens it alone", len(holders), len(holders))
	}
	set := CodeSet{ID: access.NewID(CodeSetPrefix), UserID: user.ID, Need: need, CreatedAt: l.now()}
	codes := make([]string, len(holders))
	for i, h := range holders {
		code := newSealed()
		codes[i] = printed(code)
		set.Codes = append(set.Codes, SealedCode{N: i + 1, Hash: hashCode(code), HolderID: h.ID, HolderName: h.Name})
	}
	if err := l.c.Codes.CreateCodes(ctx, by, set); err != nil {
		return nil, CodeSet{}, fmt.Errorf("save sealed codes: %w", err)
	}
	return codes, set, nil
}

// Codes returns the set of codes that is valid, or ErrNotFound.
func (l *Logins) Codes(ctx context.Context) (CodeSet, error) {
	if l.c.Codes == nil {
		return CodeSet{}, errNoCodes
	}
	return l.c.Codes.ValidCodes(ctx)
}

// VoidCodes makes the set of codes that is valid void.
func (l *Logins) VoidCodes(ctx context.Context, by access.Caller, reason string) error {
	if l.c.Codes == nil {
		return errNoCodes
	}
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	return l.c.Codes.VoidCodes(ctx, by, reason, l.now())
}

var errNoCodes = &access.Error{Kind: access.ErrNotFound, Code: "DB-6253", Text: "there are no sealed codes here", Next: "drawboltd breakglass codes"}

// errCodes is the one answer to codes that do not open a login.
func errCodes() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6254",
		Text: "these codes open nothing: one is wrong, they are too few, or their set was used or replaced"}
}

// OpenWithCodes opens a login of the emergency user with sealed codes, which are
// void from then on, all of their set. The login lasts [CodeLoginTTL]; showing
// codes that several people hold counts as a second factor. All of the codes
// must be right. Codes that are mistyped are ErrInvalid and count as no try.
func (l *Logins) OpenWithCodes(ctx context.Context, codes []string, reason string, source netip.Addr, via string) (token string, login Login, user access.User, err error) {
	if l.c.Codes == nil {
		return "", login, user, errCodes()
	}
	if err := access.CheckReason(reason); err != nil {
		return "", login, user, err
	}
	hashes, err := readCodes(codes)
	if err != nil {
		return "", login, user, err
	}
	now := l.now()
	login = Login{ID: access.NewID(access.LoginPrefix), IssuedAt: now, ExpiresAt: now.Add(CodeLoginTTL), MFAAt: now, Source: source.String(), Via: via}
	user, err = l.c.Codes.UseCodes(ctx, login, reason, func(s CodeSet) ([]int, error) { return s.match(hashes) })
	switch {
	case errors.Is(err, access.ErrNotFound), errors.Is(err, access.ErrDenied):
		return "", login, user, errCodes()
	case err != nil:
		return "", login, user, fmt.Errorf("use sealed codes: %w", err)
	}
	login.UserID = user.ID
	if token, err = l.sign(login); err != nil {
		return "", login, user, fmt.Errorf("sign login %s: %w", login.ID, err)
	}
	return token, login, user, nil
}

// match returns the numbers of the codes with these hashes, which are different
// ones. It looks at every pair, whichever match.
func (s CodeSet) match(hashes [][]byte) ([]int, error) {
	var found []int
	for _, c := range s.Codes {
		hit := 0
		for _, h := range hashes {
			hit |= subtle.ConstantTimeCompare(h, c.Hash)
		}
		if hit == 1 {
			found = append(found, c.N)
		}
	}
	if len(found) != len(hashes) || len(found) < s.Need {
		return nil, errCodes()
	}
	return found, nil
}

// readCodes returns the hashes of codes as somebody has typed them.
func readCodes(codes []string) ([][]byte, error) {
	if len(codes) == 0 || len(codes) > MaxCodes {
		return nil, access.Invalid("between 1 and %d codes are typed together", MaxCodes)
	}
	var seen []string
	var hashes [][]byte
	for i, typed := range codes {
		code, ok := readCode(typed)
		if !ok {
			return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6255", Text: fmt.Sprintf("code %d is mistyped: it has six groups of five letters and digits", i+1)}
		}
		if slices.Contains(seen, code) {
			return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6255", Text: fmt.Sprintf("code %d is the same as one before it: each counts once", i+1)}
		}
		seen, hashes = append(seen, code), append(hashes, hashCode(code))
	}
	return hashes, nil
}

func newSealed() string {
	b := make([]byte, codeChars) // five bits of each
	rand.Read(b)
	for i := range b {
		b[i] = sealedAlphabet[b[i]&31]
	}
	return string(b)
}

// printed is the code with its checksum, in groups.
func printed(code string) string {
	code += checkOf(code)
	var groups []string
	for len(code) > 0 {
		groups, code = append(groups, code[:groupChars]), code[groupChars:]
	}
	return strings.Join(groups, "-")
}

// readCode reads what printed writes, as people type it: in lower case, with
// other gaps or none, and with letters that look like digits.
func readCode(typed string) (string, bool) {
	if len(typed) > 128 {
		return "", false
	}
	s := strings.NewReplacer("-", "", " ", "", "I", "1", "L", "1", "O", "0").Replace(strings.ToUpper(strings.TrimSpace(typed)))
	if len(s) != codeChars+checkChars || strings.Trim(s, sealedAlphabet) != "" {
		return "", false
	}
	code, check := s[:codeChars], s[codeChars:]
	return code, check == checkOf(code)
}

// checkOf is 20 bits of a hash.
func checkOf(code string) string {
	h := sha256.Sum256([]byte("drawbolt code checksum\x00" + code))
	return base32.NewEncoding(sealedAlphabet).EncodeToString(h[:5])[:checkChars]
}

func hashCode(code string) []byte {
	h := sha256.Sum256([]byte("drawbolt sealed code\x00" + code))
	return h[:]
}
