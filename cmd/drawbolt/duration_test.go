package main

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1h": time.Hour, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "90s": 90 * time.Second,
		"1d2h3m4s": 26*time.Hour + 3*time.Minute + 4*time.Second, "30d": 30 * 24 * time.Hour,
		"": 0, "0s": 0, "1": 0, "-1h": 0, "+1h": 0, "1.5h": 0, "1h ": 0, "30m1h": 0, "31d": 0, "1w": 0, "1H": 0, "99999999s": 0, "１h": 0,
	} {
		got, err := parseDuration(in)
		if got != want && err == nil || (err == nil) != (want != 0) {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}

// FuzzParseDuration: what is taken is within its bounds and reads back.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1h", "1h30m", "2d", "720h", "1d1d", "-1s", "0m", "9999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			return
		}
		if d <= 0 || d > maxDuration || d%time.Second != 0 {
			t.Fatalf("%q gave %v", s, d)
		}
		if again, err := parseDuration(formatDuration(d)); err != nil || again != d {
			t.Fatalf("%q gave %v, which gave %v, %v", s, d, again, err)
		}
	})
}

func TestParseMoment(t *testing.T) {
	for in, want := range map[string]string{
		"2026-03-01T09:00:00+01:00": "2026-03-01T08:00:00Z",
		"2026-03-02":                "2026-03-02T00:00:00Z",
		"2026-03-02 08:30":          "2026-03-02T08:30:00Z",
		"13:00":                     "2026-03-01T13:00:00Z",
		"09:00":                     "2026-03-02T09:00:00Z", // today's is over
		"+2h":                       "2026-03-01T14:00:00Z",
		"-30m":                      "2026-03-01T11:30:00Z",
		"":                          "", "+": "", "2h": "", "25:00": "", "tomorrow": "",
	} {
		got, err := parseMoment(in, noon)
		if s := got.UTC().Format(time.RFC3339); err == nil && s != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %s, %v", in, s, err)
		}
	}
	if got, err := parsePast("7d", noon); err != nil || !got.Equal(noon.Add(-7*24*time.Hour)) {
		t.Errorf("7d: %v, %v", got, err)
	}
}

func TestParseOffset(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "16:02": 16*time.Minute + 2*time.Second, "1:16:02": time.Hour + 16*time.Minute + 2*time.Second, "75:00": 75 * time.Minute,
		"16:2": -1, "1:60": -1, ":10": -1, "1:2:3:4": -1, "x": -1, "-1:00": -1, "": -1,
	} {
		got, err := parseOffset(in)
		if err == nil && got != want || (err == nil) != (want >= 0) {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}
