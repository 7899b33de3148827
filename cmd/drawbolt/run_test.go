package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

func fleet(n int) []api.Target {
	var list []api.Target
	for i := range n {
		list = append(list, api.Target{Name: fmt.Sprintf("web%05d", i), Accounts: []api.Account{{Name: "deploy", MayAsk: true}}})
	}
	return append(list,
		api.Target{Name: "db01", Accounts: []api.Account{{Name: "deploy", Usable: true}, {Name: "root", MayAsk: true}}},
		api.Target{Name: "db02", Accounts: []api.Account{{Name: "deploy"}, {Name: "root", MayAsk: true}}}, // known, and not to be had
		api.Target{Name: "db03\n    ProxyCommand x", Accounts: []api.Account{{Name: "deploy", MayAsk: true}}},
	)
}

func TestPickTargets(t *testing.T) {
	for _, tt := range []struct {
		patterns, account string
		n                 int
		want              string // "": the names; else part of the error
		code              int
		names             []string
	}{
		{"db01", "deploy", 3, "", 0, []string{"db01"}},
		{"web*, db*,web00001", "deploy", 3, "", 0, []string{"db01", "web00000", "web00001", "web00002"}},
		{"web0000[02]", "deploy", 3, "", 0, []string{"web00000", "web00002"}},
		{"db*", "root", 0, "", 0, []string{"db01", "db02"}},
		{"db02", "deploy", 0, "db02 with an account deploy", exitNotFound, nil},
		{"db01,app*", "deploy", 0, "app*", exitNotFound, nil},
		{"db0[", "deploy", 0, "not a pattern", exitUsage, nil},
		{"db01,,", "deploy", 0, "not a pattern", exitUsage, nil},
		{"*", "deploy", api.MaxBatch - 1, "", 0, nil},
		{"*", "deploy", api.MaxBatch, "at most 50", exitUsage, nil},
		{"*", "deploy", 10_000, "names 10001 targets, and at most 50", exitUsage, nil},
	} {
		names, err := pickTargets(fleet(tt.n), tt.patterns, tt.account)
		if tt.want == "" {
			if err != nil || tt.names != nil && !slices.Equal(names, tt.names) {
				t.Errorf("%s: %q, %v", tt.patterns, names, err)
			}
			continue
		}
		if f, ok := err.(*failure); !ok || f.code != tt.code || !strings.Contains(f.text, tt.want) {
			t.Errorf("%s of %d: %q, %v", tt.patterns, tt.n, names, err)
		}
	}
}

// Too many are found before anything is asked for.
func TestRunTooMany(t *testing.T) {
	s := newServer(t, map[string]any{"GET /v1/targets": api.List[api.Target]{Items: fleet(10_000)}})
	p := newPerson(t).signedIn(s)
	code, _, errs := p.run("run", "web*", "--as", "deploy", "--reason", "CHG-1", "--", "true")
	if code != exitUsage || !strings.Contains(errs, "names 10000 targets") || len(s.calls) != 1 {
		t.Errorf("exit %d, %d calls: %s", code, len(s.calls), errs)
	}
	for _, args := range [][]string{
		{"run", "web*", "--as", "deploy", "--reason", "x"}, {"run", "--as", "deploy", "--", "true"}, {"run", "web*", "db*", "--as", "deploy", "--", "true"},
		{"run", "web*", "--", "true"}, {"run", "web*", "--as", "x", "--parallel", "0", "--", "true"}, {"run", "web*", "--as", "x", "--json", "--", "true"},
	} {
		if code, _, errs := p.run(args...); code != exitUsage {
			t.Errorf("%q: exit %d: %s", args, code, errs)
		}
	}
}

