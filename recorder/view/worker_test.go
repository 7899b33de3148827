//go:build linux

package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// TestMain lets the test binary be the process of a Worker, and one that goes wrong.
func TestMain(m *testing.M) {
	ctx := context.Background()
	last := os.Args[len(os.Args)-1] == "--last"
	verb := ""
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(a, "worker-") {
			verb = a
		}
	}
	switch verb {
	case "":
		os.Exit(m.Run())
	case "worker-good":
		os.Exit(Work(ctx, os.Stdin, os.Stdout, os.Stderr, last))
	case "worker-parent": // of a worker that hangs
		w := Worker{Command: []string{os.Args[0], "worker-hangs", os.Args[len(os.Args)-1]}}
		fmt.Println(w.Make(ctx, os.Stdin, func(Item) error { return nil }))
		os.Exit(0)
	}
	if err := confine(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s := Segment{At: time.Second, Offset: 7, Cols: 80, Rows: 24}
	_ = Write(os.Stdout, Item{Segment: &s})
	switch verb {
	case "worker-eats":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			_ = all
		}
	case "worker-measures": // its own memory, in bytes
		if err := Make(ctx, os.Stdin, func(Item) error { return nil }); err != nil {
			panic(err)
		}
		status, _ := os.ReadFile("/proc/self/status")
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		_, _ = fmt.Sscan(peak, &s.Offset)
		s.Offset <<= 10
		_ = Write(os.Stdout, Item{Segment: &s})
	case "worker-panics":
		panic("the emulator has a mistake")
	case "worker-hangs":
		for n := 0; ; n++ {
			_ = n
		}
	case "worker-waits": // for what never comes
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "worker-lies":
		fmt.Println(`{"text":{"in":"output","text":"\u001b[2J"}}`)
	case "worker-talks":
		for {
			_ = Write(os.Stdout, Item{Text: &Text{In: Output, Text: strings.Repeat("x", MaxText)}})
		}
	case "worker-sees": // what it has
		list := func(dir string) {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				to, _ := os.Readlink(filepath.Join(dir, e.Name()))
				fmt.Fprintln(os.Stderr, e.Name(), to)
			}
		}
		list("/proc/self/fd")
		status, _ := os.ReadFile("/proc/self/status")
		stat, _ := os.ReadFile("/proc/self/stat")
		dir, _ := os.Getwd()
		fmt.Fprintln(os.Stderr, os.Environ(), "NoNewPrivs", strings.Contains(string(status), "NoNewPrivs:\t1"), "nice", strings.Fields(string(stat))[18], "in", dir)
		os.Exit(exitRefused)
	}
}

func worker(verb string) Worker { return Worker{Command: []string{os.Args[0], "worker-" + verb}} }

// TestWorker: the process makes the same view.
func TestWorker(t *testing.T) {
	b := record(t, shell, logs(200<<10)...)
	want := makeView(t, b)
	var got made
	if err := worker("good").Make(t.Context(), bytes.NewReader(b), got.add); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, or another view: %d segments, %d texts, %+v", err, len(got.segments), len(got.texts), got.end)
	}
	last, err := worker("good").Last(t.Context(), bytes.NewReader(b[:len(b)/2]))
	if err != nil || last.Screen == "" || last.Rows != 24 {
		t.Errorf("%+v, %v", last, err)
	}
}

// TestWorkerFails: whatever a process does, it costs one view, which says so.
func TestWorkerFails(t *testing.T) {
	b := record(t, shell, logs(100<<10)...)
	for _, test := range []struct{ verb, want string }{
		{"eats", "the process that makes it failed: exit status"},
		{"panics", "the process that makes it failed: exit status 2"},
		{"hangs", "making it took too long"},
		{"lies", "said what it must not"},
		{"talks", "it is too large"},
	} {
		t.Run(test.verb, func(t *testing.T) {
			w := worker(test.verb)
			if test.verb == "hangs" {
				w.Patience = time.Second
			}
			if test.verb == "talks" {
				w.room = 1 << 20
			}
			var m made
			err := w.Make(t.Context(), bytes.NewReader(b), func(i Item) error {
				if i.Text != nil {
					return nil
				}
				return m.add(i)
			})
			if err != nil || len(m.segments) != 1 || m.end.Version != Version || m.end.Offset != 7 || !strings.Contains(m.end.Cut, test.want) {
				t.Errorf("%v, %d segments, %+v", err, len(m.segments), m.end)
			}
		})
	}
	if _, err := worker("panics").Last(t.Context(), bytes.NewReader(b)); err != nil {
		t.Errorf("the segment that it said: %v", err)
	}
}

