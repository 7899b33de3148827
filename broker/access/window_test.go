package access

import (
	"testing"
	"time"
)

func TestWindowOpenAt(t *testing.T) {
	zone := func(name string) *time.Location {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	once := Window{From: at("2026-03-01T22:00:00Z"), To: at("2026-03-02T02:00:00Z")}
	saturdays := Window{Hours: "22:00-04:00", Weekdays: []string{"saturday"}}
	bounded := Window{Hours: "00:00-24:00", From: at("2026-03-01T00:00:00Z"), To: at("2026-03-03T00:00:00Z")}
	for _, tt := range []struct {
		name   string
		window Window
		zone   string
		at     string
		want   bool
	}{
		{"before", once, "UTC", "2026-03-01T21:59:59Z", false}, {"from", once, "UTC", "2026-03-01T22:00:00Z", true},
		{"last", once, "UTC", "2026-03-02T01:59:59Z", true}, {"to", once, "UTC", "2026-03-02T02:00:00Z", false},
		{"saturday", saturdays, "Europe/Berlin", "2026-03-07T21:00:00Z", true}, {"too early", saturdays, "Europe/Berlin", "2026-03-07T20:59:00Z", false},
		{"after midnight", saturdays, "Europe/Berlin", "2026-03-08T02:59:00Z", true}, {"over", saturdays, "Europe/Berlin", "2026-03-08T03:00:00Z", false},
		{"friday's night", saturdays, "Europe/Berlin", "2026-03-07T01:00:00Z", false}, {"sunday", saturdays, "Europe/Berlin", "2026-03-08T22:00:00Z", false},
		// That night an hour is skipped, and in autumn one is there twice.
		{"short night", saturdays, "Europe/Berlin", "2026-03-29T01:59:00Z", true}, {"short night is over", saturdays, "Europe/Berlin", "2026-03-29T02:00:00Z", false},
		{"long night", saturdays, "Europe/Berlin", "2026-10-25T02:59:00Z", true}, {"long night is over", saturdays, "Europe/Berlin", "2026-10-25T03:00:00Z", false},
		{"every day", bounded, "UTC", "2026-03-02T12:00:00Z", true}, {"not yet", bounded, "UTC", "2026-02-28T12:00:00Z", false}, {"no more", bounded, "UTC", "2026-03-03T00:00:00Z", false},
	} {
		if got := tt.window.OpenAt(at(tt.at).In(zone(tt.zone))); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestWindowValidate(t *testing.T) {
	minute := noon.Truncate(time.Minute)
	good := func() Window {
		return Window{Kind: Freeze, Reason: "year end", From: minute, To: minute.Add(time.Hour)}
	}
	weekly := func(w *Window) { w.From, w.To, w.Hours = time.Time{}, time.Time{}, "22:00-04:00" }
	for _, tt := range []struct {
		name   string
		change func(*Window)
		good   bool
	}{
		{"plain", func(*Window) {}, true}, {"weekly", weekly, true}, {"weekly for a time", func(w *Window) { w.Hours = "08:00-24:00" }, true},
		{"kind", func(w *Window) { w.Kind = "holiday" }, false}, {"no reason", func(w *Window) { w.Reason = " " }, false},
		{"backwards", func(w *Window) { w.To = w.From }, false}, {"over", func(w *Window) { w.From, w.To = minute.Add(-2*time.Hour), minute.Add(-time.Hour) }, false},
		{"no end", func(w *Window) { w.To = time.Time{} }, false}, {"years", func(w *Window) { w.To = minute.Add(400 * 24 * time.Hour) }, false},
		{"seconds", func(w *Window) { w.From = minute.Add(time.Second) }, false}, {"weekday alone", func(w *Window) { w.Weekdays = []string{"monday"} }, false},
		{"no such weekday", func(w *Window) { weekly(w); w.Weekdays = []string{"Mon"} }, false}, {"no hours", func(w *Window) { weekly(w); w.Hours = "22-4" }, false},
		{"no such label", func(w *Window) { w.Targets.Labels = map[string][]string{"color": {"red"}} }, false},
		{"star inside", func(w *Window) { w.Targets.Names = []string{"d*b"} }, false},
	} {
		w := good()
		tt.change(&w)
		if err := w.Validate(noon); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for name, ranges := range map[string][]string{"desks": {"10.0.0.0/8", "fd00::/8"}, "none": nil, "10.0.0.0/8": {"10.0.0.0/8"}, "host": {"10.0.0.1/8"}, "mapped": {"::ffff:10.0.0.0/104"}, "single": {"10.0.0.1"}} {
		n := Network{Name: name, Ranges: ranges}
		if err := n.Validate(); (err == nil) != (name == "desks") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
