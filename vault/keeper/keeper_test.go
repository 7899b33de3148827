package keeper

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

func newFile(t testing.TB) vault.Keeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := File(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var phrase = vault.NewSecret([]byte("correct horse battery"))

func TestWrap(t *testing.T) {
	for name, k := range map[string]vault.Keeper{"file": newFile(t), "passphrase": Passphrase(phrase)} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			clear := []byte("the keyset")
			a, err := k.Wrap(ctx, vault.NewSecret(clear))
			if err != nil {
				t.Fatal(err)
			}
			b, err := k.Wrap(ctx, vault.NewSecret(clear))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(a, b) {
				t.Error("two wraps of the same are equal")
			}
			if bytes.Contains(a, clear) {
				t.Error("wrapped in clear")
			}
			got, err := k.Unwrap(ctx, a)
			if err != nil || !bytes.Equal(got.Expose(), clear) {
				t.Errorf("got %q, %v", got.Expose(), err)
			}
			if out := fmt.Sprintf("%v %+v %#v", k, k, &k); strings.Contains(out, "horse") {
				t.Errorf("the keeper prints its key: %s", out)
			}
		})
	}
}

func TestWrongKey(t *testing.T) {
	ctx := t.Context()
	file, pass := newFile(t), Passphrase(phrase)
	byFile, err := file.Wrap(ctx, vault.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	byPass, err := pass.Wrap(ctx, vault.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		k       vault.Keeper
		wrapped []byte
		want    string
	}{
		{"other file", newFile(t), byFile, "wrong key"},
		{"other passphrase", Passphrase(vault.NewSecret([]byte("correct horse batterx"))), byPass, "wrong key"},
		{"empty passphrase", Passphrase(vault.Secret{}), byPass, "wrong key"},
		{"file for a passphrase", file, byPass, "wrapped by a passphrase, not by a key file"},
		{"passphrase for a file", pass, byFile, "wrapped by a key file, not by a passphrase"},
	} {
		_, err := test.k.Unwrap(ctx, test.wrapped)
		if !errors.Is(err, vault.ErrWrongKey) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", test.name, err, test.want)
		}
	}
}

