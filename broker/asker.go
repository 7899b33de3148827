package broker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// An Asker is what is known of a requester besides what they say, for who decides.
// Nothing is decided by it.
type Asker struct {
	Schedules bool     // there are any, and so it is known who is on call
	OnCall    []string // the groups that schedules give the requester now
	// NewNetwork says that the request came from a network from which the requester was
	// not let in before: by no approved request and in no session that is older than a
	// day. The day is so that nobody makes their network known by asking for something
	// small first.
	NewNetwork bool
}

// knownAfter is for how long a network must have been used to be known.
const knownAfter = 24 * time.Hour

func (b *Broker) asker(ctx context.Context, r *access.Request) (*Asker, error) {
	a := &Asker{Schedules: b.c.OnCall != nil}
	if a.Schedules {
		for _, g := range b.present(access.User{ID: r.RequesterID, Name: r.RequesterName}).Groups {
			if access.OnCall(g) {
				a.OnCall = append(a.OnCall, g)
			}
		}
	}
	from, ok := networkOf(r.Source)
	if !ok {
		return a, nil
	}
	known, err := b.c.Store.SourcesOf(ctx, r.RequesterID, r.CreatedAt.Add(-knownAfter))
	a.NewNetwork = !slices.ContainsFunc(known, func(source string) bool {
		network, ok := networkOf(source)
		return ok && network == from
	})
	return a, err
}

// networkOf is what is taken for one network: the /24 of an IPv4 address, and the
// /48 of another, which is what a site has (RFC 6177).
func networkOf(source string) (netip.Prefix, bool) {
	address, err := netip.ParseAddr(source)
	if err != nil {
		return netip.Prefix{}, false
	}
	address = address.Unmap().WithZone("")
	bits := 48
	if address.Is4() {
		bits = 24
	}
	p, err := address.Prefix(bits)
	return p, err == nil
}

// An Unanswered says who could have decided on a request that nobody decided on, as
// they are now: Escalated names the groups that were asked last, from At on.
type Unanswered struct {
	Asked     []access.User // at most 200
	Escalated []string
	At        time.Time
}

// Unanswered is for a channel that tells of a request that has expired.
func (b *Broker) Unanswered(ctx context.Context, r *access.Request) (u Unanswered, err error) {
	last := r.ExpiresAt.Add(-time.Microsecond) // to which the store keeps times
	votes, asked, err := b.askedAt(ctx, b.people(), r, last)
	if err != nil {
		return u, err
	}
	for _, a := range asked {
		if !slices.ContainsFunc(u.Asked, func(known access.User) bool { return known.ID == a.User.ID }) {
			u.Asked = append(u.Asked, a.User)
		}
	}
	if stage := votes.stage(last); stage != nil {
		u.Escalated, u.At = stage.Escalated(), stage.EscalatedAt()
	}
	return u, nil
}

// UseOf returns what sessions have made of a grant, for a channel that tells of it.
func (b *Broker) UseOf(ctx context.Context, grantID string) (access.GrantUse, error) {
	return b.c.Store.GrantUse(ctx, grantID)
}

// GlassReviewNow returns the review of break-glass as it is now, for such a channel.
func (b *Broker) GlassReviewNow(ctx context.Context, requestID string) (access.GlassReview, error) {
	return b.c.Store.GlassReview(ctx, requestID)
}
