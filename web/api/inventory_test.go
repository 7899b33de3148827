package api

import (
	"bytes"
	"strings"
	"testing"
)

// What a target says does not become a formula in a spreadsheet.
func TestInventoryCSV(t *testing.T) {
	var b bytes.Buffer
	if err := InventoryCSV(&b, []FoundAccount{{Target: "db01", Name: "=cmd|' /C calc'!A0", Class: "unmanaged", Risk: "high", Owner: "+1", Reasons: []string{"@SUM(A1)", "-1"}}}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		for cell := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			if cell = strings.Trim(cell, `"`); cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
				t.Errorf("a formula: %s", cell)
			}
		}
	}
}
