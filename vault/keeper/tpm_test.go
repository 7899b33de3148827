package keeper_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// newTPM starts a software TPM and returns its socket.
func newTPM(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+path,
		"--ctrl", "type=unixio,path="+filepath.Join(dir, "c"), "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return path
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func tpmKeeper(t *testing.T, path string, pcrs ...uint) vault.Keeper {
	t.Helper()
	k, err := keeper.NewTPM(keeper.TPM{Path: path, PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTPM: only the TPM that sealed it opens it, and with registers only while they are
// as they were.
func TestTPM(t *testing.T) {
	path := newTPM(t)
	plain, bound := tpmKeeper(t, path), tpmKeeper(t, path, 7, 16)
	secret := vault.NewSecret([]byte("the keyset"))
	var blobs [][]byte
	for _, k := range []vault.Keeper{plain, bound} {
		b, err := k.Wrap(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, b)
		for _, again := range []vault.Keeper{k, plain} { // the registers stand in the blob
			if s, err := again.Unwrap(t.Context(), b); err != nil || !bytes.Equal(s.Expose(), secret.Expose()) {
				t.Fatal(err)
			}
		}
		if kind, err := keeper.KindOf(b); err != nil || kind != keeper.KindTPM {
			t.Error(kind, err)
		}
	}
	other := tpmKeeper(t, newTPM(t))
	if _, err := other.Unwrap(t.Context(), blobs[0]); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("another TPM: %v", err)
	}
	for at := 0; at < len(blobs[1]); at += 7 {
		bad := bytes.Clone(blobs[1])
		bad[at] ^= 1
		if _, err := bound.Unwrap(t.Context(), bad); err == nil {
			t.Errorf("byte %d changed, and opened", at)
		}
	}
	for _, cut := range []int{10, 13, 15, 40, len(blobs[0]) - 1} {
		if _, err := plain.Unwrap(t.Context(), blobs[0][:cut]); err == nil {
			t.Errorf("cut to %d bytes, and opened", cut)
		}
	}
	// A register changes, as at a start with another boot loader.
	tpm, err := linuxudstpm.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(16), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(tpm)
	if err := errors.Join(err, tpm.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := bound.Unwrap(t.Context(), blobs[1]); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("with other registers: %v", err)
	}
	if _, err := plain.Unwrap(t.Context(), blobs[0]); err != nil {
		t.Errorf("without registers: %v", err)
	}
	if _, err := tpmKeeper(t, "/nowhere/tpm").Unwrap(t.Context(), blobs[0]); err == nil || errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("no TPM: %v", err)
	}
	if _, err := keeper.NewTPM(keeper.TPM{PCRs: []uint{24}}); err == nil {
		t.Error("there is no register 24")
	}
}
