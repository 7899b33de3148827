package broker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// RecordFacts puts on record what was found out about a target: facts by name,
// all gathered at one moment (the zero time is now). An empty value forgets a
// fact. Facts that are newer stay. Sessions under rules that want another fact
// end.
func (b *Broker) RecordFacts(ctx context.Context, by access.Caller, target string, facts map[string]string, at time.Time) (access.Target, error) {
	var t access.Target
	if err := access.CheckFacts(facts); err != nil {
		return t, err
	}
	e := event(by, "target.facts", target)
	if err := b.refresh(ctx); err != nil {
		return t, b.refused(ctx, e, policyDown(err))
	}
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		if t, err = b.administered(ctx, tx, by, policy.ActionTargetFacts, target, &e); err != nil {
			return e, err
		}
		gathered := at.UTC()
		if at.IsZero() {
			gathered = tx.Now()
		}
		if gathered.After(tx.Now()) { // it would be new for longer than it is
			return e, access.Invalid("facts were gathered at %s, which is yet to come", gathered.Format(time.RFC3339))
		}
		detail(&e, "gathered_at", gathered.Format(time.RFC3339))
		now := maps.Clone(t.Facts)
		if now == nil {
			now = map[string]access.Fact{}
		}
		for _, name := range slices.Sorted(maps.Keys(facts)) {
			switch value := facts[name]; {
			case now[name].At.After(gathered):
				continue
			case value == "":
				delete(now, name)
				detail(&e, "fact_"+name, "(forgotten)")
			default:
				now[name] = access.Fact{Value: value, At: gathered, By: by.User.Name}
				detail(&e, "fact_"+name, value)
			}
		}
		if len(now) > access.MaxItems {
			return e, access.Invalid("a target may have at most %d facts", access.MaxItems)
		}
		t.Facts = now
		return e, tx.SaveTarget(ctx, &t)
	})
	return t, err
}
