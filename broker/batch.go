package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// A batch is no more than a name that requests have in common: what one person
// asks for at once, for one account and one reason, on several targets. Each
// request is decided by itself, by what the policy says of its target, with its
// own digest, votes and grant; the name lets people see and decide them together.
const (
	// MaxBatch is how many requests have one batch in common.
	MaxBatch = 50
	// batchOpen is how long more may join it.
	batchOpen = 2 * time.Minute
)

func (a *Ask) validateBatch() error {
	switch {
	case a.Batch == "":
		return nil
	case !access.ValidID(access.BatchPrefix, a.Batch):
		return access.Invalid("the batch %q is no id", a.Batch)
	case a.BreakGlass:
		return access.Invalid("break-glass is for one target at a time; it takes no batch")
	}
	return nil
}

// mayJoin says whether a request may have this batch in common with those that
// have it. Nobody slips something into what others ask for, or into what
// approvers have begun to decide.
func (b *Broker) mayJoin(ctx context.Context, tx *store.Tx, by access.Caller, ask Ask) error {
	if ask.Batch == "" {
		return nil
	}
	list, err := tx.Requests(ctx, store.RequestFilter{Batch: ask.Batch, Limit: MaxBatch})
	if err != nil {
		return err
	}
	if len(list) >= MaxBatch {
		return access.Invalid("at most %d targets are asked for together", MaxBatch)
	}
	for _, r := range list {
		switch {
		case r.RequesterID != by.User.ID:
			return &access.Error{Kind: access.ErrNotFound, Code: "DB-2102", Text: "there is no batch " + ask.Batch + " of yours"}
		case r.Account != ask.Account || r.Reason != ask.Reason || !r.Start.Equal(ask.Start):
			return access.Invalid("what is asked for together has one account, one reason and one start")
		case len(r.Approvals) > 0 || r.DecidedBy != "" || tx.Now().Sub(r.CreatedAt) > batchOpen:
			return &access.Error{Kind: access.ErrConflict, Code: "DB-3017",
				Text: fmt.Sprintf("%s takes no more requests: people decide about it already", ask.Batch), Next: "drawbolt run, which begins another"}
		}
	}
	return nil
}