// TestWorkerWaits: a recording that comes slowly is no fault of its own.
func TestWorkerWaits(t *testing.T) {
	r, w := io.Pipe()
	stop := errors.New("it could be read no longer")
	time.AfterFunc(1500*time.Millisecond, func() { w.CloseWithError(stop) })
	slow := worker("waits")
	slow.Patience = time.Second
	if err := slow.Make(t.Context(), r, func(Item) error { return nil }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// TestWorkerErrors: what is not the recording's fault is an error, and no view.
func TestWorkerErrors(t *testing.T) {
	b := record(t, shell, logs(100<<10)...)
	ignore := func(Item) error { return nil }
	stop := errors.New("enough")
	if err := worker("good").Make(t.Context(), bytes.NewReader(b), func(Item) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := worker("good").Make(t.Context(), io.MultiReader(bytes.NewReader(b[:4000]), failing{}), ignore); !errors.Is(err, errRead) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, stop)
	defer cancel()
	if err := worker("hangs").Make(ctx, bytes.NewReader(b), ignore); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := (Worker{Command: []string{"/nonexistent"}}).Make(t.Context(), bytes.NewReader(b), ignore); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := worker("good").Make(t.Context(), strings.NewReader("{\"version\":3}\n[]\n"), ignore); err == nil || !strings.Contains(err.Error(), "not sealed") {
		t.Errorf("got %v", err)
	}
}

// TestWorkerMemory: a process needs little, and no more for a larger recording.
func TestWorkerMemory(t *testing.T) {
	for name, events := range map[string][]cast.Event{"text": logs(4 << 20), "screens": screens(4 << 20)} {
		last, err := worker("measures").Last(t.Context(), bytes.NewReader(record(t, shell, events...)))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MiB", name, last.Offset>>20)
		if last.Offset < 1<<20 || last.Offset > 64<<20 {
			t.Errorf("%s took %d bytes of memory", name, last.Offset)
		}
	}
}

// TestWorkerHasNothing: no files but three pipes, no environment, no privileges.
func TestWorkerHasNothing(t *testing.T) {
	t.Setenv("DRAWBOLT_SECRET", "of the parent")
	f, err := os.Open(os.Args[0]) // one that must not be inherited
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = worker("sees").Make(t.Context(), strings.NewReader(""), func(Item) error { return nil })
	if err == nil {
		t.Fatal("it said nothing")
	}
	said := err.Error()
	t.Log(said)
	if strings.Contains(said, "of the parent") || strings.Contains(said, os.Args[0]) || strings.Count(said, "pipe:") != 3 {
		t.Errorf("it has %s", said)
	}
	if !strings.HasSuffix(said, "[GOMAXPROCS=1 GOTRACEBACK=none GOGC=100] NoNewPrivs true nice 19 in /") {
		t.Errorf("it is %s", said)
	}
}

// TestWorkerDies: a process does not outlive the one that started it.
func TestWorkerDies(t *testing.T) {
	mark := "mark-" + strconv.Itoa(os.Getpid())
	parent := exec.Command(os.Args[0], "worker-parent", mark)
	in, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	child := 0
	for end := time.Now().Add(time.Minute); child == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			b, _ := os.ReadFile(name)
			if bytes.Contains(b, []byte("worker-hangs\x00"+mark)) {
				child, _ = strconv.Atoi(strings.Split(name, "/")[2])
			}
		}
	}
	if child == 0 {
		t.Fatal("there is no process")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
		if time.Now().After(end) {
			_ = syscall.Kill(child, syscall.SIGKILL)
			t.Fatal("it lives on")
		}
	}
}
