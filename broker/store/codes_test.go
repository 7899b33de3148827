package store_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// envelopes is a database with an emergency user and a set of codes.
type envelopes struct {
	t      *testing.T
	db     *store.DB
	logins *identity.Logins
	user   access.User
	codes  []string
}

func newEnvelopes(t *testing.T, db *store.DB) *envelopes {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	e := &envelopes{t: t, db: db}
	e.logins, err = identity.New(identity.Config{Store: db.Identities(), Codes: db.Identities(), Key: key, Issuer: "https://gw.example.com"})
	ok(t, err)
	e.user = access.User{ID: access.NewID(access.UserPrefix), Name: "emergency", Emergency: true, Version: 1}
	change(t, db, func(tx *store.Tx) error { return tx.AddUser(t.Context(), &e.user) })
	e.print(5, 3)
	return e
}

func (e *envelopes) print(people, need int) {
	e.t.Helper()
	var err error
	e.codes, _, err = e.logins.NewCodes(e.t.Context(), access.System(), e.user, make([]identity.Holder, people), need)
	ok(e.t, err)
}

func (e *envelopes) open(codes ...string) (string, error) {
	token, l, u, err := e.logins.OpenWithCodes(e.t.Context(), codes, "INC-1 everything is down", netip.MustParseAddr("192.0.2.1"), "cli")
	if err == nil && (u.ID != e.user.ID || l.ExpiresAt.Sub(l.IssuedAt) != identity.CodeLoginTTL || l.MFAAt.IsZero()) {
		e.t.Errorf("the login %+v of %s", l, u.Name)
	}
	return token, err
}

// events returns the events of an action.
func (e *envelopes) events(action string) (list []audit.Event) {
	e.t.Helper()
	leaves, err := e.db.Leaves(e.t.Context(), store.LeafFilter{Action: action, Limit: 1000})
	ok(e.t, err)
	for _, leaf := range leaves {
		event, err := audit.Parse(leaf)
		ok(e.t, err)
		list = append(list, event)
	}
	return list
}

func refused(t *testing.T, err error, code string) {
	t.Helper()
	if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestSealedCodes(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		e := newEnvelopes(t, db)
		ctx := t.Context()

		// Guesses, and too few, have one answer; each is an event.
		other, _, err := e.logins.NewCodes(ctx, access.System(), access.User{ID: e.user.ID, Emergency: true}, make([]identity.Holder, 3), 2)
		ok(t, err)
		older := e.codes
		e.print(5, 3)
		for name, codes := range map[string][]string{
			"guessed":   {other[0], other[1], other[2]}, // of a set that another has replaced
			"older":     {older[0], older[1], older[2]},
			"too few":   {e.codes[0], e.codes[1]},
			"one wrong": {e.codes[0], e.codes[1], e.codes[2], other[0]},
		} {
			if _, err := e.open(codes...); err == nil {
				t.Errorf("%s: it opens", name)
			} else {
				refused(t, err, "DB-6254")
			}
		}
		// What is mistyped, or typed twice, is no try.
		_, err = e.open(e.codes[0], e.codes[1], e.codes[1])
		refused(t, err, "DB-6255")
		_, err = e.open(e.codes[0], e.codes[1], strings.ToLower(e.codes[1]))
		refused(t, err, "DB-6255")
		_, err = e.open(e.codes[0], e.codes[1], e.codes[2][:34])
		refused(t, err, "DB-6255")
		tries := e.events("breakglass.login")
		if len(tries) != 4 {
			t.Errorf("%d events of tries", len(tries))
		}
		for _, try := range tries {
			if try.Outcome != audit.Refused || try.Reason == "" || try.Source != "192.0.2.1" {
				t.Errorf("a try is told as %+v", try)
			}
		}

		token, err := e.open(e.codes[4], e.codes[0], strings.ToLower(e.codes[2]))
		ok(t, err)
		by, err := e.logins.Verify(ctx, token, netip.Addr{}, "cli")
		if err != nil || by.User.ID != e.user.ID || !by.User.Emergency || by.Until.IsZero() {
			t.Errorf("the caller %+v, %v", by, err)
		}
		told := e.events("breakglass.login")[4]
		if told.Outcome != audit.Done || told.Actor != e.user.ID || told.Details["codes"] != "1, 3, 5" || told.Reason != "INC-1 everything is down" {
			t.Errorf("told as %+v", told)
		}
		// None of the set opens anything any more, those neither that nobody has shown.
		for _, codes := range [][]string{{e.codes[4], e.codes[0], e.codes[2]}, {e.codes[0], e.codes[1], e.codes[3]}} {
			_, err = e.open(codes...)
			refused(t, err, "DB-6254")
		}
		if _, err := e.logins.Codes(ctx); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("a set is valid: %v", err)
		}
		// No other login leads there.
		if _, _, err := e.logins.Issue(ctx, e.user, netip.Addr{}, "cli", time.Time{}); !errors.Is(err, access.ErrDenied) {
			t.Errorf("a login was issued: %v", err)
		}
		refused(t, e.logins.ConfirmDevice(ctx, by, "KQTW-7JPD"), "DB-6256")

		// Made void, and locked.
		e.print(3, 2)
		ok(t, e.logins.VoidCodes(ctx, access.System(), "an envelope is lost"))
		_, err = e.open(e.codes...)
		refused(t, err, "DB-6254")
		if err := e.logins.VoidCodes(ctx, access.System(), "again"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("void twice: %v", err)
		}
		e.print(3, 2)
		change(t, db, func(tx *store.Tx) error {
			u, err := tx.User(ctx, e.user.ID)
			ok(t, err)
			u.Locked = true
			return tx.SaveUser(ctx, &u)
		})
		_, err = e.open(e.codes...)
		refused(t, err, "DB-6254")
		if _, err := e.logins.Codes(ctx); err != nil {
			t.Errorf("the codes of a locked user are gone: %v", err)
		}
		if _, err := e.logins.Verify(ctx, token, netip.Addr{}, "cli"); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("the login of a locked user holds: %v", err)
		}
	})
}

// TestSealedCodesRace: of many who type the same codes at once, one gets in.
func TestSealedCodesRace(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		e := newEnvelopes(t, db)
		var in atomic.Int64
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				_, err := e.open(e.codes[i%2], e.codes[2], e.codes[3])
				if err == nil {
					in.Add(1)
				} else if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != "DB-6254" {
					t.Errorf("refused with %v", err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 {
			t.Errorf("%d got in", in.Load())
		}
	})
}

func TestNewCodesRefuses(t *testing.T) {
	e := newEnvelopes(t, open(t, engines[0].url(t)))
	for name, tt := range map[string]struct {
		user         access.User
		people, need int
	}{
		"alone": {e.user, 3, 1}, "more than there are": {e.user, 3, 4}, "nobody": {e.user, 0, 0}, "too many": {e.user, identity.MaxCodes + 1, 2},
		"an ordinary user": {access.User{ID: e.user.ID, Name: "alice"}, 3, 2},
	} {
		if _, _, err := e.logins.NewCodes(t.Context(), access.System(), tt.user, make([]identity.Holder, tt.people), tt.need); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	set, err := e.logins.Codes(t.Context())
	if err != nil || len(set.Codes) != 5 {
		t.Errorf("the set from before: %+v, %v", set, err)
	}
	if err := e.logins.VoidCodes(context.Background(), access.System(), ""); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("void without a reason: %v", err)
	}
}
