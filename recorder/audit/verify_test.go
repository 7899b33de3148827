package audit

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/note"
)

var mutations = flag.Int("mutations", 5000, "random changes that TestRandomMutations makes")

// TestOldExports keeps every format that was ever written readable.
func TestOldExports(t *testing.T) {
	b, err := os.ReadFile("testdata/export.txt")
	if err != nil {
		t.Fatal(err)
	}
	if res := mustVerify(t, b); !res.Verified || res.Events != 5 || res.Checkpoints != 2 {
		t.Errorf("%+v", res)
	}
}

// TestEveryBitFlip flips each bit of an export in turn. A flip in an event's line
// must be laid at that event.
func TestEveryBitFlip(t *testing.T) {
	export := testLog(t, 3).export(t, 3, 2)
	event := eventOfByte(export)
	for i := range len(export) * 8 {
		bent := bytes.Clone(export)
		bent[i/8] ^= 1 << (i % 8)
		res := mustVerify(t, bent)
		if res.Verified {
			t.Fatalf("bit %d of byte %d flipped and not found", i%8, i/8)
		}
		if n := event[i/8]; n >= 0 && (res.FirstBad != n || res.LastBad != n) {
			t.Errorf("byte %d is of event %d, found in %d to %d: %s", i/8, n, res.FirstBad, res.LastBad, res.Problem)
		}
	}
}

// eventOfByte tells for each byte which event's line it is in, or -1.
func eventOfByte(export []byte) []int64 {
	var out []int64
	n := int64(0)
	for line := range bytes.Lines(export) {
		at := int64(-1)
		if bytes.HasPrefix(line, []byte("event ")) {
			at = n
			n++
		}
		out = append(out, slices.Repeat([]int64{at}, len(line))...)
	}
	return out
}

// TestRandomMutations damages an export in a random way and wants the damage
// found, the events before it not blamed, and the first event that differs
// within the range that is named.
func TestRandomMutations(t *testing.T) {
	const events = 40
	export := testLog(t, events).export(t, events, 9)
	event := eventOfByte(export)
	lines := slices.Collect(bytes.Lines(export))
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range *mutations {
		bent, how := mutate(rnd, export, lines)
		if bytes.Equal(bent, export) {
			continue
		}
		res := mustVerify(t, bent)
		if res.Verified {
			t.Fatalf("%d: %s: not found", i, how)
		}
		if res.FirstBad < 0 || res.FirstBad > res.LastBad || res.LastBad > events || res.Line < 1 || res.Line > int64(len(lines))+2 {
			t.Errorf("%d: %s: %+v makes no sense", i, how, res)
		}
		// Up to the first byte that differs all is as it was.
		same := 0
		for same < min(len(bent), len(export)) && bent[same] == export[same] {
			same++
		}
		if same < len(event) && event[same] >= 0 && (event[same] < res.FirstBad || event[same] > res.LastBad) {
			t.Errorf("%d: %s: event %d is the first that differs, found in %d to %d: %s", i, how, event[same], res.FirstBad, res.LastBad, res.Problem)
		}
	}
}

func mutate(rnd *rand.Rand, export []byte, lines [][]byte) ([]byte, string) {
	a, b := rnd.IntN(len(lines)), rnd.IntN(len(lines))
	at := rnd.IntN(len(export))
	ls := slices.Clone(lines)
	switch rnd.IntN(8) {
	case 0:
		bent := bytes.Clone(export)
		bent[at] ^= 1 << rnd.IntN(8)
		return bent, fmt.Sprintf("flip a bit of byte %d", at)
	case 1:
		return slices.Concat(slices.Delete(ls, a, a+1)...), fmt.Sprintf("drop line %d", a)
	case 2:
		ls[a], ls[b] = ls[b], ls[a]
		return slices.Concat(ls...), fmt.Sprintf("swap lines %d and %d", a, b)
	case 3:
		return slices.Concat(slices.Insert(ls, b, lines[a])...), fmt.Sprintf("repeat line %d before %d", a, b)
	case 4:
		return export[:at], fmt.Sprintf("cut at byte %d", at)
	case 5:
		ls = slices.Delete(ls, a, a+1)
		return slices.Concat(slices.Insert(ls, min(b, len(ls)), lines[a])...), fmt.Sprintf("move line %d to %d", a, b)
	case 6:
		lo, hi := min(a, b), max(a, b)+1
		rnd.Shuffle(hi-lo, func(i, j int) { ls[lo+i], ls[lo+j] = ls[lo+j], ls[lo+i] })
		return slices.Concat(ls...), fmt.Sprintf("shuffle lines %d to %d", lo, hi)
	default:
		n := min(1+rnd.IntN(400), len(export)-at)
		return slices.Delete(bytes.Clone(export), at, at+n), fmt.Sprintf("cut %d bytes out at %d", n, at)
	}
}

