package broker

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// An Answer is what an approver says besides yes.
type Answer struct {
	Duration time.Duration // 0: as asked; never longer
	Comment  string
}

// Approve votes for a request. digest is the digest of what the approver was
// shown (Request.Digest); a vote for anything else is refused. With the last
// approval needed the grant opens, in the same transaction.
func (b *Broker) Approve(ctx context.Context, by access.Caller, id, digest string, a Answer) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionApprove, "request.approve", func(tx *store.Tx, by access.Caller, r *access.Request, e *audit.Event) error {
		voters, err := tx.Voters(ctx, r.ID)
		if err != nil {
			return err
		}
		groups := groupsOf(append(voters, by.User))
		vote := access.Approval{
			UserID: by.User.ID, UserName: by.User.Name, Groups: by.User.Groups, Comment: a.Comment,
			Duration: a.Duration, Digest: digest, Via: by.Via, At: tx.Now(),
		}
		approved, err := r.Approve(vote, by.User.Bot, func(id string) []string { return groups[id] })
		if err != nil {
			return err
		}
		e.Reason = audit.Clean(a.Comment, audit.MaxReason)
		detail(e, "digest", digest)
		detail(e, "duration", access.FormatDuration(r.Granted()))
		if !approved {
			detail(e, "still", "needs more approvals")
		}
		return nil
	})
}

// Deny ends a pending request with a reason, which its requester reads. The
// digest may be empty: a no needs no proof of what was shown.
func (b *Broker) Deny(ctx context.Context, by access.Caller, id, digest, reason string) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionDeny, "request.deny", func(tx *store.Tx, by access.Caller, r *access.Request, e *audit.Event) error {
		if err := r.Deny(by.User, reason, tx.Now()); err != nil {
			return err
		}
		e.Reason = reason
		detail(e, "digest", digest)
		return nil
	})
}
