package mfa

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// The SHA-1 vectors of RFC 6238, appendix B, cut to six digits.
func TestCodeRFC6238(t *testing.T) {
	secret := []byte("12345678901234567890")
	for _, tt := range []struct {
		unix int64
		want string
	}{
		{59, "287082"},
		{1111111109, "081804"},
		{1111111111, "050471"},
		{1234567890, "005924"},
		{2000000000, "279037"},
		{20000000000, "353130"},
	} {
		now := time.Unix(tt.unix, 0)
		got, err := Code(secret, Step(now))
		if err != nil || got != tt.want {
			t.Errorf("Code at %d = %q, %v, want %q", tt.unix, got, err, tt.want)
		}
		if step, ok := Check(secret, tt.want, now); !ok || step != Step(now) {
			t.Errorf("Check at %d = %d, %v, want %d", tt.unix, step, ok, Step(now))
		}
	}
}

func TestCheckWindow(t *testing.T) {
	secret := NewSecret()
	now := time.Unix(1_800_000_000, 0)
	for offset := int64(-3); offset <= 3; offset++ {
		code, err := Code(secret, Step(now)+offset)
		if err != nil {
			t.Fatal(err)
		}
		step, ok := Check(secret, code, now)
		if want := offset >= -Skew && offset <= Skew; ok != want {
			t.Errorf("code of step %+d accepted: %v, want %v", offset, ok, want)
		}
		if ok && step != Step(now)+offset {
			t.Errorf("code of step %+d taken for %+d", offset, step-Step(now))
		}
	}
}

func TestCheckForm(t *testing.T) {
	secret := NewSecret()
	now := time.Unix(1_800_000_000, 0)
	code, err := Code(secret, Step(now))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, code string
		want       bool
	}{
		{"plain", code, true},
		{"as apps show it", code[:3] + " " + code[3:], true},
		{"empty", "", false},
		{"five digits", code[:5], false},
		{"seven digits", code + "0", false},
		{"sign", "+" + code[1:], false},
		{"newline", code + "\n", false},
		{"full-width digits", "１２", false},
		{"long", strings.Repeat(" ", 1000) + code, false},
	} {
		if _, ok := Check(secret, tt.code, now); ok != tt.want {
			t.Errorf("%s: Check = %v, want %v", tt.name, ok, tt.want)
		}
	}
}

func TestURL(t *testing.T) {
	secret := []byte("12345678901234567890")
	got, err := URL("drawbolt gw.example.com", "alice", secret)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/drawbolt gw.example.com:alice" {
		t.Errorf("URL = %s", got)
	}
	for k, want := range map[string]string{
		"secret": Text(secret), "issuer": "drawbolt gw.example.com", "algorithm": "SHA1", "digits": "6", "period": "30",
	} {
		if g := u.Query().Get(k); g != want {
			t.Errorf("%s = %q, want %q", k, g, want)
		}
	}
	if _, err := URL("", "alice", secret); err == nil {
		t.Error("URL without an issuer made")
	}
}

func FuzzCheck(f *testing.F) {
	secret := []byte("12345678901234567890")
	f.Add("287082", int64(59))
	f.Add("081 804", int64(1111111109))
	f.Add("", int64(-1))
	f.Fuzz(func(t *testing.T, code string, unix int64) {
		now := time.Unix(unix, 0)
		step, ok := Check(secret, code, now)
		if !ok {
			return
		}
		want, err := Code(secret, step)
		if err != nil || want != strings.ReplaceAll(code, " ", "") {
			t.Errorf("%q accepted for step %d, whose code is %q", code, step, want)
		}
		if d := step - Step(now); d < -Skew || d > Skew {
			t.Errorf("step %d accepted at step %d", step, Step(now))
		}
	})
}
