package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Certificate is the record of one SSH certificate, written before it is
// signed.
type Certificate struct {
	Serial    uint64
	Kind      string // "user", "host" or "identity"
	Principal string
	Target    string
	KeyID     string
	Key       string // fingerprint of the certified key
	SessionID string // for which a user certificate was issued; "": for none
	IssuedAt  time.Time
	ExpiresAt time.Time
	RevokedAt time.Time
	// MFAAt is when the second factor was shown in the login that asked for an
	// identity certificate.
	MFAAt time.Time
}

var certificates = newTable("certificates", "serial", func(c *Certificate) []column {
	return []column{
		{"serial", unsigned{&c.Serial}}, {"kind", &c.Kind}, {"principal", &c.Principal}, {"target", &c.Target},
		{"key_id", &c.KeyID}, {"key", &c.Key}, {"session_id", &c.SessionID}, {"issued_at", micros{&c.IssuedAt}},
		{"expires_at", micros{&c.ExpiresAt}}, {"revoked_at", micros{&c.RevokedAt}}, {"mfa_at", micros{&c.MFAAt}},
	}
})

// AddCertificate gives the certificate a fresh random serial and keeps it. The
// serial is unguessable and below 2^63, so that both engines and a KRL hold it.
func (tx *Tx) AddCertificate(ctx context.Context, c *Certificate) error {
	var b [8]byte
	rand.Read(b[:])
	c.Serial = binary.BigEndian.Uint64(b[:])>>1 | 1
	return certificates.add(ctx, tx, c)
}

// Certificate returns the record of the certificate of that serial.
func (db *DB) Certificate(ctx context.Context, serial uint64) (Certificate, error) {
	return certificates.one(ctx, db.queryer, "WHERE serial = ?", unsigned{&serial})
}

// SessionCertificates returns the records of the certificates that were issued
// for a session, at most 1000.
func (db *DB) SessionCertificates(ctx context.Context, id string) ([]Certificate, error) {
	return certificates.all(ctx, db.queryer, "WHERE session_id <> '' AND session_id = ? ORDER BY issued_at, serial LIMIT 1000", id)
}

// Revoked reports whether the certificate of that serial is revoked. One that
// is not in the store was never issued, which counts as revoked.
func (db *DB) Revoked(ctx context.Context, serial uint64) (bool, error) {
	c, err := db.Certificate(ctx, serial)
	if errors.Is(err, access.ErrNotFound) {
		return true, nil
	}
	return !c.RevokedAt.IsZero(), err
}

// An Owner says which certificates are revoked together.
type Owner struct {
	where string
	value any
}

// OfGrant is the certificates of a grant's sessions.
func OfGrant(id string) Owner {
	return Owner{"session_id IN (SELECT id FROM sessions WHERE grant_id = ?)", id}
}

// OfUser is the certificates of a user's sessions.
func OfUser(id string) Owner {
	return Owner{"session_id IN (SELECT id FROM sessions WHERE user_id = ?)", id}
}

// OfSession is the certificates of a session, for its target and for the hops on
// the way.
func OfSession(id string) Owner { return Owner{"session_id = ?", id} }

// OnTarget is the certificates that let somebody in at the target of this name.
func OnTarget(name string) Owner { return Owner{"kind = 'user' AND target = ?", name} }

// OfSerial is one certificate.
func OfSerial(n uint64) Owner { return Owner{"serial = ?", unsigned{&n}} }

// RevokeCertificates revokes the certificates of the owner that are valid still
// and not revoked yet, and returns how many they are.
func (tx *Tx) RevokeCertificates(ctx context.Context, of Owner) (int64, error) {
	rows, err := tx.rows(ctx, "UPDATE certificates SET revoked_at = ? WHERE revoked_at = 0 AND expires_at > ? AND "+of.where+" RETURNING kind, target", toMicros(tx.Now()), toMicros(tx.Now()), of.value)
	if err != nil {
		return 0, fmt.Errorf("revoke certificates: %w: %w", errDatabase, err)
	}
	defer rows.Close()
	var n int64
	for ; rows.Next(); n++ {
		var kind, target string
		if err := rows.Scan(&kind, &target); err != nil {
			return 0, fmt.Errorf("revoke certificates: %w: %w", errDatabase, err)
		}
		if kind == "user" && !slices.Contains(tx.revokedAt, target) {
			tx.revokedAt = append(tx.revokedAt, target)
		}
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("revoke certificates: %w: %w", errDatabase, err)
	}
	return n, nil
}

// RevokedAt names the targets at which certificates let somebody in that this
// change has revoked.
func (tx *Tx) RevokedAt() []string { return tx.revokedAt }

// RevokedSerials returns, in order, the serials of the revoked certificates of a
// kind that expire after t, at most limit, and when the newest was revoked.
func (db *DB) RevokedSerials(ctx context.Context, kind string, t time.Time, limit int) (serials []uint64, newest time.Time, err error) {
	rows, err := db.rows(ctx, "SELECT serial, revoked_at FROM certificates WHERE revoked_at <> 0 AND kind = ? AND expires_at > ? ORDER BY serial LIMIT ?", kind, toMicros(t), limit)
	if err != nil {
		return nil, newest, db.failed("read certificates", err)
	}
	defer rows.Close()
	for rows.Next() {
		var serial uint64
		var at time.Time
		if err := rows.Scan(unsigned{&serial}, micros{&at}); err != nil {
			return nil, newest, db.failed("read certificates", err)
		}
		if at.After(newest) {
			newest = at
		}
		serials = append(serials, serial)
	}
	if err := rows.Err(); err != nil {
		return nil, newest, db.failed("read certificates", err)
	}
	return serials, newest, nil
}
