package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// rsyncAll copies a folder with everything that rsync can keep, up and down, twice;
// the second time nothing is to be done.
func rsyncAll(s *stand) error {
	config, err1 := s.sshConfig(want{})
	dir, err2 := s.folder()
	remote, err3 := s.remoteDir()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, 1<<32 - 1}, {2, 4, 65534}, {4, 4, 1<<32 - 1}, {0x10, 4, 1<<32 - 1}, {0x20, 0, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	attributes := [][3]string{{"a", "user.short", "x"}, {"empty", "user.long", string(make([]byte, 1000))}, {"a", "system.posix_acl_access", string(acl)}, {"deep er", "system.posix_acl_default", string(acl)}}
	for _, a := range attributes {
		if err := syscall.Setxattr(filepath.Join(dir, a[0]), a[1], []byte(a[2]), 0); err != nil {
			return err
		}
	}
	when := time.Unix(1700000000, 123456789)
	err := errors.Join(os.Chtimes(filepath.Join(dir, "a"), when, when), os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "linked")), os.Symlink("a", filepath.Join(dir, "soft")))
	if err != nil {
		return err
	}
	line := func(from, to string, more ...string) []string {
		return append([]string{"rsync", "-aHAX", "--no-owner", "--no-group", "-e", "ssh -F " + config, from, to}, more...)
	}
	back := filepath.Join(s.dir, "back")
	up, down := line(dir+"/", "it:"+remote+"/there/"), line("it:"+remote+"/there/", back+"/")
	if err := errors.Join(s.all(up, down), same(dir, back)); err != nil {
		return err
	}
	for _, again := range [][]string{append(up, "-i"), append(down, "-i")} {
		if out, err := exec.Command(again[0], again[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
			return fmt.Errorf("the second time: %w, %s", err, out)
		}
	}
	for _, a := range attributes {
		b := make([]byte, 4096)
		if n, err := syscall.Getxattr(filepath.Join(back, a[0]), a[1], b); err != nil || string(b[:n]) != a[2] {
			return fmt.Errorf("%s came back with another %s: %w", a[0], a[1], err)
		}
	}
	info, err := os.Stat(filepath.Join(back, "a"))
	if err != nil {
		return err
	}
	if stat := info.Sys().(*syscall.Stat_t); !info.ModTime().Equal(when) || stat.Nlink != 2 {
		return fmt.Errorf("changed at %v, with %d names", info.ModTime(), stat.Nlink)
	}
	return nil
}
