package oncall

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/outbound"
)

// monday is when these tests take place: noon in Berlin.
var monday = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)

func calendar(events ...string) []byte {
	return []byte("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n" + strings.Join(events, "") + "END:VCALENDAR\r\n")
}

func vevent(lines ...string) string {
	return "BEGIN:VEVENT\r\nUID:1\r\n" + strings.Join(lines, "\r\n") + "\r\nBEGIN:VALARM\r\nSUMMARY:alarm\r\nEND:VALARM\r\nEND:VEVENT\r\n"
}

func TestCalendar(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	berlin := []string{"DTSTART;TZID=Europe/Berlin:20260302T080000", "DTEND;TZID=Europe/Berlin:20260302T200000", "SUMMARY:bob"}
	for _, tt := range []struct {
		name   string
		events []string
		on     []string // moments at which bob is on call
		off    []string
	}{
		{"one shift", []string{vevent("DTSTART:20260302T080000Z", "DTEND:20260302T200000Z", "SUMMARY:bob")}, []string{"2026-03-02T08:00:00Z", "2026-03-02T19:59:59Z"}, []string{"2026-03-02T07:59:59Z", "2026-03-02T20:00:00Z", "2026-03-03T09:00:00Z"}},
		{"a length", []string{vevent("DTSTART:20260302T080000Z", "DURATION:P1DT1H", "SUMMARY:bob")}, []string{"2026-03-03T08:59:59Z"}, []string{"2026-03-03T09:00:00Z"}},
		{"in a zone, each day, over the change of the clocks", []string{vevent(append(berlin, "RRULE:FREQ=DAILY")...)}, []string{"2026-03-28T07:00:00Z", "2026-03-29T06:00:00Z"}, []string{"2026-03-28T06:59:59Z", "2026-03-29T05:59:59Z", "2026-03-29T18:00:00Z"}},
		{"every other week", []string{vevent(append(berlin, "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE")...)}, []string{"2026-03-02T12:00:00Z", "2026-03-04T12:00:00Z", "2026-03-16T12:00:00Z"}, []string{"2026-03-03T12:00:00Z", "2026-03-09T12:00:00Z", "2026-03-11T12:00:00Z"}},
		{"three times", []string{vevent(append(berlin, "RRULE:FREQ=DAILY;COUNT=3")...)}, []string{"2026-03-04T12:00:00Z"}, []string{"2026-03-05T12:00:00Z"}},
		{"until a day", []string{vevent(append(berlin, "RRULE:FREQ=DAILY;UNTIL=20260304T070000Z")...)}, []string{"2026-03-04T12:00:00Z"}, []string{"2026-03-05T12:00:00Z"}},
		{"but for a day", []string{vevent(append(berlin, "RRULE:FREQ=DAILY", "EXDATE;TZID=Europe/Berlin:20260303T080000")...)}, []string{"2026-03-04T12:00:00Z"}, []string{"2026-03-03T12:00:00Z"}},
		{"somebody else for a day", []string{
			vevent(append(berlin, "RRULE:FREQ=DAILY")...),
			vevent("RECURRENCE-ID;TZID=Europe/Berlin:20260303T080000", "DTSTART;TZID=Europe/Berlin:20260303T080000", "DTEND;TZID=Europe/Berlin:20260303T200000", "SUMMARY:dave"),
		}, []string{"2026-03-04T12:00:00Z"}, []string{"2026-03-03T12:00:00Z"}},
		{"cancelled", []string{vevent(append(berlin, "STATUS:CANCELLED")...)}, nil, []string{"2026-03-02T12:00:00Z"}},
		{"whole days", []string{vevent("DTSTART;VALUE=DATE:20260302", "DTEND;VALUE=DATE:20260304", "ATTENDEE;CN=\"Bob: x\":MAILTO:bob", "SUMMARY:on call")}, []string{"2026-03-03T23:59:59Z"}, []string{"2026-03-04T00:00:00Z"}},
		{"folded", []string{vevent("DTSTART:20260302T080000Z", "DTEND:20260302T200000Z", "SUMM\r\n ARY:b\r\n\tob")}, []string{"2026-03-02T12:00:00Z"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			on := func(s string) bool {
				shifts, err := parseCalendar(calendar(tt.events...), at(s).Add(-time.Minute), at(s).Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				return slices.ContainsFunc(shifts, func(x shift) bool { return x.person == "bob" && !at(s).Before(x.from) && at(s).Before(x.until) })
			}
			for _, s := range tt.on {
				if !on(s) {
					t.Errorf("bob is not on call at %s", s)
				}
			}
			for _, s := range tt.off {
				if on(s) {
					t.Errorf("bob is on call at %s", s)
				}
			}
		})
	}
}

// What is not understood whole is refused.
func TestCalendarRefused(t *testing.T) {
	times := []string{"DTSTART:20260302T080000Z", "DTEND:20260302T200000Z", "SUMMARY:bob"}
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"a page":                []byte("<html>\r\n"),
		"cut short":             []byte("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n"),
		"ends within an event":  []byte("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR\r\n"),
		"backwards":             calendar(vevent("DTSTART:20260302T080000Z", "DTEND:20260302T070000Z", "SUMMARY:bob")),
		"no end":                calendar(vevent("DTSTART:20260302T080000Z", "SUMMARY:bob")),
		"no zone":               calendar(vevent("DTSTART:20260302T080000", "DTEND:20260302T090000Z", "SUMMARY:bob")),
		"an unknown zone":       calendar(vevent("DTSTART;TZID=Somewhere/Else:20260302T080000", "DTEND:20260302T200000Z", "SUMMARY:bob")),
		"the server's own zone": calendar(vevent("DTSTART;TZID=Local:20260302T080000", "DTEND:20260302T200000Z", "SUMMARY:bob")),
		"monthly":               calendar(vevent(append(times, "RRULE:FREQ=MONTHLY")...)),
		"by month day":          calendar(vevent(append(times, "RRULE:FREQ=DAILY;BYMONTHDAY=1")...)),
		"the second Monday":     calendar(vevent(append(times, "RRULE:FREQ=WEEKLY;BYDAY=2MO")...)),
		"no interval":           calendar(vevent(append(times, "RRULE:FREQ=DAILY;INTERVAL=0")...)),
		"no frequency":          calendar(vevent(append(times, "RRULE:COUNT=3")...)),
		"further dates":         calendar(vevent(append(times, "RDATE:20260303T080000Z")...)),
		"from there on":         calendar(vevent(append(times, "RECURRENCE-ID;RANGE=THISANDFUTURE:20260303T080000Z")...)),
		"began long ago":        calendar(vevent("DTSTART:19000101T080000Z", "DTEND:19000101T200000Z", "SUMMARY:bob", "RRULE:FREQ=DAILY")),
	} {
		if shifts, err := parseCalendar(b, monday, monday.Add(ahead)); err == nil {
			t.Errorf("%s is taken: %v", name, shifts)
		}
	}
}

