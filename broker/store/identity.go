package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

var logins = newTable("logins", "id", func(l *identity.Login) []column {
	return []column{
		{"id", &l.ID}, {"user_id", &l.UserID}, {"issued_at", micros{&l.IssuedAt}}, {"expires_at", micros{&l.ExpiresAt}},
		{"mfa_at", micros{&l.MFAAt}}, {"revoked_at", micros{&l.RevokedAt}}, {"source", &l.Source}, {"via", &l.Via},
	}
})

var devices = newTable("devices", "code", func(d *identity.Device) []column {
	return []column{
		{"code", &d.Code}, {"secret_hash", blob{&d.SecretHash}}, {"client", &d.Client}, {"source", &d.Source},
		{"origin", &d.Origin}, {"created_at", micros{&d.CreatedAt}}, {"expires_at", micros{&d.ExpiresAt}},
		{"user_id", &d.UserID}, {"mfa_at", micros{&d.MFAAt}},
	}
})

var credentials = newTable("credentials", "user_id", func(c *local.Credential) []column {
	return []column{
		{"user_id", &c.UserID}, {"hash", &c.Hash}, {"changed_at", micros{&c.ChangedAt}}, {"totp", blob{&c.TOTP}},
		{"totp_step", &c.TOTPStep}, {"pending_totp", blob{&c.PendingTOTP}}, {"taken_at", micros{&c.TakenAt}},
	}
})

var setups = newTable("setups", "hash", func(s *local.Setup) []column {
	return []column{
		{"hash", blob{&s.Hash}}, {"user_id", &s.UserID}, {"created_at", micros{&s.CreatedAt}}, {"expires_at", micros{&s.ExpiresAt}},
	}
})

var counters = newTable("login_counters", "key", func(c *local.Counter) []column {
	return []column{
		{"key", &c.Key}, {"failures", count{&c.Failures}}, {"counted_at", micros{&c.CountedAt}},
		{"blocked_until", micros{&c.BlockedUntil}}, {"good_at", micros{&c.GoodAt}}, {"expires_at", micros{&c.ExpiresAt}},
	}
})

// An Identities keeps logins, devices, credentials, setup links and counters:
// it is the store of identity and of identity/local.
type Identities struct{ db *DB }

var (
	_ identity.Store = Identities{}
	_ local.Store    = Identities{}

	_ identity.CodeStore = Identities{}
)

// Identities is the store of those who log in, in this database.
func (db *DB) Identities() Identities { return Identities{db} }

// unknown stands in the audit log for somebody who has not proven who they are.
const unknown = "unknown"

func eventBy(by access.Caller, action, object string) audit.Event {
	e := audit.Event{Actor: by.User.ID, ActorName: by.User.Name, Action: action, Object: object}
	if e.Actor == "" {
		e.Actor = unknown
	}
	if by.Source.IsValid() {
		e.Source = by.Source.String()
	}
	return e
}

// errUnchanged ends a change that has nothing to do: no error and no event.
var errUnchanged = errors.New("nothing to change")

func (i Identities) change(ctx context.Context, fn func(tx *Tx) (audit.Event, error)) error {
	err := i.db.Change(ctx, fn)
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// User implements identity.Store and local.Store.
func (i Identities) User(ctx context.Context, id string) (access.User, error) {
	return users.one(ctx, i.db.queryer, "WHERE id = ?", id)
}

// UserByName implements local.Store.
func (i Identities) UserByName(ctx context.Context, name string) (access.User, error) {
	return users.one(ctx, i.db.queryer, "WHERE name = ?", name)
}

// CreateLogin implements identity.Store.
func (i Identities) CreateLogin(ctx context.Context, l identity.Login) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := audit.Event{Actor: unknown, Action: "login", Object: l.ID, Source: audit.Clean(l.Source, audit.MaxName), Details: map[string]string{"via": l.Via}}
		u, err := tx.User(ctx, l.UserID)
		if errors.Is(err, access.ErrNotFound) || err == nil && (u.Locked || u.Emergency) {
			e.Reason = "the user is locked or gone, or logs in with sealed codes only"
			return e, fmt.Errorf("user %s: %w", l.UserID, access.ErrDenied)
		}
		if err != nil {
			return e, err
		}
		e.Actor, e.ActorName = u.ID, u.Name
		e.Details["until"] = l.ExpiresAt.UTC().Format(time.RFC3339)
		return e, logins.add(ctx, tx, &l)
	})
}

