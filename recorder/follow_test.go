package recorder

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// all reads what a Follower gives up to the live edge, or the end.
func all(t *testing.T, f *Follower) (list []string, over bool) {
	t.Helper()
	for {
		e, ok, err := f.Next()
		switch {
		case err == io.EOF:
			return list, true
		case err != nil:
			t.Fatal(err)
		case !ok:
			return list, false
		}
		list = append(list, fmt.Sprintf("%v %s", e.Stream == cast.Output, e.Data))
	}
}

func wantAll(t *testing.T, f *Follower, over bool, want ...string) {
	t.Helper()
	got, ended := all(t, f)
	if strings.Join(got, "|") != strings.Join(want, "|") || ended != over {
		t.Errorf("got %q, over %t; want %q, over %t", got, ended, want, over)
	}
}

// A Follower sees what was shown before it came and what is shown after, to the
// end, and never what was typed.
func TestFollow(t *testing.T) {
	s := newStand(t)
	if _, err := s.Follow("SES-1"); !errors.Is(err, ErrNotLive) {
		t.Errorf("before the recording: %v", err)
	}
	rec := s.start(t, "SES-1")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(rec.Write(Output, []byte("Password: ")))
	must(rec.Write(Input, []byte("hunter2\r")))
	f, err := s.Follow("SES-1")
	must(err)
	defer f.Close()
	if f.Header().Fields["user"] != "alice" {
		t.Errorf("header %+v", f.Header())
	}
	wantAll(t, f, false, "true Password: ")
	more := f.More()
	must(rec.Resize(100, 30))
	<-more
	must(rec.Mark("signal INT"))
	must(rec.Write(Stderr, []byte("oops")))
	must(rec.Write(Input, []byte("more keys")))
	wantAll(t, f, false, "false 100x30", "false signal INT", "false oops")
	more = f.More()
	status := 3
	if _, err := rec.Close(t.Context(), End{Reason: "exited", ExitStatus: &status}); err != nil {
		t.Fatal(err)
	}
	<-more
	wantAll(t, f, true, "false 3") // though the journal is gone
	<-f.More()
	if f.Reason() != "exited" {
		t.Errorf("reason %q", f.Reason())
	}
	if _, err := s.Follow("SES-1"); !errors.Is(err, ErrNotLive) {
		t.Errorf("after the recording: %v", err)
	}
	if _, err := s.Follow("../SES-1"); !errors.Is(err, ErrNotLive) {
		t.Errorf("another path: %v", err)
	}
}

// Many follow a recording that is written as fast as can be: each sees all of it in
// order, whether it reads along or only when all is over.
func TestFollowMany(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	const events = 3000
	var readers sync.WaitGroup
	for i := range 8 {
		f, err := s.Follow("SES-1")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readers.Go(func() {
			n := 0
			if i%2 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
			for {
				more := f.More()
				for {
					e, ok, err := f.Next()
					if err == io.EOF {
						if n != events {
							t.Errorf("reader %d saw %d events", i, n)
						}
						return
					}
					if err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if !ok {
						break
					}
					if got := string(e.Data); got != fmt.Sprint(n) {
						t.Errorf("reader %d: event %d is %q", i, n, got)
						return
					}
					n++
				}
				<-more
			}
		})
	}
	for i := range events {
		if err := rec.Write(Output, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rec.Close(t.Context(), End{Reason: "exited"}); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
}

// Whoever follows and does not read costs nothing: what the writer does for them is
// a channel that it closes, and at most once each time that somebody waits.
func BenchmarkFollowed(b *testing.B) {
	for _, followers := range []int{0, 16} {
		b.Run(fmt.Sprint(followers), func(b *testing.B) {
			s := newStand(b)
			rec := s.start(b, "SES-1")
			for range followers {
				f, err := s.Follow("SES-1")
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				f.More()
			}
			line := []byte("a line of output, as long as lines are, or nearly so\r\n")
			for b.Loop() {
				if err := rec.Write(Output, line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