// FuzzCalendar: what is taken touches the span, and is bounded.
func FuzzCalendar(f *testing.F) {
	f.Add(calendar(vevent("DTSTART:20260302T080000Z", "DTEND:20260302T200000Z", "SUMMARY:bob", "RRULE:FREQ=WEEKLY;BYDAY=MO;COUNT=9")))
	f.Add(calendar(vevent("DTSTART;TZID=Europe/Berlin:20260302T080000", "DURATION:PT8H", "ATTENDEE:mailto:bob@example.com", "EXDATE:20260303T080000Z")))
	f.Fuzz(func(t *testing.T, b []byte) {
		shifts, err := parseCalendar(b, monday, monday.Add(ahead))
		if err != nil {
			return
		}
		if len(shifts) > maxShifts {
			t.Fatalf("%d shifts", len(shifts))
		}
		for _, s := range shifts {
			if !s.until.After(s.from) || !s.until.After(monday) || !s.from.Before(monday.Add(ahead)) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestFile(t *testing.T) {
	b := []byte("shifts:\n  - {person: erin, from: 2026-03-02T10:00:00Z, until: 2026-03-02T12:00:00Z}\n  - {person: old, from: 2025-03-02T10:00:00Z, until: 2025-03-02T12:00:00Z}\nrotation:\n  people: [bob, dave]\n  start: 2026-03-02T08:00:00Z\n  every: 7d\n")
	for day, want := range map[int]string{-1: "", 0: "erin bob", 6: "bob", 7: "dave", 13: "dave", 14: "bob"} {
		at := monday.AddDate(0, 0, day)
		shifts, err := parseFile(b, at, at.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		var on []string
		for _, s := range shifts {
			on = append(on, s.person)
		}
		if got := strings.Join(on, " "); got != want {
			t.Errorf("on day %d %q are on call, want %q", day, got, want)
		}
	}
	for _, bad := range []string{
		"shifts: [{person: bob, from: 2026-03-02T10:00:00Z, until: 2026-03-02T10:00:00Z}]", "shifts: [{person: bob, from: now, until: later}]", "people: [bob]",
		"rotation: {people: [bob], start: 2026-03-02T08:00:00Z, every: 1s}", "rotation: {people: [], start: 2026-03-02T08:00:00Z, every: 7d}",
	} {
		if _, err := parseFile([]byte(bad), monday, monday.Add(ahead)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A schedules is Schedules over a server whose answers the test gives.
func newSchedules(t *testing.T, list string, clock func() time.Time) *Schedules {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oncall.yaml")
	if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	out := outbound.New(outbound.Config{Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(out.Close)
	s, err := New(Config{File: path, Out: out, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A schedule that cannot be read counts for an hour as it was, and then for nobody.
func TestStale(t *testing.T) {
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Write(calendar(vevent("DTSTART:20260301T080000Z", "DTEND:20260309T200000Z", "ATTENDEE:mailto:Bob@example.com", "ATTENDEE:mailto:nobody@example.com")))
	}))
	defer server.Close()
	now := monday
	s := newSchedules(t, "schedules:\n  db: {calendar: "+server.URL+"/db.ics, people: {bob@example.com: bob}}\n", func() time.Time { return now })
	if on := s.People("oncall-db", now); on != nil {
		t.Errorf("before it was read %v are on call", on)
	}
	s.Refresh(t.Context())
	if on := s.People("oncall-db", now); !slices.Equal(on, []string{"bob"}) || !slices.Equal(s.Groups("bob", now), []string{"oncall-db"}) || s.Groups("dave", now) != nil || len(s.Problems(now)) != 0 {
		t.Errorf("on call are %v; problems %v", on, s.Problems(now))
	}
	broken.Store(true)
	now = now.Add(time.Hour)
	s.Refresh(t.Context())
	if on := s.People("oncall-db", now); len(on) != 1 || !strings.Contains(s.Problems(now)["oncall-db"], "502") {
		t.Errorf("after an hour %v are on call; problems %v", on, s.Problems(now))
	}
	now = now.Add(time.Second)
	if on := s.People("oncall-db", now); on != nil || !strings.Contains(s.Problems(now)["oncall-db"], "counts for nobody") {
		t.Errorf("after more %v are on call; problems %v", on, s.Problems(now))
	}
	broken.Store(false)
	s.Refresh(t.Context())
	if on := s.People("oncall-db", now); len(on) != 1 || len(s.Problems(now)) != 0 {
		t.Errorf("then %v are on call; problems %v", on, s.Problems(now))
	}
}

// The fake checks its caller: the token, the version, the schedule and the span.
func TestPagerDuty(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/oncalls" || r.Header.Get("Authorization") != "Token token=s3cret" || r.Header.Get("Accept") != "application/vnd.pagerduty+json;version=2" ||
			q.Get("schedule_ids[]") != "P1" || q.Get("since") == "" || q.Get("until") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"oncalls": [
			{"user": {"email": "bob@example.com"}, "schedule": {"id": "P1"}, "start": "2026-03-02T08:00:00Z", "end": "2026-03-02T20:00:00Z"},
			{"user": {"email": "dave@example.com"}, "schedule": {"id": "P2"}, "start": null, "end": null},
			{"user": {"email": "erin@example.com"}, "schedule": {"id": "P1"}, "start": null, "end": null}], "more": false}`)
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := monday
	s := newSchedules(t, fmt.Sprintf("schedules:\n  db: {pagerduty: P1, url: %s, token_file: %s, people: {bob@example.com: bob, dave@example.com: dave, erin@example.com: erin}}\n", server.URL, token), func() time.Time { return now })
	s.Refresh(t.Context())
	if on := s.People("oncall-db", monday); !slices.Equal(on, []string{"bob", "erin"}) {
		t.Errorf("on call are %v; %v", on, s.Problems(monday))
	}
	now = monday.Add(10 * time.Hour)
	s.Refresh(t.Context())
	if on := s.People("oncall-db", now); !slices.Equal(on, []string{"erin"}) {
		t.Errorf("at night %v are on call", on)
	}
}

func TestRunTellsOfChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.yaml")
	if err := os.WriteFile(path, []byte("rotation: {people: [bob], start: 2020-01-01T00:00:00Z, every: 7d}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSchedules(t, "schedules:\n  db: {file: "+path+"}\n", time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	select {
	case <-s.Changed():
	case <-time.After(time.Minute):
		t.Error("it does not tell that bob is on call now")
	}
	cancel()
	<-done
}

func TestListRefused(t *testing.T) {
	for name, list := range map[string]string{
		"nothing of it":       "schedules: {db: {}}",
		"two sources":         "schedules: {db: {file: a, calendar: b}}",
		"an unknown key":      "schedules: {db: {flie: a}}",
		"a bad name":          "schedules: {'d b': {file: a}}",
		"no token":            "schedules: {db: {pagerduty: P1}}",
		"a plain address":     "schedules: {db: {calendar: 'http://example.com/x.ics'}}",
		"a bad user":          "schedules: {db: {file: a, people: {x: 'B b'}}}",
		"not a list of these": "[1]",
	} {
		path := filepath.Join(t.TempDir(), "oncall.yaml")
		if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{File: path}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
