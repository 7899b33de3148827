package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func unknownCampaign(err error, id string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-6270", Text: "there is no review " + audit.Clean(id, 64), Next: "drawbolt review ls"}
	}
	return err
}

// A CampaignOrder says what is to be reviewed, by whom and until when.
type CampaignOrder struct {
	Roles  []string // names; none: every role
	Unused bool     // only what was not used within UsedWithin
	Owner  string   // name
	Due    time.Time
}

// StartCampaign begins a review of who has which role: an item for each person
// and role, as it is at this moment. The owner must be one who may decide.
func (b *Broker) StartCampaign(ctx context.Context, by access.Caller, o CampaignOrder) (access.Campaign, error) {
	var c access.Campaign
	e := event(by, "review.start", "")
	if len(o.Roles) > access.MaxItems {
		return c, access.Invalid("a review names at most %d roles, or all", access.MaxItems)
	}
	if _, err := b.allow(ctx, question{action: policy.ActionReviewWrite, by: by}, e); err != nil {
		return c, err
	}
	slices.Sort(o.Roles)
	o.Roles = slices.Compact(o.Roles)
	held, err := b.toReview(ctx, o)
	if err != nil {
		return c, err
	}
	err = b.write(ctx, by, policy.ActionReviewWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		owner, err := tx.User(ctx, o.Owner)
		if err != nil {
			return unknownUser(err, o.Owner)
		}
		begun, err := access.NewCampaign(owner, by.User, o.Roles, o.Due.UTC().Truncate(time.Microsecond), tx.Now())
		if err != nil {
			return err
		}
		// Where the owner is and when they last showed a second factor is not known
		// now; the caller's stand for it.
		as := by
		as.User = owner
		if _, err := b.decideNow(ctx, question{action: policy.ActionReviewWrite, by: as}); errors.Is(err, access.ErrDenied) {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-6271", Rule: "review.owner", Text: owner.Name + " may not decide on reviews; give them a role that allows review.write, or name another owner", Next: "drawbolt role ls"}
		} else if err != nil {
			return err
		}
		c = *begun
		items := make([]access.CampaignItem, len(held))
		for i, h := range held {
			items[i] = access.CampaignItem{CampaignID: c.ID, N: i + 1, Holding: h}
		}
		c.Items, c.Undecided = len(items), len(items)
		e.Object = c.ID
		detail(e, "owner", owner.Name)
		detail(e, "roles", strings.Join(o.Roles, " "))
		detail(e, "items", strconv.Itoa(c.Items))
		detail(e, "due", c.DueAt.Format(time.RFC3339))
		return tx.AddCampaign(ctx, &c, items)
	})
	return c, err
}

// toReview are the holdings that an order names.
func (b *Broker) toReview(ctx context.Context, o CampaignOrder) ([]access.Holding, error) {
	names := o.Roles
	if len(names) == 0 {
		names = []string{""}
	}
	var list []access.Holding
	for _, name := range names {
		f := HoldingFilter{Role: name, Unused: o.Unused, Limit: maxHoldings}
		for {
			page, next, err := b.holdings(ctx, f)
			if err != nil {
				return nil, err
			}
			if list = append(list, page...); len(list) > access.MaxCampaign {
				return nil, access.Invalid("a review has at most %d items: name fewer roles, and start several", access.MaxCampaign)
			}
			if next == "" {
				break
			}
			f.After = next
		}
	}
	if len(list) == 0 {
		return nil, access.Invalid("there is nothing to review: nobody has such a role")
	}
	return list, nil
}

// Campaigns lists reviews, newest first; open alone, if so wanted. before is the
// id of the last one of the page before.
func (b *Broker) Campaigns(ctx context.Context, by access.Caller, open bool, before string, limit int) ([]access.Campaign, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionReviewRead, by: by}, event(by, "review.list", "")); err != nil {
		return nil, err
	}
	return b.c.Store.Campaigns(ctx, open, before, min(limit, 200))
}

