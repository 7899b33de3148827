package recorder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("RECORDER_TEST_TYPE_INTO"); dir != "" {
		typeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// typeUntilKilled records sessions and, after each Write, forwards the bytes to
// its output: a line "session stream hex".
func typeUntilKilled(dir string) {
	s := newStandIn(dir)
	var out sync.Mutex
	for id := range 4 {
		rec, err := s.Start(context.Background(), Header{ID: fmt.Sprintf("SES-%d", id), Kind: "shell"})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(id)))
			for {
				p := make([]byte, 1+rnd.IntN(300))
				if rnd.IntN(50) == 0 {
					p = make([]byte, 100<<10)
				}
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				stream := Stream(1 + rnd.IntN(3))
				if err := rec.Write(stream, p); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Printf("%d %d %x\n", id, stream, p)
				out.Unlock()
			}
		}()
	}
	time.Sleep(time.Minute) // nobody came
	os.Exit(1)
}

// TestKill kills a recording process at random moments. What it forwarded is in
// the recordings, byte for byte.
func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		s := newStand(t)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "RECORDER_TEST_TYPE_INTO="+filepath.Dir(s.cfg.Journals))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(20+rand.IntN(120))*time.Millisecond, func() { cmd.Process.Kill() })
		forwarded := map[string]map[Stream]string{}
		r := bufio.NewReaderSize(pipe, 1<<20)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break // the last line may be cut: then it was not forwarded
			}
			if strings.HasPrefix(line, "error") {
				t.Fatal(line)
			}
			var id, stream int
			var p []byte
			if _, err := fmt.Sscanf(line, "%d %d %x", &id, &stream, &p); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("SES-%d", id)
			if forwarded[name] == nil {
				forwarded[name] = map[Stream]string{}
			}
			forwarded[name][Stream(stream)] += string(p)
		}
		cmd.Wait()
		kill.Stop()

		found := 0
		if err := s.Recover(t.Context(), func(sealed Sealed, err error) {
			if err != nil && len(forwarded[sealed.ID]) == 0 {
				return // killed inside Start: no session
			}
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if len(forwarded[sealed.ID]) > 0 {
				found++
			}
			plain, report := s.open(t, sealed.Name)
			if !report.Seal.Aborted {
				t.Errorf("%s is not marked as aborted", sealed.ID)
			}
			got, _ := streams(t, plain)
			for stream, want := range forwarded[sealed.ID] {
				if !strings.HasPrefix(got[stream], want) {
					t.Errorf("round %d: %s stream %v: %d bytes recorded, %d forwarded", round, sealed.ID, stream, len(got[stream]), len(want))
				}
				// Recorded, but not forwarded: at most what was in flight.
				if over := len(got[stream]) - len(want); over > 200<<10 {
					t.Errorf("round %d: %s: %d bytes more than were forwarded", round, sealed.ID, over)
				}
			}
			if err := cast.Play(t.Context(), io.Discard, bytes.NewReader(plain), cast.PlayOptions{Speed: 1e12}); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if found != len(forwarded) {
			t.Errorf("round %d: %d of %d sessions recovered", round, found, len(forwarded))
		}
	}
}

