//go:build linux

package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The columns of the tools are one: what each does is the row.
const works = "works"

// toolCells are the fields of the table of tools, which use OpenSSH's client as
// their transport unless they say otherwise.
func toolCells() []*cell {
	list := []*cell{
		{row: "OpenSSH ControlMaster: five commands on one connection, `-O exit`", run: controlMaster},
		{row: "`scp -O` (the old protocol), a folder", run: oldSCP},
		{row: "`sftp` in a batch: mkdir, put, rename, ls, get, rm", run: sftpBatch},
		{row: "rsync, a folder up and down, twice", run: rsync},
		{row: "rsync with hard links, access control lists, extended attributes and times to the nanosecond (`-aHAX`), twice", run: rsyncAll},
		{row: "git push and clone", run: git},
		{row: "ansible: ping, shell, copy, fetch", run: ansible},
		{row: "Connections as VS Code Remote makes them: a script for `bash -s`, SOCKS and a second channel beside it", run: remoteEditor},
	}
	mount := &cell{row: "sshfs: mount, write, read, rename, unmount", run: sshfs}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		mount.lacks = "Not run: the machine has no /dev/fuse."
	}
	list = append(list, mount, &cell{row: "ansible: become", lacks: "Not run: nobody may become root on the machine of the test."})
	for _, c := range list {
		c.column = works
	}
	return list
}

// remoteDir makes a folder at the target that only this check uses.
func (s *stand) remoteDir() (string, error) {
	dir, err := os.MkdirTemp(s.home, "check-")
	if err != nil {
		return "", err
	}
	return dir, exec.Command("chown", "-R", s.sshd.User, dir).Run()
}

// folder makes a folder of three files, one of them empty, and gives its name.
func (s *stand) folder() (string, error) {
	dir := filepath.Join(s.dir, "folder")
	err := os.MkdirAll(filepath.Join(dir, "deep er"), 0o755)
	_, err1 := random(filepath.Join(dir, "a"), 300<<10)
	_, err2 := random(filepath.Join(dir, "deep er", "b ä"), 10)
	return dir, errors.Join(err, err1, err2, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
}

// same compares two folders.
func same(a, b string) error {
	if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
		return fmt.Errorf("%s and %s differ: %w\n%s", a, b, err, out)
	}
	return nil
}

// all runs one program after the other; each is to end with 0.
func (s *stand) all(lines ...[]string) error {
	for _, line := range lines {
		if err := s.gives(exec.Command(line[0], line[1:]...), ""); err != nil {
			return err
		}
	}
	return nil
}

