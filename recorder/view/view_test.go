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
