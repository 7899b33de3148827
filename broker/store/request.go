package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Lists of requests are made in two steps, so that what they cost does not grow
// with how many requests there are. First the ids of a page are found, each
// source of them in the order of an index that holds all it is sieved by; then
// the rows of these ids are read at once.

// Request returns the request with its approvals.
func (q queryer) Request(ctx context.Context, id string) (access.Request, error) {
	r, err := requests.one(ctx, q, "WHERE id = ?"+q.lock(), id)
	if err != nil {
		return r, err
	}
	votes, err := approvals.all(ctx, q, "WHERE request_id = ? ORDER BY at, user_id", r.ID)
	for _, v := range votes {
		v.on(&r)
	}
	return r, err
}

// A RequestFilter picks requests, newest first. Zero fields do not limit.
type RequestFilter struct {
	State    access.RequestState // as stored: an overdue request is pending here
	TargetID string
	Account  string
	Batch    string
	Waiting  time.Time // pending ones that had not expired then, the last to expire first
	Overdue  time.Time // pending ones that had expired then, the last to expire first
	Open     time.Time // approved ones whose grant was open or scheduled then, the last to be opened first
	// Requester is a user's id, Owner that of the owner of a bot that asks, and Asked are
	// groups: those requests that want a vote of one of them. Of these three any one is
	// enough. At most maxAsked are looked at.
	Requester, Owner string
	Asked            []string
	Before           string // id of the last request of the page before
	Limit            int    // default 50, at most 1000
}

// maxAsked is more groups than a user may have.
const maxAsked = 200

// Requests returns one page of requests.
func (q queryer) Requests(ctx context.Context, f RequestFilter) ([]access.Request, error) {
	limit := page(f.Limit)
	var found []place
	for _, s := range f.sources() {
		places, err := q.places(ctx, s, f.Before, limit)
		if err != nil {
			return nil, err
		}
		found = append(found, places...)
	}
	slices.SortFunc(found, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.at, a.at), strings.Compare(b.id, a.id))
	})
	found = slices.Compact(found)
	ids := make([]string, min(len(found), limit))
	for i := range ids {
		ids[i] = found[i].id
	}
	return q.requestsByID(ctx, ids)
}

// A place is where a request stands in a list.
type place struct {
	at int64 // microseconds
	id string
}

// A source is one run of requests: rows of a table, which name them and say
// where they stand.
type source struct {
	table, id, at string // at and id are columns
	where         []string
	args          []any
}

func (s *source) and(condition string, args ...any) {
	s.where, s.args = append(s.where, condition), append(s.args, args...)
}

// sources are the runs of which the list is merged.
func (f *RequestFilter) sources() []source {
	asked := f.Asked[:min(len(f.Asked), maxAsked)]
	few := !f.Open.IsZero() || f.Batch != "" || f.TargetID != "" || f.Account != ""
	if len(asked) > 0 && few || len(asked) == 0 && f.Requester == "" && f.Owner == "" {
		return []source{f.source(f.Requester, f.Owner, asked)}
	}
	var list []source
	if f.Requester != "" {
		list = append(list, f.source(f.Requester, "", nil))
	}
	if f.Owner != "" {
		list = append(list, f.source("", f.Owner, nil))
	}
	states := []access.RequestState{f.State}
	switch {
	case !f.Waiting.IsZero(), !f.Overdue.IsZero():
		states[0] = access.Pending
	case f.State == "":
		states = []access.RequestState{access.Pending, access.Approved, access.Denied, access.Cancelled}
	}
	for _, group := range asked {
		for _, state := range states {
			s := source{table: "asked", id: "request_id", at: "created_at"}
			s.and("group_name = ?", group)
			if !f.expiry(&s) {
				s.and("state = ?", string(state))
			}
			list = append(list, s)
		}
	}
	return list
}

// expiry picks and orders by when requests expire, if that is wanted. The state is
// written out, as in the indexes that are made for this.
func (f *RequestFilter) expiry(s *source) bool {
	if f.Waiting.IsZero() && f.Overdue.IsZero() {
		return false
	}
	s.at = "expires_at"
	s.and("state = 'pending'")
	if !f.Waiting.IsZero() {
		s.and("expires_at > ?", toMicros(f.Waiting))
	}
	if !f.Overdue.IsZero() {
		s.and("expires_at <= ?", toMicros(f.Overdue))
	}
	return true
}

// source picks by all fields, those of requester, or of owner, or of what the groups
// are asked. That an owner is somebody is written out, as in the indexes that are made
// for this.
func (f *RequestFilter) source(requester, owner string, asked []string) source {
	s := source{table: "requests", id: "id", at: "created_at"}
	his, ofBots := "requester_id = ?", "owner_id = ? AND owner_id <> ''"
	if !f.Open.IsZero() {
		s = source{table: "grants", id: "request_id", at: "opened_at"}
		his, ofBots = "user_id = ?", "user_id IN (SELECT id FROM users WHERE owner_id = ? AND owner_id <> '')"
		s.and("ended_at = 0 AND end_at > ?", toMicros(f.Open))
		if f.Batch != "" {
			s.and("request_id IN (SELECT id FROM requests WHERE batch = ?)", f.Batch)
		}
	} else {
		if !f.expiry(&s) && f.State != "" {
			if f.State != access.Pending { // written out, as in the index that is made for this
				s.and("state <> 'pending'")
			}
			s.and("state = ?", string(f.State))
		}
		if f.Batch != "" {
			s.and("batch = ?", f.Batch)
		}
	}
	for _, c := range []struct{ column, value string }{{"target_id", f.TargetID}, {"account", f.Account}} {
		if c.value != "" {
			s.and(c.column+" = ?", c.value)
		}
	}
	var either []string
	var args []any
	if requester != "" {
		either, args = append(either, his), append(args, requester)
	}
	if owner != "" {
		either, args = append(either, ofBots), append(args, owner)
	}
	if len(asked) > 0 {
		marks, values := list(asked)
		either, args = append(either, "EXISTS (SELECT 1 FROM asked WHERE asked.request_id = "+s.table+"."+s.id+" AND group_name IN "+marks+")"), append(args, values...)
	}
	if len(either) > 0 {
		s.and("("+strings.Join(either, " OR ")+")", args...)
	}
	return s
}