// rewrite returns the export of a log whose events from first on read otherwise,
// all hashes rebuilt, with the checkpoints that were truly signed before: what an
// administrator of the database can do without the key.
func rewrite(t *testing.T, export []byte, size int, change func(i int, e *Event)) []byte {
	t.Helper()
	forged := new(memLog)
	for i := range size {
		e := testEvent(i)
		change(i, &e)
		forged.add(t, e)
	}
	var out []byte
	n := int64(0)
	for line := range bytes.Lines(export) {
		if bytes.HasPrefix(line, []byte("event ")) {
			line = fmt.Appendf(nil, "event %s %s\n", forged.leafHash(n), forged.leaves[n])
			n++
		}
		out = append(out, line...)
	}
	return out
}

func TestRebuiltHistory(t *testing.T) {
	const size, every = 30, 10
	l := testLog(t, size)
	export := l.export(t, size, every)
	older, _ := l.checkpoint(t, 15)
	for first := range size {
		bent := rewrite(t, export, size, func(i int, e *Event) {
			if i == first {
				e.Reason = "nothing to see"
			}
		})
		res := mustVerify(t, bent)
		from := int64(first / every * every)
		if res.Verified || res.FirstBad != from || res.LastBad != from+every-1 || res.Last.Size != from {
			t.Errorf("event %d rebuilt: %+v", first, res)
		}
		// A checkpoint kept elsewhere makes the range narrower.
		if first >= 10 && first < 20 {
			res = mustVerify(t, bent, older)
			if first < 15 && res.LastBad != 14 || first >= 15 && res.FirstBad != 15 {
				t.Errorf("event %d rebuilt, with an older checkpoint: %+v", first, res)
			}
		}
	}
}

// TestRebuiltWithAnotherKey signs a rebuilt log with a key of the same name.
func TestRebuiltWithAnotherKey(t *testing.T) {
	skey, _, err := NewKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l := testLog(t, 4)
	c, _ := l.checkpoint(t, 4)
	msg, err := c.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	res := mustVerify(t, exportWith(t, l, 4, msg))
	if res.Verified || res.FirstBad != 0 || res.LastBad != 3 || !strings.Contains(res.Problem, "not signed by this log's key") {
		t.Errorf("%+v", res)
	}
}