// FindCampaign returns a review.
func (b *Broker) FindCampaign(ctx context.Context, by access.Caller, id string) (access.Campaign, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionReviewRead, by: by}, event(by, "review.read", id)); err != nil {
		return access.Campaign{}, err
	}
	c, err := b.c.Store.Campaign(ctx, id)
	return c, unknownCampaign(err, id)
}

// An ItemView is an item as somebody looks at it.
type ItemView struct {
	access.CampaignItem
	MayDecide bool // as far as the campaign goes; the policy is asked at the decision
}

// CampaignItems lists the items of a review behind number after, up to limit
// (default 200, at most 1000); those that are undecided alone, if so wanted.
func (b *Broker) CampaignItems(ctx context.Context, by access.Caller, id string, undecided bool, after, limit int) ([]ItemView, error) {
	c, err := b.FindCampaign(ctx, by, id)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = 200
	}
	items, err := b.c.Store.CampaignItems(ctx, c.ID, undecided, after, limit)
	if err != nil {
		return nil, err
	}
	_, err = b.decideNow(ctx, question{action: policy.ActionReviewWrite, by: by})
	if err != nil && !errors.Is(err, access.ErrDenied) {
		return nil, err
	}
	writes := err == nil
	list := make([]ItemView, len(items))
	for i, item := range items {
		list[i] = ItemView{item, writes && item.Decision == "" && c.MayDecide(by.User, &item, b.now()) == nil}
	}
	return list, nil
}

// MaxDecisions is how many items are decided on at once.
const MaxDecisions = 500

// DecideItems keeps or removes items of a review, all of them or none. What is
// removed is gone with that: the person is taken out of the role, and out of each
// group through which they had it. Where they would have it all the same, nothing is
// done.
func (b *Broker) DecideItems(ctx context.Context, by access.Caller, id string, numbers []int, decision, reason string) (access.Campaign, error) {
	var c access.Campaign
	numbers = slices.Compact(slices.Sorted(slices.Values(numbers)))
	if len(numbers) == 0 || len(numbers) > MaxDecisions {
		return c, access.Invalid("name between 1 and %d items", MaxDecisions)
	}
	err := b.write(ctx, by, policy.ActionReviewWrite, event(by, "review.decide", id), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		var err error
		if c, err = tx.Campaign(ctx, id); err != nil {
			return unknownCampaign(err, id)
		}
		begun := *e
		var removed []*access.CampaignItem
		var removals []audit.Event
		for i, n := range numbers {
			item, err := tx.CampaignItem(ctx, id, n)
			if errors.Is(err, access.ErrNotFound) {
				return access.Invalid("%s has no item %d", id, n)
			}
			if err != nil {
				return err
			}
			told := begun
			told.Details, told.Reason = cloneDetails(begun.Details), audit.Clean(reason, audit.MaxReason)
			detail(&told, "item", strconv.Itoa(n))
			detail(&told, "user", item.UserID)
			detail(&told, "user_name", item.UserName)
			detail(&told, "role", item.Role)
			detail(&told, "decision", decision)
			if i == 0 {
				*e = told // also when it is refused
			}
			if err := c.Decide(by.User, &item, decision, reason, tx.Now()); err != nil {
				*e = told
				return err
			}
			if decision == access.Removed {
				taken, err := takeRole(ctx, tx, by, &item)
				if err != nil {
					return err
				}
				detail(&told, "taken", strings.Join(taken, ", "))
				if len(taken) == 0 {
					detail(&told, "taken", "nothing: it was gone already, or goes with another role")
				}
				removed, removals = append(removed, &item), append(removals, told)
			}
			if err := tx.SaveCampaignItem(ctx, &item); err != nil {
				return err
			}
			if i == 0 {
				*e = told
			} else {
				tx.Also(told)
			}
		}
		for i, item := range removed { // after all: one may go with another
			if err := stillHeld(ctx, tx, item); err != nil {
				*e = removals[i]
				return err
			}
		}
		if len(removed) > 0 {
			if err := keepAdministrator(ctx, tx); err != nil {
				return err
			}
		}
		return tx.SaveCampaign(ctx, &c)
	})
	return c, err
}