func controlMaster(s *stand) error {
	config, err := s.sshConfig(want{})
	if err != nil {
		return err
	}
	with := []string{"ssh", "-F", config, "-S", filepath.Join(s.dir, "c")}
	line := func(more ...string) *exec.Cmd {
		args := append(append([]string{}, with[1:]...), more...)
		return exec.Command(with[0], args...)
	}
	master, err := s.start(line("-M", "-N", "it"), "", false)
	if err != nil {
		return err
	}
	defer master.kill()
	var jobs []*job
	for i := range 5 {
		for range 400 { // until the master listens
			if _, err = os.Stat(with[4]); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		j, err := s.start(line("it", fmt.Sprintf("sleep 0.5; echo this is %d", i)), "", false)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	for i, j := range jobs {
		if err := errors.Join(j.ends(0), j.until(fmt.Sprintf("this is %d", i))); err != nil {
			return err
		}
	}
	if err := s.gives(line("-O", "exit", "it"), ""); err != nil {
		return err
	}
	<-master.done
	return nil
}

func oldSCP(s *stand) error {
	config, err1 := s.sshConfig(want{})
	dir, err2 := s.folder()
	remote, err3 := s.remoteDir()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	back := filepath.Join(s.dir, "back")
	return errors.Join(s.all(
		[]string{"scp", "-O", "-q", "-r", "-F", config, dir, "it:" + remote + "/there"},
		[]string{"scp", "-O", "-q", "-r", "-F", config, "it:" + remote + "/there", back},
	), same(dir, back))
}

func sftpBatch(s *stand) error {
	config, err1 := s.sshConfig(want{})
	remote, err2 := s.remoteDir()
	sent, err3 := random(filepath.Join(s.dir, "one"), 100<<10)
	lines := fmt.Sprintf("cd %s\nmkdir new\nput one new/one\nrename new/one new/two\nls -l new\nget new/two back\nrm new/two\nrmdir new\n", remote)
	err4 := os.WriteFile(filepath.Join(s.dir, "batch"), []byte(lines), 0o600)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if err := s.gives(exec.Command("sftp", "-F", config, "-b", "batch", "it"), "two"); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(s.dir, "back"))
	if err == nil && string(got) != string(sent) {
		err = errors.New("the file that came back differs")
	}
	return err
}

func rsync(s *stand) error {
	config, err1 := s.sshConfig(want{})
	dir, err2 := s.folder()
	remote, err3 := s.remoteDir()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	line := func(from, to string) []string {
		return []string{"rsync", "-a", "--no-owner", "--no-group", "-e", "ssh -F " + config, from, to}
	}
	back := filepath.Join(s.dir, "back")
	up, down := line(dir+"/", "it:"+remote+"/there/"), line("it:"+remote+"/there/", back+"/")
	return errors.Join(s.all(up, up, down, down), same(dir, back))
}

func git(s *stand) error {
	config, err1 := s.sshConfig(want{})
	dir, err2 := s.folder()
	remote, err3 := s.remoteDir()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	g := []string{"git", "-C", dir, "-c", "user.name=alice", "-c", "user.email=alice@example.com", "-c", "core.sshCommand=ssh -F " + config}
	line := func(more ...string) []string { return append(append([]string{}, g...), more...) }
	back := filepath.Join(s.dir, "back")
	err := s.all(
		[]string{"ssh", "-F", config, "it", "git init -q --bare " + remote + "/repo"},
		line("init", "-q", "-b", "main"), line("add", "."), line("commit", "-q", "-m", "one"),
		line("push", "-q", "it:"+remote+"/repo", "main"),
		line("clone", "-q", "-b", "main", "it:"+remote+"/repo", back),
	)
	return errors.Join(err, os.RemoveAll(filepath.Join(back, ".git")), os.RemoveAll(filepath.Join(dir, ".git")), same(dir, back))
}

// playbook is what people let ansible do: each task is several commands and
// transfers.
const playbook = `- hosts: it
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
    - ansible.builtin.shell: echo "shell says $((40 + 2))"
      register: said
    - ansible.builtin.assert: {that: said.stdout == "shell says 42"}
    - ansible.builtin.copy: {src: HERE/one, dest: THERE/one}
    - ansible.builtin.fetch: {src: THERE/one, dest: HERE/back, flat: true}
`

func ansible(s *stand) error {
	config, err1 := s.sshConfig(want{})
	remote, err2 := s.remoteDir()
	sent, err3 := random(filepath.Join(s.dir, "one"), 100<<10)
	text := strings.NewReplacer("HERE", s.dir, "THERE", remote).Replace(playbook)
	inventory := "it ansible_ssh_common_args='-F " + config + "' ansible_python_interpreter=/usr/bin/python3 ansible_remote_tmp=" + remote + "/tmp\n"
	err4 := errors.Join(os.WriteFile(filepath.Join(s.dir, "play.yaml"), []byte(text), 0o600), os.WriteFile(filepath.Join(s.dir, "hosts"), []byte(inventory), 0o600))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if err := s.gives(exec.Command("ansible-playbook", "-i", "hosts", "play.yaml"), "ok=5"); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(s.dir, "back"))
	if err == nil && string(got) != string(sent) {
		err = errors.New("the file that came back differs")
	}
	return err
}

// remoteEditor does what the editor does first: it gives a script to a shell on
// the input of one channel, which stays, and opens others beside it: a command,
// and what SOCKS leads to.
func remoteEditor(s *stand) error {
	config, err := s.sshConfig(want{})
	if err != nil {
		return err
	}
	control := filepath.Join(s.dir, "c")
	if err := os.WriteFile(filepath.Join(s.dir, "script"), []byte("echo running; uname -s; exec sleep 4\n"), 0o600); err != nil {
		return err
	}
	there, stop := service()
	defer stop()
	here := s.freePort()
	first, err := s.start(exec.Command("ssh", "-F", config, "-M", "-S", control, "-T", "-D", here, "it", "bash -s"), filepath.Join(s.dir, "script"), false)
	if err != nil {
		return err
	}
	if err := first.until("Linux"); err != nil {
		return err
	}
	err = s.gives(exec.Command("ssh", "-F", config, "-S", control, "it", "echo beside it"), "beside it")
	return errors.Join(err, s.served(there, here), first.ends(0))
}

func sshfs(s *stand) error {
	config, err1 := s.sshConfig(want{})
	remote, err2 := s.remoteDir()
	here := filepath.Join(s.dir, "mounted")
	if err := errors.Join(err1, err2, os.Mkdir(here, 0o755)); err != nil {
		return err
	}
	if err := s.all([]string{"sshfs", "-F", config, "it:" + remote, here}); err != nil {
		return err
	}
	defer exec.Command("fusermount3", "-u", "-z", here).Run()
	sent, err := random(filepath.Join(here, "one"), 100<<10)
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(here, "one"), filepath.Join(here, "two")); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(remote, "two"))
	if err == nil && string(got) != string(sent) {
		err = errors.New("the file at the target differs")
	}
	return errors.Join(err, s.all([]string{"fusermount3", "-u", here}))
}