// exportWith writes n events and then these checkpoints.
func exportWith(t *testing.T, l *memLog, n int64, msgs ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, testOrigin)
	for i := range n {
		w.Event(l.leaves[i], l.leafHash(i))
	}
	for _, msg := range msgs {
		w.Checkpoint(msg)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLeafChangedInDatabase changes a stored leaf but not the stored hash.
func TestLeafChangedInDatabase(t *testing.T) {
	l := testLog(t, 20)
	l.leaves[13] = bytes.Replace(l.leaves[13], []byte("Bob"), []byte("Rob"), 1)
	res := mustVerify(t, l.export(t, 20, 6))
	if res.FirstBad != 13 || res.LastBad != 13 || res.Last.Size != 12 || res.Events != 13 {
		t.Errorf("%+v", res)
	}
}

func TestTailCut(t *testing.T) {
	l := testLog(t, 20)
	kept, _ := l.checkpoint(t, 17)
	empty, _ := l.checkpoint(t, 0)
	// The admin cuts everything back to a checkpoint that was truly signed.
	cut := l.export(t, 12, 6)
	if res := mustVerify(t, cut); !res.Verified {
		t.Fatalf("the cut log alone holds together: %+v", res)
	}
	res := mustVerify(t, cut, kept)
	if res.Verified || res.FirstBad != 12 || res.LastBad != 16 || res.Events != 12 {
		t.Errorf("%+v", res)
	}
	if want := "the log has 12 events, a checkpoint signed at 2026-03-01T09:00:17.000001Z covers 17: the end was cut off"; res.Problem != want {
		t.Errorf("got %q, want %q", res.Problem, want)
	}
	at12, _ := l.checkpoint(t, 12)
	if res := mustVerify(t, l.export(t, 20, 6), kept, at12, kept, empty); !res.Verified {
		t.Errorf("the whole log with kept checkpoints: %+v", res)
	}
}

func TestFork(t *testing.T) {
	l, other := testLog(t, 12), testLog(t, 7)
	e := testEvent(7)
	e.Reason = "another history"
	for range 5 {
		other.add(t, e)
	}
	_, mine := l.checkpoint(t, 12)
	theirs, msg := other.checkpointAt(t, 12, testStart.Add(time.Hour))
	shared, _ := other.checkpoint(t, 7)
	for name, res := range map[string]Result{
		"in one export":  mustVerify(t, exportWith(t, l, 12, mine, msg)),
		"kept elsewhere": mustVerify(t, l.export(t, 12, 5), shared, theirs),
	} {
		if res.Verified || !strings.Contains(res.Problem, "fork") || res.LastBad != 11 {
			t.Errorf("%s: %+v", name, res)
		}
	}
	// The second history shows between two checkpoints of the first.
	at9, _ := other.checkpoint(t, 9)
	res := mustVerify(t, l.export(t, 12, 5), shared, at9)
	if res.Verified || res.FirstBad != 7 || res.LastBad != 8 {
		t.Errorf("%+v", res)
	}
}

func TestCheckpointsOfOneSize(t *testing.T) {
	l := testLog(t, 3)
	_, first := l.checkpointAt(t, 3, testStart)
	_, second := l.checkpointAt(t, 3, testStart.Add(time.Minute))
	if res := mustVerify(t, exportWith(t, l, 3, first, second)); !res.Verified || res.Checkpoints != 2 {
		t.Errorf("signed again without new events: %+v", res)
	}
	for name, export := range map[string][]byte{
		"repeated": exportWith(t, l, 3, first, first),
		"swapped":  exportWith(t, l, 3, second, first),
	} {
		if res := mustVerify(t, export); res.Verified {
			t.Errorf("%s checkpoint not found", name)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	l := testLog(t, 3)
	export := string(l.export(t, 3, 9))
	_, early := l.checkpoint(t, 2)
	kept, _ := l.checkpoint(t, 3)
	kept.Origin = "elsewhere"
	for name, bent := range map[string]string{
		"empty":                "",
		"another format":       strings.Replace(export, "audit/1", "audit/2", 1),
		"another origin":       strings.Replace(export, testOrigin, "elsewhere", 1),
		"carriage returns":     strings.ReplaceAll(export, "\n", "\r\n"),
		"long line":            strings.Replace(export, "\nevent ", "\nevent "+strings.Repeat("a", maxLine), 1),
		"endless line":         strings.Repeat("a", 4*maxLine),
		"blank line":           strings.Replace(export, "\nevent ", "\n\nevent ", 1),
		"second header":        strings.Replace(export, "\nevent ", "\n"+headerWord+" "+testOrigin+"\nevent ", 1),
		"more after the end":   export + "\n",
		"two exports":          export + export,
		"other count":          strings.Replace(export, "end 3 1", "end 3 2", 1),
		"no last line feed":    strings.TrimSuffix(export, "\n"),
		"end before any event": headerWord + " " + testOrigin + "\nend 0 0\n",
		"misplaced checkpoint": strings.Replace(export, "\nend", "\n"+checkpointWord+" "+quoteNote(early)+"\nend", 1),
		"unquoted checkpoint":  strings.Replace(export, `checkpoint "`, `checkpoint `, 1),
		"empty checkpoint":     strings.Replace(export, `checkpoint "`, "checkpoint\ncheckpoint \"", 1),
		"escaped checkpoint":   strings.Replace(export, `checkpoint "d`, `checkpoint "\u0064`, 1),
	} {
		if res := mustVerify(t, []byte(bent)); res.Verified || res.FirstBad < 0 {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if res := mustVerify(t, []byte(export), kept); res.Verified {
		t.Error("a kept checkpoint of another log passed")
	}
	if (Result{}).Verified {
		t.Error("the zero Result is verified")
	}
}

func TestReadingFails(t *testing.T) {
	export := testLog(t, 3).export(t, 3, 9)
	broken := errors.New("disk is gone")
	for n := range len(export) + 1 {
		res, err := Verify(io.MultiReader(bytes.NewReader(export[:n]), iotest.ErrReader(broken)), verifierKey(t))
		if !errors.Is(err, broken) || res.Verified || res.Problem == "" {
			t.Fatalf("broken after %d bytes: %+v, %v", n, res, err)
		}
	}
	if res, err := Verify(iotest.OneByteReader(bytes.NewReader(export)), verifierKey(t)); err != nil || !res.Verified {
		t.Errorf("byte by byte: %+v, %v", res, err)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		return w.left, io.ErrShortWrite
	}
	w.left -= len(b)
	return len(b), nil
}

func TestWriterRefuses(t *testing.T) {
	l := testLog(t, 2)
	_, at1 := l.checkpoint(t, 1)
	_, at2 := l.checkpoint(t, 2)
	both := func(w *Writer) {
		w.Event(l.leaves[0], l.leafHash(0))
		w.Event(l.leaves[1], l.leafHash(1))
	}
	for name, write := range map[string]func(*Writer){
		"nothing":            func(w *Writer) {},
		"no last checkpoint": both,
		"early checkpoint":   func(w *Writer) { both(w); w.Checkpoint(at1) },
		"late checkpoint":    func(w *Writer) { w.Event(l.leaves[0], l.leafHash(0)); w.Checkpoint(at2) },
		"event after the last": func(w *Writer) {
			w.Event(l.leaves[0], l.leafHash(0))
			w.Checkpoint(at1)
			w.Event(l.leaves[1], l.leafHash(1))
		},
		"no checkpoint at all": func(w *Writer) { both(w); w.Checkpoint([]byte("checkpoint")) },
		"line feed in a leaf":  func(w *Writer) { w.Event([]byte("{\n}"), Hash{}) },
		"quote in a signature": func(w *Writer) { both(w); w.Checkpoint(append(bytes.Clone(at2), '"')) },
	} {
		w := NewWriter(io.Discard, testOrigin)
		write(w)
		if w.Close() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if NewWriter(io.Discard, "a b").Close() == nil {
		t.Error("an origin with a space passed")
	}
	for left := range len(l.export(t, 2, 9)) {
		w := NewWriter(&failingWriter{left}, testOrigin)
		both(w)
		w.Checkpoint(at2)
		if w.Close() == nil {
			t.Fatalf("a disk full after %d bytes went unnoticed", left)
		}
	}
	w := NewWriter(io.Discard, testOrigin)
	both(w)
	w.Checkpoint(at2)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if w.Event(l.leaves[0], l.leafHash(0)) == nil || w.Close() == nil {
		t.Error("a closed export takes more")
	}
}

// FuzzVerify: what verifies is, byte for byte, what Writer writes of its content,
// so no part of an export goes unchecked.
func FuzzVerify(f *testing.F) {
	l := testLog(f, 4)
	f.Add(l.export(f, 4, 2))
	f.Add(l.export(f, 1, 9))
	f.Add(l.export(f, 0, 9))
	v := verifierKey(f)
	f.Fuzz(func(t *testing.T, export []byte) {
		res, err := Verify(bytes.NewReader(export), v)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Verified {
			if res.Problem == "" || res.FirstBad < 0 || res.LastBad < res.FirstBad {
				t.Fatalf("%+v", res)
			}
			return
		}
		var b bytes.Buffer
		w := NewWriter(&b, testOrigin)
		for line := range bytes.Lines(export) {
			word, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
			switch string(word) {
			case eventWord:
				_, leaf, _ := bytes.Cut(rest, []byte(" "))
				w.Event(leaf, LeafHash(leaf))
			case checkpointWord:
				msg, _ := unquoteNote(rest)
				w.Checkpoint(msg)
			}
		}
		if err := w.Close(); err != nil || !bytes.Equal(b.Bytes(), export) {
			t.Fatalf("%q verifies, but is written %q, %v", export, b.Bytes(), err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	const events = 10000
	export := testLog(b, events).export(b, events, 500)
	v := verifierKey(b)
	b.SetBytes(int64(len(export)))
	b.ReportAllocs()
	for b.Loop() {
		if res, err := Verify(bytes.NewReader(export), v); err != nil || !res.Verified {
			b.Fatal(res, err)
		}
	}
	b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
