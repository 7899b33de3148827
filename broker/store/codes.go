package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

var codeSets = newTable("code_sets", "id", func(s *identity.CodeSet) []column {
	return []column{
		{"id", &s.ID}, {"user_id", &s.UserID}, {"need", count{&s.Need}}, {"created_at", micros{&s.CreatedAt}},
		{"voided_at", micros{&s.VoidedAt}}, {"used_at", micros{&s.UsedAt}}, {"codes", encoded{&s.Codes}},
	}
})

const validCodes = "WHERE voided_at = 0"

// voidCodes makes a set that was read in this change void. What its codes were is
// forgotten, except who had them.
func (tx *Tx) voidCodes(ctx context.Context, s *identity.CodeSet, at time.Time) error {
	s.VoidedAt = at
	for i := range s.Codes {
		s.Codes[i].Hash = nil
	}
	n, err := tx.exec(ctx, "UPDATE code_sets SET voided_at = ?, used_at = ?, codes = ? WHERE id = ? AND voided_at = 0",
		toMicros(at), toMicros(s.UsedAt), encoded{&s.Codes}, s.ID)
	if err == nil && n != 1 {
		err = errStale
	}
	return err
}

// CreateCodes implements identity.CodeStore.
func (i Identities) CreateCodes(ctx context.Context, by access.Caller, s identity.CodeSet) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "breakglass.codes", s.ID)
		e.Details = map[string]string{"codes": strconv.Itoa(len(s.Codes)), "need": strconv.Itoa(s.Need), "user": s.UserID, "holders": audit.Clean(holders(s.Codes), audit.MaxDetailValue)}
		was, err := codeSets.one(ctx, tx.queryer, validCodes+tx.lock())
		switch {
		case err == nil:
			e.Details["replaces"] = was.ID
			err = tx.voidCodes(ctx, &was, s.CreatedAt)
		case errors.Is(err, access.ErrNotFound):
			err = nil
		}
		if err != nil {
			return e, err
		}
		return e, codeSets.add(ctx, tx, &s)
	})
}

func holders(codes []identity.SealedCode) string {
	var names []string
	for _, c := range codes {
		name := strconv.Itoa(c.N)
		if c.HolderName != "" {
			name += " " + c.HolderName
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// ValidCodes implements identity.CodeStore.
func (i Identities) ValidCodes(ctx context.Context) (identity.CodeSet, error) {
	return codeSets.one(ctx, i.db.queryer, validCodes)
}

// VoidCodes implements identity.CodeStore.
func (i Identities) VoidCodes(ctx context.Context, by access.Caller, reason string, at time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "breakglass.void", "")
		e.Reason = audit.Clean(reason, audit.MaxReason)
		s, err := codeSets.one(ctx, tx.queryer, validCodes+tx.lock())
		if err != nil {
			return e, err
		}
		e.Object = s.ID
		return e, tx.voidCodes(ctx, &s, at)
	})
}

// UseCodes implements identity.CodeStore.
func (i Identities) UseCodes(ctx context.Context, l identity.Login, reason string, match func(identity.CodeSet) ([]int, error)) (access.User, error) {
	var u access.User
	err := i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := audit.Event{Actor: unknown, Action: "breakglass.login", Object: l.ID, Source: audit.Clean(l.Source, audit.MaxName), Details: map[string]string{"via": l.Via}}
		refused := func(why string, err error) (audit.Event, error) {
			e.Reason = why
			return e, err
		}
		// Locked: of two who type the same codes at once, one finds nothing here.
		s, err := codeSets.one(ctx, tx.queryer, validCodes+tx.lock())
		if errors.Is(err, access.ErrNotFound) {
			return refused("no set of codes is valid", err)
		}
		if err != nil {
			return e, err
		}
		used, err := match(s)
		if err != nil {
			return refused("the codes are not those of the set, or too few", err)
		}
		if u, err = tx.User(ctx, s.UserID); err != nil || u.Locked || !u.Emergency {
			if err == nil || errors.Is(err, access.ErrNotFound) {
				return refused("the emergency user is locked or gone", access.ErrDenied)
			}
			return e, err
		}
		var shown []identity.SealedCode
		for i := range s.Codes {
			for _, n := range used {
				if s.Codes[i].N == n {
					s.Codes[i].Used = true
					shown = append(shown, s.Codes[i])
				}
			}
		}
		s.UsedAt, l.UserID = l.IssuedAt, u.ID
		e.Actor, e.ActorName, e.Reason = u.ID, u.Name, audit.Clean(reason, audit.MaxReason)
		e.Details["set"], e.Details["codes"] = s.ID, audit.Clean(holders(shown), audit.MaxDetailValue)
		e.Details["until"] = l.ExpiresAt.UTC().Format(time.RFC3339)
		if err := tx.voidCodes(ctx, &s, l.IssuedAt); err != nil {
			return e, err
		}
		return e, logins.add(ctx, tx, &l)
	})
	return u, err
}

// CodeHolders returns the ids of the known people whose codes opened the last
// login of an emergency user.
func (q queryer) CodeHolders(ctx context.Context, userID string) ([]string, error) {
	s, err := codeSets.one(ctx, q, "WHERE user_id = ? AND used_at <> 0 ORDER BY used_at DESC LIMIT 1", userID)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who had the codes: %w", err)
	}
	var ids []string
	for _, c := range s.Codes {
		if c.Used && c.HolderID != "" {
			ids = append(ids, c.HolderID)
		}
	}
	return ids, nil
}

// CodesMade reports whether there ever was a set of sealed codes.
func (q queryer) CodesMade(ctx context.Context) (bool, error) {
	var n int
	if err := q.row(ctx, "SELECT COUNT(*) FROM code_sets").Scan(&n); err != nil {
		return false, q.failed("count sets of codes", err)
	}
	return n > 0, nil
}
