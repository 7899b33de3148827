package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// rfc6962Root is the definition of RFC 6962, section 2.1, written out.
func rfc6962Root(leaves [][]byte) Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		l, r := rfc6962Root(leaves[:k]), rfc6962Root(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
}

func TestTreeIsRFC6962(t *testing.T) {
	l := testLog(t, 70)
	var right edge
	for n := range len(l.leaves) + 1 {
		want := rfc6962Root(l.leaves[:n])
		if got, err := TreeRoot(int64(n), l); err != nil || got != want {
			t.Errorf("TreeRoot(%d) = %v, %v, want %v", n, got, err, want)
		}
		if got := right.root(); got != want {
			t.Errorf("right edge of %d: %v, want %v", n, got, want)
		}
		if n < len(l.leaves) {
			right.add(LeafHash(l.leaves[n]))
		}
	}
	if got, want := int64(len(l.hashes)), tlog.StoredHashCount(70); got != want {
		t.Errorf("%d stored hashes, want %d", got, want)
	}
}

func TestAppendRefusesOtherSeq(t *testing.T) {
	l := testLog(t, 3)
	if _, err := Append(3, l.leaves[2], l); err == nil {
		t.Error("a leaf was taken at another place than its seq")
	}
	if _, err := Append(0, []byte("{}"), l); err == nil {
		t.Error("a leaf that is no event was taken")
	}
}

func TestProofs(t *testing.T) {
	const size = 21
	l, other := testLog(t, size), new(memLog)
	for i := range size {
		e := testEvent(i)
		e.Reason = "another history"
		other.add(t, e)
	}
	for n := int64(1); n <= size; n++ {
		c, _ := l.checkpoint(t, n)
		for i := range n {
			p, err := ProveInclusion(n, i, l)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(c, l.leaves[i], p); err != nil {
				t.Errorf("leaf %d in %d: %v", i, n, err)
			}
			if CheckInclusion(c, other.leaves[i], p) == nil {
				t.Errorf("another leaf %d passed in %d", i, n)
			}
			if next := (i + 1) % n; next != i && CheckInclusion(c, l.leaves[next], p) == nil {
				t.Errorf("the proof of leaf %d passed for leaf %d of %d", i, next, n)
			}
		}
		for older := range n + 1 {
			o, _ := l.checkpoint(t, older)
			p, err := ProveConsistency(older, n, l)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(o, c, p); err != nil {
				t.Errorf("%d in %d: %v", older, n, err)
			}
			if f, _ := other.checkpoint(t, older); older > 0 && CheckConsistency(f, c, p) == nil {
				t.Errorf("another history of %d passed in %d", older, n)
			}
		}
	}
	a, _ := l.checkpoint(t, 5)
	b, _ := other.checkpoint(t, 5)
	if err := CheckConsistency(a, b, nil); !errors.Is(err, ErrFork) {
		t.Errorf("two roots of one size: %v, want ErrFork", err)
	}
	b.Origin = "elsewhere"
	if CheckConsistency(a, b, nil) == nil {
		t.Error("two origins passed")
	}
	// Sizes past the bound must come back at once and not loop in the arithmetic.
	huge := Checkpoint{Origin: testOrigin, Size: 1<<63 - 1}
	if CheckInclusion(huge, l.leaves[0], nil) == nil || CheckConsistency(a, huge, nil) == nil {
		t.Error("a size out of range passed")
	}
	if _, err := ProveInclusion(1<<63-1, 0, l); err == nil {
		t.Error("a size out of range was proved")
	}
	if _, err := TreeRoot(-1, l); err == nil {
		t.Error("a negative size has a root")
	}
}

func TestCheckpoint(t *testing.T) {
	want, msg := testLog(t, 5).checkpoint(t, 5)
	got, err := OpenCheckpoint(msg, verifierKey(t))
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	for i := range len(msg) * 8 {
		bent := bytes.Clone(msg)
		bent[i/8] ^= 1 << (i % 8)
		if _, err := OpenCheckpoint(bent, verifierKey(t)); err == nil {
			t.Errorf("bit %d flipped and not found: %q", i, bent)
		}
	}
}

func TestCheckpointRefuses(t *testing.T) {
	l := testLog(t, 1)
	good, msg := l.checkpoint(t, 1)
	s, v := signer(t), verifierKey(t)
	skey, vkey, err := NewKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	other, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.NewVerifier(vkey); err != nil {
		t.Error(err)
	}
	sign := func(text string, by ...note.Signer) []byte {
		m, err := note.Sign(&note.Note{Text: text}, by...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	sigLine := msg[bytes.LastIndex(msg, []byte("— ")):]
	// Each of these but the first four is truly signed by the log's key.
	for name, m := range map[string][]byte{
		"empty":                 nil,
		"no signature":          []byte(good.text()),
		"another key":           sign(good.text(), other),
		"oversize":              append(bytes.Repeat([]byte("a\n"), maxCheckpoint), msg...),
		"a second signature":    sign(good.text(), s, other),
		"a repeated signature":  append(bytes.Clone(msg), sigLine...),
		"another origin":        sign(strings.Replace(good.text(), "drawbolt", "bolt", 1), s),
		"leading zero":          sign(strings.Replace(good.text(), "\n1\n", "\n01\n", 1), s),
		"negative size":         sign(strings.Replace(good.text(), "\n1\n", "\n-1\n", 1), s),
		"size out of range":     sign(strings.Replace(good.text(), "\n1\n", "\n9223372036854775807\n", 1), s),
		"sloppy base64":         sign(strings.Replace(good.text(), good.Root.String(), good.Root.String()[:42]+"B=", 1), s),
		"no time":               sign(strings.Replace(good.text(), "time ", "", 1), s),
		"another line":          sign(good.text()+"more\n", s),
		"another kind of note":  sign("go.sum database tree\n1\n"+good.Root.String()+"\n", s),
		"origin with a newline": sign("\n"+good.text(), s),
	} {
		if c, err := OpenCheckpoint(m, v); err == nil {
			t.Errorf("%s: opened as %+v", name, c)
		}
	}
	if _, err := (Checkpoint{Origin: "elsewhere", Time: testStart}).Sign(s); err == nil {
		t.Error("a key signed for a log of another name")
	}
	if _, err := (Checkpoint{Origin: testOrigin, Size: -1, Time: testStart}).Sign(s); err == nil {
		t.Error("a negative size was signed")
	}
	for _, origin := range []string{"", "a b", "a+b", "a\nb", `a"b`, `a\b`, "ö", strings.Repeat("a", maxOrigin+1)} {
		if _, _, err := NewKey(origin); err == nil {
			t.Errorf("a key was made for origin %q", origin)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l := testLog(b, 1000)
	e := testEvent(1)
	for b.Loop() {
		l.add(b, e)
	}
}
