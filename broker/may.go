package broker

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
)

// May says which of these actions the policy allows the caller where no target is
// meant. It is for showing what there is: every verb asks again.
func (b *Broker) May(ctx context.Context, by access.Caller, actions ...policy.Action) (map[policy.Action]bool, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "may", by.User.ID)); err != nil {
		return nil, err
	}
	may := map[policy.Action]bool{}
	for _, a := range actions {
		_, err := b.decideNow(ctx, question{action: a, by: by})
		if err != nil && !errors.Is(err, access.ErrDenied) {
			return nil, err
		}
		may[a] = err == nil
	}
	return may, nil
}

// MayReadSystem reports whether the caller may see how the server is set up and how
// it does. That somebody looked is on record.
func (b *Broker) MayReadSystem(ctx context.Context, by access.Caller) error {
	e := event(by, "system.read", b.c.Node)
	if _, err := b.allow(ctx, question{action: policy.ActionSystemRead, by: by}, e); err != nil {
		return err
	}
	return b.c.Store.Record(ctx, e)
}
