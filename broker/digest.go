package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// DueDigest is the action of the event that tells, once a day, what the policy has
// approved without asking anybody. Its object is when the time begins that it is
// about, which ends with the event.
const DueDigest = "approvals.digest"

// digestMost is for how many accounts and people a digest says how often.
const digestMost = 10

// A Daily is a time of each day.
type Daily struct {
	Minute int // since midnight
	Zone   *time.Location
}

// ParseDaily reads "17:00" (UTC) or "17:00 Europe/Berlin".
func ParseDaily(s string) (Daily, error) {
	clock, zone, _ := strings.Cut(s, " ")
	t, err := time.Parse("15:04", clock)
	if err != nil || len(clock) != len("15:04") {
		return Daily{}, access.Invalid("a time of the day is like 17:00, or 17:00 Europe/Berlin")
	}
	d := Daily{Minute: t.Hour()*60 + t.Minute()}
	if d.Zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
		return Daily{}, access.Invalid("%.64q is no time zone such as Europe/Berlin", zone)
	}
	return d, nil
}

// After returns the first such time after t. On a day on which clocks skip it, that
// is as much later as they skip.
func (d Daily) After(t time.Time) time.Time {
	year, month, day := t.In(d.Zone).Date()
	for ; ; day++ {
		if at := time.Date(year, month, day, 0, d.Minute, 0, 0, d.Zone); at.After(t) {
			return at
		}
	}
}

// beginDigests sees to it that there is a next digest, if there are any.
func (b *Broker) beginDigests(ctx context.Context) error {
	if b.c.Digest == nil {
		return nil
	}
	next := b.c.Digest.After(b.now())
	return b.c.Store.EnsureDue(ctx, store.Due{Kind: DueDigest, Object: next.AddDate(0, 0, -1).UTC().Format(time.RFC3339), At: next})
}

// digest: a day is over. Of one on which nothing was approved by the policy alone
// nobody hears; the next digest is about it, too.
func (b *Broker) digest(ctx context.Context, tx *store.Tx, since string) (e audit.Event, again time.Time, err error) {
	from, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return e, again, access.ErrNotFound
	}
	until := tx.Now().UTC().Truncate(time.Second)
	next := b.c.Digest.After(until)
	total, people, most, err := tx.Admitted(ctx, from, until, digestMost)
	if err != nil || total == 0 {
		return e, next, err
	}
	var parts []string
	for _, m := range most {
		parts = append(parts, fmt.Sprintf("%s %s@%s %d", m.User, m.Account, m.Target, m.Times))
	}
	e = event(access.System(), DueDigest, since)
	e.Reason = audit.Clean(fmt.Sprintf("since %s, of %d people; most often: %s", from.UTC().Format("2006-01-02 15:04 UTC"), people, strings.Join(parts, ", ")), audit.MaxReason)
	detail(&e, "until", until.Format(time.RFC3339))
	detail(&e, "total", fmt.Sprint(total))
	return e, time.Time{}, tx.SetDue(ctx, DueDigest, until.Format(time.RFC3339), next)
}