// loginAndUser reads both in one statement.
var loginAndUser = func() string {
	var names []string
	for _, c := range logins.columns(new(identity.Login)) {
		names = append(names, "l."+c.name)
	}
	for _, c := range users.columns(new(access.User)) {
		names = append(names, "u."+c.name)
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM logins l JOIN users u ON u.id = l.user_id WHERE l.id = ?"
}()

// Login implements identity.Store.
func (i Identities) Login(ctx context.Context, id string) (identity.Login, access.User, error) {
	var l identity.Login
	var u access.User
	err := i.db.row(ctx, loginAndUser, id).Scan(append(pointers(logins.columns(&l)), pointers(users.columns(&u))...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return l, u, access.ErrNotFound
	}
	if err != nil {
		return l, u, i.db.failed("read logins", err)
	}
	return l, u, nil
}

// LoginsOf implements identity.Store.
func (i Identities) LoginsOf(ctx context.Context, userID string, now time.Time) ([]identity.Login, error) {
	return logins.all(ctx, i.db.queryer, "WHERE user_id = ? AND expires_at > ? AND revoked_at = 0 ORDER BY issued_at DESC, id DESC",
		userID, toMicros(now))
}

// SetLoginMFA implements identity.Store.
func (i Identities) SetLoginMFA(ctx context.Context, by access.Caller, id string, at time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "login.mfa", id)
		l, err := logins.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), id)
		switch {
		case err != nil:
			return e, err
		case !l.RevokedAt.IsZero():
			return e, access.ErrNotFound
		case !at.After(l.MFAAt):
			return audit.Event{}, errUnchanged
		}
		_, err = tx.exec(ctx, "UPDATE logins SET mfa_at = ? WHERE id = ?", toMicros(at), id)
		return e, err
	})
}

// RevokeLogin implements identity.Store.
func (i Identities) RevokeLogin(ctx context.Context, by access.Caller, id string, at time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "logout", id)
		l, err := logins.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), id)
		if err != nil {
			return e, err
		}
		if !l.RevokedAt.IsZero() {
			return audit.Event{}, errUnchanged
		}
		_, err = tx.exec(ctx, "UPDATE logins SET revoked_at = ? WHERE id = ?", toMicros(at), id)
		return e, err
	})
}

// RevokeLogins implements identity.Store.
func (i Identities) RevokeLogins(ctx context.Context, by access.Caller, userID string, at time.Time) (int, error) {
	var n int64
	err := i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "logout.all", userID)
		var err error
		n, err = tx.endLogins(ctx, userID, "", at)
		e.Details = map[string]string{"logins": fmt.Sprint(n)}
		return e, err
	})
	return int(n), err
}

// endLogins revokes every login of a user but one, and forgets the devices
// that wait to log in as the user.
func (tx *Tx) endLogins(ctx context.Context, userID, keep string, at time.Time) (int64, error) {
	n, err := tx.exec(ctx, "UPDATE logins SET revoked_at = ? WHERE user_id = ? AND revoked_at = 0 AND id <> ?", toMicros(at), userID, keep)
	if err == nil {
		_, err = tx.exec(ctx, "DELETE FROM devices WHERE user_id = ?", userID)
	}
	return n, err
}

// PruneLogins implements identity.Store.
func (i Identities) PruneLogins(ctx context.Context, before time.Time) error {
	return i.db.unaudited(ctx, func(tx *Tx) error {
		for _, table := range []string{"logins", "devices"} {
			if _, err := tx.exec(ctx, "DELETE FROM "+table+" WHERE expires_at < ?", toMicros(before)); err != nil {
				return err
			}
		}
		return nil
	})
}

