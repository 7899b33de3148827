package broker

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// hostCertificateTTL is how long the bastion may answer as a target with one
// certificate; the bastion renews it in good time.
const hostCertificateTTL = 24 * time.Hour

// serials puts each certificate on record, with its event, before it exists.
func (b *Broker) serials(by access.Caller, s *access.Session) sshca.Serials {
	return serials{b, by, s}
}

type serials struct {
	b       *Broker
	by      access.Caller
	session *access.Session
}

// NextSerial implements sshca.Serials.
func (s serials) NextSerial(ctx context.Context, c sshca.Certificate) (uint64, error) {
	row := store.Certificate{
		Kind: string(c.Kind), Principal: c.Principal, Target: c.Target, KeyID: c.KeyID, Key: ssh.FingerprintSHA256(c.Key), ExpiresAt: c.ValidBefore, MFAAt: s.by.MFAAt,
	}
	err := s.b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		row.IssuedAt = tx.Now()
		e := event(s.by, "certificate.issue", c.KeyID)
		e.Target, e.Account = c.Target, c.Principal
		if s.session != nil {
			e.Request, e.Grant, e.Session = s.session.RequestID, s.session.GrantID, s.session.ID
			row.SessionID = s.session.ID
		}
		if s.session != nil {
			// What was taken back meanwhile gets no certificate any more, so that
			// each that is valid then was found and revoked.
			g, err := tx.Grant(ctx, s.session.GrantID)
			if err != nil {
				return e, err
			}
			if why := over(&g, tx.Now()); why != nil {
				return e, why
			}
		}
		if err := tx.AddCertificate(ctx, &row); err != nil {
			return e, err
		}
		if s.session != nil {
			now, err := tx.Session(ctx, s.session.ID)
			if err != nil {
				return e, err
			}
			if c.Target == now.TargetName { // and not of a hop on the way to it
				now.Serial = row.Serial
				if err := tx.SaveSession(ctx, &now); err != nil {
					return e, err
				}
			}
		}
		detail(&e, "kind", row.Kind)
		detail(&e, "serial", strconv.FormatUint(row.Serial, 10))
		detail(&e, "key", row.Key)
		return e, nil
	})
	return row.Serial, err
}

// HostCertificate certifies the key with which the bastion answers as the
// target. It is no verb of a person: the bastion calls it for itself.
func (b *Broker) HostCertificate(ctx context.Context, t access.Target, key ssh.PublicKey) (*ssh.Certificate, error) {
	now := b.now()
	names := []string{t.Name}
	return b.authority(sshca.Host).Sign(ctx, b.serials(access.System(), nil), sshca.Certificate{
		Kind: sshca.Host, Key: key, Names: names, KeyID: "drawbolt " + t.Name,
		ValidAfter: now, ValidBefore: now.Add(hostCertificateTTL),
	})
}

// Certify issues the caller an identity certificate for a key, with which stock
// ssh proves to the bastion who they are. It gives access to nothing by itself.
func (b *Broker) Certify(ctx context.Context, by access.Caller, key ssh.PublicKey) (*ssh.Certificate, error) {
	e := event(by, "identity.certify", by.User.ID)
	if _, err := b.allow(ctx, question{action: policy.ActionKeyWrite, by: by, owner: by.User.ID}, e); err != nil {
		return nil, err
	}
	now := b.now()
	until := now.Add(b.c.IdentityTTL)
	if by.User.Emergency && by.Until.Before(until) {
		until = by.Until // it is the codes that let them in, and for so long
	}
	if !until.After(now) {
		return nil, b.refused(ctx, e, errCodesOnly)
	}
	c, err := b.authority(sshca.Identity).Sign(ctx, b.serials(by, nil), sshca.Certificate{
		Kind: sshca.Identity, Key: key, Principal: by.User.Name, KeyID: "drawbolt " + by.User.ID,
		ValidAfter: now, ValidBefore: until,
	})
	if err != nil && !errors.Is(err, access.ErrUnavailable) {
		return nil, access.Invalid("the key cannot be certified: %v", err)
	}
	return c, err
}

