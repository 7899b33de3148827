package api

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"
)

// TestCSVRunsNothing: no cell is a formula for whoever opens the file, and nothing
// that was typed breaks out of its cell.
func TestCSVRunsNothing(t *testing.T) {
	evil := []string{"=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", `"=1`, "a,b\r\nc", "|x", "%0a=1", "", "plain"}
	event, at := int64(12), at("2026-03-01T09:00:00Z").In(time.FixedZone("", 3600))
	x := ReviewExport{Review: Review{ID: "CMP-1"}}
	for i, text := range evil {
		x.List = append(x.List, ReviewItem{N: i + 1, Holding: Holding{User: text, Role: text, How: []string{text}}, Decision: Kept, DecidedBy: text, DecidedAt: &at, Reason: text, Event: &event})
	}
	var b strings.Builder
	if err := x.CSV(&b); err != nil {
		t.Fatal(err)
	}
	if err := HoldingsCSV(&b, []Holding{x.List[0].Holding}); err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(strings.NewReader(b.String()))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) != len(evil)+3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, row := range rows[1 : len(evil)+1] {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n|%") {
				t.Errorf("row %d has the cell %q", i+1, cell)
			}
		}
		if want := strings.ReplaceAll(evil[i], "\r\n", "\n"); !strings.HasSuffix(row[11], want) && evil[i] != "\r=1" {
			t.Errorf("row %d says %q, not %q", i+1, row[11], evil[i])
		}
	}
	if got := rows[1][10]; got != "2026-03-01T09:00:00Z" {
		t.Errorf("the time is %s", got)
	}
}