// CreateDevice implements identity.Store.
func (i Identities) CreateDevice(ctx context.Context, d identity.Device, perOrigin, all int) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		if tx.db.postgres { // what is counted must not grow before the commit
			if _, err := tx.exec(ctx, "LOCK TABLE devices IN SHARE ROW EXCLUSIVE MODE"); err != nil {
				return audit.Event{}, err
			}
		}
		now := toMicros(d.CreatedAt)
		// The client's name is not proven, and the code is a secret of sorts:
		// neither is in the log.
		e := audit.Event{Actor: unknown, Action: "device.start", Source: audit.Clean(d.Source, audit.MaxName)}
		var total, same, taken int
		err := tx.row(ctx, `SELECT count(*), count(CASE WHEN origin = ? THEN 1 END), count(CASE WHEN code = ? OR secret_hash = ? THEN 1 END)
			FROM devices WHERE expires_at > ?`, d.Origin, d.Code, d.SecretHash, now).Scan(&total, &same, &taken)
		switch {
		case err != nil:
			return e, tx.failed("count devices", err)
		case taken > 0:
			return audit.Event{}, access.ErrConflict // another code will be tried
		case total >= all || same >= perOrigin:
			e.Reason = "too many devices wait"
			return e, access.ErrUnavailable
		}
		if _, err := tx.exec(ctx, "DELETE FROM devices WHERE (code = ? OR secret_hash = ?) AND expires_at <= ?", d.Code, d.SecretHash, now); err != nil {
			return e, err
		}
		return e, devices.add(ctx, tx, &d)
	})
}

const waiting = "WHERE code = ? AND user_id = '' AND expires_at > ?"

// DeviceByCode implements identity.Store.
func (i Identities) DeviceByCode(ctx context.Context, code string, now time.Time) (identity.Device, error) {
	return devices.one(ctx, i.db.queryer, waiting, code, toMicros(now))
}

// ConfirmDevice implements identity.Store.
func (i Identities) ConfirmDevice(ctx context.Context, by access.Caller, code string, now time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "device.confirm", "")
		if by.User.ID == "" {
			return e, access.ErrNotFound // it would stay unconfirmed
		}
		d, err := devices.one(ctx, tx.queryer, waiting+tx.lock(), code, toMicros(now))
		if err != nil {
			return e, err
		}
		e.Details = map[string]string{"from": audit.Clean(d.Source, audit.MaxDetailValue), "client": audit.Clean(d.Client, audit.MaxDetailValue)}
		_, err = tx.exec(ctx, "UPDATE devices SET user_id = ?, mfa_at = ? WHERE code = ?", by.User.ID, toMicros(by.MFAAt), code)
		return e, err
	})
}

// DenyDevice implements identity.Store.
func (i Identities) DenyDevice(ctx context.Context, by access.Caller, code string, now time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		return eventBy(by, "device.deny", ""), tx.remove(ctx, "DELETE FROM devices "+waiting, code, toMicros(now))
	})
}

// ClaimDevice implements identity.Store.
func (i Identities) ClaimDevice(ctx context.Context, secretHash []byte, now time.Time) (identity.Device, error) {
	// What waits is asked for every few seconds, so look before the change.
	const mine = "WHERE secret_hash = ? AND expires_at > ?"
	d, err := devices.one(ctx, i.db.queryer, mine, secretHash, toMicros(now))
	if err != nil || d.UserID == "" {
		return d, err
	}
	err = i.change(ctx, func(tx *Tx) (audit.Event, error) {
		d = identity.Device{}
		columns := devices.columns(&d)
		var names []string
		for _, c := range columns {
			names = append(names, c.name)
		}
		err := tx.row(ctx, "DELETE FROM devices "+mine+" AND user_id <> '' RETURNING "+strings.Join(names, ", "),
			secretHash, toMicros(now)).Scan(pointers(columns)...)
		if errors.Is(err, sql.ErrNoRows) {
			return audit.Event{}, access.ErrNotFound // somebody was faster
		}
		if err != nil {
			return audit.Event{}, tx.failed("claim a device", err)
		}
		return audit.Event{Actor: d.UserID, Action: "device.claim", Source: audit.Clean(d.Source, audit.MaxName)}, nil
	})
	if err != nil {
		return identity.Device{}, err
	}
	return d, nil
}

