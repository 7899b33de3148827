package view_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/view"
)

var items = []view.Item{
	{Segment: &view.Segment{Cols: 80, Rows: 24}},
	{Text: &view.Text{At: time.Second, In: view.Output, Text: "größer �"}},
	{End: &view.End{Version: view.Version, Duration: time.Minute}},
}

func write(t *testing.T, items ...view.Item) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, i := range items {
		if err := view.Write(&b, i); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestRead(t *testing.T) {
	var got []view.Item
	err := view.Read(bytes.NewReader(write(t, items...)), func(i view.Item) error {
		got = append(got, i)
		return nil
	})
	if err != nil || !reflect.DeepEqual(got, items) {
		t.Fatalf("read %v, %v", got, err)
	}
}

func TestReadSome(t *testing.T) {
	output := view.Item{Text: &view.Text{At: 5, In: view.Output, Text: `"in":"keys",`}}
	keys := view.Item{Text: &view.Text{At: 6, In: view.Keys, Text: `"in":"output",`}}
	var got []view.Item
	err := view.ReadSome(bytes.NewReader(write(t, items[0], output, keys, items[2])), func(line []byte) bool { return !view.IsOutput(line) }, func(i view.Item) error {
		got = append(got, i)
		return nil
	})
	if want := []view.Item{items[0], keys, items[2]}; err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %v, %v", got, err)
	}
	if err := view.ReadSome(bytes.NewReader(write(t, items[0])), func([]byte) bool { return false }, nil); !errors.Is(err, view.ErrCut) {
		t.Errorf("without its end: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	ignore := func(view.Item) error { return nil }
	whole := string(write(t, items...))
	for name, text := range map[string]string{
		"two in one":    `{"segment":{"cols":1,"rows":1},"end":{}}` + "\n",
		"no JSON":       "x\n",
		"control":       `{"text":{"in":"output","text":"\u001b[2J"}}` + "\n",
		"other source":  `{"text":{"in":"secret","text":"a"}}` + "\n",
		"after the end": whole + whole,
		"a long line":   `{"text":{"in":"output","text":"` + strings.Repeat("a", 5<<20) + `"}}` + "\n",
	} {
		if err := view.Read(strings.NewReader(text), ignore); err == nil || errors.Is(err, view.ErrCut) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := whole[:strings.Index(whole, `{"end"`)]
	if err := view.Read(strings.NewReader(cut), ignore); !errors.Is(err, view.ErrCut) {
		t.Errorf("without its end: %v", err)
	}
}

func TestIndex(t *testing.T) {
	var written []view.Item
	for n := range 1234 {
		written = append(written, view.Item{Segment: &view.Segment{At: time.Duration(n) * time.Second, Offset: int64(n) * 100, Cols: 80, Rows: 24, Screen: strings.Repeat("s", n), Lines: []string{"s"}}},
			view.Item{Text: &view.Text{At: time.Duration(n) * time.Second, In: view.Output, Text: "shown"}})
	}
	for n := range 5001 {
		written = append(written, view.Item{Text: &view.Text{At: time.Duration(n), In: view.Command, Text: "run"}})
	}
	written = append(written, view.Item{End: &view.End{Version: view.Version, Duration: time.Hour}})
	var b bytes.Buffer
	w := view.NewWriter(&b)
	for _, i := range written {
		if err := w.Write(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(b.Bytes())
	x, err := view.ReadIndex(r)
	if err != nil || len(x.Segments) != 1234 || len(x.Texts) != 5000 || !x.More || x.End.Duration != time.Hour {
		t.Fatalf("%d segments, %d texts, more %v, end %v: %v", len(x.Segments), len(x.Texts), x.More, x.End, err)
	}
	for _, n := range []int{0, 1, 1233} {
		if s, err := view.ReadSegment(r, x.Segments[n]); err != nil || !reflect.DeepEqual(s, *written[2*n].Segment) {
			t.Errorf("segment %d: %+v, %v", n, s, err)
		}
	}
	other := x.Segments[7]
	other.Line = x.Segments[8].Line
	if _, err := view.ReadSegment(r, other); err == nil {
		t.Error("another segment than the one that was asked for")
	}
	var got []view.Item
	if err := view.Read(bytes.NewReader(b.Bytes()), func(i view.Item) error { got = append(got, i); return nil }); err != nil || !reflect.DeepEqual(got, written) {
		t.Errorf("read as a whole: %d items of %d, %v", len(got), len(written), err)
	}

	for name, text := range map[string]string{
		"nothing":            "",
		"no index":           string(write(t, items...)),
		"cut":                b.String()[:b.Len()-1],
		"from behind it":     `{"index":{"from":00000000000000000999}}` + "\n",
		"an index of itself": `{"index":{"from":00000000000000000000}}` + "\n",
		"no end":             `{"index":{"segments":[{"cols":1,"rows":1}]}}` + "\n" + `{"index":{"from":00000000000000000000}}` + "\n",
		"out of range":       `{"index":{"segments":[{"cols":0,"rows":1}],"end":{}}}` + "\n" + `{"index":{"from":00000000000000000000}}` + "\n",
		"control":            `{"index":{"texts":[{"in":"keys","text":"\u001b"}],"end":{}}}` + "\n" + `{"index":{"from":00000000000000000000}}` + "\n",
		"not JSON":           `{"index":` + "\n" + `{"index":{"from":00000000000000000000}}` + "\n",
	} {
		if x, err := view.ReadIndex(strings.NewReader(text)); err == nil {
			t.Errorf("%s: read %+v", name, x)
		}
	}
}
