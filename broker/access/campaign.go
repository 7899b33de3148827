package access

import (
	"fmt"
	"slices"
	"time"
)

// CampaignPrefix is that of the ids of campaigns.
const CampaignPrefix = "CMP"

// MaxCampaign is how many items a campaign has at most.
const MaxCampaign = 20_000

// A Campaign is a review of who has which role: somebody goes through the items,
// one for each person and role, and keeps or removes each until a date.
type Campaign struct {
	ID          string
	Roles       []string // names; none: every role there was
	OwnerID     string
	OwnerName   string
	StartedBy   string // id
	StartedName string
	StartedAt   time.Time
	DueAt       time.Time

	ClosedAt   time.Time // zero: open
	ClosedBy   string    // id
	ClosedName string
	Items      int
	Undecided  int
	Version    int64
}

// A Holding is a role that somebody has, how, and how much they made of it.
type Holding struct {
	UserID   string
	UserName string
	Role     string
	How      []string // "direct", "group NAME", "attributes NAME=VALUE ...", "role NAME" that inherits it
	// Measured says that uses of the role leave a trace that is counted: its rules
	// let people ask for access, or vote.
	Measured bool
	LastUsed time.Time // zero: never
	Uses     int       // in the time that was asked for
}

// Unused reports whether the role is one whose uses are counted, and there are none.
func (h *Holding) Unused() bool { return h.Measured && h.Uses == 0 }

// The decisions on an item.
const (
	Kept    = "kept"
	Removed = "removed"
)

// A CampaignItem is a holding as it was when the campaign began, and what became
// of it.
type CampaignItem struct {
	CampaignID string
	N          int // from 1
	Holding
	Decision    string // "", Kept or Removed
	DecidedBy   string // id
	DecidedName string
	DecidedAt   time.Time
	Reason      string
}

const (
	// MaxCampaignTime is the longest time that a campaign may have.
	MaxCampaignTime = 366 * 24 * time.Hour
	// remindBefore is how long before the date the owner is reminded first.
	remindBefore = 3 * 24 * time.Hour
)

// NewCampaign begins a campaign at t.
func NewCampaign(owner, by User, roles []string, due, t time.Time) (*Campaign, error) {
	switch {
	case !due.After(t) || due.Sub(t) > MaxCampaignTime:
		return nil, Invalid("the date must lie within the next year, not at %s", due.UTC().Format(time.RFC3339))
	case owner.Bot || owner.Locked || owner.Emergency:
		return nil, Invalid("%s cannot own a review: bots, emergency users and those who are locked do not", owner.Name)
	}
	c := &Campaign{
		ID: NewID(CampaignPrefix), Roles: roles, OwnerID: owner.ID, OwnerName: owner.Name, StartedBy: by.ID, StartedName: by.Name,
		StartedAt: t, DueAt: due, Version: 1,
	}
	return c, nil
}

// Open reports whether nobody has closed the campaign.
func (c *Campaign) Open() bool { return c.ClosedAt.IsZero() }

// Overdue reports whether the date has passed with items to decide on.
func (c *Campaign) Overdue(t time.Time) bool {
	return c.Open() && c.Undecided > 0 && !t.Before(c.DueAt)
}

// RemindAfter returns when the owner is reminded next after t: some days before the
// date, at it, and each day after it.
func (c *Campaign) RemindAfter(t time.Time) time.Time {
	if early := c.DueAt.Add(-remindBefore); early.After(t) {
		return early
	}
	if c.DueAt.After(t) {
		return c.DueAt
	}
	return nextDaily(c.DueAt, t)
}

// MayDecide refuses whoever may not decide on an item: the owner may, on what is
// not their own right. On that, and once the campaign is overdue, anybody else may
// who may review at all; nobody ever on their own.
func (c *Campaign) MayDecide(by User, i *CampaignItem, t time.Time) error {
	switch {
	case !c.Open():
		return c.closed()
	case by.Bot:
		return &Error{Kind: ErrDenied, Code: "DB-6262", Rule: "review.person", Text: "rights are reviewed by a person"}
	case i.UserID == by.ID:
		return &Error{Kind: ErrDenied, Code: "DB-6260", Rule: "review.own", Text: "nobody decides on their own rights; somebody else who reviews must"}
	case by.ID != c.OwnerID && i.UserID != c.OwnerID && !c.Overdue(t):
		return &Error{Kind: ErrDenied, Code: "DB-6261", Rule: "review.owner", Text: fmt.Sprintf("%s decides on this until %s", c.OwnerName, c.DueAt.UTC().Format(time.RFC3339))}
	}
	return nil
}

func (c *Campaign) closed() error {
	return &Error{Kind: ErrConflict, Code: "DB-6263", Text: fmt.Sprintf("%s was closed by %s; nothing changed", c.ID, c.ClosedName), Next: "drawbolt review export " + c.ID}
}

// Decide decides on an item, once; see [Campaign.MayDecide].
func (c *Campaign) Decide(by User, i *CampaignItem, decision, reason string, t time.Time) error {
	if err := c.MayDecide(by, i, t); err != nil {
		return err
	}
	if !slices.Contains([]string{Kept, Removed}, decision) {
		return Invalid("an item is kept or removed")
	}
	if i.Decision != "" {
		return &Error{Kind: ErrConflict, Code: "DB-6264", Text: fmt.Sprintf("item %d of %s was %s already by %s; nothing changed", i.N, c.ID, i.Decision, i.DecidedName), Next: "drawbolt review show " + c.ID}
	}
	if err := CheckReason(reason); err != nil {
		return err
	}
	i.Decision, i.DecidedBy, i.DecidedName, i.DecidedAt, i.Reason = decision, by.ID, by.Name, t, reason
	c.Undecided--
	return nil
}

// Close ends the campaign. What is undecided then stays so for good, which must
// have been said.
func (c *Campaign) Close(by User, undecided bool, t time.Time) error {
	switch {
	case !c.Open():
		return c.closed()
	case c.Undecided > 0 && !undecided:
		return &Error{Kind: ErrConflict, Code: "DB-6265", Text: fmt.Sprintf("%d of %d items of %s are not decided", c.Undecided, c.Items, c.ID),
			Next: "drawbolt review show " + c.ID + " --open; or drawbolt review close " + c.ID + " --undecided"}
	}
	c.ClosedAt, c.ClosedBy, c.ClosedName = t, by.ID, by.Name
	return nil
}
