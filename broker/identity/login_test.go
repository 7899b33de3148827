package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
)

var (
	start  = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	source = netip.MustParseAddr("192.0.2.7")
	key    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
)

const issuer = "https://gw.example.com"

type house struct {
	*identity.Logins
	store *identitytest.Memory
	now   time.Time
	alice access.User
}

func newHouse(t testing.TB) *house {
	h := &house{store: identitytest.NewMemory(), now: start}
	h.alice = access.User{ID: access.NewID(access.UserPrefix), Name: "alice", Groups: []string{"dba"}}
	h.store.PutUser(h.alice)
	var err error
	h.Logins, err = identity.New(identity.Config{
		Store: h.store, Key: key, Issuer: issuer, Audience: "drawbolt", Now: func() time.Time { return h.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) issue(t testing.TB, mfaAt time.Time) (string, identity.Login) {
	t.Helper()
	token, login, err := h.Issue(t.Context(), h.alice, source, "cli", mfaAt)
	if err != nil {
		t.Fatal(err)
	}
	return token, login
}

func (h *house) caller(t testing.TB, token string) access.Caller {
	t.Helper()
	c, err := h.Verify(t.Context(), token, source, "web")
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return c
}

func TestNewRefuses(t *testing.T) {
	good := identity.Config{Store: identitytest.NewMemory(), Key: key, Issuer: issuer}
	if _, err := identity.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*identity.Config){
		"no store":       func(c *identity.Config) { c.Store = nil },
		"no key":         func(c *identity.Config) { c.Key = nil },
		"a seed as key":  func(c *identity.Config) { c.Key = c.Key[:32] },
		"no issuer":      func(c *identity.Config) { c.Issuer = "" },
		"negative TTL":   func(c *identity.Config) { c.TTL = -time.Hour },
		"a TTL too long": func(c *identity.Config) { c.TTL = 8 * 24 * time.Hour },
	} {
		c := good
		spoil(&c)
		if _, err := identity.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerify(t *testing.T) {
	h := newHouse(t)
	mfaAt := start.Add(-time.Minute)
	token, login := h.issue(t, mfaAt)
	// What counts is the user as it is at the call, not as it was at the login.
	changed := h.alice
	changed.Groups = []string{"auditors"}
	h.store.PutUser(changed)
	elsewhere := netip.MustParseAddr("2001:db8::1")
	c, err := h.Verify(t.Context(), token, elsewhere, "web")
	if err != nil {
		t.Fatal(err)
	}
	if c.User.ID != h.alice.ID || !c.User.In("auditors") || c.User.In("dba") || c.Login != login.ID ||
		c.Source != elsewhere || c.Via != "web" || !c.MFAAt.Equal(mfaAt) {
		t.Errorf("caller = %+v", c)
	}
	if login.Via != "cli" || login.Source != "192.0.2.7" || !login.ExpiresAt.Equal(start.Add(12*time.Hour)) {
		t.Errorf("login = %+v", login)
	}
	if err := h.StepUp(t.Context(), c, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if c = h.caller(t, token); !c.MFAAt.Equal(start.Add(time.Minute)) {
		t.Errorf("MFAAt after the step-up = %v", c.MFAAt)
	}
}

// What ends a login. Each is tried on a token that held a moment before.
func TestVerifyRefusesEnded(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *house, token string, l identity.Login){
		"revoked": func(t *testing.T, h *house, token string, l identity.Login) {
			if err := h.Revoke(t.Context(), h.caller(t, token), l.ID); err != nil {
				t.Fatal(err)
			}
		},
		"all revoked": func(t *testing.T, h *house, token string, l identity.Login) {
			if n, err := h.RevokeAll(t.Context(), h.caller(t, token), h.alice.ID); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		},
		"expired": func(t *testing.T, h *house, token string, l identity.Login) { h.now = l.ExpiresAt },
		"issued in the future": func(t *testing.T, h *house, token string, l identity.Login) {
			h.now = l.IssuedAt.Add(-time.Hour) // the clock was set back
		},
		"user locked": func(t *testing.T, h *house, token string, l identity.Login) {
			u := h.alice
			u.Locked = true
			h.store.PutUser(u)
		},
		"user locked and unlocked": func(t *testing.T, h *house, token string, l identity.Login) {
			u := h.alice
			u.Locked = true
			h.store.PutUser(u)
			h.store.PutUser(h.alice)
		},
		"user gone": func(t *testing.T, h *house, token string, l identity.Login) { h.store.RemoveUser(h.alice.ID) },
		"pruned": func(t *testing.T, h *house, token string, l identity.Login) {
			if err := h.store.PruneLogins(t.Context(), l.ExpiresAt.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			token, login := h.issue(t, time.Time{})
			h.caller(t, token)
			end(t, h, token, login)
			c, err := h.Verify(t.Context(), token, source, "web")
			if !errors.Is(err, access.ErrUnauthenticated) {
				t.Errorf("Verify = %+v, %v, want not logged in", c, err)
			}
			if c.User.ID != "" {
				t.Errorf("a caller came with the refusal: %+v", c)
			}
		})
	}
}

func TestIssueRefusesLocked(t *testing.T) {
	h := newHouse(t)
	u := h.alice
	u.Locked = true
	h.store.PutUser(u)
	// The caller's copy of the user is older than the lock.
	if _, _, err := h.Issue(t.Context(), h.alice, source, "cli", start); !errors.Is(err, access.ErrDenied) {
		t.Errorf("Issue for a locked user: %v, want denied", err)
	}
}

// make builds a token out of raw parts, signed by sign.
func build(header, claims map[string]any, sign func(string) []byte) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	s := part(header) + "." + part(claims)
	return s + "." + base64.RawURLEncoding.EncodeToString(sign(s))
}

func signEd(k ed25519.PrivateKey) func(string) []byte {
	return func(s string) []byte {
		sig, _ := k.Sign(nil, []byte(s), crypto.Hash(0))
		return sig
	}
}

func TestVerifyRefusesForged(t *testing.T) {
	h := newHouse(t)
	token, login := h.issue(t, time.Time{})
	public := key.Public().(ed25519.PublicKey)
	with := func(m map[string]any, kv ...any) map[string]any {
		out := make(map[string]any)
		for k, v := range m {
			out[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			if kv[i+1] == nil {
				delete(out, kv[i].(string))
			} else {
				out[kv[i].(string)] = kv[i+1]
			}
		}
		return out
	}
	header := map[string]any{"alg": "EdDSA", "typ": "drawbolt-login+jwt"}
	claims := map[string]any{
		"iss": issuer, "aud": "drawbolt", "sub": h.alice.ID, "jti": login.ID,
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
	own := signEd(key)
	// The parts are right: only what a case changes is what it is refused for.
	if _, err := h.Verify(t.Context(), build(header, claims, own), source, "web"); err != nil {
		t.Fatalf("the unchanged token is refused: %v", err)
	}
	other := signEd(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)))
	none := func(string) []byte { return nil }
	hs := func(k []byte) func(string) []byte {
		return func(s string) []byte {
			m := hmac.New(sha256.New, k)
			m.Write([]byte(s))
			return m.Sum(nil)
		}
	}
	dots := strings.Split(token, ".")
	flip := []byte(dots[2])
	flip[0] ^= 1
	// The last letter of a signature carries four bits that mean nothing.
	loose := dots[2][:len(dots[2])-1] + string(dots[2][len(dots[2])-1]+1)
	for name, token := range map[string]string{
		"empty":                       "",
		"dots":                        "..",
		"two parts":                   dots[0] + "." + dots[1],
		"four parts":                  token + ".x",
		"no signature":                dots[0] + "." + dots[1] + ".",
		"another signature":           dots[0] + "." + dots[1] + "." + string(flip),
		"same signature, loose bits":  dots[0] + "." + dots[1] + "." + loose,
		"padded":                      token + "=",
		"space before":                " " + token,
		"too long":                    token + strings.Repeat("A", 3000),
		"alg none":                    build(with(header, "alg", "none"), claims, none),
		"alg None":                    build(with(header, "alg", "None"), claims, none),
		"alg none, signed":            build(with(header, "alg", "none"), claims, own),
		"no alg":                      build(with(header, "alg", nil), claims, own),
		"HS256 with the public key":   build(with(header, "alg", "HS256"), claims, hs(public)),
		"HS256 with nothing":          build(with(header, "alg", "HS256"), claims, hs(nil)),
		"EdDSA claimed, HMAC inside":  build(header, claims, hs(public)),
		"another key":                 build(header, claims, other),
		"kid, our key":                build(with(header, "kid", "1"), claims, own),
		"kid that is a path":          build(with(header, "kid", "../../dev/null"), claims, hs(nil)),
		"jwk of another key":          build(with(header, "jwk", map[string]any{"kty": "OKP"}), claims, other),
		"crit":                        build(with(header, "crit", []string{"exp"}), claims, own),
		"typ JWT":                     build(with(header, "typ", "JWT"), claims, own),
		"no typ":                      build(with(header, "typ", nil), claims, own),
		"typ in capitals":             build(with(header, "typ", "DRAWBOLT-LOGIN+JWT"), claims, own),
		"another issuer":              build(header, with(claims, "iss", "https://evil.example.com"), own),
		"no issuer":                   build(header, with(claims, "iss", nil), own),
		"another audience":            build(header, with(claims, "aud", "other"), own),
		"audiences without ours":      build(header, with(claims, "aud", []string{"a", "b"}), own),
		"no audience":                 build(header, with(claims, "aud", nil), own),
		"expired":                     build(header, with(claims, "exp", start.Unix()), own),
		"no expiry":                   build(header, with(claims, "exp", nil), own),
		"expiry that is text":         build(header, with(claims, "exp", "never"), own),
		"issued tomorrow":             build(header, with(claims, "iat", start.Add(24*time.Hour).Unix()), own),
		"not before tomorrow":         build(header, with(claims, "nbf", start.Add(24*time.Hour).Unix()), own),
		"no login":                    build(header, with(claims, "jti", nil), own),
		"a login that is not there":   build(header, with(claims, "jti", access.NewID(access.LoginPrefix)), own),
		"an id of another noun":       build(header, with(claims, "jti", h.alice.ID), own),
		"no user":                     build(header, with(claims, "sub", nil), own),
		"the login of another user":   build(header, with(claims, "sub", access.NewID(access.UserPrefix)), own),
		"claims swapped, same tail":   dots[0] + "." + strings.Split(build(header, claims, own), ".")[1] + "." + dots[2],
		"header swapped, same tail":   strings.Split(build(with(header, "alg", "none"), claims, none), ".")[0] + "." + dots[1] + "." + dots[2],
		"a token of another instance": foreign(t),
	} {
		c, err := h.Verify(t.Context(), token, source, "web")
		if !errors.Is(err, access.ErrUnauthenticated) || errors.Is(err, access.ErrNotFound) || c.User.ID != "" {
			t.Errorf("%s: Verify = %+v, %v, want not logged in", name, c, err)
		}
		if refusal, ok := errors.AsType[*access.Error](err); !ok || refusal.Code != "DB-4001" {
			t.Errorf("%s: the refusal %v differs from the others", name, err)
		}
	}
}

func foreign(t *testing.T) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{Issuer: "https://other.example.com"}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRevokeOthersIsNotFound(t *testing.T) {
	h := newHouse(t)
	token, login := h.issue(t, time.Time{})
	mallory := access.User{ID: access.NewID(access.UserPrefix), Name: "mallory"}
	h.store.PutUser(mallory)
	if err := h.Revoke(t.Context(), access.Caller{User: mallory}, login.ID); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("Revoke of another's login: %v, want not found", err)
	}
	h.caller(t, token)
}

func TestPruneKeepsADay(t *testing.T) {
	h := newHouse(t)
	_, login := h.issue(t, time.Time{})
	for _, tt := range []struct {
		at   time.Duration
		want error
	}{{13 * time.Hour, nil}, {37 * time.Hour, access.ErrNotFound}} {
		h.now = start.Add(tt.at)
		if err := h.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.store.Login(t.Context(), login.ID); !errors.Is(err, tt.want) {
			t.Errorf("the login after %v: %v, want %v", tt.at, err, tt.want)
		}
	}
}

// FuzzVerify: nothing verifies but, byte for byte, a token that was issued.
func FuzzVerify(f *testing.F) {
	h := newHouse(f)
	token, login := h.issue(f, time.Time{})
	dots := strings.Split(token, ".")
	f.Add(token)
	f.Add(dots[0] + "." + dots[1] + ".")
	f.Add("eyJhbGciOiJub25lIn0." + dots[1] + ".")
	f.Add(token + "=")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := h.Verify(t.Context(), s, source, "web")
		switch {
		case err == nil && s != token:
			t.Errorf("verified a token that was never issued: %q", s)
		case err == nil && (c.User.ID != h.alice.ID || c.Login != login.ID):
			t.Errorf("verified as %+v", c)
		case err != nil && s == token:
			t.Errorf("refused the token that was issued: %v", err)
		case err != nil && !errors.Is(err, access.ErrUnauthenticated):
			t.Errorf("error of another kind: %v", err)
		}
	})
}
