package recorder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"filippo.io/age"
)

func TestCopy(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	c, err := rec.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"first ", "second"} {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.sealed, c.Name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy is there before it is whole: %v", err)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.sealed, "SES-1.1.file.age"))
	if err != nil || sha256.Sum256(b) != c.SHA256 || bytes.Contains(b, []byte("second")) {
		t.Fatalf("%v, or the copy is not the one that was told, or is open to all", err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), s.auditor)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "first second" {
		t.Errorf("got %q, %v", got, err)
	}
	if c.Abort() != nil || c.Commit() == nil {
		t.Error("a copy that was committed can be taken back, or committed again")
	}

	given, err := rec.Keep(t.Context())
	if err != nil || given.Name == c.Name {
		t.Fatalf("%v, %q", err, given.Name)
	}
	if err := given.Abort(); err != nil {
		t.Fatal(err)
	}
	if names := left(t, s.sealed); !slices.Equal(names, []string{"SES-1.1.file.age"}) {
		t.Errorf("left: %q", names)
	}
	if _, err := rec.Close(t.Context(), End{}); err != nil {
		t.Fatal(err)
	}
}
