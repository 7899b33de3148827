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
