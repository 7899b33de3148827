package access

import (
	"errors"
	"testing"
	"time"
)

func TestBootstrapUse(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		change func(*Bootstrap)
		at     time.Time
		good   bool
	}{
		{"fresh", func(*Bootstrap) {}, at, true},
		{"in its last moment", func(*Bootstrap) {}, at.Add(BootstrapTTL - time.Nanosecond), true},
		{"expired", func(*Bootstrap) {}, at.Add(BootstrapTTL), false},
		{"proven", func(b *Bootstrap) { b.Prove(at) }, at, false},
		{"used too often", func(b *Bootstrap) { b.Tries = MaxBootstrapTries }, at, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := Bootstrap{CreatedAt: at, ExpiresAt: at.Add(BootstrapTTL)}
			c.change(&b)
			tries := b.Tries
			err := b.Use(c.at)
			if c.good != (err == nil) || c.good != (b.Tries == tries+1) || err != nil && !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("%v, %d tries", err, b.Tries)
			}
		})
	}
}

// What was not looked at is no proof of anything.
func TestLoggedIn(t *testing.T) {
	for _, c := range []struct {
		name         string
		steps        []CheckStep
		failed, seen bool
	}{
		{"nothing", nil, false, false},
		{"a hop let us in", []CheckStep{{Step: CheckWay, State: CheckOK}}, false, false},
		{"it is unknown", []CheckStep{{Step: CheckAuthority, State: CheckUnknown}}, false, false},
		{"nobody was let in", []CheckStep{{Step: CheckLogin, State: CheckFailed}, {Step: CheckAuthority, State: CheckFailed}}, true, false},
		{"one of two", []CheckStep{{Step: CheckLogin, State: CheckFailed}, {Step: CheckLogin, State: CheckOK}, {Step: CheckAuthority, State: CheckOK}}, true, true},
	} {
		if f, l := AnyFailed(c.steps), LoggedIn(c.steps); f != c.failed || l != c.seen {
			t.Errorf("%s: failed %v, logged in %v", c.name, f, l)
		}
	}
}
