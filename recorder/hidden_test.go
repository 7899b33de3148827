package recorder

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

func onTerminal(t *testing.T, s *stand) *Recording {
	t.Helper()
	rec, err := s.Start(t.Context(), Header{ID: "SES-1", Kind: "shell", Terminal: "xterm"})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// typePassword types one at a prompt that shows nothing.
func typePassword(t *testing.T, rec *Recording, password string) {
	t.Helper()
	for _, e := range []struct {
		s    Stream
		data string
	}{{Output, "$ "}, {Input, "s"}, {Output, "s"}, {Input, "u\r"}, {Output, "u\r\nPassword: "}, {Input, password + "\r"}, {Output, "\r\n# "}} {
		if err := rec.Write(e.s, []byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHiddenKeys(t *testing.T) {
	few, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := newStand(t, func(c *Config) { c.Hidden = []age.Recipient{few.Recipient()} })
	rec := onTerminal(t, s)
	typePassword(t, rec, "tiger-7")
	sealed, err := rec.Close(t.Context(), End{Reason: "exited"})
	if err != nil {
		t.Fatal(err)
	}
	plain, report := s.open(t, sealed.Name)
	if bytes.Contains(plain, []byte("tiger")) || !bytes.Contains(plain, []byte("7 keys hidden, echo off")) {
		t.Errorf("the recording: %s", plain)
	}
	if report.Seal.Events != sealed.Events {
		t.Errorf("%d events, and %d were told", report.Seal.Events, sealed.Events)
	}
	kept, err := os.ReadFile(filepath.Join(s.sealed, "SES-1"+HiddenSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("kept as SES-1.hidden.age, SHA-256 %x", sha256.Sum256(kept)); !strings.Contains(string(plain), want) {
		t.Errorf("the recording does not say %q: %s", want, plain)
	}
	if _, err := age.Decrypt(bytes.NewReader(kept), s.auditor); err == nil {
		t.Error("who may open recordings opens what was typed unseen")
	}
	r, err := age.Decrypt(bytes.NewReader(kept), few)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	var typed Typed
	if err := errors.Join(err, json.Unmarshal(b, &typed)); err != nil || string(typed.Keys) != "tiger-7" {
		t.Errorf("kept %q, %v", b, err)
	}
}

// Nothing is left of it when nobody may open it, and nothing made when nothing was hidden.
func TestHiddenKeysOfNobody(t *testing.T) {
	s := newStand(t)
	rec := onTerminal(t, s)
	typePassword(t, rec, "tiger-7")
	if _, err := rec.Close(t.Context(), End{Reason: "exited"}); err != nil {
		t.Fatal(err)
	}
	names, err := s.cfg.Sink.List(t.Context())
	if err != nil || len(names) != 1 {
		t.Errorf("in the sink: %q, %v", names, err)
	}
}

// A sealing that failed is done again, and what it left is not taken for the new one.
func TestHiddenKeysAgain(t *testing.T) {
	few, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := newStand(t, func(c *Config) { c.Hidden = []age.Recipient{few.Recipient()} })
	left := filepath.Join(s.sealed, "SES-1"+HiddenSuffix)
	if err := os.WriteFile(left, []byte("of an earlier attempt"), 0o600); err != nil {
		t.Fatal(err)
	}
	rec := onTerminal(t, s)
	typePassword(t, rec, "tiger-7")
	sealed, err := rec.Close(t.Context(), End{Reason: "exited"})
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := s.open(t, sealed.Name)
	if !bytes.Contains(plain, []byte("kept as SES-1.2.hidden.age")) {
		t.Errorf("the recording: %s", plain)
	}
}
