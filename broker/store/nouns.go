package store

import (
	"context"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The tables: each noun's columns beside its fields, once.

var users = newTable("users", "id", func(u *access.User) []column {
	return []column{
		{"id", &u.ID}, {"name", &u.Name}, {"display", &u.Display},
		{"groups", encoded{&u.Groups}}, {"attributes", encoded{&u.Attributes}},
		{"bot", &u.Bot}, {"owner_id", &u.OwnerID}, {"emergency", &u.Emergency}, {"locked", &u.Locked}, {"lock_reason", &u.LockReason},
		{"created_at", micros{&u.CreatedAt}}, {"version", &u.Version},
	}
})

var publicKeys = newTable("public_keys", "fingerprint", func(k *access.PublicKey) []column {
	return []column{
		{"fingerprint", &k.Fingerprint}, {"user_id", &k.UserID}, {"key", &k.Key},
		{"comment", &k.Comment}, {"created_at", micros{&k.CreatedAt}},
	}
})

var targets = newTable("targets", "id", func(t *access.Target) []column {
	return []column{
		{"id", &t.ID}, {"name", &t.Name}, {"kind", &t.Kind}, {"address", &t.Address},
		{"labels", encoded{&t.Labels}}, {"applications", encoded{&t.Applications}},
		{"accounts", encoded{&t.Accounts}}, {"host_keys", encoded{&t.HostKeys}},
		{"via", encoded{&t.Via}}, {"hop_account", &t.HopAccount},
		{"provisioner", &t.Provisioner}, {"principals_folder", &t.PrincipalsFolder}, {"scan_account", &t.ScanAccount},
		{"facts", encoded{&t.Facts}},
		{"locked", &t.Locked}, {"lock_reason", &t.LockReason},
		{"created_at", micros{&t.CreatedAt}}, {"version", &t.Version},
	}
})

var provisions = newTable("provisions", "id", func(p *access.Provision) []column {
	return []column{
		{"id", &p.ID}, {"grant_id", &p.GrantID}, {"request_id", &p.RequestID},
		{"user_id", &p.UserID}, {"user_name", &p.UserName}, {"target_id", &p.TargetID}, {"target_name", &p.TargetName},
		{"account", &p.Account}, {"login", &p.Login}, {"machine", encoded{&p.Machine}}, {"template", encoded{&p.Template}},
		{"state", text[access.ProvisionState]{&p.State}},
		{"planned_at", micros{&p.PlannedAt}}, {"created_at", micros{&p.CreatedAt}}, {"gone_at", micros{&p.GoneAt}},
		{"tries", &p.Tries}, {"since_at", micros{&p.Since}}, {"problem", &p.Problem}, {"next_at", micros{&p.NextAt}},
		{"node", &p.Node}, {"until_at", micros{&p.Until}}, {"version", &p.Version},
	}
})

var roles = newTable("roles", "name", func(r *access.Role) []column {
	return []column{
		{"name", &r.Name}, {"inherits", encoded{&r.Inherits}}, {"groups", encoded{&r.Groups}},
		{"users", encoded{&r.Users}}, {"attributes", encoded{&r.Attributes}}, {"excludes", encoded{&r.Excludes}},
		{"rules", encoded{&r.Rules}}, {"version", &r.Version},
	}
})

var requests = newTable("requests", "id", func(r *access.Request) []column {
	return []column{
		{"id", &r.ID}, {"requester_id", &r.RequesterID}, {"requester_name", &r.RequesterName}, {"owner_id", &r.OwnerID},
		{"target_id", &r.TargetID}, {"target_name", &r.TargetName}, {"target_address", &r.TargetAddress},
		{"target_keys", encoded{&r.TargetKeys}}, {"target_via", encoded{&r.TargetVia}}, {"account", &r.Account}, {"made", encoded{&r.Made}},
		{"batch", &r.Batch}, {"reason", &r.Reason}, {"ticket", &r.Ticket}, {"ticket_check", encoded{&r.TicketCheck}}, {"duration", seconds{&r.Duration}},
		{"start_at", micros{&r.Start}}, {"break_glass", &r.BreakGlass},
		{"source", &r.Source}, {"via", &r.Via}, {"state", text[access.RequestState]{&r.State}},
		{"created_at", micros{&r.CreatedAt}}, {"edited_at", micros{&r.EditedAt}}, {"edits", &r.Edits}, {"expires_at", micros{&r.ExpiresAt}},
		{"decided_at", micros{&r.DecidedAt}}, {"decided_by", &r.DecidedBy}, {"note", &r.Note},
		{"role", &r.Role}, {"needs", encoded{&r.Needs}}, {"deny_threshold", count{&r.DenyThreshold}}, {"rules", encoded{&r.Rules}},
		{"policy", encoded{&r.Policy}}, {"questions", encoded{&r.Questions}}, {"hand_overs", encoded{&r.HandOvers}}, {"version", &r.Version},
	}
})

// A vote is an approval or an objection, and the request it is for.
type vote struct {
	requestID string
	against   bool
	access.Approval
}

var approvals = newTable("approvals", "", func(v *vote) []column {
	return []column{
		{"request_id", &v.requestID}, {"user_id", &v.UserID}, {"user_name", &v.UserName}, {"stands_for", &v.StandsFor}, {"against", &v.against},
		{"groups", encoded{&v.Groups}}, {"comment", &v.Comment}, {"duration", seconds{&v.Duration}}, {"narrowing", encoded{&v.Narrowing}},
		{"digest", &v.Digest}, {"step", count{&v.Step}}, {"via", &v.Via}, {"at", micros{&v.At}}, {"statement", &v.Statement},
	}
})

var delegations = newTable("delegations", "user_id", func(d *access.Delegation) []column {
	return []column{
		{"user_id", &d.UserID}, {"user_name", &d.UserName}, {"delegate_id", &d.DelegateID}, {"delegate_name", &d.DelegateName},
		{"from_at", micros{&d.From}}, {"until_at", micros{&d.Until}}, {"reason", &d.Reason}, {"version", &d.Version},
	}
})

var grants = newTable("grants", "id", func(g *access.Grant) []column {
	return []column{
		{"id", &g.ID}, {"request_id", &g.RequestID}, {"user_id", &g.UserID}, {"user_name", &g.UserName},
		{"target_id", &g.TargetID}, {"target_name", &g.TargetName}, {"account", &g.Account},
		{"role", &g.Role}, {"rules", encoded{&g.Rules}}, {"duration", seconds{&g.Duration}},
		{"break_glass", &g.BreakGlass}, {"digest", &g.Digest}, {"policy", encoded{&g.Policy}},
		{"opened_at", micros{&g.OpenedAt}}, {"not_before", micros{&g.NotBefore}},
		{"activate_by", micros{&g.ActivateBy}}, {"start_at", micros{&g.Start}}, {"end_at", micros{&g.End}},
		{"ended_at", micros{&g.EndedAt}}, {"end_reason", text[access.EndReason]{&g.EndReason}},
		{"ended_by", &g.EndedBy}, {"end_note", &g.EndNote}, {"paused_by", &g.PausedBy}, {"version", &g.Version},
	}
})

var sessions = newTable("sessions", "id", func(s *access.Session) []column {
	return []column{
		{"id", &s.ID}, {"grant_id", &s.GrantID}, {"request_id", &s.RequestID},
		{"user_id", &s.UserID}, {"user_name", &s.UserName}, {"target_id", &s.TargetID}, {"target_name", &s.TargetName},
		{"account", &s.Account}, {"kind", &s.Kind}, {"command", &s.Command},
		{"source", &s.Source}, {"client", &s.Client}, {"node", &s.Node},
		{"state", text[access.SessionState]{&s.State}},
		{"opened_at", micros{&s.OpenedAt}}, {"closed_at", micros{&s.ClosedAt}},
		{"end_reason", &s.EndReason}, {"exit_status", status{&s.ExitStatus}},
		{"serial", unsigned{&s.Serial}}, {"recording", encoded{&s.Recording}}, {"risks", encoded{&s.Risks}}, {"alarms", encoded{&s.Alarms}}, {"version", &s.Version},
		{"labels", encoded{&s.Labels}}, {"deleted_at", micros{&s.DeletedAt}}, {"deletion", encoded{&s.Deletion}},
	}
})

// The reads below exist on both sides of a change: a Tx locks what it reads, a
// DB reads what is committed.

// User returns the user of that id or name.
func (q queryer) User(ctx context.Context, idOrName string) (access.User, error) {
	column := "name"
	if access.ValidID(access.UserPrefix, idOrName) {
		column = "id"
	}
	return users.one(ctx, q, "WHERE "+column+" = ?"+q.lock(), idOrName)
}

// Users returns all users by name.
func (q queryer) Users(ctx context.Context) ([]access.User, error) {
	return users.all(ctx, q, "ORDER BY name")
}

// UsersAfter returns at most limit users by name: those behind the name after in
// whose name part stands and who are in the group, as far as these are not empty.
func (q queryer) UsersAfter(ctx context.Context, after, part, group string, limit int) ([]access.User, error) {
	clause, args := "WHERE name > ?", []any{after}
	if part != "" {
		clause, args = clause+containing("name"), append(args, pattern(part))
	}
	if group != "" {
		clause, args = clause+containing("groups"), append(args, pattern(`"`+group+`"`)) // names of groups need no escapes in JSON
	}
	return users.all(ctx, q, clause+" ORDER BY name LIMIT ?", append(args, limit)...)
}

func containing(column string) string { return " AND " + column + ` LIKE ? ESCAPE '\'` }

// pattern is what LIKE finds a part with.
func pattern(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(part) + "%"
}

// GroupSizes counts the members of each group.
func (q queryer) GroupSizes(ctx context.Context) (map[string]int, error) {
	rows, err := q.rows(ctx, "SELECT groups, COUNT(*) FROM users GROUP BY groups")
	if err != nil {
		return nil, q.failed("read users", err)
	}
	defer rows.Close()
	sizes := map[string]int{}
	for rows.Next() {
		var groups []string
		var n int
		if err := rows.Scan(encoded{&groups}, &n); err != nil {
			return nil, q.failed("read users", err)
		}
		for _, g := range groups {
			sizes[g] += n
		}
	}
	if err := rows.Err(); err != nil {
		return nil, q.failed("read users", err)
	}
	return sizes, nil
}

// Actor returns the user of that id. A change that reads it lets others that this
// user makes go on beside it, where User has them wait for one another.
func (q queryer) Actor(ctx context.Context, id string) (access.User, error) {
	return users.one(ctx, q, "WHERE id = ?"+q.share(), id)
}

// Voters returns the users who have voted on the request of that id, and those
// in whose place somebody has, by name. In a change they stay as they are until it
// is done.
func (q queryer) Voters(ctx context.Context, id string) ([]access.User, error) {
	return users.all(ctx, q, "WHERE id IN (SELECT user_id FROM approvals WHERE request_id = ?) OR id IN (SELECT stands_for FROM approvals WHERE request_id = ?) ORDER BY name"+q.share(), id, id)
}

// Delegation returns that of the user of that id.
func (q queryer) Delegation(ctx context.Context, userID string) (access.Delegation, error) {
	return delegations.one(ctx, q, "WHERE user_id = ?"+q.lock(), userID)
}

// Delegations returns those that are not over at t: of and to the user of that
// id, or of all users when it is empty, and of these at most 1000.
func (q queryer) Delegations(ctx context.Context, userID string, t time.Time) ([]access.Delegation, error) {
	if userID == "" {
		return delegations.all(ctx, q, "WHERE until_at > ? ORDER BY until_at, user_id LIMIT 1000", toMicros(t))
	}
	return delegations.all(ctx, q, "WHERE until_at > ? AND (user_id = ? OR delegate_id = ?) ORDER BY until_at, user_id LIMIT 1000", toMicros(t), userID, userID)
}

// DelegationsOf returns those of the users of these ids in which somebody votes
// for them at t.
func (q queryer) DelegationsOf(ctx context.Context, userIDs []string, t time.Time) ([]access.Delegation, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	marks, ids := list(userIDs)
	return delegations.all(ctx, q, "WHERE from_at <= ? AND until_at > ? AND user_id IN "+marks+" ORDER BY user_id", append([]any{toMicros(t), toMicros(t)}, ids...)...)
}

// StandsFor returns the users in whose place the user of that id votes at t, by
// name: who may not vote is not among them. In a change they stay as they are until
// it is done.
func (q queryer) StandsFor(ctx context.Context, userID string, t time.Time) ([]access.User, error) {
	return users.all(ctx, q, "WHERE NOT bot AND NOT locked AND id IN (SELECT user_id FROM delegations WHERE delegate_id = ? AND from_at <= ? AND until_at > ?) ORDER BY name LIMIT 100"+q.share(), userID, toMicros(t), toMicros(t))
}

// Target returns the target of that id or name.
func (q queryer) Target(ctx context.Context, idOrName string) (access.Target, error) {
	column := "name"
	if access.ValidID(access.TargetPrefix, idOrName) {
		column = "id"
	}
	return targets.one(ctx, q, "WHERE "+column+" = ?"+q.lock(), idOrName)
}

// Targets returns all targets by name.
func (q queryer) Targets(ctx context.Context) ([]access.Target, error) {
	return targets.all(ctx, q, "ORDER BY name")
}

// Role returns the role of that name.
func (q queryer) Role(ctx context.Context, name string) (access.Role, error) {
	return roles.one(ctx, q, "WHERE name = ?"+q.lock(), name)
}

// Roles returns all roles by name.
func (q queryer) Roles(ctx context.Context) ([]access.Role, error) {
	return roles.all(ctx, q, "ORDER BY name")
}

// Generation is the number of the policy data: it grows with every change of
// a role. In a change it stays as it is until that is done.
func (q queryer) Generation(ctx context.Context) (int64, error) {
	var n int64
	if err := q.row(ctx, "SELECT generation FROM policy_data WHERE id = 1"+q.share()).Scan(&n); err != nil {
		return 0, q.failed("read policy_data", err)
	}
	return n, nil
}

// PublicKey returns the registered key of that fingerprint.
func (q queryer) PublicKey(ctx context.Context, fingerprint string) (access.PublicKey, error) {
	return publicKeys.one(ctx, q, "WHERE fingerprint = ?", fingerprint)
}

// PublicKeys returns the registered keys of a user.
func (q queryer) PublicKeys(ctx context.Context, userID string) ([]access.PublicKey, error) {
	return publicKeys.all(ctx, q, "WHERE user_id = ? ORDER BY fingerprint", userID)
}

func page(limit int) int {
	if limit <= 0 {
		return 50
	}
	return min(limit, 1000)
}

// Grant returns the grant of that id, or of that request's id.
func (q queryer) Grant(ctx context.Context, id string) (access.Grant, error) {
	column := "id"
	if access.ValidID(access.RequestPrefix, id) {
		column = "request_id"
	}
	return grants.one(ctx, q, "WHERE "+column+" = ?"+q.lock(), id)
}

// OpenGrants returns the grants that end after t and that nobody has ended, of
// a user when userID is not empty.
func (q queryer) OpenGrants(ctx context.Context, userID string, t int64) ([]access.Grant, error) {
	if userID == "" {
		return grants.all(ctx, q, "WHERE end_at > ? AND ended_at = 0 ORDER BY opened_at DESC", t)
	}
	return grants.all(ctx, q, "WHERE user_id = ? AND end_at > ? AND ended_at = 0 ORDER BY opened_at DESC", userID, t)
}

// GrantsOn returns the grants for an account that end after t and that nobody has ended, the newest first.
func (q queryer) GrantsOn(ctx context.Context, targetID, account string, t time.Time, limit int) ([]access.Grant, error) {
	return grants.all(ctx, q, "WHERE target_id = ? AND account = ? AND end_at > ? AND ended_at = 0 ORDER BY opened_at DESC LIMIT ?",
		targetID, account, toMicros(t), limit)
}

// LastUse returns the last grant of a user for an account that was used and has ended
// by t, or access.ErrNotFound.
func (q queryer) LastUse(ctx context.Context, userID, targetID, account string, t time.Time) (access.Grant, error) {
	return grants.one(ctx, q, "WHERE user_id = ? AND target_id = ? AND account = ? AND start_at > 0 AND (ended_at > 0 OR end_at <= ?) ORDER BY end_at DESC LIMIT 1",
		userID, targetID, account, toMicros(t))
}

// Session returns the session of that id.
func (q queryer) Session(ctx context.Context, id string) (access.Session, error) {
	return sessions.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// A SessionFilter picks sessions, newest first. Zero fields do not limit.
type SessionFilter struct {
	Live                         bool
	User, Target, Account, Grant string // user and target by id
	Batch                        string // of the requests
	Node                         string
	Since, Until                 time.Time // of the opening; Until is exclusive
	Before                       string
	Limit                        int
}

// Running is how many sessions are open.
type Running struct{ OfUser, OnTarget, OfUserOnTarget, OnAccountOfOthers int }

const (
	running   = " FROM sessions s JOIN grants g ON g.id = s.grant_id WHERE s.state <> 'closed' AND g.ended_at = 0 AND g.end_at > ?"
	runningOf = "SELECT COUNT(*), COUNT(CASE WHEN s.target_id = ? THEN 1 END)" + running + " AND s.user_id = ?"
	runningOn = "SELECT COUNT(*), COUNT(CASE WHEN s.account = ? AND s.user_id <> ? THEN 1 END)" + running + " AND s.target_id = ?"
)

// Running counts the open sessions whose grants hold at now. One whose grant is
// over does not run any more, even if its server is gone and will not close it.
func (q queryer) Running(ctx context.Context, userID, targetID, account string, now time.Time) (n Running, err error) {
	err = q.row(ctx, runningOf, targetID, toMicros(now), userID).Scan(&n.OfUser, &n.OfUserOnTarget)
	if err == nil {
		err = q.row(ctx, runningOn, account, userID, toMicros(now), targetID).Scan(&n.OnTarget, &n.OnAccountOfOthers)
	}
	if err != nil {
		return n, q.failed("count sessions", err)
	}
	return n, nil
}

// Sessions returns one page of sessions.
func (q queryer) Sessions(ctx context.Context, f SessionFilter) ([]access.Session, error) {
	clause, args := "WHERE 1 = 1", []any{}
	if f.Live {
		clause += " AND state <> 'closed'"
	}
	for _, c := range []struct{ column, value string }{
		{"user_id", f.User}, {"target_id", f.Target}, {"account", f.Account}, {"grant_id", f.Grant}, {"node", f.Node},
	} {
		if c.value != "" {
			clause, args = clause+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	if !f.Since.IsZero() {
		clause, args = clause+" AND opened_at >= ?", append(args, toMicros(f.Since))
	}
	if !f.Until.IsZero() {
		clause, args = clause+" AND opened_at < ?", append(args, toMicros(f.Until))
	}
	if f.Batch != "" {
		clause, args = clause+" AND request_id IN (SELECT id FROM requests WHERE batch = ?)", append(args, f.Batch)
	}
	if f.Before != "" {
		clause += " AND (opened_at, id) < (SELECT opened_at, id FROM sessions WHERE id = ?)"
		args = append(args, f.Before)
	}
	return sessions.all(ctx, q, clause+" ORDER BY opened_at DESC, id DESC LIMIT ?", append(args, page(f.Limit))...)
}
