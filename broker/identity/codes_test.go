package identity

import (
	"bytes"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
)

func TestSealedCode(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		code := newSealed()
		if seen[code] || len(code) != codeChars || strings.Trim(code, sealedAlphabet) != "" {
			t.Fatalf("the code %q", code)
		}
		seen[code] = true
		paper := printed(code)
		if len(paper) != 35 || strings.Count(paper, "-") != 5 {
			t.Fatalf("printed as %q", paper)
		}
		for _, typed := range []string{paper, strings.ToLower(paper), strings.ReplaceAll(paper, "-", " "), "  " + strings.ReplaceAll(paper, "-", "") + " ", strings.NewReplacer("0", "o", "1", "l").Replace(paper)} {
			if got, ok := readCode(typed); !ok || got != code {
				t.Fatalf("%q is read as %q, %v", typed, got, ok)
			}
		}
		// Each slip of the pen is seen, or the other code that it makes is another.
		slip := []byte(strings.ReplaceAll(paper, "-", ""))
		slip[len(seen)%len(slip)] ^= 1
		if got, ok := readCode(string(slip)); ok && got == code {
			t.Fatalf("%s is read as %s", slip, code)
		}
	}
	for _, bad := range []string{"", "-", "ABCDE", strings.Repeat("A", 30), strings.Repeat("A", 200), strings.Repeat("ä", 30), printed(newSealed()) + "0"} {
		if got, ok := readCode(bad); ok {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

func TestCodesMatch(t *testing.T) {
	var codes [5]string
	set := CodeSet{Need: 3}
	for i := range codes {
		codes[i] = newSealed()
		set.Codes = append(set.Codes, SealedCode{N: i + 1, Hash: hashCode(codes[i])})
	}
	hashes := func(list ...string) (out [][]byte) {
		for _, c := range list {
			out = append(out, hashCode(c))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		hashes [][]byte
		want   int
	}{
		{"three", hashes(codes[4], codes[0], codes[2]), 3},
		{"all", hashes(codes[:]...), 5},
		{"two", hashes(codes[0], codes[1]), 0},
		{"none", nil, 0},
		{"one is wrong", hashes(codes[0], codes[1], codes[2], newSealed()), 0},
		{"one twice", hashes(codes[0], codes[1], codes[1]), 0},
		{"empty hashes", [][]byte{{}, {}, {}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := set.match(tt.hashes)
			if len(found) != tt.want || (err == nil) != (tt.want > 0) {
				t.Errorf("matched %v, %v", found, err)
			}
		})
	}
	for i := range set.Codes { // a set that is void
		set.Codes[i].Hash = nil
	}
	if found, err := set.match([][]byte{{}, {}, {}}); err == nil {
		t.Errorf("nothing opens a void set: %v", found)
	}
}

func TestReadCodes(t *testing.T) {
	a, b := printed(newSealed()), printed(newSealed())
	if got, err := readCodes([]string{a, b}); err != nil || len(got) != 2 || bytes.Equal(got[0], got[1]) {
		t.Errorf("%v, %v", got, err)
	}
	for name, list := range map[string][]string{
		"none": nil, "too many": make([]string, MaxCodes+1), "twice": {a, strings.ToLower(a)}, "mistyped": {a, b[:34]},
	} {
		if _, err := readCodes(list); err == nil || !strings.Contains(err.Error(), "code") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadCode: what is read is printed in one form, which is read as the same.
func FuzzReadCode(f *testing.F) {
	f.Add(printed(newSealed()))
	f.Add("00000-00000-00000-00000-00000-00000")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := readCode(typed)
		if !ok {
			return
		}
		if again, ok := readCode(printed(code)); !ok || again != code {
			t.Errorf("%q is read as %q, and that as %q", typed, code, again)
		}
	})
}

func TestCodesOff(t *testing.T) {
	l := &Logins{}
	if _, _, _, err := l.OpenWithCodes(t.Context(), []string{printed(newSealed())}, "INC-1 x", [1]access.Caller{}[0].Source, "cli"); err == nil {
		t.Error("codes open a login where there are none")
	}
	if _, err := l.Codes(t.Context()); err == nil {
		t.Error("there is a set where there are none")
	}
}
