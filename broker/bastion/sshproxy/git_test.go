package sshproxy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// Each reference that a push changes or a fetch wants is on record, before and
// after, with what became of it.
func TestGitReferences(t *testing.T) {
	x := newShare(t)
	repository, work := filepath.Join(x.both, "repository.git"), filepath.Join(x.local, "work")
	run := func(ok bool, args ...string) string {
		t.Helper()
		out, errs, code := play(t, x.over("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...))
		if (code == 0) != ok {
			t.Fatalf("git %q: exit %d, %s", args, code, errs)
		}
		return strings.TrimSpace(out)
	}
	run(true, "init", "-q", "--bare", "-b", "main", repository)
	run(true, "init", "-q", "-b", "main", work)
	run(true, "-C", work, "commit", "-q", "--allow-empty", "-m", "first")
	run(true, "-C", work, "remote", "add", "origin", there(t, repository))
	none := strings.Repeat("0", 40)
	first := run(true, "-C", work, "rev-parse", "HEAD")
	said := func() (list []string) {
		for _, e := range x.events(x.closed(len(x.sessions()))[0]) {
			if e.What == "push" || e.What == "fetch" {
				list = append(list, strings.TrimSpace(fmt.Sprint(e.What, " ", e.Path == repository, " ", e.To, " ", e.Result, " ", e.Why)))
			}
		}
		return list
	}
	want := func(lines ...string) {
		t.Helper()
		if got := said(); !slices.Equal(got, lines) {
			t.Errorf("got %q, want %q", got, lines)
		}
	}
	run(true, "-C", work, "push", "-q", "origin", "main", "main:side")
	want("push true refs/heads/main "+none+" "+first, "push true refs/heads/side "+none+" "+first,
		"push true refs/heads/main "+none+" "+first+" ok", "push true refs/heads/side "+none+" "+first+" ok")
	run(true, "-C", work, "commit", "-q", "--allow-empty", "-m", "second")
	second := run(true, "-C", work, "rev-parse", "HEAD")
	// One that the target does not take, and one that it removes.
	check(t, os.WriteFile(filepath.Join(repository, "hooks", "update"), []byte("#!/bin/sh\n[ $1 != refs/heads/main ]\n"), 0o700))
	run(false, "-C", work, "push", "-q", "origin", "main", ":side")
	want("push true refs/heads/main "+first+" "+second, "push true refs/heads/side "+first+" "+none,
		"push true refs/heads/main "+first+" "+second+" failed the target did not take it: hook declined", "push true refs/heads/side "+first+" "+none+" ok")
	run(true, "clone", "-q", there(t, repository), work+"2")
	want("fetch true refs/heads/main "+first, "fetch true refs/heads/main "+first+" ok")
	run(true, "-C", work+"2", "fetch", "-q")
	want()
	events := 0
	for _, e := range x.carried() {
		if e.Details["what"] == "push" || e.Details["what"] == "fetch" {
			if events++; e.Details["protocol"] != "git" || e.Details["path"] != repository || !strings.HasPrefix(e.Details["to"], "refs/heads/") || e.Details["partial"] != "" {
				t.Errorf("got %+v", e)
			}
		}
	}
	if events != 5 {
		t.Errorf("%d references in the audit log", events)
	}
}

// What is not git's protocol does not pass, from either side.
func TestGitViolations(t *testing.T) {
	x := newShare(t)
	repository := filepath.Join(x.both, "repository.git")
	if _, errs, code := play(t, x.over("git", "init", "-q", "--bare", repository)); code != 0 {
		t.Fatal(errs)
	}
	for name, stream := range map[string]string{
		"no length":         "GET / HTTP/1.0\r\n",
		"a length of two":   "0002",
		"a length of minus": "-001x",
		"too long":          "fff1",
		"lines without end": strings.Repeat("0035shallow "+strings.Repeat("1", 40)+"\n", maxReferences+1),
	} {
		t.Run(name, func(t *testing.T) {
			ch, reqs, err := x.client("alice", "db01").OpenChannel("session", nil)
			check(t, err)
			go gossh.DiscardRequests(reqs)
			defer ch.Close()
			if ok, err := ch.SendRequest("exec", true, gossh.Marshal(execRequest{"git-receive-pack '" + repository + "'"})); !ok || err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(patience, func() { t.Error("the session goes on"); ch.Close() })
			defer timer.Stop()
			go io.WriteString(ch, stream)
			go io.Copy(io.Discard, ch)
			said := must(io.ReadAll(ch.Stderr()))(t)
			if !strings.Contains(string(said), "DB-2446") {
				t.Errorf("the user was told %q", said)
			}
		})
	}
	script := write(t, filepath.Join(x.out, "script"), "case $SSH_ORIGINAL_COMMAND in git*) echo Welcome; cat;; *) exec /usr/lib/openssh/sftp-server;; esac\n")
	s := x.startSSHD("db02", noProfile, "ForceCommand sh "+script)
	x.addTarget("db02", s.addr, s.key)
	x.grant("alice", "db02", time.Hour)
	if _, errs, code := play(t, x.over("git", "ls-remote", me(t)+"@db02:"+repository)); code == 0 || !strings.Contains(errs, "DB-5432") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// FuzzNextLine: a line is what its length says, and all that was read is passed on.
func FuzzNextLine(f *testing.F) {
	for _, s := range []string{"0000", "0006a\n", "0009done\n0000", "fff0", "0003", "+005x", "00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for from := 0; ; {
			line, raw, err := nextLine(r)
			if err != nil {
				return
			}
			if !bytes.Equal(raw, b[from:from+len(raw)]) || line == nil && string(raw) != "0000" || line != nil && (!bytes.Equal(raw[4:], line) || fmt.Sprintf("%04x", len(raw)) != strings.ToLower(string(raw[:4]))) {
				t.Fatalf("%q is taken for %q", raw, line)
			}
			from += len(raw)
		}
	})
}
