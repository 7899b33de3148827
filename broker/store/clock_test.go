package store

import (
	"errors"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A clock that was set back refuses every change until it is right again, or
// until the operator says that it is.
func TestClockSetBack(t *testing.T) {
	now := time.Now()
	db, err := Open(t.Context(), Config{URL: "sqlite://" + t.TempDir() + "/db", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	e := audit.Event{Actor: "system", Action: "test.step", Outcome: audit.Done}
	record := func() error { return db.Record(t.Context(), e) }
	if err := record(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		back    time.Duration
		refused bool
	}{{30 * time.Second, false}, {2 * time.Minute, true}, {365 * 24 * time.Hour, true}, {0, false}} {
		start := now
		now = now.Add(-step.back)
		err := record()
		var ae *access.Error
		if refused := errors.Is(err, access.ErrUnavailable) && errors.As(err, &ae) && ae.Code == "DB-5003"; refused != step.refused {
			t.Errorf("%v back: %v", step.back, err)
		}
		now = start
	}
	if size, err := db.AuditSize(t.Context()); err != nil || size != 3 {
		t.Errorf("the log has %d events, want 3 (%v)", size, err)
	}
	now = now.Add(-24 * time.Hour)
	if err := db.AcceptClock(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := record(); err != nil {
		t.Errorf("after the clock was accepted: %v", err)
	}
}
