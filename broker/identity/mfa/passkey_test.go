package mfa_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/broker/identity/mfa/mfatest"
)

const origin = "https://gw.example.com"

func party(t *testing.T) *mfa.RelyingParty {
	t.Helper()
	r, err := mfa.NewRelyingParty(origin)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRelyingParty(t *testing.T) {
	for address, id := range map[string]string{
		"https://gw.example.com": "gw.example.com", "https://GW.example.com:8443": "gw.example.com", "https://localhost:1": "localhost",
		"https://192.0.2.7:8443": "", "https://[2001:db8::1]": "", "http://gw.example.com": "", "https://": "", "gw.example.com": "",
	} {
		r, err := mfa.NewRelyingParty(address)
		if (err == nil) != (id != "") || err == nil && r.ID() != id {
			t.Errorf("NewRelyingParty(%q) = %+v, %v, want %q", address, r, err, id)
		}
	}
}

// TestPasskey makes a passkey and signs with it, and then does each thing that is to
// be refused, alone.
func TestPasskey(t *testing.T) {
	r := party(t)
	challenge := mfa.NewChallenge("vote", "USR-1", "digest")
	p := mfatest.New("gw.example.com", origin, "USR-1")
	k, err := r.Register(challenge, p.Made(challenge))
	if err != nil {
		t.Fatal(err)
	}
	if string(k.Credential) != string(p.Credential) || k.Count != 1 || !k.BackupEligible || !k.BackedUp {
		t.Errorf("registered: %+v", k)
	}
	check := func(p *mfatest.Passkey, challenge []byte) (mfa.Use, error) {
		s, err := mfa.ReadSigned(p.Signed(challenge))
		if err != nil {
			return mfa.Use{}, err
		}
		return r.Check(s, challenge, k)
	}
	p.Count = 41
	u, err := check(p, challenge)
	if err != nil || u.Count != 41 || !u.BackedUp || len(u.Signature) == 0 {
		t.Fatalf("a good answer: %+v, %v", u, err)
	}
	other := mfa.NewChallenge("vote", "USR-1", "digest")
	for name, change := range map[string]func(*mfatest.Passkey){
		"foreign origin":        func(p *mfatest.Passkey) { p.Origin = "https://gw.example.com.attacker.net" },
		"other port":            func(p *mfatest.Passkey) { p.Origin = origin + ":8443" },
		"without TLS":           func(p *mfatest.Passkey) { p.Origin = "http://gw.example.com" },
		"embedded elsewhere":    func(p *mfatest.Passkey) { p.CrossOrigin = true },
		"foreign relying party": func(p *mfatest.Passkey) { p.RelyingParty = "example.com" },
		"person not verified":   func(p *mfatest.Passkey) { p.Unverified = true },
		"nobody there":          func(p *mfatest.Passkey) { p.Absent = true },
		"key of another":        func(p *mfatest.Passkey) { p.Key = mfatest.New("", "", "").Key },
		"other credential":      func(p *mfatest.Passkey) { p.Credential = []byte("other") },
		"not eligible any more": func(p *mfatest.Passkey) { p.Eligible = false },
	} {
		bad := *p
		change(&bad)
		if _, err := check(&bad, challenge); err == nil {
			t.Errorf("%s: the answer was taken", name)
		}
		if name == "key of another" || name == "other credential" || name == "not eligible any more" {
			continue // a new passkey may have these
		}
		if _, err := r.Register(challenge, bad.Made(challenge)); err == nil {
			t.Errorf("%s: the new passkey was taken", name)
		}
	}
	s, err := mfa.ReadSigned(p.Signed(challenge))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Check(s, other, k); err == nil {
		t.Error("an answer to one challenge was taken for another")
	}
	// What signs nothing, what is broken, and what is a signature where none was wanted.
	for _, algorithm := range []int{0, -65535, -6, -37, 5} {
		bad := *p
		bad.Algorithm = algorithm
		if _, err := r.Register(challenge, bad.Made(challenge)); err == nil {
			t.Errorf("a passkey of the algorithm %d was taken", algorithm)
		}
	}
	if _, err := r.Register(challenge, p.Signed(challenge)); err == nil {
		t.Error("a signature was taken for a new passkey")
	}
	if _, err := mfa.ReadSigned(p.Made(challenge)); err == nil {
		t.Error("a new passkey was taken for a signature")
	}
}

// TestChallengeIsBound: whoever reads the signature later can tell what it was for.
func TestChallengeIsBound(t *testing.T) {
	a, b := mfa.NewChallenge("vote", "USR-1", "d"), mfa.NewChallenge("vote", "USR-1", "d")
	if string(a) == string(b) {
		t.Error("two challenges are the same")
	}
	for _, about := range [][]string{{"vote", "USR-1", "e"}, {"vote", "USR-2", "d"}, {"add", "USR-1", "d"}, {"vote", "USR-1"}, nil} {
		if mfa.About(a, about...) {
			t.Errorf("a challenge for a vote on d is taken for %q", about)
		}
	}
	if !mfa.About(a, "vote", "USR-1", "d") || mfa.About(a[:63], "vote", "USR-1", "d") || mfa.About(nil) {
		t.Error("a challenge is not known again")
	}
}

func TestWentBack(t *testing.T) {
	for _, c := range []struct {
		was, is uint32
		want    bool
	}{{0, 0, false}, {0, 1, false}, {1, 2, false}, {1, 1, true}, {2, 1, true}, {1, 0, true}, {1<<32 - 1, 0, true}} {
		if got := mfa.WentBack(c.was, c.is); got != c.want {
			t.Errorf("WentBack(%d, %d) = %v", c.was, c.is, got)
		}
	}
}

// FuzzSigned: what was changed on the way is refused, whatever it is.
func FuzzSigned(f *testing.F) {
	r, err := mfa.NewRelyingParty(origin)
	if err != nil {
		f.Fatal(err)
	}
	challenge := mfa.NewChallenge("sign-in")
	p := mfatest.New("gw.example.com", origin, "USR-1")
	k, err := r.Register(challenge, p.Made(challenge))
	if err != nil {
		f.Fatal(err)
	}
	good := p.Signed(challenge)
	signed, err := mfa.ReadSigned(good)
	if err != nil {
		f.Fatal(err)
	}
	want, err := r.Check(signed, challenge, k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"id":"eA","rawId":"eA","type":"public-key","response":{}}`))
	f.Add([]byte(strings.Replace(string(good), "signature", "Signature", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := mfa.ReadSigned(b)
		if err != nil {
			return
		}
		if u, err := r.Check(s, challenge, k); err == nil && (!bytes.Equal(u.ClientData, want.ClientData) || !bytes.Equal(u.AuthenticatorData, want.AuthenticatorData)) {
			t.Errorf("taken: %s", b)
		}
	})
}

// FuzzMade: what is registered was made for the challenge, by its own word.
func FuzzMade(f *testing.F) {
	r, err := mfa.NewRelyingParty(origin)
	if err != nil {
		f.Fatal(err)
	}
	challenge := mfa.NewChallenge("add")
	f.Add(mfatest.New("gw.example.com", origin, "USR-1").Made(challenge))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := r.Register(challenge, b)
		if err != nil {
			return
		}
		said, err := mfa.ReadMade(b)
		if err != nil || string(said) != string(challenge) || len(k.Credential) == 0 || len(k.Key) == 0 {
			t.Errorf("registered %+v for the challenge %x, %v", k, said, err)
		}
	})
}
