package recorder

import (
	"bytes"
	"io"
	"testing"

	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"
)

// FuzzSealed: whoever has the recipients' public keys can put any bytes inside
// the encryption. They are read, or refused, in bounded memory.
func FuzzSealed(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	w, err := seekable.NewWriter(&b, enc)
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range []string{"[1,2]\n", string(bytes.Repeat([]byte("x"), 100_000))} {
		if _, err := w.Write([]byte(part)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Add([]byte(nil))
	s := newStand(f)
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed := encrypted(t, s, plain)
		r, err := OpenSealed(bytes.NewReader(sealed), int64(len(sealed)), s.auditor)
		if err != nil {
			return
		}
		// From the end too, as who looks for the seal does.
		if _, err := r.Seek(-1, io.SeekEnd); err == nil {
			_, _ = r.Read(make([]byte, 1))
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Fatalf("back to the start: %v", err)
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(r, 8<<20)); err != nil {
			return
		}
	})
}
