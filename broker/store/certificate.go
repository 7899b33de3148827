package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
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
		{"key_id", &c.KeyID}, {"key", &c.Key}, {"issued_at", micros{&c.IssuedAt}},
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

// Revoked reports whether the certificate of that serial is revoked. One that
// is not in the store was never issued, which counts as revoked.
func (db *DB) Revoked(ctx context.Context, serial uint64) (bool, error) {
	c, err := db.Certificate(ctx, serial)
	if errors.Is(err, access.ErrNotFound) {
		return true, nil
	}
	return !c.RevokedAt.IsZero(), err
}
