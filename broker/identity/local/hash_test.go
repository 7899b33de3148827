package local

import (
	"strings"
	"testing"
)

var cheap = Params{Memory: 64, Time: 1, Threads: 1}

// A hash that the reference implementation of argon2 makes, in its own test:
// argon2id, version 19, password "password", salt "somesalt".
const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestVerifyReference(t *testing.T) {
	h, err := newHasher(cheap)
	if err != nil {
		t.Fatal(err)
	}
	if ok, weak := h.verify(reference, []byte("password")); !ok || weak {
		t.Errorf("verify = %v, weak %v, want it to match and not be weak", ok, weak)
	}
	if ok, _ := h.verify(reference, []byte("Password")); ok {
		t.Error("another password matches")
	}
}

func TestHash(t *testing.T) {
	h, err := newHasher(cheap)
	if err != nil {
		t.Fatal(err)
	}
	a, b := h.hash([]byte("one")), h.hash([]byte("one"))
	if a == b {
		t.Error("two hashes have one salt")
	}
	if ok, weak := h.verify(a, []byte("one")); !ok || weak {
		t.Errorf("verify = %v, weak %v", ok, weak)
	}
	grown, err := newHasher(Params{Memory: 64, Time: 2, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if ok, weak := grown.verify(a, []byte("one")); !ok || !weak {
		t.Errorf("verify under grown costs = %v, weak %v, want it to match and be weak", ok, weak)
	}
	for _, encoded := range []string{"", "x", h.dummy.String()[:20]} {
		if ok, _ := h.verify(encoded, nil); ok {
			t.Errorf("the hash %q matches the empty password", encoded)
		}
	}
}

func TestParsePHCRefuses(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for name, s := range map[string]string{
		"empty":              "",
		"argon2i":            "$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + key,
		"bcrypt":             "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"old version":        "$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + key,
		"all memory":         "$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key,
		"over 256 MiB":       "$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + key,
		"less than 8 a lane": "$argon2id$v=19$m=15,t=1,p=2$" + salt + "$" + key,
		"no passes":          "$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + key,
		"passes for hours":   "$argon2id$v=19$m=64,t=4294967295,p=1$" + salt + "$" + key,
		"no lanes":           "$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + key,
		"256 lanes":          "$argon2id$v=19$m=64,t=1,p=256$" + salt + "$" + key,
		"negative":           "$argon2id$v=19$m=-64,t=1,p=1$" + salt + "$" + key,
		"leading zero":       "$argon2id$v=19$m=064,t=1,p=1$" + salt + "$" + key,
		"order":              "$argon2id$v=19$t=1,m=64,p=1$" + salt + "$" + key,
		"one more cost":      "$argon2id$v=19$m=64,t=1,p=1,x=1$" + salt + "$" + key,
		"no salt":            "$argon2id$v=19$m=64,t=1,p=1$$" + key,
		"no key":             "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$",
		"short key":          "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$CTFhFdXPJO1aFQ",
		"padded":             "$argon2id$v=19$m=64,t=1,p=1$" + salt + "=$" + key,
		"line break":         "$argon2id$v=19$m=64,t=1,p=1$" + salt + "\n$" + key,
		"loose bits":         "$argon2id$v=19$m=64,t=1,p=1$" + salt[:10] + "R$" + key,
		"one more part":      "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key + "$",
		"long":               "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 1000),
	} {
		if h, err := parsePHC(s); err == nil {
			t.Errorf("%s: %q accepted as %+v", name, s, h.params)
		}
	}
}

func TestParams(t *testing.T) {
	if _, err := newHasher(Params{Memory: 1 << 20, Time: 1, Threads: 1}); err == nil {
		t.Error("1 GiB a hash accepted")
	}
	if err := DefaultParams.check(); err != nil {
		t.Error(err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add(reference)
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parsePHC(s)
		if err != nil {
			return
		}
		if got := h.String(); got != s {
			t.Errorf("%q is written back as %q", s, got)
		}
		if h.params.check() != nil || len(h.salt) < minSalt || len(h.key) < minKey {
			t.Errorf("%q accepted with %+v", s, h.params)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	h, err := newHasher(DefaultParams)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		h.verify("", []byte("correct horse battery staple"))
	}
}
