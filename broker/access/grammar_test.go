package access

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestParseDuration(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		text string
		want time.Duration // 0: refused
	}{
		{"1s", time.Second}, {"30m", 30 * time.Minute}, {"1h", time.Hour}, {"1h30m", 90 * time.Minute}, {"2d", 2 * day},
		{"1d2h3m4s", day + 2*time.Hour + 3*time.Minute + 4*time.Second}, {"90m", 90 * time.Minute}, {"0h5m", 5 * time.Minute},
		{"007m", 7 * time.Minute}, {"30d", 30 * day}, {"720h", 30 * day}, {"2592000s", 30 * day},
		{"", 0}, {" ", 0}, {"0", 0}, {"0s", 0}, {"0d0h", 0}, {"1", 0}, {"h", 0}, {"-1h", 0}, {"+1h", 0}, {"1.5h", 0}, {"1,5h", 0},
		{"1H", 0}, {"1 h", 0}, {" 1h", 0}, {"1h ", 0}, {"1h\n", 0}, {"\n1h", 0}, {"1h\x00", 0}, {"1ms", 0}, {"1us", 0}, {"1w", 0}, {"1y", 0}, {"1h1h", 0},
		{"30m1h", 0}, {"1h1d", 0}, {"1e3s", 0}, {"0x10s", 0}, {"１h", 0}, {"1һ", 0}, {"∞", 0}, {"30d1s", 0}, {"31d", 0}, {"721h", 0},
		{"2592001s", 0}, {"9999d9999h99999m9999999s", 0}, {"99999999999999999999s", 0}, {strings.Repeat("1", 10_000) + "s", 0},
	} {
		got, err := ParseDuration(tt.text)
		if got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("ParseDuration(%.40q) = %s, %v; want %s", tt.text, got, err, tt.want)
		}
		if err != nil {
			wantKind(t, err, ErrInvalid)
			if len(err.Error()) > 300 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r != '…' && (r < ' ' || r > '~') }) {
				t.Errorf("ParseDuration(%.40q) answers %q", tt.text, err)
			}
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"}, {-time.Hour, "0s"}, {time.Millisecond, "0s"}, {1500 * time.Millisecond, "2s"}, {59*time.Minute + 59*time.Second, "59m59s"},
		{time.Hour, "1h"}, {90 * time.Minute, "1h30m"}, {MaxDuration, "720h"}, {1<<63 - 1, "2562047h47m16s"}, {-1 << 63, "0s"},
	} {
		if got := FormatDuration(tt.d); got != tt.want {
			t.Errorf("FormatDuration(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

// What parses is within bounds, and what is written parses to the same.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1h30m", "30d", "2592000s", "0s", "1d2h3m4s", "-1h", "9999d", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			if d != 0 {
				t.Errorf("refused, but %s", d)
			}
			return
		}
		if CheckDuration(d) != nil {
			t.Fatalf("%q parses to %s, which is out of bounds", s, d)
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Errorf("%q is %s, written %q, read as %s, %v", s, d, FormatDuration(d), again, err)
		}
	})
}

func TestCheckDuration(t *testing.T) {
	for d, good := range map[time.Duration]bool{
		time.Second: true, MaxDuration: true, 0: false, -time.Second: false, MaxDuration + time.Second: false, time.Second + 1: false, 1: false, -1 << 63: false, 1<<63 - 1: false,
	} {
		if err := CheckDuration(d); (err == nil) != good {
			t.Errorf("CheckDuration(%d) = %v", d, err)
		}
	}
}

func TestNames(t *testing.T) {
	checks := map[string]func(string) error{
		"user": CheckUserName, "group": CheckGroupName, "role": CheckRoleName, "account": CheckAccountName, "target": CheckTargetName,
	}
	all := []string{"user", "group", "role", "account", "target"}
	for _, tt := range []struct {
		name string
		by   []string // the grammars that take it
	}{
		{"root", all}, {"a", all}, {"db-01", all}, {"x" + strings.Repeat("1", 31), all},
		{"0day", []string{"user", "group", "role", "target"}},
		{"_apt", []string{"account"}},
		{"a_b", []string{"user", "group", "role", "account"}},
		{"db01.example.com", []string{"user", "group", "role", "target"}},
		{"a-", []string{"user", "group", "role", "account"}},
		{"a" + strings.Repeat("b", 32), []string{"user", "group", "role", "target"}},
		{strings.Repeat("a", 63), []string{"user", "group", "role", "target"}},
		{strings.Repeat("a", 64), []string{"user", "group", "role"}},
		{strings.Repeat("a", 65), nil},
		{"", nil}, {" ", nil}, {"-a", nil}, {".a", nil}, {"..", nil}, {"Root", nil}, {"ROOT", nil}, {"a b", nil}, {"root ", nil}, {" root", nil}, {"root\n", nil}, {"\nroot", nil},
		{"root\x00", nil}, {"ro\x1b[2Jot", nil}, {"root,admin", nil}, {"root;id", nil}, {"root@db01", nil}, {"a/b", nil}, {"../etc", nil}, {"*", nil}, {"%u", nil}, {"$(id)", nil},
		{"rооt", nil},       // Cyrillic o
		{"ｒｏｏｔ", nil},       // fullwidth
		{"root\u200b", nil}, // zero width space
		{"ro\u00adot", nil}, // soft hyphen
		{"\u202etoor", nil}, // right-to-left override
		{"roοt", nil},       // Greek omicron
		{"ſsh", nil},        // long s, which folds to s
		{"K", nil},          // Kelvin sign, which folds to k
		{"аdmin", nil},      // Cyrillic a
		{"ro\u0301ot", nil}, // combining accent
		{"r\xf6ot", nil},    // Latin-1
		{"r\xff\xfeot", nil},
		{"١", nil}, // Arabic digit
	} {
		for kind, check := range checks {
			err := check(tt.name)
			want := false
			for _, by := range tt.by {
				want = want || by == kind
			}
			if (err == nil) != want {
				t.Errorf("%s name %+q: %v, want taken = %t", kind, tt.name, err, want)
			}
			if err != nil {
				wantKind(t, err, ErrInvalid)
				if s := err.Error(); len(s) > 1500 || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r > 127 && r != '…' }) {
					t.Errorf("%s name %+q: the answer repeats it raw: %q", kind, tt.name, s)
				}
			}
		}
	}
}

