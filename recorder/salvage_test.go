package recorder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// sealedLines seals a recording of numbered lines that compress badly, so that it
// has many frames and many chunks of age, and returns the file and its cast.
func sealedLines(t testing.TB, s *stand, lines int) (sealed, plain []byte) {
	t.Helper()
	rec := s.start(t, "SES-1")
	noise := rand.New(rand.NewPCG(1, 2))
	for i := range lines {
		var b strings.Builder
		for range 64 {
			fmt.Fprintf(&b, "%016x", noise.Uint64())
		}
		if err := rec.Write(Output, fmt.Appendf(nil, "line %d %s\r\n", i, &b)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := rec.Close(t.Context(), End{Reason: "closed"})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err = os.ReadFile(filepath.Join(s.sealed, done.Name))
	if err != nil {
		t.Fatal(err)
	}
	plain, _ = s.open(t, done.Name)
	return sealed, plain
}

// salvage reads what can be read, and what was damaged.
func salvage(t testing.TB, s *stand, sealed []byte) ([]byte, error) {
	t.Helper()
	r, err := OpenDamaged(bytes.NewReader(sealed), int64(len(sealed)), s.auditor)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b, r.Damage()
}

// shown are the numbers of the lines that a player shows.
func shown(t testing.TB, plain []byte) (numbers []int, err error) {
	t.Helper()
	var out bytes.Buffer
	err = cast.Play(t.Context(), &out, bytes.NewReader(plain), cast.PlayOptions{Speed: math.Inf(1)})
	for line := range strings.Lines(out.String()) {
		var n int
		var rest string
		if _, e := fmt.Sscanf(line, "line %d %s", &n, &rest); e == nil && len(rest) == 1024 {
			numbers = append(numbers, n)
		}
	}
	return numbers, err
}

// TestSalvage: a bit that flips anywhere costs the frames it stands in; everything
// before and behind them plays, at its place, and the damage is named.
func TestSalvage(t *testing.T) {
	s := newStand(t)
	const lines = 2500
	sealed, plain := sealedLines(t, s, lines)
	if got, err := salvage(t, s, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("of what is whole: %v", err)
	}
	const tail = 70 << 10 // the last chunk has the seek table
	places := []int{}
	for range 16 {
		places = append(places, rand.IntN(len(sealed)))
	}
	for _, place := range places {
		bad := bytes.Clone(sealed)
		bad[place] ^= 1 << (place % 8)
		got, damage := salvage(t, s, bad)
		if got == nil { // its header, or nothing is authentic without it
			if place > 4<<10 {
				t.Errorf("bit at %d: nothing can be read: %v", place, damage)
			}
			continue
		}
		if damage == nil {
			t.Errorf("bit at %d: no damage", place)
			continue
		}
		numbers, err := shown(t, got)
		if d := (*cast.DamageError)(nil); !errors.As(err, &d) || !strings.Contains(d.Why, "cannot be read") && !strings.Contains(d.Why, "can be read") {
			t.Errorf("bit at %d: %v", place, err)
		}
		if !slices.IsSorted(numbers) {
			t.Errorf("bit at %d: the lines are out of order", place)
		}
		if place < len(sealed)-tail {
			if len(got) != len(plain) {
				t.Errorf("bit at %d: %d bytes instead of %d", place, len(got), len(plain))
			}
			// One chunk of 64 KiB is lost, in two frames at most, of some 500 lines each.
			if lost := lines - len(numbers); lost > 1300 || numbers[len(numbers)-1] != lines-1 && place < len(sealed)-600<<10 {
				t.Errorf("bit at %d: %d lines are lost, the last one is %d", place, lost, numbers[len(numbers)-1])
			}
		} else if len(numbers) < lines*8/10 {
			t.Errorf("bit at %d, near the end: only %d lines are shown", place, len(numbers))
		}
		if _, err := cast.Verify(bytes.NewReader(got), s.verifier); err == nil {
			t.Errorf("bit at %d: it verifies", place)
		}
	}
}

// TestSalvageCut: of a file that was cut everything before the cut plays.
func TestSalvageCut(t *testing.T) {
	s := newStand(t)
	const lines = 1500
	sealed, plain := sealedLines(t, s, lines)
	for _, size := range []int{len(sealed) - 1, len(sealed) - 100_000, len(sealed) / 2, len(sealed) / 10, 5 << 10} {
		got, damage := salvage(t, s, sealed[:size])
		if damage == nil {
			t.Errorf("cut at %d: no damage", size)
			continue
		}
		at := bytes.Index(got, []byte(cast.LineDamage))
		if at < 0 || !bytes.Equal(got[:at], plain[:at]) {
			t.Errorf("cut at %d: what is read is not the beginning", size)
			continue
		}
		// All but what stands in a cut chunk and the frame around it.
		if want := len(plain)*size/len(sealed) - 700<<10; at < want {
			t.Errorf("cut at %d: %d bytes are read, want about %d", size, at, want)
		}
		if _, err := shown(t, got); err == nil || !strings.Contains(err.Error(), "nothing of the recording can be read") {
			t.Errorf("cut at %d: %v", size, err)
		}
	}
}

// TestSalvageSmall: one chunk of age is all there is, so nothing but its damage is
// told.
func TestSalvageSmall(t *testing.T) {
	s := newStand(t)
	sealed, _ := sealedLines(t, s, 3)
	sealed[len(sealed)-20] ^= 1
	got, damage := salvage(t, s, sealed)
	if damage == nil || !strings.Contains(damage.Error(), "from byte 0 on") {
		t.Errorf("damage: %v", damage)
	}
	if numbers, err := shown(t, got); len(numbers) > 0 || err == nil || !strings.Contains(err.Error(), "from byte 0 on") {
		t.Errorf("%d lines, %v", len(numbers), err)
	}
	var text bytes.Buffer
	if err := cast.Text(&text, bytes.NewReader(got)); err == nil || !strings.Contains(text.String(), "from byte 0 on") {
		t.Errorf("%v:\n%s", err, &text)
	}
}

// FuzzSalvage: whatever is inside the encryption, and however the file is damaged,
// what is read is bounded and is named as damaged, or is what OpenSealed reads.
func FuzzSalvage(f *testing.F) {
	s := newStand(f)
	sealed, _ := sealedLines(f, s, 200)
	f.Add([]byte("plain"), uint32(0), byte(0))
	f.Add([]byte(nil), uint32(len(sealed)/2), byte(1))
	f.Add([]byte(nil), uint32(len(sealed)-3), byte(2))
	f.Fuzz(func(t *testing.T, inside []byte, place uint32, change byte) {
		file := bytes.Clone(sealed)
		if len(inside) > 0 {
			file = encrypted(t, s, inside)
		}
		i := int(place) % len(file)
		file[i] ^= change
		if change == 0 {
			file = file[:len(file)-i]
		}
		r, err := OpenDamaged(bytes.NewReader(file), int64(len(file)), s.auditor)
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.LimitReader(r, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		strict, err := OpenSealed(bytes.NewReader(file), int64(len(file)), s.auditor)
		if err == nil {
			var want []byte
			if want, err = io.ReadAll(io.LimitReader(strict, 8<<20)); err == nil && !bytes.Equal(got, want) {
				t.Error("what is whole is read in another way")
			}
		}
		if (err != nil) != (r.Damage() != nil) && len(got) < 8<<20 {
			t.Errorf("opened strictly: %v; damage: %v", err, r.Damage())
		}
	})
}

// What is read from a place on is what stands there, in a whole file and in one
// whose seek table is gone.
func TestSalvageSeek(t *testing.T) {
	s := newStand(t)
	sealed, plain := sealedLines(t, s, 2000)
	for name, file := range map[string][]byte{"whole": sealed, "cut": sealed[:len(sealed)-100]} {
		t.Run(name, func(t *testing.T) {
			r, err := OpenDamaged(bytes.NewReader(file), int64(len(file)), s.auditor)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{0, 1, frameSize - 1, frameSize, frameSize + 1, len(plain) / 2, 7, len(plain) - len(plain)/10} {
				if got, err := r.Seek(int64(at), io.SeekStart); err != nil || got != int64(at) {
					t.Fatalf("seek to %d: %d, %v", at, got, err)
				}
				b := make([]byte, 1000)
				if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, plain[at:at+len(b)]) {
					t.Errorf("at %d: %v, %.60q, want %.60q", at, err, b, plain[at:])
				}
			}
			if _, err := r.Seek(int64(len(plain))+1<<20, io.SeekStart); err != nil {
				t.Errorf("behind the end: %v", err)
			}
			if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
				t.Errorf("behind the end: %.60q, %v", b, err)
			}
			if _, err := r.Seek(0, io.SeekEnd); err == nil {
				t.Error("sought from the end")
			}
		})
	}
}