// Credential implements local.Store.
func (i Identities) Credential(ctx context.Context, userID string) (local.Credential, error) {
	return credentials.one(ctx, i.db.queryer, "WHERE user_id = ?", userID)
}

// SetPassword implements local.Store.
func (i Identities) SetPassword(ctx context.Context, by access.Caller, userID, hash string, at time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		return eventBy(by, "user.password", userID), tx.setPassword(ctx, by.Login, userID, hash, at)
	})
}

func (tx *Tx) setPassword(ctx context.Context, keep, userID, hash string, at time.Time) error {
	if _, err := users.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), userID); err != nil {
		return err
	}
	c := local.Credential{UserID: userID, Hash: hash, ChangedAt: at}
	_, err := tx.exec(ctx, credentials.insert+" ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at",
		values(credentials.columns(&c))...)
	if err != nil {
		return err
	}
	if _, err := tx.endLogins(ctx, userID, keep, at); err != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM setups WHERE user_id = ?", userID)
	return err
}

// Rehash implements local.Store.
func (i Identities) Rehash(ctx context.Context, userID, old, new string) error {
	return i.db.unaudited(ctx, func(tx *Tx) error {
		return tx.swap(ctx, "UPDATE credentials SET hash = ? WHERE user_id = ? AND hash = ?", new, userID, old)
	})
}

// swap runs a compare and swap: no row is access.ErrConflict.
func (tx *Tx) swap(ctx context.Context, query string, args ...any) error {
	n, err := tx.exec(ctx, query, args...)
	if err == nil && n == 0 {
		err = access.ErrConflict
	}
	return err
}

// SetPendingTOTP implements local.Store.
func (i Identities) SetPendingTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		n, err := tx.exec(ctx, "UPDATE credentials SET pending_totp = ? WHERE user_id = ?", blob{&sealed}, userID)
		if err == nil && n == 0 {
			err = access.ErrNotFound
		}
		return eventBy(by, "user.totp.start", userID), err
	})
}

// ConfirmTOTP implements local.Store.
func (i Identities) ConfirmTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte, step int64) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "user.totp", userID)
		if len(sealed) == 0 {
			return e, access.ErrConflict // none
		}
		return e, tx.swap(ctx, "UPDATE credentials SET totp = pending_totp, totp_step = ?, pending_totp = ? WHERE user_id = ? AND pending_totp = ?",
			step, []byte{}, userID, sealed)
	})
}

// UseTOTPStep implements local.Store.
func (i Identities) UseTOTPStep(ctx context.Context, userID string, sealed []byte, step int64) error {
	if len(sealed) == 0 {
		return access.ErrConflict // none
	}
	return i.db.unaudited(ctx, func(tx *Tx) error {
		return tx.swap(ctx, "UPDATE credentials SET totp_step = ? WHERE user_id = ? AND totp = ? AND totp_step < ?", step, userID, sealed, step)
	})
}

// CreateSetup implements local.Store.
func (i Identities) CreateSetup(ctx context.Context, by access.Caller, s local.Setup, notSince time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "user.setup", s.UserID)
		if _, err := users.one(ctx, tx.queryer, "WHERE id = ?"+tx.lock(), s.UserID); err != nil {
			return e, err
		}
		c, err := credentials.one(ctx, tx.queryer, "WHERE user_id = ?", s.UserID)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return e, err
		}
		if c.Hash == "" {
			e.Details = map[string]string{"first": "yes"}
		}
		if c.TakenAt.After(notSince) {
			e.Reason = "a second factor was taken away lately"
			return e, access.ErrConflict
		}
		if _, err := tx.exec(ctx, "DELETE FROM setups WHERE user_id = ?", s.UserID); err != nil {
			return e, err
		}
		return e, setups.add(ctx, tx, &s)
	})
}

