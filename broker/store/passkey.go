package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

var passkeys = newTable("passkeys", "id", func(p *local.Passkey) []column {
	return []column{
		{"id", &p.ID}, {"user_id", &p.UserID}, {"name", &p.Name}, {"credential", blob{&p.Credential}}, {"public_key", blob{&p.Key}},
		{"count", &p.Count}, {"backup_eligible", &p.BackupEligible}, {"backed_up", &p.BackedUp},
		{"added_at", micros{&p.AddedAt}}, {"used_at", micros{&p.UsedAt}}, {"blocked_at", micros{&p.BlockedAt}},
	}
})

var challenges = newTable("passkey_challenges", "hash", func(c *local.Challenge) []column {
	return []column{
		{"hash", blob{&c.Hash}}, {"owner", &c.Owner}, {"user_id", &c.UserID}, {"login", &c.Login}, {"purpose", (*string)(&c.Purpose)},
		{"digest", &c.Digest}, {"created_at", micros{&c.CreatedAt}}, {"expires_at", micros{&c.ExpiresAt}},
	}
})

// Passkeys implements local.Store.
func (i Identities) Passkeys(ctx context.Context, userID string) ([]local.Passkey, error) {
	return passkeys.all(ctx, i.db.queryer, "WHERE user_id = ? ORDER BY added_at, id", userID)
}

// PasskeyOf implements local.Store.
func (i Identities) PasskeyOf(ctx context.Context, credential []byte) (local.Passkey, error) {
	return passkeys.one(ctx, i.db.queryer, "WHERE credential = ?", credential)
}

// SecondFactors implements local.Store.
func (i Identities) SecondFactors(ctx context.Context, userIDs []string) (withPasskey, withTOTP map[string]bool, err error) {
	find := func(into map[string]bool, query string, ids []string, more ...any) error {
		marks, args := list(ids)
		rows, err := i.db.rows(ctx, query+marks, append(more, args...)...)
		if err != nil {
			return i.db.failed("read second factors", err)
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return i.db.failed("read second factors", err)
			}
			into[id] = true
		}
		if err := rows.Err(); err != nil {
			return i.db.failed("read second factors", err)
		}
		return nil
	}
	withPasskey, withTOTP = map[string]bool{}, map[string]bool{}
	for ids := range slices.Chunk(userIDs, maxIn) {
		if err := find(withPasskey, "SELECT DISTINCT user_id FROM passkeys WHERE user_id IN ", ids); err != nil {
			return nil, nil, err
		}
		if err := find(withTOTP, "SELECT user_id FROM credentials WHERE totp <> ? AND user_id IN ", ids, []byte{}); err != nil {
			return nil, nil, err
		}
	}
	return withPasskey, withTOTP, nil
}

// AddPasskey implements local.Store.
func (i Identities) AddPasskey(ctx context.Context, by access.Caller, p local.Passkey, most int) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "user.passkey.add", p.UserID)
		e.Details = map[string]string{"passkey": p.ID, "name": audit.Clean(p.Name, audit.MaxDetailValue)}
		if key := encode(p.Key); len(key) <= audit.MaxDetailValue { // with it, whoever reads the log can check its signatures
			e.Details["public_key"] = key
		}
		if _, err := users.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), p.UserID); err != nil {
			return e, err
		}
		var n int
		if err := tx.row(ctx, "SELECT count(*) FROM passkeys WHERE user_id = ?", p.UserID).Scan(&n); err != nil {
			return e, tx.failed("count passkeys", err)
		}
		if n >= most {
			e.Reason = "too many passkeys"
			return e, access.ErrUnavailable
		}
		return e, passkeys.add(ctx, tx, &p)
	})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// UsePasskey implements local.Store.
func (i Identities) UsePasskey(ctx context.Context, by access.Caller, u local.PasskeyUse) error {
	copied := false
	err := i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "user.passkey.use", by.User.ID)
		e.Details = map[string]string{"passkey": audit.Clean(u.ID, audit.MaxDetailValue), "purpose": string(u.Purpose)}
		if u.Digest != "" {
			e.Details["digest"] = audit.Clean(u.Digest, audit.MaxDetailValue)
		}
		p, err := passkeys.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), u.ID)
		if err != nil {
			return e, err
		}
		e.Object = p.UserID
		e.Details["count"] = fmt.Sprint(u.Count)
		if !p.BlockedAt.IsZero() {
			e.Reason = "its counter went back before"
			return e, access.ErrDenied
		}
		// What is decided here is on record whatever comes of the caller: that the
		// passkey is blocked is a change, and not a refusal.
		if copied = p.Copied(u.Count); copied {
			e.Action, e.Reason = "user.passkey.copied", fmt.Sprintf("the counter went back from %d to %d: somebody may have a copy of this passkey", p.Count, u.Count)
			_, err := tx.exec(ctx, "UPDATE passkeys SET blocked_at = ? WHERE id = ?", toMicros(u.At), p.ID)
			return e, err
		}
		for key, b := range map[string][]byte{"client_data": u.ClientData, "authenticator_data": u.AuthenticatorData, "signature": u.Signature} {
			if text := encode(b); len(text) <= audit.MaxDetailValue {
				e.Details[key] = text
			}
		}
		_, err = tx.exec(ctx, "UPDATE passkeys SET count = ?, backed_up = ?, used_at = ? WHERE id = ?", u.Count, u.BackedUp, toMicros(u.At), p.ID)
		return e, err
	})
	if err == nil && copied {
		err = access.ErrConflict
	}
	return err
}

// CreateChallenge implements local.Store.
func (i Identities) CreateChallenge(ctx context.Context, c local.Challenge, most, all int) error {
	return i.db.unaudited(ctx, func(tx *Tx) error {
		now := toMicros(c.CreatedAt)
		var total int
		if err := tx.row(ctx, "SELECT count(*) FROM (SELECT 1 FROM passkey_challenges WHERE expires_at > ? LIMIT ?) waiting", now, all).Scan(&total); err != nil {
			return tx.failed("count challenges", err)
		}
		if total >= all {
			return access.ErrUnavailable
		}
		_, err := tx.exec(ctx, `DELETE FROM passkey_challenges WHERE hash IN
			(SELECT hash FROM passkey_challenges WHERE owner = ? ORDER BY created_at DESC, hash LIMIT ? OFFSET ?)`, c.Owner, all, most-1)
		if err != nil {
			return err
		}
		return challenges.add(ctx, tx, &c)
	})
}

// TakeChallenge implements local.Store.
func (i Identities) TakeChallenge(ctx context.Context, hash []byte, now time.Time) (local.Challenge, error) {
	var c local.Challenge
	err := i.db.unaudited(ctx, func(tx *Tx) error {
		c = local.Challenge{}
		columns := challenges.columns(&c)
		var names []string
		for _, x := range columns {
			names = append(names, x.name)
		}
		err := tx.row(ctx, "DELETE FROM passkey_challenges WHERE hash = ? AND expires_at > ? RETURNING "+strings.Join(names, ", "), hash, toMicros(now)).Scan(pointers(columns)...)
		if errors.Is(err, sql.ErrNoRows) {
			return access.ErrNotFound
		}
		if err != nil {
			return tx.failed("take a challenge", err)
		}
		return nil
	})
	return c, err
}
