package store

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// RemoveFactor implements local.Store.
func (i Identities) RemoveFactor(ctx context.Context, by access.Caller, userID, id string, last bool) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		return tx.removeFactor(ctx, by, userID, id, last)
	})
}

// removeFactor returns the event also when it refuses.
func (tx *Tx) removeFactor(ctx context.Context, by access.Caller, userID, id string, last bool) (audit.Event, error) {
	e := eventBy(by, "user.passkey.remove", userID)
	if id == local.TOTP {
		e.Action = "user.totp.remove"
	}
	if _, err := users.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), userID); err != nil {
		return e, err
	}
	if id == local.TOTP {
		c, err := credentials.one(ctx, tx.queryer, "WHERE user_id = ?", userID)
		if err == nil && c.TOTP == nil && c.PendingTOTP == nil {
			err = access.ErrNotFound
		}
		if err != nil {
			return e, err
		}
	} else {
		p, err := passkeys.one(ctx, tx.queryer, "WHERE id = ? AND user_id = ?", id, userID)
		if err != nil {
			return e, err
		}
		e.Details = map[string]string{"passkey": p.ID, "name": audit.Clean(p.Name, audit.MaxDetailValue)}
	}
	if !last {
		var others, totp int
		err := tx.row(ctx, `SELECT (SELECT count(*) FROM passkeys WHERE user_id = ? AND id <> ? AND blocked_at = 0),
			(SELECT count(*) FROM credentials WHERE user_id = ? AND totp <> ?)`, userID, id, userID, []byte{}).Scan(&others, &totp)
		if err != nil {
			return e, tx.failed("count second factors", err)
		}
		if id == local.TOTP {
			totp = 0
		}
		if others+totp == 0 {
			e.Reason = "the last second factor"
			return e, access.ErrConflict
		}
	}
	if id == local.TOTP {
		_, err := tx.exec(ctx, "UPDATE credentials SET totp = ?, totp_step = 0, pending_totp = ? WHERE user_id = ?", []byte{}, []byte{}, userID)
		return e, err
	}
	return e, tx.remove(ctx, "DELETE FROM passkeys WHERE id = ?", id)
}

// TakeFactor implements local.Store.
func (i Identities) TakeFactor(ctx context.Context, by access.Caller, l local.Lost) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e, err := tx.removeFactor(ctx, by, l.UserID, l.ID, true)
		if err != nil {
			return e, err
		}
		c, err := credentials.one(ctx, tx.queryer, "WHERE user_id = ?", l.UserID)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return e, err
		}
		if c.ChangedAt.After(l.NotSince) {
			e.Reason = "the password was chosen lately"
			return e, access.ErrConflict
		}
		e.Reason = l.Reason
		c.UserID, c.TakenAt = l.UserID, l.At
		if _, err := tx.exec(ctx, credentials.insert+" ON CONFLICT (user_id) DO UPDATE SET taken_at = excluded.taken_at", values(credentials.columns(&c))...); err != nil {
			return e, err
		}
		if _, err := tx.endLogins(ctx, l.UserID, "", l.At); err != nil {
			return e, err
		}
		_, err = tx.exec(ctx, "DELETE FROM setups WHERE user_id = ?", l.UserID)
		return e, err
	})
}
