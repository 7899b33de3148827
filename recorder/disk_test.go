//go:build linux

package recorder

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull fills a real file system.
func TestDiskFull(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s := newStand(t, func(c *Config) { c.Journals = filepath.Join(mount, "journals") })
	rec := s.start(t, "SES-1")
	var written bytes.Buffer
	var err error
	for i := 0; i < 100_000 && err == nil; i++ {
		line := []byte(strings.Repeat("x", i%100) + "\r\n")
		if err = rec.Write(Output, line); err == nil {
			written.Write(line)
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if again := rec.Write(Input, []byte("x")); again != err {
		t.Errorf("not sticky: %v", again)
	}
	s.Recorder.cfg.Floor = 0
	if _, err := s.Start(t.Context(), Header{ID: "SES-2"}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("started on a full disk: %v", err)
	}
	// There is no room for the note either, so the journal must stay.
	if _, err := rec.Close(t.Context(), End{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v", err)
	}
	if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	sealed, err := rec.Close(t.Context(), End{})
	if err != nil {
		t.Fatal(err)
	}
	plain, report := s.open(t, sealed.Name)
	if got, _ := streams(t, plain); got[Output] != written.String() || !report.Seal.Aborted {
		t.Errorf("got %d bytes of %d, %+v", len(got[Output]), written.Len(), report.Seal)
	}
}

// TestModes: nobody else may look.
func TestModes(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	for path, want := range map[string]os.FileMode{s.cfg.Journals: 0o700, s.journal("SES-1"): 0o600, s.sealed: 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %v, want %v", path, got, want)
		}
	}
	if b, _ := os.ReadFile(s.journal("SES-1")); bytes.Contains(b, []byte("alice")) {
		t.Error("the journal names the user")
	}
	sealed, err := rec.Close(t.Context(), End{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(s.sealed, sealed.Name)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