// journalOf returns the bytes of a journal with some frames, and where each
// frame ends.
func journalOf(t testing.TB, s *stand, id string, closed bool) ([]byte, []int) {
	t.Helper()
	rec := s.start(t, id)
	for i := range 6 {
		if err := rec.Write(Output, fmt.Appendf(nil, "line %d\r\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if closed {
		rec.append(frameEnd, []byte(`{"reason":"closed"}`))
	}
	b, err := os.ReadFile(s.journal(id))
	if err != nil {
		t.Fatal(err)
	}
	rec.file.Close()
	if err := os.Remove(s.journal(id)); err != nil {
		t.Fatal(err)
	}
	at := len(journalMagic) + 1 + len(id)
	at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	var ends []int
	for at < len(b) {
		at += headSize + int(binary.BigEndian.Uint32(b[at:]))
		ends = append(ends, at)
	}
	return b, ends
}

func readJournal(s *stand, b []byte) (events []Event, j *journalReader, err error) {
	j, err = newJournalReader(bytes.NewReader(b), s.cfg.Wrapper.Unwrap)
	for err == nil {
		var e Event
		if e, err = j.next(); err == nil {
			e.Data = bytes.Clone(e.Data)
			events = append(events, e)
		}
	}
	return events, j, err
}

// TestJournalCut: wherever a journal is cut, the whole frames are read and the
// rest is reported as torn.
func TestJournalCut(t *testing.T) {
	s := newStand(t)
	b, ends := journalOf(t, s, "SES-1", false)
	for n := range len(b) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= n {
			whole++
		}
		for _, zeros := range []int{0, 5000} {
			if zeros > 0 && whole > 0 && n != ends[whole-1] {
				continue // a page of zeros begins where a write began
			}
			events, j, err := readJournal(s, append(b[:n:n], make([]byte, zeros)...))
			if whole == 0 {
				if err == nil || err == io.EOF {
					t.Fatalf("cut at %d: read without its header", n)
				}
				continue
			}
			if err != io.EOF || len(events) != whole-1 || j.torn != int64(n-ends[whole-1]+zeros) {
				t.Fatalf("cut at %d, %d zeros: %d events, %d torn, %v", n, zeros, len(events), j.torn, err)
			}
		}
	}
}

// TestJournalEveryBit: a flipped bit is named with its frame, and what stands
// before it is read.
func TestJournalEveryBit(t *testing.T) {
	s := newStand(t)
	b, ends := journalOf(t, s, "SES-1", true)
	for i := range len(b) * 8 {
		frame := 0
		for ends[frame] <= i/8 {
			frame++
		}
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		events, _, err := readJournal(s, bad)
		d, ok := err.(*DamagedError)
		if frame == 0 {
			if err == nil || err == io.EOF {
				t.Fatalf("bit %d of the header was not found", i)
			}
			continue
		}
		if !ok || d.Frame != uint64(frame) || len(events) != frame-1 {
			t.Fatalf("bit %d of frame %d: %d events, %v", i, frame, len(events), err)
		}
	}
	// Frames that change places, are left out or come from elsewhere.
	other, oends := journalOf(t, s, "SES-2", false)
	cut := func(b []byte, ends []int, i int) []byte { return b[ends[i-1]:ends[i]] }
	head := b[:ends[1]]
	for name, bad := range map[string][]byte{
		"swapped":    bytes.Join([][]byte{head, cut(b, ends, 3), cut(b, ends, 2), b[ends[3]:]}, nil),
		"left out":   bytes.Join([][]byte{head, b[ends[2]:]}, nil),
		"twice":      bytes.Join([][]byte{head, cut(b, ends, 1), b[ends[1]:]}, nil),
		"of another": bytes.Join([][]byte{head, cut(other, oends, 2), b[ends[2]:]}, nil),
		"after end":  append(bytes.Clone(b), cut(b, ends, 2)...),
	} {
		if _, _, err := readJournal(s, bad); err == nil || err == io.EOF {
			t.Errorf("%s: not found", name)
		}
	}
}

func FuzzJournal(f *testing.F) {
	s := newStand(f)
	b, _ := journalOf(f, s, "SES-1", true)
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, in []byte) {
		events, j, err := readJournal(s, in)
		if err == nil {
			t.Fatal("no end")
		}
		for _, e := range events {
			if !e.Stream.Valid() || len(e.Data) > maxData || e.At < 0 {
				t.Fatalf("impossible event %v", e)
			}
		}
		// Without the key nothing can be made that is read: events are those
		// that were written, in their order.
		for i, e := range events {
			if want := fmt.Sprintf("line %d\r\n", i); string(e.Data) != want {
				t.Fatalf("event %d: %q", i, e.Data)
			}
		}
		if err == io.EOF && j.torn > int64(len(in)) {
			t.Fatalf("%d bytes torn of %d", j.torn, len(in))
		}
	})
}
