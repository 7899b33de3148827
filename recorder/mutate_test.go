package recorder

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

var mutations = flag.Int("mutations", 300, "mutated sealed recordings to try")

// TestSealedMutations damages the file that is kept in many ways; all are found.
func TestSealedMutations(t *testing.T) {
	s := newStand(t)
	seal := func(id string) []byte {
		rec := s.start(t, id)
		for i := range 200 {
			if err := rec.Write(Output, fmt.Appendf(text(400), "%s %d\r\n", id, i)); err != nil {
				t.Fatal(err)
			}
		}
		sealed, err := rec.Close(t.Context(), End{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(s.sealed, sealed.Name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole, other := seal("SES-1"), seal("SES-2")
	check := func(b []byte) error {
		r, err := OpenSealed(bytes.NewReader(b), int64(len(b)), s.auditor)
		if err == nil {
			_, err = cast.Verify(r, s.verifier)
		}
		return err
	}
	if err := check(whole); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range *mutations {
		bad := bytes.Clone(whole)
		from := rnd.IntN(len(bad))
		to := min(len(bad), from+1+rnd.IntN(2000))
		switch i % 6 {
		case 0:
			bad[from] ^= 1 << rnd.IntN(8)
		case 1:
			bad = bad[:from]
		case 2:
			bad = slices.Delete(bad, from, to)
		case 3:
			bad = slices.Insert(bad, from, whole[from:to]...)
		case 4: // splice
			bad = append(bad[:from], other[rnd.IntN(len(other)):]...)
		case 5:
			for k := from; k < to; k++ {
				bad[k] = byte(rnd.Uint32())
			}
		}
		if !bytes.Equal(bad, whole) && check(bad) == nil {
			t.Fatalf("mutation %d was not found", i)
		}
	}
}
