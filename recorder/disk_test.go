//go:build linux

package recorder

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull fills a real file system.
func TestDiskFull(t *testing.T) {
	mount := small(t, "1m")
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

func TestRoom(t *testing.T) {
	const floor, disk = 1 << 30, 100 << 30
	for _, test := range []struct {
		free uint64
		want Step
	}{
		{disk, Plenty}, {5 * floor, Plenty}, {5*floor - 1, Scarce}, {floor, Scarce}, {floor - 1, Closed}, {floor / 2, Closed},
		{floor/2 - 1, Ending}, {floor / 8, Ending}, {floor/8 - 1, Spent}, {0, Spent},
	} {
		if got := stepOf(test.free, floor); got != test.want {
			t.Errorf("%d free: got %v, want %v", test.free, got, test.want)
		}
	}
	// Room that goes up and down a little is told once.
	step, told := Plenty, 0
	for i := range 100 {
		free := uint64(floor - 1)
		if i%2 == 0 {
			free += floor / 32
		}
		room := Room{Step: stepOf(free, floor), Free: free, Size: disk, Floor: floor}
		if now := room.Still(step); now != step {
			step, told = now, told+1
		}
	}
	if step != Closed || told > 2 {
		t.Errorf("told %d times, %v at last", told, step)
	}
	if room := (Room{Step: Plenty, Free: disk, Size: disk, Floor: floor}); room.Still(step) != Plenty {
		t.Error("room again is not told")
	}
}

// small mounts a disk of that many bytes.
func small(t *testing.T, size string) string {
	t.Helper()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mount
}

// TestEnding: as room goes, first no recording starts, then those that run end,
// and urgent ones go on. Either disk counts.
func TestEnding(t *testing.T) {
	for _, full := range []string{"journals", "sealed"} {
		t.Run(full, func(t *testing.T) {
			mount := small(t, "16m")
			s := newStand(t, func(c *Config) {
				c.Floor = 4 << 20
				if full == "journals" {
					c.Journals = filepath.Join(mount, "journals")
				}
				c.Folders = []string{mount}
			})
			// leave leaves so many KiB free.
			leave := func(kib int) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(mount, "ballast"), make([]byte, 16<<20-kib<<10), 0o600); err != nil {
					t.Fatal(err)
				}
				s.makeRoom()
			}
			starts := func(id string, urgent bool) *Recording {
				t.Helper()
				start := s.Start
				if urgent {
					start = s.StartUrgent
				}
				rec, err := start(t.Context(), Header{ID: id, Kind: "shell"})
				if err != nil && !errors.Is(err, ErrNoSpace) {
					t.Fatal(err)
				}
				return rec
			}
			usual, urgent := starts("SES-1", false), starts("SES-2", true)
			if usual == nil || urgent == nil {
				t.Fatal("there was room")
			}
			leave(3 << 10) // below the floor
			if starts("SES-3", false) != nil {
				t.Error("one started below the floor")
			}
			if _, err := usual.Keep(t.Context()); !errors.Is(err, ErrNoSpace) {
				t.Errorf("a copy was begun below the floor: %v", err)
			}
			emergency := starts("SES-4", true)
			if emergency == nil {
				t.Fatal("an urgent one did not start from the reserve")
			}
			if usual.Context().Err() != nil || usual.Write(Output, []byte("goes on")) != nil {
				t.Error("a running one ended at the floor")
			}
			leave(1 << 10) // below its half
			if err := context.Cause(usual.Context()); !errors.Is(err, ErrNoSpace) {
				t.Errorf("a running one goes on: %v", err)
			}
			if err := usual.Write(Output, []byte("x")); !errors.Is(err, ErrNoSpace) {
				t.Errorf("it records on: %v", err)
			}
			for _, rec := range []*Recording{urgent, emergency} {
				if rec.Context().Err() != nil || rec.Write(Output, []byte("help")) != nil {
					t.Error("an urgent one ended")
				}
			}
			leave(200)
			if starts("SES-5", true) != nil {
				t.Error("an urgent one started with nothing left")
			}
			// What was recorded is sealed.
			sealed, err := usual.Close(t.Context(), End{})
			if err != nil {
				t.Fatal(err)
			}
			plain, report := s.open(t, sealed.Name)
			if got, _ := streams(t, plain); got[Output] != "goes on" || !report.Seal.Aborted || !strings.Contains(report.Seal.Reason, "free space") {
				t.Errorf("got %q, %+v", got[Output], report.Seal)
			}
			leave(15 << 10)
			again := starts("SES-6", false)
			if again == nil {
				t.Fatal("there is room again, and none starts")
			}
			for _, rec := range []*Recording{urgent, emergency, again} {
				if _, err := rec.Close(t.Context(), End{}); err != nil {
					t.Error(err)
				}
				if context.Cause(rec.Context()) != ErrClosed {
					t.Error("the context of a closed one goes on")
				}
			}
		})
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
