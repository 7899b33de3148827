package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var campaigns = newTable("campaigns", "id", func(c *access.Campaign) []column {
	return []column{
		{"id", &c.ID}, {"roles", encoded{&c.Roles}}, {"owner_id", &c.OwnerID}, {"owner_name", &c.OwnerName},
		{"started_by", &c.StartedBy}, {"started_name", &c.StartedName}, {"started_at", micros{&c.StartedAt}},
		{"due_at", micros{&c.DueAt}},
		{"closed_at", micros{&c.ClosedAt}}, {"closed_by", &c.ClosedBy}, {"closed_name", &c.ClosedName},
		{"items", count{&c.Items}}, {"undecided", count{&c.Undecided}}, {"version", &c.Version},
	}
})

// The key is two columns, so items are saved by a statement of their own.
var campaignItems = newTable("campaign_items", "", func(i *access.CampaignItem) []column {
	return []column{
		{"campaign_id", &i.CampaignID}, {"n", count{&i.N}}, {"user_id", &i.UserID}, {"user_name", &i.UserName}, {"role", &i.Role},
		{"how", encoded{&i.How}}, {"measured", &i.Measured}, {"last_used", micros{&i.LastUsed}}, {"uses", count{&i.Uses}},
		{"decision", &i.Decision}, {"decided_by", &i.DecidedBy}, {"decided_name", &i.DecidedName}, {"decided_at", micros{&i.DecidedAt}}, {"reason", &i.Reason},
	}
})

// DueCampaign is when the owner of a review is reminded of it.
const DueCampaign = "review.due"

// itemsAtOnce is how many items one statement inserts.
const itemsAtOnce = 100

// AddCampaign begins a campaign with its items.
func (tx *Tx) AddCampaign(ctx context.Context, c *access.Campaign, items []access.CampaignItem) error {
	if err := campaigns.add(ctx, tx, c); err != nil {
		return err
	}
	if err := tx.SetDue(ctx, DueCampaign, c.ID, c.RemindAfter(c.StartedAt)); err != nil {
		return err
	}
	head, row, _ := strings.Cut(campaignItems.insert, " VALUES ")
	many := head + " VALUES " + row + strings.Repeat(", "+row, itemsAtOnce-1)
	for len(items) >= itemsAtOnce {
		var args []any
		for i := range items[:itemsAtOnce] {
			args = append(args, values(campaignItems.columns(&items[i]))...)
		}
		if _, err := tx.exec(ctx, many, args...); err != nil {
			return fmt.Errorf("add to campaign_items: %w", err)
		}
		items = items[itemsAtOnce:]
	}
	for i := range items {
		if err := campaignItems.add(ctx, tx, &items[i]); err != nil {
			return err
		}
	}
	return nil
}

// SaveCampaign saves a campaign that was read in the same change.
func (tx *Tx) SaveCampaign(ctx context.Context, c *access.Campaign) error {
	if err := campaigns.save(ctx, tx, c, &c.Version); err != nil || c.Open() && c.Undecided > 0 {
		return err
	}
	return tx.SetDue(ctx, DueCampaign, c.ID, time.Time{})
}

// SaveCampaignItem saves what became of an item that was read in the same change,
// in which its campaign was read before, and so is locked.
func (tx *Tx) SaveCampaignItem(ctx context.Context, i *access.CampaignItem) error {
	n, err := tx.exec(ctx, "UPDATE campaign_items SET decision = ?, decided_by = ?, decided_name = ?, decided_at = ?, reason = ? WHERE campaign_id = ? AND n = ? AND decision = ''",
		i.Decision, i.DecidedBy, i.DecidedName, toMicros(i.DecidedAt), i.Reason, i.CampaignID, i.N)
	if err == nil && n != 1 {
		err = errStale
	}
	return err
}