func (b *Broker) identityChecker() sshca.Checker {
	return sshca.Checker{Authorities: b.ring(sshca.Identity).trusted(), Kind: sshca.Identity, Now: b.c.Now}
}

// KnowsKey reports whether a key that a peer merely offers could be somebody's.
// It proves nothing and tells nobody; it only spares the peer a signature that
// would be of no use.
func (b *Broker) KnowsKey(ctx context.Context, source netip.Addr, key ssh.PublicKey) bool {
	_, _, err := b.holder(ctx, source, key)
	return err == nil
}

// holder finds whose key it is: registered, or certified by our identity
// authority.
func (b *Broker) holder(ctx context.Context, source netip.Addr, key ssh.PublicKey) (access.User, *store.Certificate, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		k, err := b.c.Store.PublicKey(ctx, ssh.FingerprintSHA256(key))
		if err != nil {
			return access.User{}, nil, err
		}
		u, err := b.c.Store.User(ctx, k.UserID)
		return u, nil, err
	}
	if len(cert.ValidPrincipals) != 1 {
		return access.User{}, nil, access.ErrNotFound
	}
	checker := b.identityChecker()
	checker.Remote = source
	checker.Revoked = func(serial uint64) (bool, error) { return b.c.Store.Revoked(ctx, serial) }
	if err := checker.Check(cert, cert.ValidPrincipals[0]); err != nil {
		return access.User{}, nil, err
	}
	// The certificate names a person by name, and by the id that never
	// changes; both must still be of one user.
	u, err := b.c.Store.User(ctx, cert.ValidPrincipals[0])
	if err == nil && cert.KeyId != "drawbolt "+u.ID {
		err = access.ErrNotFound
	}
	if err != nil {
		return u, nil, err
	}
	row, err := b.c.Store.Certificate(ctx, cert.Serial)
	return u, &row, err
}

// Recognize turns a key that the peer has proved to hold (its signature was
// verified) into a person. An unknown key and a locked user are refused alike.
func (b *Broker) Recognize(ctx context.Context, source netip.Addr, key ssh.PublicKey) (access.Caller, error) {
	by := access.Caller{Source: source, Via: "ssh"}
	u, cert, err := b.holder(ctx, source, key)
	if errors.Is(err, access.ErrUnavailable) {
		return by, err
	}
	if err != nil || u.Locked {
		e := event(by, "login.key", ssh.FingerprintSHA256(key))
		e.Actor = "unknown"
		if err == nil {
			e.Actor, e.ActorName = u.ID, u.Name
		}
		refusal := &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4005", Text: "this key is not registered, or its holder is locked", Next: "drawbolt login"}
		return by, b.refused(ctx, e, refusal)
	}
	by.User = u
	if cert != nil {
		by.MFAAt, by.Serial = cert.MFAAt, cert.Serial
	} else {
		by.Key = ssh.FingerprintSHA256(key)
	}
	return by, nil
}

// stillProven refuses who has proven a key that was removed since, or a
// certificate that was revoked: a connection that is open is no way around
// either. That a certificate has expired ends nothing, as the grant has an end.
func (b *Broker) stillProven(ctx context.Context, by access.Caller) error {
	gone := false
	if by.Key != "" {
		k, err := b.c.Store.PublicKey(ctx, by.Key)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return err
		}
		gone = err != nil || k.UserID != by.User.ID
	}
	if by.Serial != 0 {
		revoked, err := b.c.Store.Revoked(ctx, by.Serial)
		if err != nil {
			return err
		}
		gone = gone || revoked
	}
	if gone {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-2210", Rule: "session.key", Text: "the key with which you logged in was removed, or its certificate revoked", Next: "drawbolt login"}
	}
	return nil
}
