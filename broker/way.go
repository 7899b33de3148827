package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// hopsOf reads the targets on the way to t, in order, and refuses a way on
// which one is gone, locked, or may not be passed. read is Target of the
// transaction or of the store.
func hopsOf(ctx context.Context, read func(context.Context, string) (access.Target, error), t *access.Target) ([]access.Target, error) {
	var hops []access.Target
	for _, name := range t.Via {
		hop, err := read(ctx, name)
		switch {
		case errors.Is(err, access.ErrNotFound):
			return nil, closedWay(t, name, "does not exist any more")
		case err != nil:
			return nil, err
		case hop.Locked:
			return nil, closedWay(t, name, fmt.Sprintf("is locked: %q", hop.LockReason))
		case hop.HopAccount == "":
			return nil, closedWay(t, name, "has no hop account any more")
		}
		hops = append(hops, hop)
	}
	return hops, nil
}

func closedWay(t *access.Target, hop, why string) error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2013", Rule: "target.via", Text: fmt.Sprintf("%s is reached via %s, which %s", t.Name, hop, why)}
}

// checkWay refuses a change of t after which a way, its own or that of another
// target, would not hold. It reads the targets without locking them: two
// changes at once could make a circle, which is untidy and no more, because the
// way of each target is written out in full.
func checkWay(ctx context.Context, tx *store.Tx, t *access.Target) error {
	if len(t.Via) == 0 && t.HopAccount != "" {
		return nil
	}
	all, err := tx.Targets(ctx)
	if err != nil {
		return err
	}
	if t.HopAccount == "" {
		if err := notOnTheWay(all, t.Name); err != nil {
			return err
		}
	}
	return t.CheckWay(all)
}

// notOnTheWay refuses to take away a target through which others are reached.
func notOnTheWay(all []access.Target, name string) error {
	for _, o := range all {
		if slices.Contains(o.Via, name) {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-3016", Text: o.Name + " is reached via " + name, Next: "drawbolt target set " + o.Name + " --via ..."}
		}
	}
	return nil
}

func wayDetails(e *audit.Event, t *access.Target) {
	detail(e, "target_via", strings.Join(t.Via, ","))
	detail(e, "hop_account", t.HopAccount)
}

// HopCredential issues the certificate with which the bastion passes through
// the hop of that index on the session's way. It permits forwarding and no
// terminal. The event names the session.
func (b *Broker) HopCredential(ctx context.Context, l *Live, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if hop < 0 || hop >= len(l.Hops) {
		return nil, fmt.Errorf("session %s has no hop %d", l.Session.ID, hop)
	}
	h, now := l.Hops[hop], b.now()
	return b.authority(sshca.User).Sign(ctx, b.serials(l.Caller, &l.Session), sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: h.HopAccount, Target: h.Name,
		KeyID:      fmt.Sprintf("drawbolt %s %s %s", l.Session.UserName, l.Session.GrantID, l.Session.ID),
		ValidAfter: now, ValidBefore: earlier(now.Add(b.c.CertificateTTL), l.End()), PermitPortForwarding: true,
	})
}
