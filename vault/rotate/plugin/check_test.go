//go:build unix

package plugin_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/plugin"
)

// TestProgramOfOthers: a program that others could have put there, or that is none, is not
// run.
func TestProgramOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lib")
	name := filepath.Join(dir, "switch")
	for _, err := range []error{os.Mkdir(dir, 0o755), os.WriteFile(name, []byte("#!/bin/sh\n"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := plugin.CheckProgram(name); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		file string
		mode os.FileMode // of what, meanwhile
		of   string
	}{
		"one that is not there": {filepath.Join(dir, "nothere"), 0o755, dir}, "a folder": {dir, 0o755, dir}, "one that may not be run": {name, 0o644, name},
		"one that others may write": {name, 0o757, name}, "one that a group may write": {name, 0o775, name},
		"one in a folder that others may write": {name, 0o777, dir}, "a link to one in such a folder": {link, 0o777, dir},
	} {
		is, err := os.Stat(c.of)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.of, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := plugin.CheckProgram(c.file); !errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.Chmod(c.of, is.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := plugin.CheckProgram("switch"); !errors.Is(err, rotate.ErrUnreachable) {
		t.Errorf("no absolute path: %v", err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(name, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := plugin.CheckProgram(name); !errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("of somebody else: %v", err)
		}
	}
}
