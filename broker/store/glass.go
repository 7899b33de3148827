package store

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var glassReviews = newTable("glass_reviews", "request_id", func(g *access.GlassReview) []column {
	return []column{
		{"request_id", &g.RequestID}, {"user_id", &g.UserID}, {"barred", encoded{&g.Barred}}, {"opened_at", micros{&g.OpenedAt}}, {"factor_at", micros{&g.FactorAt}},
		{"ack_id", &g.AckID}, {"ack_name", &g.AckName}, {"ack_at", micros{&g.AckAt}},
		{"closed_at", micros{&g.ClosedAt}}, {"closed_by", &g.ClosedBy}, {"closed_name", &g.ClosedName},
		{"finding", text[access.Finding]{&g.Finding}}, {"text", &g.Text}, {"version", &g.Version},
	}
})

// DueGlassReview is when people are reminded of an open review.
const DueGlassReview = "breakglass.remind"

// AddGlassReview opens a review.
func (tx *Tx) AddGlassReview(ctx context.Context, g *access.GlassReview) error {
	if err := glassReviews.add(ctx, tx, g); err != nil {
		return err
	}
	return tx.SetDue(ctx, DueGlassReview, g.RequestID, g.RemindAfter(g.OpenedAt))
}

// SaveGlassReview saves a review that was read in the same change.
func (tx *Tx) SaveGlassReview(ctx context.Context, g *access.GlassReview) error {
	if err := glassReviews.save(ctx, tx, g, &g.Version); err != nil {
		return err
	}
	var due time.Time
	if g.Open() {
		due = g.RemindAfter(tx.now)
	}
	return tx.SetDue(ctx, DueGlassReview, g.RequestID, due)
}

// GlassReview returns the review of the request of that id.
func (q queryer) GlassReview(ctx context.Context, requestID string) (access.GlassReview, error) {
	return glassReviews.one(ctx, q, "WHERE request_id = ?"+q.lock(), requestID)
}

// GlassReviews returns one page of reviews, newest first; those that are open
// alone, if so wanted. before is the request of the last one of the page before.
func (q queryer) GlassReviews(ctx context.Context, open bool, before string, limit int) ([]access.GlassReview, error) {
	clause, args := "WHERE 1 = 1", []any{}
	if open {
		clause += " AND closed_at = 0"
	}
	if before != "" {
		clause += " AND (opened_at, request_id) < (SELECT opened_at, request_id FROM glass_reviews WHERE request_id = ?)"
		args = append(args, before)
	}
	return glassReviews.all(ctx, q, clause+" ORDER BY opened_at DESC, request_id DESC LIMIT ?", append(args, page(limit))...)
}

// CountGlassReviews returns how many reviews are open and how many are closed.
func (q queryer) CountGlassReviews(ctx context.Context) (open, closed int, err error) {
	err = q.row(ctx, "SELECT COUNT(CASE WHEN closed_at = 0 THEN 1 END), COUNT(CASE WHEN closed_at <> 0 THEN 1 END) FROM glass_reviews").Scan(&open, &closed)
	if err != nil {
		err = q.failed("count reviews", err)
	}
	return open, closed, err
}

// OpenGlassReviewsOf returns how many reviews of a user are open, and of these
// how many were opened at t or before.
func (q queryer) OpenGlassReviewsOf(ctx context.Context, userID string, t time.Time) (open, old int, err error) {
	err = q.row(ctx, "SELECT COUNT(*), COUNT(CASE WHEN opened_at <= ? THEN 1 END) FROM glass_reviews WHERE closed_at = 0 AND user_id = ?", toMicros(t), userID).Scan(&open, &old)
	if err != nil {
		err = q.failed("count reviews", err)
	}
	return open, old, err
}
