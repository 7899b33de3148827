package broker

import (
	"context"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// revocationKept is how long a revoked certificate stays on the list after it
// has expired, for targets whose clock is late.
const revocationKept = time.Hour

// revokeCertificates revokes what is valid still of what is taken away in this
// change, and says in its event how many certificates that were.
func revokeCertificates(ctx context.Context, tx *store.Tx, e *audit.Event, of store.Owner) error {
	n, err := tx.RevokeCertificates(ctx, of)
	if n > 0 {
		detail(e, "certificates_revoked", strconv.FormatInt(n, 10))
	}
	return err
}

// KRL returns the list, for sshd's RevokedKeys, of the user certificates that
// are revoked although they have not expired. It is for everybody: the serials
// are random and say nothing. Every server of a database gives the same bytes.
func (b *Broker) KRL(ctx context.Context) ([]byte, error) {
	krl, err := b.revoked(ctx)
	if err != nil {
		return nil, err
	}
	return krl.Marshal()
}

// revoked is the list. Its number is the time of the newest revocation on it, so
// that a later revocation makes a greater one.
func (b *Broker) revoked(ctx context.Context) (sshca.KRL, error) {
	krl := sshca.KRL{Comment: "drawbolt"}
	serials, newest, err := b.c.Store.RevokedSerials(ctx, string(sshca.User), b.now().Add(-revocationKept), sshca.MaxRevoked+1)
	if err != nil {
		return krl, err
	}
	if !newest.IsZero() {
		krl.Number, krl.Generated = uint64(newest.UnixMicro()), newest
	} else {
		krl.Generated = time.Unix(0, 0)
	}
	for _, authority := range b.Authorities().Users {
		krl.Revoked = append(krl.Revoked, sshca.Revocation{Authority: authority, Serials: serials})
	}
	return krl, nil
}

// RevokeCertificate revokes the certificate of that serial, in decimal, or those
// of that session, and returns how many were valid until now. At targets
// it counts when they have the list, and keeps nobody who is in from going
// on: Terminate does, or LockUser. An identity certificate ends at once, with the
// sessions of the connections that it has opened.
func (b *Broker) RevokeCertificate(ctx context.Context, by access.Caller, what, reason string) (int, error) {
	e := event(by, "certificate.revoke", what)
	if err := access.CheckReason(reason); err != nil {
		return 0, err
	}
	e.Reason = audit.Clean(reason, audit.MaxReason)
	serial, err := strconv.ParseUint(what, 10, 63)
	of := store.OfSerial(serial)
	if isSession := access.ValidID(access.SessionPrefix, what); isSession {
		of, e.Session = store.OfSession(what), what
	} else if err != nil || serial == 0 {
		return 0, access.Invalid("%q is neither the serial of a certificate nor the id of a session", audit.Clean(what, 64))
	}
	var n int64
	err = b.write(ctx, by, policy.ActionLockWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		var err error
		if n, err = tx.RevokeCertificates(ctx, of); err != nil {
			return err
		}
		if n == 0 {
			return &access.Error{Kind: access.ErrNotFound, Code: "DB-2108", Text: "no certificate of " + e.Object + " is valid", Next: "drawbolt audit search"}
		}
		detail(e, "certificates_revoked", strconv.FormatInt(n, 10))
		return nil
	})
	if err != nil {
		return 0, err
	}
	return int(n), nil
}
