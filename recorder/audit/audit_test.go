package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	testOrigin = "drawbolt.example.com/audit"
	// A key made for these tests and used nowhere else.
	testSigner   = "PRIVATE+KEY+drawbolt.example.com/audit+1452e115+AWuT+kFD+3dgBjE0FkoybmT65vxj3y/jiYVu54kxpsco"
	testVerifier = "drawbolt.example.com/audit+1452e115+AYzDI2QWVd6D1S5ACWwrhR/axM5dS2lij/RCl2tJkLHV"
)

var testStart = time.Date(2026, 3, 1, 9, 0, 0, 1000, time.UTC)

func signer(t testing.TB) note.Signer {
	t.Helper()
	s, err := note.NewSigner(testSigner)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifierKey(t testing.TB) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(testVerifier)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A memLog keeps leaves and hashes the way a store would.
type memLog struct {
	leaves [][]byte
	hashes []Hash
}

func (l *memLog) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(l.hashes)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *memLog) add(t testing.TB, e Event) {
	t.Helper()
	n := int64(len(l.leaves))
	e.Seq = n
	leaf, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := Append(n, leaf, l)
	if err != nil {
		t.Fatal(err)
	}
	if at := tlog.StoredHashIndex(0, n); at != int64(len(l.hashes)) {
		t.Fatalf("hashes of leaf %d belong at %d, have %d", n, at, len(l.hashes))
	}
	l.leaves = append(l.leaves, leaf)
	l.hashes = append(l.hashes, hashes...)
}

func (l *memLog) leafHash(n int64) Hash { return l.hashes[tlog.StoredHashIndex(0, n)] }

func (l *memLog) checkpoint(t testing.TB, size int64) (Checkpoint, []byte) {
	t.Helper()
	return l.checkpointAt(t, size, testStart.Add(time.Duration(size)*time.Second))
}

func (l *memLog) checkpointAt(t testing.TB, size int64, at time.Time) (Checkpoint, []byte) {
	t.Helper()
	root, err := TreeRoot(size, l)
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Origin: testOrigin, Size: size, Root: root, Time: at}
	msg, err := c.Sign(signer(t))
	if err != nil {
		t.Fatal(err)
	}
	return c, msg
}

// export writes the first n events with a checkpoint after every k.
func (l *memLog) export(t testing.TB, n, k int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, testOrigin)
	for i := range n {
		if err := w.Event(l.leaves[i], l.leafHash(i)); err != nil {
			t.Fatal(err)
		}
		if (i+1)%k == 0 && i+1 < n {
			_, msg := l.checkpoint(t, i+1)
			if err := w.Checkpoint(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, msg := l.checkpoint(t, n)
	if err := w.Checkpoint(msg); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testEvent is event i of a made-up day.
func testEvent(i int) Event {
	e := Event{
		Time: testStart.Add(time.Duration(i) * time.Second), Actor: "USR-7c1e", ActorName: "Alice Ångström",
		Action: "request.create", Object: fmt.Sprintf("REQ-%04d", i), Target: "db01", Account: "root",
		Request: fmt.Sprintf("REQ-%04d", i), Source: "192.0.2.7:50122", Outcome: Done,
		Reason: `INC-42: the "orders" table \ index is broken`, Rule: "db.one_approval",
	}
	switch i % 3 {
	case 1:
		e.Actor, e.ActorName, e.Action, e.Grant = "USR-90ab", "Bob", "request.approve", "GRA-0001"
		e.Details = map[string]string{"digest": "sha256:00ff", "approvals.needed": "1", "comment": ""}
	case 2:
		e.Actor, e.ActorName, e.Action, e.Outcome, e.Reason = "system", "", "session.open", Refused, "no grant holds now"
		e.Session = "SES-9f2c"
	}
	return e
}

func testLog(t testing.TB, n int) *memLog {
	t.Helper()
	l := new(memLog)
	for i := range n {
		l.add(t, testEvent(i))
	}
	return l
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s changed:\n%s\nwant\n%s", path, got, want)
	}
}

func mustVerify(t testing.TB, export []byte, older ...Checkpoint) Result {
	t.Helper()
	res, err := Verify(bytes.NewReader(export), verifierKey(t), older...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verified != (res.Problem == "") || res.Verified != (res.FirstBad == -1) {
		t.Fatalf("the result contradicts itself: %+v", res)
	}
	return res
}

func TestExportVerifies(t *testing.T) {
	l := testLog(t, 40)
	for n := range int64(41) {
		res := mustVerify(t, l.export(t, n, 7))
		if !res.Verified || res.Events != n || res.Last.Size != n || res.Origin != testOrigin {
			t.Errorf("%d events: %+v", n, res)
		}
	}
}

func TestGoldenExport(t *testing.T) {
	got := testLog(t, 5).export(t, 5, 3)
	golden(t, "export.txt", got)
	golden(t, "leaf.json", []byte(strings.SplitN(strings.Split(string(got), "\n")[2], " ", 3)[2]))
}
