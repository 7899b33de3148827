package api

import (
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Holding is a role that somebody has, how they have it, and what they made of it.
type Holding struct {
	User     string     `json:"user"`
	Role     string     `json:"role"`
	How      []string   `json:"how"`                 // "direct", "group NAME", "attributes NAME=VALUE ...", "role NAME" that inherits it
	Measured bool       `json:"measured"`            // uses of such a role are counted
	LastUsed *time.Time `json:"last_used,omitempty"` // absent: never, or not measured
	Uses     int        `json:"uses"`                // in the days that were asked for
}

// HoldingFilter picks holdings, by the names of the people.
type HoldingFilter struct {
	Role, User string
	Unused     bool // not used in those days, of those that are measured
	Days       int  // 0: 90
	Limit      int
	After      string // List.Next
}

// Holdings lists who has which role. A page may be longer than the limit by the
// rest of its last person's.
func (c *Client) Holdings(ctx context.Context, f HoldingFilter) (List[Holding], error) {
	q := url.Values{}
	set(q, "role", f.Role)
	set(q, "user", f.User)
	setTrue(q, "unused", f.Unused)
	if f.Days > 0 {
		q.Set("days", strconv.Itoa(f.Days))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	set(q, "after", f.After)
	return call[List[Holding]](ctx, c, http.MethodGet, "/v1/reports/access", q, nil)
}

// A Review is a campaign in which somebody decides who keeps which role.
type Review struct {
	ID        string     `json:"id"`
	Roles     []string   `json:"roles"` // none: every role
	Owner     string     `json:"owner"`
	StartedBy string     `json:"started_by"`
	StartedAt time.Time  `json:"started_at"`
	DueAt     time.Time  `json:"due_at"`
	Overdue   bool       `json:"overdue"`
	ClosedAt  *time.Time `json:"closed_at,omitempty"`
	ClosedBy  string     `json:"closed_by,omitempty"`
	Items     int        `json:"items"`
	Undecided int        `json:"undecided"`
	URL       string     `json:"url"`
}

// ReviewInput begins a review.
type ReviewInput struct {
	Roles  []string  `json:"roles,omitempty" maxItems:"64"` // none: every role
	Unused bool      `json:"unused,omitempty"`              // only what was not used in 90 days
	Owner  string    `json:"owner"`
	DueAt  time.Time `json:"due_at"`
}

// StartReview begins a review of who has which role.
func (c *Client) StartReview(ctx context.Context, in ReviewInput) (Review, error) {
	return call[Review](ctx, c, http.MethodPost, "/v1/reviews", nil, in)
}

// ReviewFilter picks reviews, newest first.
type ReviewFilter struct {
	Open   bool
	Limit  int
	Before string // List.Next
}

// Reviews lists reviews.
func (c *Client) Reviews(ctx context.Context, f ReviewFilter) (List[Review], error) {
	q := url.Values{}
	setTrue(q, "open", f.Open)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	set(q, "before", f.Before)
	return call[List[Review]](ctx, c, http.MethodGet, "/v1/reviews", q, nil)
}

// FindReview returns one review.
func (c *Client) FindReview(ctx context.Context, id string) (Review, error) {
	return call[Review](ctx, c, http.MethodGet, path("reviews", id, ""), nil, nil)
}

// The decisions on an item.
const (
	Kept    = "kept"
	Removed = "removed"
)

// A ReviewItem is a holding as it was when the review began, and what became of it.
type ReviewItem struct {
	N int `json:"n"`
	Holding
	Decision  string     `json:"decision,omitempty"` // Kept, Removed; absent: none yet
	DecidedBy string     `json:"decided_by,omitempty"`
	DecidedAt *time.Time `json:"decided_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Event     *int64     `json:"event,omitempty"` // number of the event that decided; only in an export
	MayDecide bool       `json:"may_decide"`
}

// ItemFilter picks items, by their numbers.
type ItemFilter struct {
	Undecided bool
	Limit     int
	After     string // List.Next
}

// ReviewItems lists the items of a review.
func (c *Client) ReviewItems(ctx context.Context, id string, f ItemFilter) (List[ReviewItem], error) {
	q := url.Values{}
	setTrue(q, "undecided", f.Undecided)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	set(q, "after", f.After)
	return call[List[ReviewItem]](ctx, c, http.MethodGet, path("reviews", id, "items"), q, nil)
}

// DecideInput decides on items of a review, all of them or none.
type DecideInput struct {
	Items    []int  `json:"items" maxItems:"500"`
	Decision string `json:"decision" enum:"kept,removed"`
	Reason   string `json:"reason"`
}

// DecideReview keeps or removes items; what is removed is gone with that.
func (c *Client) DecideReview(ctx context.Context, id string, in DecideInput) (Review, error) {
	return call[Review](ctx, c, http.MethodPost, path("reviews", id, "decide"), nil, in)
}

// CloseInput closes a review, with undecided items only where that is said.
type CloseInput struct {
	Undecided bool `json:"undecided,omitempty"`
}

// CloseReview ends a review.
func (c *Client) CloseReview(ctx context.Context, id string, in CloseInput) (Review, error) {
	return call[Review](ctx, c, http.MethodPost, path("reviews", id, "close"), nil, in)
}

// A ReviewExport is everything of a review. The events that are named stand in
// the audit log under the signed checkpoint.
type ReviewExport struct {
	Review
	List       []ReviewItem `json:"list"`
	Checkpoint string       `json:"checkpoint"`
}

// ExportReview returns everything of a review.
func (c *Client) ExportReview(ctx context.Context, id string) (ReviewExport, error) {
	return call[ReviewExport](ctx, c, http.MethodGet, path("reviews", id, "export"), nil, nil)
}

// WriteCSV writes rows as RFC 4180 has them. A cell that a spreadsheet would take
// for a formula gets an apostrophe before it, so that nothing that somebody typed
// is run by whoever opens the file.
func WriteCSV(w io.Writer, header []string, rows [][]string) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	out.Write(header)
	for _, row := range rows {
		safe := make([]string, len(row))
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n|%", rune(cell[0])) {
				cell = "'" + cell
			}
			safe[i] = cell
		}
		out.Write(safe)
	}
	out.Flush()
	return out.Error()
}

// csvTime is a time in a cell; absent: "".
func csvTime(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// HoldingsCSV writes holdings as a table.
func HoldingsCSV(w io.Writer, list []Holding) error {
	rows := make([][]string, len(list))
	for i, h := range list {
		rows[i] = h.cells()
	}
	return WriteCSV(w, holdingHeader(), rows)
}

func holdingHeader() []string {
	return []string{"user", "role", "how", "measured", "last_used", "uses"}
}

func (h *Holding) cells() []string {
	return []string{h.User, h.Role, strings.Join(h.How, "; "), strconv.FormatBool(h.Measured), csvTime(h.LastUsed), strconv.Itoa(h.Uses)}
}

// CSV writes the items of a review as a table.
func (x *ReviewExport) CSV(w io.Writer) error {
	rows := make([][]string, len(x.List))
	for i, item := range x.List {
		event := ""
		if item.Event != nil {
			event = strconv.FormatInt(*item.Event, 10)
		}
		rows[i] = append(append([]string{x.ID, strconv.Itoa(item.N)}, item.cells()...), item.Decision, item.DecidedBy, csvTime(item.DecidedAt), item.Reason, event)
	}
	header := append(append([]string{"review", "n"}, holdingHeader()...), "decision", "decided_by", "decided_at", "reason", "event")
	return WriteCSV(w, header, rows)
}