// Setup implements local.Store.
func (i Identities) Setup(ctx context.Context, hash []byte, now time.Time) (local.Setup, error) {
	return setups.one(ctx, i.db.queryer, "WHERE hash = ? AND expires_at > ?", hash, toMicros(now))
}

// UseSetup implements local.Store.
func (i Identities) UseSetup(ctx context.Context, by access.Caller, hash []byte, passwordHash string, now time.Time) error {
	return i.change(ctx, func(tx *Tx) (audit.Event, error) {
		e := eventBy(by, "user.password", "")
		var userID string
		err := tx.row(ctx, "DELETE FROM setups WHERE hash = ? AND expires_at > ? RETURNING user_id", hash, toMicros(now)).Scan(&userID)
		if errors.Is(err, sql.ErrNoRows) {
			return e, access.ErrNotFound
		}
		if err != nil {
			return e, tx.failed("use a setup link", err)
		}
		e.Actor, e.ActorName, e.Object = userID, "", userID // the link is what proves the person
		e.Details = map[string]string{"by": "setup link"}
		return e, tx.setPassword(ctx, "", userID, passwordHash, now)
	})
}

// Counters implements local.Store.
func (i Identities) Counters(ctx context.Context, keys []string) ([]local.Counter, error) {
	return i.db.counters(ctx, keys, "")
}

func (q queryer) counters(ctx context.Context, keys []string, lock string) ([]local.Counter, error) {
	list := make([]local.Counter, len(keys))
	for i, key := range keys {
		c, err := counters.one(ctx, q, "WHERE key = ?"+lock, key)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return nil, err
		}
		c.Key = key
		list[i] = c
	}
	return list, nil
}

// UpdateCounters implements local.Store.
func (i Identities) UpdateCounters(ctx context.Context, keys []string, fn func([]local.Counter) error) error {
	return i.db.unaudited(ctx, func(tx *Tx) error {
		if tx.db.postgres {
			// A row that is not there cannot be locked, so each is made; in
			// one order everywhere, so that nobody waits in a circle.
			for _, key := range slices.Sorted(slices.Values(keys)) {
				c := local.Counter{Key: key}
				if _, err := tx.exec(ctx, counters.insert+" ON CONFLICT (key) DO UPDATE SET key = excluded.key", values(counters.columns(&c))...); err != nil {
					return err
				}
			}
		}
		list, err := tx.counters(ctx, keys, "")
		if err != nil {
			return err
		}
		if err := fn(list); err != nil {
			return err
		}
		for _, c := range list {
			_, err := tx.exec(ctx, counters.insert+` ON CONFLICT (key) DO UPDATE SET failures = excluded.failures, counted_at = excluded.counted_at,
				blocked_until = excluded.blocked_until, good_at = excluded.good_at, expires_at = excluded.expires_at`, values(counters.columns(&c))...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// LoginFailed implements local.Store.
func (i Identities) LoginFailed(ctx context.Context, f local.Failure) error {
	e := audit.Event{
		Time: f.At, Actor: f.UserID, Action: "login.refused", Object: f.UserID, Outcome: audit.Refused,
		Source: audit.Clean(f.Source, audit.MaxName), Reason: audit.Clean(f.Reason, audit.MaxReason),
	}
	if e.Actor == "" {
		e.Actor = unknown
	}
	return i.db.Record(ctx, e)
}

// PruneLocal implements local.Store.
func (i Identities) PruneLocal(ctx context.Context, before time.Time) error {
	return i.db.unaudited(ctx, func(tx *Tx) error {
		for _, table := range []string{"login_counters", "setups", "passkey_challenges"} {
			if _, err := tx.exec(ctx, "DELETE FROM "+table+" WHERE expires_at < ?", toMicros(before)); err != nil {
				return err
			}
		}
		return nil
	})
}