func TestEveryBit(t *testing.T) {
	ctx := t.Context()
	k := newFile(t)
	wrapped, err := k.Wrap(ctx, vault.NewSecret([]byte("the keyset")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(wrapped) * 8 {
		bad := bytes.Clone(wrapped)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := k.Unwrap(ctx, bad); err == nil {
			t.Errorf("bit %d flipped: no error", i)
		}
	}
	for i := range wrapped {
		if _, err := k.Unwrap(ctx, wrapped[:i]); err == nil {
			t.Errorf("cut to %d bytes: no error", i)
		}
	}
	if _, err := k.Unwrap(ctx, make([]byte, maxWrapped+1)); err == nil {
		t.Error("huge blob: no error")
	}
}

// What a blob asks for is read before it is authenticated.
func TestHostileCost(t *testing.T) {
	k := Passphrase(phrase)
	for _, c := range []cost{
		{0, 64 << 10, 4}, {17, 64 << 10, 4}, {1 << 31, 64 << 10, 4},
		{3, 0, 4}, {3, 8, 4}, {3, 256<<10 + 1, 4}, {3, 1<<32 - 1, 4},
		{3, 64 << 10, 0}, {3, 64 << 10, 17}, {3, 64 << 10, 255},
	} {
		b := header(kindPassphrase)
		b = binary.BigEndian.AppendUint32(b, c.passes)
		b = binary.BigEndian.AppendUint32(b, c.memory)
		b = append(b, c.lanes)
		b = append(b, make([]byte, 100)...)
		start := time.Now()
		_, err := k.Unwrap(t.Context(), b)
		if err == nil || !strings.Contains(err.Error(), "out of bounds") {
			t.Errorf("%+v: got error %v", c, err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%+v: took %s", c, d)
		}
	}
	if err := defaultCost.check(); err != nil {
		t.Error(err)
	}
}

// Salt and cost are authenticated with the rest.
func TestPassphraseBits(t *testing.T) {
	k := Passphrase(phrase)
	wrapped, err := k.Wrap(t.Context(), vault.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, headerSize - 1, headerSize + 3, headerSize + costSize, headerSize + costSize + saltSize, len(wrapped) - 1} {
		bad := bytes.Clone(wrapped)
		bad[at] ^= 1
		if _, err := k.Unwrap(t.Context(), bad); err == nil {
			t.Errorf("byte %d changed: no error", at)
		}
	}
	for _, n := range []int{headerSize, headerSize + costSize, headerSize + costSize + saltSize - 1} {
		if _, err := k.Unwrap(t.Context(), wrapped[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

func TestShortPassphrase(t *testing.T) {
	for _, p := range []string{"", "12345678901"} {
		if _, err := Passphrase(vault.NewSecret([]byte(p))).Wrap(t.Context(), vault.Secret{}); err == nil {
			t.Errorf("passphrase of %d bytes: no error", len(p))
		}
	}
}

func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, path := range []string{a, b} {
		if err := CreateFile(path); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 45 {
			t.Errorf("got %v, %v", info, err)
		}
	}
	was, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := os.ReadFile(b); bytes.Equal(was, other) {
		t.Error("two key files are equal")
	}
	if err := CreateFile(a); !errors.Is(err, os.ErrExist) {
		t.Errorf("create over a key: got error %v", err)
	}
	if now, _ := os.ReadFile(a); !bytes.Equal(was, now) {
		t.Error("the key was overwritten")
	}
	if err := CreateFile(filepath.Join(dir, "no", "dir")); err == nil {
		t.Error("no error in a missing directory")
	}
}

func TestFileRefused(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize))
	for _, test := range []struct {
		name    string
		content string
		mode    os.FileMode
		ok      bool
	}{
		{"as written", key + "\n", 0o600, true},
		{"read-only", key + "\n", 0o400, true},
		{"no newline", key, 0o600, true},
		{"group reads", key + "\n", 0o640, false},
		{"all read", key + "\n", 0o604, false},
		{"group writes", key + "\n", 0o620, false},
		{"all execute", key + "\n", 0o601, false},
		{"empty", "", 0o600, false},
		{"31 bytes", base64.StdEncoding.EncodeToString(make([]byte, 31)), 0o600, false},
		{"33 bytes", base64.StdEncoding.EncodeToString(make([]byte, 33)), 0o600, false},
		{"two lines", key + "\n" + key + "\n", 0o600, false},
		{"blank line", key + "\n\n", 0o600, false},
		{"carriage return", key + "\r\n", 0o600, false},
		{"newline within", key[:20] + "\n" + key[20:], 0o600, false},
		{"newline for a letter", key[:20] + "\n" + key[21:], 0o600, false},
		{"leading space", " " + key, 0o600, false},
		{"loose padding bits", key[:42] + "d=", 0o600, false},
		{"url alphabet", strings.Repeat("-", 43) + "=", 0o600, false},
		{"not base64", strings.Repeat("!", 44), 0o600, false},
	} {
		path := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		_, err := File(path)
		if (err == nil) != test.ok {
			t.Errorf("%s: got error %v", test.name, err)
		}
		if err != nil && strings.Contains(err.Error(), key[:8]) {
			t.Errorf("%s: the error quotes the key: %v", test.name, err)
		}
	}
}

func TestFileKind(t *testing.T) {
	dir := t.TempDir()
	real, link, fifo := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := CreateFile(real); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: "symbolic link", fifo: "regular", dir: "regular", filepath.Join(dir, "none"): "no such file"} {
		if _, err := File(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", filepath.Base(path), err, want)
		}
	}
	info, err := os.Stat(real)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkOwner(info, os.Geteuid()+1); err == nil {
		t.Error("another owner: no error")
	}
}

// No blob is opened but one that this key wrapped.
func FuzzUnwrap(f *testing.F) {
	k := newFile(f)
	wrapped, err := k.Wrap(f.Context(), vault.NewSecret([]byte("x")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add([]byte{})
	f.Add(append(header(kindPassphrase), 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := k.Unwrap(t.Context(), b)
		if err == nil && !(bytes.Equal(b, wrapped) && string(s.Expose()) == "x") {
			t.Errorf("opened %x", b)
		}
	})
}