// runServer answers for three targets; what each request becomes is said by state.
func runServer(t *testing.T, state map[string]string) *server {
	s := newServer(t, loginAnswers(t, newSigner(t)))
	s.answers["GET /v1/targets"] = api.List[api.Target]{Items: fleet(3)}
	s.answers["POST /v1/requests"] = func(body []byte) any {
		var in api.RequestInput
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		if state[in.Target] == "refused" {
			return refuse{Title: "Forbidden", Status: 403, Detail: "no role allows it", Code: "DB-2001"}
		}
		id := "REQ-" + in.Target
		r := api.Request{ID: id, State: api.Pending, Target: in.Target, Account: in.Account, Batch: in.Batch, Reason: in.Reason, Version: 1, Waiting: []string{"bob"}}
		after := r
		after.State, after.Version, after.DecidedBy = state[in.Target], 2, "bob"
		if after.State == api.Approved {
			after.Grant = &api.Grant{ID: "GRA-" + in.Target, State: api.Active}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answers["GET /v1/requests/"+id] = after
		for _, hold := range []int{1, 2, 3} {
			s.answers[fmt.Sprintf("GET /v1/requests/%s?version=1&wait_seconds=%d", id, hold)] = after
		}
		after.State = api.Cancelled
		s.answers["POST /v1/requests/"+id+"/cancel"] = after
		after.State, after.Grant = api.Approved, &api.Grant{State: api.Ended}
		s.answers["POST /v1/requests/"+id+"/end"] = after
		return r
	}
	return s
}

func (s *server) called(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if strings.Contains(c, part) {
			n++
		}
	}
	return n
}