// places returns where the first requests of a source stand, after that before
// which they are wanted.
func (q queryer) places(ctx context.Context, s source, before string, limit int) ([]place, error) {
	if before != "" {
		table, id := "requests", "id"
		if s.table == "grants" {
			table, id = "grants", "request_id"
		}
		s.and("("+s.at+", "+s.id+") < (SELECT "+s.at+", "+id+" FROM "+table+" WHERE "+id+" = ?)", before)
	}
	query := "SELECT " + s.at + ", " + s.id + " FROM " + s.table
	if len(s.where) > 0 {
		query += " WHERE " + strings.Join(s.where, " AND ")
	}
	rows, err := q.rows(ctx, query+" ORDER BY "+s.at+" DESC, "+s.id+" DESC LIMIT ?", append(s.args, limit)...)
	if err != nil {
		return nil, q.failed("read "+s.table, err)
	}
	defer rows.Close()
	var found []place
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.at, &p.id); err != nil {
			return nil, q.failed("read "+s.table, err)
		}
		found = append(found, p)
	}
	if err := rows.Err(); err != nil {
		return nil, q.failed("read "+s.table, err)
	}
	return found, nil
}

// requestsByID returns the requests of these ids in this order, each with its
// approvals, and leaves out those that are not there.
func (q queryer) requestsByID(ctx context.Context, ids []string) ([]access.Request, error) {
	rows, err := requests.in(ctx, q, "id", ids, "")
	if err != nil {
		return nil, err
	}
	votes, err := approvals.in(ctx, q, "request_id", ids, "ORDER BY at, user_id")
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*access.Request, len(rows))
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	for _, v := range votes {
		if r := byID[v.requestID]; r != nil {
			v.on(r)
		}
	}
	list := make([]access.Request, 0, len(rows))
	for _, id := range ids {
		if r := byID[id]; r != nil {
			list = append(list, *r)
		}
	}
	return list, nil
}

// on adds the vote to its request.
func (v *vote) on(r *access.Request) {
	if v.against {
		r.Objections = append(r.Objections, v.Approval)
	} else {
		r.Approvals = append(r.Approvals, v.Approval)
	}
}

// ask notes which groups a request wants votes of, for the lists of these.
func (tx *Tx) ask(ctx context.Context, r *access.Request) error {
	if _, err := tx.exec(ctx, "DELETE FROM asked WHERE request_id = ?", r.ID); err != nil {
		return err
	}
	for _, group := range r.Voters() {
		if _, err := tx.exec(ctx, "INSERT INTO asked (request_id, group_name, state, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
			r.ID, group, string(r.State), toMicros(r.CreatedAt), toMicros(r.ExpiresAt)); err != nil {
			return err
		}
	}
	return nil
}

// GrantsOf returns the grants of these requests, by the request's id.
func (q queryer) GrantsOf(ctx context.Context, requestIDs []string) (map[string]access.Grant, error) {
	rows, err := grants.in(ctx, q, "request_id", requestIDs, "")
	byRequest := make(map[string]access.Grant, len(rows))
	for _, g := range rows {
		byRequest[g.RequestID] = g
	}
	return byRequest, err
}

// TargetsByID returns the targets of these ids that are there, by id.
func (q queryer) TargetsByID(ctx context.Context, ids []string) (map[string]access.Target, error) {
	rows, err := targets.in(ctx, q, "id", ids, "")
	byID := make(map[string]access.Target, len(rows))
	for _, t := range rows {
		byID[t.ID] = t
	}
	return byID, err
}

// UsersByID returns the users of these ids that are there, by id.
func (q queryer) UsersByID(ctx context.Context, ids []string) (map[string]access.User, error) {
	rows, err := users.in(ctx, q, "id", ids, "")
	byID := make(map[string]access.User, len(rows))
	for _, u := range rows {
		byID[u.ID] = u
	}
	return byID, err
}

// Members returns the members of one of these groups, or more, who are no bots
// and not locked: the first by name.
func (q queryer) Members(ctx context.Context, groups []string, limit int) ([]access.User, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	marks, args := list(groups)
	return users.all(ctx, q, "WHERE NOT bot AND NOT locked AND id IN (SELECT user_id FROM members WHERE group_name IN "+marks+") ORDER BY name LIMIT ?", append(args, page(limit))...)
}

// join notes which groups a user is in.
func (tx *Tx) join(ctx context.Context, u *access.User) error {
	if _, err := tx.exec(ctx, "DELETE FROM members WHERE user_id = ?", u.ID); err != nil {
		return err
	}
	for _, group := range u.Groups {
		if _, err := tx.exec(ctx, "INSERT INTO members (group_name, user_id) VALUES (?, ?) ON CONFLICT (group_name, user_id) DO NOTHING", group, u.ID); err != nil {
			return err
		}
	}
	return nil
}

// list is (?, ?, ...) for values, and the values. There are few different lengths,
// because each is a statement of its own: the last value stands more than once.
func list(values []string) (marks string, args []any) {
	n := 1
	for n < len(values) {
		n *= 2
	}
	args = make([]any, n)
	for i := range args {
		args[i] = values[min(i, len(values)-1)]
	}
	return "(?" + strings.Repeat(", ?", n-1) + ")", args
}