// Campaign returns the campaign of that id.
func (q queryer) Campaign(ctx context.Context, id string) (access.Campaign, error) {
	return campaigns.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// Campaigns returns one page of campaigns, newest first; those that are open
// alone, if so wanted. before is the id of the last one of the page before.
func (q queryer) Campaigns(ctx context.Context, open bool, before string, limit int) ([]access.Campaign, error) {
	clause, args := "WHERE 1 = 1", []any{}
	if open {
		clause += " AND closed_at = 0"
	}
	if before != "" {
		clause += " AND (started_at, id) < (SELECT started_at, id FROM campaigns WHERE id = ?)"
		args = append(args, before)
	}
	return campaigns.all(ctx, q, clause+" ORDER BY started_at DESC, id DESC LIMIT ?", append(args, page(limit))...)
}

// CampaignItem returns an item by its number.
func (q queryer) CampaignItem(ctx context.Context, id string, n int) (access.CampaignItem, error) {
	return campaignItems.one(ctx, q, "WHERE campaign_id = ? AND n = ?", id, n)
}

// CampaignItems returns one page of a campaign's items behind number after; those
// that are undecided alone, if so wanted.
func (q queryer) CampaignItems(ctx context.Context, id string, undecided bool, after, limit int) ([]access.CampaignItem, error) {
	clause := "WHERE campaign_id = ? AND n > ?"
	if undecided {
		clause += " AND decision = ''"
	}
	return campaignItems.all(ctx, q, clause+" ORDER BY n LIMIT ?", id, after, page(limit))
}

// DecisionLeaves returns leaves of the events that decided on items of a
// campaign, and of the refused ones, from a position in the log on.
func (db *DB) DecisionLeaves(ctx context.Context, id string, from int64) ([][]byte, error) {
	// The action is written out, or the index of just these rows would not be used.
	rows, err := db.rows(ctx, "SELECT leaf FROM audit_leaves WHERE action = 'review.decide' AND object = ? AND seq >= ? ORDER BY seq LIMIT 1000", id, from)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var leaves [][]byte
	for rows.Next() {
		var leaf []byte
		if err := rows.Scan(&leaf); err != nil {
			return nil, unavailable(err)
		}
		leaves = append(leaves, leaf)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return leaves, nil
}

// A Use is how often something was done since a time, and when it was last.
type Use struct {
	Last  time.Time
	Count int
}

// RoleUses returns, for up to a thousand users by id, which roles' grants they
// have used, by the names of the roles.
func (q queryer) RoleUses(ctx context.Context, userIDs []string, since time.Time) (map[string]map[string]Use, error) {
	uses := map[string]map[string]Use{}
	err := q.uses(ctx, "SELECT user_id, role, MAX(start_at), COUNT(CASE WHEN start_at >= ? THEN 1 END) FROM grants WHERE start_at > 0 AND user_id IN (%s) GROUP BY user_id, role",
		userIDs, since, func(user, role string, u Use) {
			if uses[user] == nil {
				uses[user] = map[string]Use{}
			}
			uses[user][role] = u
		})
	return uses, err
}

// Votes returns, for up to a thousand users by id, how often they have approved.
func (q queryer) Votes(ctx context.Context, userIDs []string, since time.Time) (map[string]Use, error) {
	uses := map[string]Use{}
	err := q.uses(ctx, "SELECT user_id, '', MAX(at), COUNT(CASE WHEN at >= ? THEN 1 END) FROM approvals WHERE user_id IN (%s) GROUP BY user_id",
		userIDs, since, func(user, _ string, u Use) { uses[user] = u })
	return uses, err
}

func (q queryer) uses(ctx context.Context, query string, userIDs []string, since time.Time, each func(user, role string, u Use)) error {
	if len(userIDs) == 0 {
		return nil
	}
	args := []any{toMicros(since)}
	for _, id := range userIDs {
		args = append(args, id)
	}
	rows, err := q.rows(ctx, fmt.Sprintf(query, "?"+strings.Repeat(", ?", len(userIDs)-1)), args...)
	if err != nil {
		return q.failed("count uses", err)
	}
	defer rows.Close()
	for rows.Next() {
		var user, role string
		var u Use
		if err := rows.Scan(&user, &role, micros{&u.Last}, &u.Count); err != nil {
			return q.failed("count uses", err)
		}
		each(user, role, u)
	}
	if err := rows.Err(); err != nil {
		return q.failed("count uses", err)
	}
	return nil
}