func TestRun(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins are shell scripts")
	}
	bin := t.TempDir()
	// A stand-in for ssh says where it goes, as the last value in the configuration
	// before any other says, and fails where it is told.
	script := "#!/bin/sh\nhead -3 \"$2\" | tr '\\n' ' '\necho\nprintf 'no end from %s' \"$3\" >&2\ncase $3 in *2) exit 42;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	all := map[string]string{"web00000": api.Approved, "web00001": api.Approved, "web00002": api.Approved}
	with := func(target, state string) map[string]string {
		m := map[string]string{"web00000": api.Approved, "web00001": api.Approved, "web00002": api.Approved}
		m[target] = state
		return m
	}
	for _, tt := range []struct {
		name   string
		state  map[string]string
		args   []string
		code   int
		out    []string
		errs   []string
		not    string
		cancel int // how many requests are taken back
		end    int // how many grants are given back
	}{
		{"here", all, []string{"--", "sh", "-c", "echo $DRAWBOLT_HOSTS as $ANSIBLE_REMOTE_USER; exit 7"}, 7, []string{"web00000,web00001,web00002 as deploy"}, []string{"BAT-", "on 3 targets"}, "", 0, 0},
		{"there", all, []string{"--ssh", "--parallel", "2", "--", "uptime"}, 42,
			[]string{"web00001 | Host web00000 web00001 web00002     User deploy     BatchMode yes"}, []string{"web00002 | no end from web00002\n", "failed on 1 of 3 targets: web00002 (42)"}, "", 0, 0},
		{"JSON", all, []string{"--ssh", "--json", "--", "uptime"}, 42, []string{`{"target":"web00002","account":"deploy","request":"REQ-web00002","exit_code":42}`}, []string{"web00000 | Host"}, "| Host", 0, 0},
		{"one denied", with("web00001", api.Denied), []string{"--ssh", "--", "uptime"}, exitDenied, nil, []string{"1 of 3 targets not granted: web00001 (denied by bob)", "nothing was run"}, "Host", 0, 0},
		{"one denied, and the others will do", with("web00002", api.Denied), []string{"--ssh", "--partial", "--end", "--", "uptime"}, 0, []string{"web00001 | Host web00000 web00001 "}, []string{"web00002 (denied by bob)", "2 grants were given back"}, "web00002 |", 0, 2},
		{"one expired", with("web00000", api.Expired), []string{"--", "true"}, exitExpired, nil, []string{"web00000 (expired"}, "", 0, 0},
		{"one refused at once", with("web00002", "refused"), []string{"--", "true"}, exitDenied, nil, []string{"no role allows it"}, "", 2, 0},
		{"no such program", all, []string{"--", "/nonexistent/program"}, exitError, nil, []string{"/nonexistent/program"}, "", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			s := runServer(t, tt.state)
			p := newPerson(t)
			p.stdin = "pw\n"
			if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin"); code != 0 {
				t.Fatalf("exit %d: %s", code, errs)
			}
			code, out, errs := p.run(append([]string{"run", "web*", "--as", "deploy", "--reason", "CHG-1"}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			for _, want := range tt.out {
				if !strings.Contains(out, want) {
					t.Errorf("stdout has no %q:\n%s", want, out)
				}
			}
			for _, want := range tt.errs {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr has no %q:\n%s", want, errs)
				}
			}
			if tt.not != "" && strings.Contains(out, tt.not) {
				t.Errorf("stdout has %q:\n%s", tt.not, out)
			}
			if n := s.called("/cancel"); n != tt.cancel {
				t.Errorf("%d were taken back, not %d", n, tt.cancel)
			}
			if n := s.called("/end"); n != tt.end {
				t.Errorf("%d were given back, not %d", n, tt.end)
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "drawbolt-run-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// Output of several targets never mixes within a line, and a terminal sees no
// target write in another's name.
func TestLines(t *testing.T) {
	var b bytes.Buffer
	var mu sync.Mutex
	raw := &lines{to: &b, mu: &mu, prefix: "a | "}
	shown := &lines{to: &b, mu: &mu, prefix: "b | ", clean: true}
	for _, part := range []string{"on", "e\ntwo\r\n\nth", "ree"} {
		if n, err := raw.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
		fmt.Fprint(shown, part+"\x1b[1A\ra | forged")
	}
	raw.flush()
	raw.flush()
	got := b.String()
	var ofA []string
	for line := range strings.Lines(got) {
		if text, ok := strings.CutPrefix(line, "a | "); ok {
			ofA = append(ofA, text)
		} else if !strings.HasPrefix(line, "b | ") {
			t.Errorf("a line of nobody: %q", line)
		}
	}
	if want := []string{"one\n", "two\n", "\n", "three\n"}; !slices.Equal(ofA, want) {
		t.Errorf("got %q, want %q", ofA, want)
	}
	if strings.ContainsAny(got, "\x1b\r") {
		t.Errorf("control characters came through: %q", got)
	}
	b.Reset()
	long := &lines{to: &b, mu: &mu, prefix: "| "}
	fmt.Fprint(long, strings.Repeat("x", maxOutputLine+1))
	if b.Len() == 0 {
		t.Error("a line without an end is kept for ever")
	}
}

func TestGroupsAndDigest(t *testing.T) {
	list := []api.Request{
		{ID: "REQ-3", Batch: "BAT-1", Requester: "alice", Target: "b", Digest: "3"}, {ID: "REQ-2", Requester: "bob", Target: "x", Digest: "2"},
		{ID: "REQ-1", Batch: "BAT-1", Requester: "alice", Target: "a", Digest: "1"}, {ID: "REQ-4", Batch: "BAT-1", Requester: "mallory", Target: "c"},
		{ID: "REQ-5", Requester: "bob", Target: "y"},
	}
	var got []string
	for _, g := range groups(list) {
		got = append(got, strings.Join(hostsOf(g), "+"))
	}
	if want := []string{"a+b", "x", "c", "y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	two := []api.Request{list[0], list[2]}
	digest := batchDigest(two)
	if batchDigest([]api.Request{list[2], list[0]}) != digest {
		t.Error("the order counts")
	}
	changed := slices.Clone(two)
	changed[0].Digest = "4"
	if batchDigest(changed) == digest || batchDigest(list[:3]) == digest || batchDigest(two[:1]) == digest {
		t.Error("another batch has the same digest")
	}
}