// CloseCampaign ends a review. With items that nobody has decided on it takes
// undecided to be true; they are then told of as such.
func (b *Broker) CloseCampaign(ctx context.Context, by access.Caller, id string, undecided bool) (access.Campaign, error) {
	var c access.Campaign
	err := b.write(ctx, by, policy.ActionReviewWrite, event(by, "review.close", id), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		var err error
		if c, err = tx.Campaign(ctx, id); err != nil {
			return unknownCampaign(err, id)
		}
		detail(e, "items", strconv.Itoa(c.Items))
		detail(e, "undecided", strconv.Itoa(c.Undecided))
		if err := c.Close(by.User, undecided, tx.Now()); err != nil {
			return err
		}
		return tx.SaveCampaign(ctx, &c)
	})
	return c, err
}

// remindCampaign: rights wait for their owner. Once it is late, others may decide,
// and all are told.
func (b *Broker) remindCampaign(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error) {
	c, err := tx.Campaign(ctx, id)
	if err != nil || !c.Open() || c.Undecided == 0 {
		return e, again, err
	}
	e = event(access.System(), store.DueCampaign, c.ID)
	e.Reason = fmt.Sprintf("%d of %d rights wait for %s until %s: drawbolt review show %s", c.Undecided, c.Items, c.OwnerName, c.DueAt.UTC().Format(time.RFC3339), c.ID)
	if c.Overdue(tx.Now()) {
		e.Reason = fmt.Sprintf("%d of %d rights should have been decided on by %s until %s; everybody who reviews may now: drawbolt review show %s",
			c.Undecided, c.Items, c.OwnerName, c.DueAt.UTC().Format(time.RFC3339), c.ID)
		detail(&e, "overdue", "yes")
	}
	detail(&e, "owner", c.OwnerName)
	return e, c.RemindAfter(tx.Now()), nil
}

// A CampaignExport is everything of a review, for whoever has to show it.
type CampaignExport struct {
	Campaign access.Campaign
	Items    []access.CampaignItem
	// Events are the numbers, in the audit log, of the events that decided, by the
	// numbers of the items.
	Events map[int]int64
	// Checkpoint is signed, and covers these events.
	Checkpoint []byte
}

// ExportCampaign returns everything of a review, with where its decisions stand in
// the audit log.
func (b *Broker) ExportCampaign(ctx context.Context, by access.Caller, id string) (CampaignExport, error) {
	x := CampaignExport{Events: map[int]int64{}}
	e := event(by, "review.export", id)
	if _, err := b.allow(ctx, question{action: policy.ActionReviewRead, by: by}, e); err != nil {
		return x, err
	}
	var err error
	if x.Campaign, err = b.c.Store.Campaign(ctx, id); err != nil {
		return x, unknownCampaign(err, id)
	}
	for {
		after := 0
		if n := len(x.Items); n > 0 {
			after = x.Items[n-1].N
		}
		page, err := b.c.Store.CampaignItems(ctx, id, false, after, 1000)
		if err != nil {
			return x, err
		}
		if x.Items = append(x.Items, page...); len(page) < 1000 {
			break
		}
	}
	for from := int64(0); ; {
		leaves, err := b.c.Store.DecisionLeaves(ctx, id, from)
		if err != nil {
			return x, err
		}
		for _, leaf := range leaves {
			e, err := audit.Parse(leaf)
			if err != nil {
				return x, fmt.Errorf("the audit log is damaged: %w", err)
			}
			from = e.Seq + 1
			if n, err := strconv.Atoi(e.Details["item"]); err == nil && e.Outcome == audit.Done {
				x.Events[n] = e.Seq
			}
		}
		if len(leaves) == 0 {
			break
		}
	}
	if x.Checkpoint, err = b.sign(ctx); err != nil {
		return x, err
	}
	return x, b.c.Store.Record(ctx, e)
}