func TestCheckText(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		good       bool
	}{
		{"plain", "INC-42 disk full on /var", true}, {"empty", "", true}, {"accents", "größer als übrig, naïve", true}, {"other scripts", "ディスクがいっぱい 磁盘 диск", true},
		{"emoji", "done 🎉", true}, {"exactly as long", strings.Repeat("a", MaxReason), true}, {"too long", strings.Repeat("a", MaxReason+1), false},
		{"too long in bytes only", strings.Repeat("ä", MaxReason/2+1), false},
		{"newline", "a\nb", false}, {"carriage return", "a\rb", false}, {"tab", "a\tb", false}, {"escape", "\x1b[2J", false}, {"nul", "a\x00", false}, {"delete", "a\x7f", false},
		{"C1", "a\u009b2J", false}, {"not UTF-8", "a\xff", false}, {"overlong", "a\xc0\xaf", false}, {"surrogate", "a\xed\xa0\x80", false},
		{"right-to-left override", "a\u202eb", false}, {"isolate", "a\u2066b", false}, {"zero width space", "a\u200bb", false}, {"joiner", "a\u200db", false}, {"byte order mark", "\ufeffa", false},
		{"line separator", "a\u2028b", false}, {"paragraph separator", "a\u2029b", false}, {"private use", "a\ue000b", false}, {"tag", "a\U000e0041", false},
		{"Hangul filler", "a\u3164b", false}, {"half-width filler", "a\uffa0b", false}, {"grapheme joiner", "a\u034fb", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckText("the text", tt.text, MaxReason); (err == nil) != tt.good {
				t.Errorf("%+q: %v", tt.text, err)
			}
			if err := CheckReason(tt.text); (err == nil) != (tt.good && tt.text != "") {
				t.Errorf("as a reason, %+q: %v", tt.text, err)
			}
		})
	}
	for _, blank := range []string{" ", "   ", "\u00a0", "\u3000", "\u2800\u2800", "...", "-"} {
		wantKind(t, CheckReason(blank), ErrInvalid)
	}
}

// What passes is shown as it was written, by anything that shows text.
func FuzzCheckText(f *testing.F) {
	for _, s := range []string{"INC-42 disk full", "a\u202eb", "\x1b[2J", "a\xff", "\u3164", "🎉"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckText("it", s, 100) != nil {
			return
		}
		if len(s) > 100 || !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\t\x00\x1b\u200b\u2028\u202e\u2066\ufeff\u3164") {
			t.Errorf("%+q passes", s)
		}
	})
}

func TestTicket(t *testing.T) {
	for text, want := range map[string]string{
		"INC-42 disk": "INC-42", "see CHG-1, INC-2": "CHG-1", "inc-42": "", "INC42": "", "XINC-": "", "(OPS2-7)": "OPS2-7", "": "",
		"A-1": "", "ABCDEFGHIJK-1": "", "INC-1234567890": "",
	} {
		if got := Ticket(text); got != want {
			t.Errorf("Ticket(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID(RequestPrefix)
		if seen[id] || !ValidID(RequestPrefix, id) || ValidID(GrantPrefix, id) {
			t.Fatalf("id %s", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"", "REQ", "REQ-", "REQ-abc", "REQ-" + strings.Repeat("0", 17), "REQ-" + strings.Repeat("i", 16), "REQ-" + strings.Repeat("A", 16),
		"REQ-" + strings.Repeat("0", 15) + "\n", "REQ-" + strings.Repeat("0", 8) + "\n" + strings.Repeat("0", 8), "req-" + strings.Repeat("0", 16)} {
		if ValidID(RequestPrefix, id) {
			t.Errorf("%q is valid", id)
		}
	}
}
