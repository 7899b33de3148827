//go:build pkcs11

package keeper_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// TestPKCS11: only the key of the token opens what it wrapped (SoftHSM).
func TestPKCS11(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(conf, "directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "drawbolt", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found, err := filepath.Glob("/usr/lib/*/softhsm/libsofthsm2.so")
	if err != nil {
		t.Fatal(err)
	}
	module := append(found, "/usr/lib/softhsm/libsofthsm2.so")[0]
	open := func(key, pin string) vault.Keeper {
		t.Helper()
		k, err := keeper.NewPKCS11(keeper.PKCS11{Module: module, Token: "drawbolt", Key: key, PINFile: write(filepath.Join(dir, "pin-"+pin), pin+"\n")})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	secret := vault.NewSecret([]byte("the keyset"))
	k := open("root", "1234")
	wrapped := wrap(t, k)
	if again, err := k.Wrap(t.Context(), secret); err != nil || bytes.Equal(again, wrapped) {
		t.Fatal(err)
	}
	if s, err := open("root", "1234").Unwrap(t.Context(), wrapped); err != nil || string(s.Expose()) != "keyset" {
		t.Fatal(err)
	}
	if kind, err := keeper.KindOf(wrapped); err != nil || kind != keeper.KindPKCS11 {
		t.Error(kind, err)
	}
	if _, err := open("other", "1234").Unwrap(t.Context(), wrapped); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("a key that is not there: %v", err)
	}
	wrap(t, open("other", "1234"))
	if _, err := open("other", "1234").Unwrap(t.Context(), wrapped); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := open("root", "9999").Unwrap(t.Context(), wrapped); err == nil || errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("another PIN: %v", err)
	}
	for at := range wrapped {
		if at%5 != 0 {
			continue
		}
		bad := bytes.Clone(wrapped)
		bad[at] ^= 1
		if _, err := k.Unwrap(t.Context(), bad); err == nil {
			t.Errorf("byte %d changed, and opened", at)
		}
	}
	for _, cut := range []int{11, 25, 60, len(wrapped) - 1} {
		if _, err := k.Unwrap(t.Context(), wrapped[:cut]); err == nil {
			t.Errorf("cut to %d bytes, and opened", cut)
		}
	}
	if _, err := keeper.NewPKCS11(keeper.PKCS11{Module: module}); err == nil {
		t.Error("without a token")
	}
}
