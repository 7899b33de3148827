package vault_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
)

const canary = "CANARY-7f3a9"

// leaks reports whether out shows the canary in a form somebody could read
// back: as text, hex, base64 or a list of numbers.
func leaks(out string) bool {
	b := []byte(canary)
	for _, form := range []string{
		canary,
		fmt.Sprintf("%x", b),
		fmt.Sprintf("%X", b),
		"Q0FOQVJZLTdmM2E5", // base64
		strings.Trim(fmt.Sprint(b), "[]"),
		"0x43, 0x41, 0x4e",
	} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return false
}

// holders are the ways in which a Secret sits inside something that is printed.
func holders() map[string]any {
	s := vault.NewSecret([]byte(canary))
	type inner struct {
		Public vault.Secret
		hidden vault.Secret
	}
	return map[string]any{
		"value":     s,
		"pointer":   &s,
		"struct":    inner{s, s},
		"pointed":   &inner{s, s},
		"nested":    struct{ In *inner }{&inner{s, s}},
		"unexp":     struct{ in inner }{inner{s, s}},
		"slice":     []vault.Secret{s},
		"array":     [1]vault.Secret{s},
		"map":       map[string]vault.Secret{"k": s},
		"interface": []any{s, &s},
		"error":     fmt.Errorf("with %v", s),
	}
}

func TestLeaksFindsTheCanary(t *testing.T) {
	for _, verb := range []string{"%v", "%s", "%x", "%X", "%d", "%#v", "%+v"} {
		if out := fmt.Sprintf(verb, struct{ b []byte }{[]byte(canary)}); !leaks(out) {
			t.Errorf("%s of bare bytes: %s: not found", verb, out)
		}
	}
	if out, _ := json.Marshal([]byte(canary)); !leaks(string(out)) {
		t.Errorf("json of bare bytes %s: not found", out)
	}
}

func TestSecretNeverLeaks(t *testing.T) {
	for name, h := range holders() {
		t.Run(name, func(t *testing.T) {
			check := func(how, out string) {
				t.Helper()
				if leaks(out) {
					t.Errorf("%s leaks: %s", how, out)
				}
			}
			for _, verb := range []string{"v", "s", "q", "x", "X", "d", "b", "o", "c", "U", "e", "f", "g", "t", "T", "p", "w", "z"} {
				for _, flags := range []string{"", "+", "#", " ", "0", "-40", "+#40.3"} {
					check("%"+flags+verb, fmt.Sprintf("%"+flags+verb, h))
				}
			}
			check("Println", fmt.Sprintln(h))
			check("Errorf", fmt.Errorf("%v %w", h, vault.ErrInvalid).Error())
			out, err := json.Marshal(h)
			check("json", string(out)+fmt.Sprint(err))
			out, err = xml.Marshal(h)
			check("xml", string(out)+fmt.Sprint(err))
			var buf bytes.Buffer
			err = gob.NewEncoder(&buf).Encode(h)
			check("gob", buf.String()+fmt.Sprint(err))
			for how, handler := range map[string]slog.Handler{
				"slog text": slog.NewTextHandler(&buf, nil),
				"slog json": slog.NewJSONHandler(&buf, nil),
			} {
				buf.Reset()
				l := slog.New(handler)
				l.Info("m", "s", h)
				l.With("s", h).WithGroup("g").Info("m", slog.Group("g", "s", h))
				if !strings.Contains(buf.String(), "msg") {
					t.Fatalf("%s wrote nothing", how)
				}
				check(how, buf.String())
			}
			buf.Reset()
			err = template.Must(template.New("").Parse(`{{.}}<a title="{{.}}"><script>{{.}}</script>`)).Execute(&buf, h)
			check("template", buf.String()+fmt.Sprint(err))
		})
	}
}

func TestSecretRefusesMarshal(t *testing.T) {
	s := vault.NewSecret([]byte(canary))
	if out, err := json.Marshal(struct{ P vault.Secret }{s}); err == nil {
		t.Errorf("json: got %s, want an error", out)
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(struct{ P vault.Secret }{s}); err == nil {
		t.Error("gob: no error")
	}
	if out, err := xml.Marshal(struct{ P vault.Secret }{s}); err == nil {
		t.Errorf("xml: got %s, want an error", out)
	}
	if got := fmt.Sprintf("%v", s); got != "[secret]" {
		t.Errorf("got %q", got)
	}
}

func TestSecretBytes(t *testing.T) {
	b := []byte(canary)
	s := vault.NewSecret(b)
	clear(b)
	if got := string(s.Expose()); got != canary {
		t.Errorf("got %q after the source was wiped", got)
	}
	var zero vault.Secret
	if got := zero.Expose(); len(got) != 0 {
		t.Errorf("zero Secret has %q", got)
	}
	if got := fmt.Sprintf("%v %+v %#v", zero, zero, zero); got != "[secret] [secret] [secret]" {
		t.Errorf("got %q", got)
	}
}
