package policy

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// value is in as OPA's own value: the same as its JSON (a test compares them),
// without the detour. in must be filled.
func (in *Input) value() ast.Value {
	u, t, e, r := &in.User, &in.Target, &in.Environment, &in.Request
	mfa := ast.NullTerm()
	if u.MFAAgeSeconds != nil {
		mfa = numberTerm(*u.MFAAgeSeconds)
	}
	votes := make([]*ast.Term, len(r.Approvals))
	for i, v := range r.Approvals {
		votes[i] = object("user_id", ast.InternedTerm(v.UserID), "groups", listTerm(v.Groups))
	}
	return object(
		"action", ast.InternedTerm(string(in.Action)),
		"user", object(
			"id", ast.InternedTerm(u.ID), "name", ast.InternedTerm(u.Name), "groups", listTerm(u.Groups),
			"bot", ast.InternedTerm(u.Bot), "locked", ast.InternedTerm(u.Locked), "mfa_age_seconds", mfa,
			"attributes", mapTerm(u.Attributes)),
		"target", object(
			"id", ast.InternedTerm(t.ID), "name", ast.InternedTerm(t.Name), "labels", mapTerm(t.Labels),
			"applications", listTerm(t.Applications), "locked", ast.InternedTerm(t.Locked)),
		"account", ast.InternedTerm(in.Account),
		"environment", object(
			"time", ast.InternedTerm(e.Time), "weekday", ast.InternedTerm(e.Weekday),
			"hour", numberTerm(int64(e.Hour)), "minute", numberTerm(int64(e.Minute)),
			"source", ast.InternedTerm(e.Source), "maintenance_window", ast.InternedTerm(e.MaintenanceWindow),
			"ticket", ast.InternedTerm(e.Ticket)),
		"request", object(
			"id", ast.InternedTerm(r.ID), "requester", ast.InternedTerm(r.Requester), "role", ast.InternedTerm(r.Role),
			"rule", ast.InternedTerm(r.Rule), "reason", ast.InternedTerm(r.Reason),
			"duration_seconds", numberTerm(r.DurationSeconds), "break_glass", ast.InternedTerm(r.BreakGlass),
			"created_at", ast.InternedTerm(r.CreatedAt), "approvals", ast.ArrayTerm(votes...),
			"state", ast.InternedTerm(r.State)),
	).Value
}

// object builds an object of name, term pairs.
func object(pairs ...any) *ast.Term {
	items := make([][2]*ast.Term, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		items = append(items, [2]*ast.Term{ast.InternedTerm(pairs[i].(string)), pairs[i+1].(*ast.Term)})
	}
	return ast.ObjectTerm(items...)
}

func numberTerm(n int64) *ast.Term { return ast.InternedTerm(n) }

func listTerm(l []string) *ast.Term {
	terms := make([]*ast.Term, len(l))
	for i, s := range l {
		terms[i] = ast.InternedTerm(s)
	}
	return ast.ArrayTerm(terms...)
}

func mapTerm(m map[string]string) *ast.Term {
	items := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		items = append(items, [2]*ast.Term{ast.InternedTerm(k), ast.InternedTerm(v)})
	}
	return ast.ObjectTerm(items...)
}

// parseDecision takes v apart. Every field must be there, have its type and a
// sensible value, and there must be no other: a misspelt field in a bundle must
// not become a permission.
func parseDecision(v ast.Value, d *Decision) error {
	p := parser{}
	o := p.object("decision", v, 9)
	d.Allow = p.boolean(o, "allow")
	d.Role = p.text(o, "role", maxName)
	d.Rule = p.text(o, "rule", maxName)
	for _, n := range p.array(o, "approvals", maxNeeds) {
		no := p.object("approvals", n, 2)
		need := Need{Count: int(p.number(no, "count", maxApprovers))}
		for _, g := range p.array(no, "groups", maxRuleList) {
			s, ok := g.(ast.String)
			if !ok || s == "" {
				p.fail("approvals: a group is not a name")
			}
			need.Groups = append(need.Groups, string(s))
		}
		if need.Count < 1 || len(need.Groups) == 0 {
			p.fail("approvals: a need asks for nobody")
		}
		d.Approvals = append(d.Approvals, need)
	}
	d.MaxDuration = time.Duration(p.number(o, "max_seconds", maxRuleMinutes*60)) * time.Second
	d.MFAWithin = time.Duration(p.number(o, "mfa_seconds", maxRuleMinutes*60)) * time.Second
	d.BreakGlass = p.boolean(o, "break_glass")
	so := p.object("session", p.field(o, "session"), 7)
	d.Rules = SessionRules{
		Recording: p.text(so, "recording", 16),
		Shell:     p.boolean(so, "shell"),
		Exec:      p.boolean(so, "exec"),
		SFTP:      p.boolean(so, "sftp"),
		Forwards:  p.boolean(so, "forwards"),
		Agent:     p.boolean(so, "agent"),
		X11:       p.boolean(so, "x11"),
	}
	if r := d.Rules.Recording; r != RecordingStandard && r != RecordingStrict {
		p.fail("session: recording is %q", r)
	}
	for _, r := range p.array(o, "reasons", maxReasons) {
		ro := p.object("reasons", r, 2)
		reason := Reason{Rule: p.text(ro, "rule", maxName), Text: p.text(ro, "text", maxReasonText)}
		if reason.Rule == "" || reason.Text == "" {
			p.fail("reasons: one says nothing")
		}
		d.Reasons = append(d.Reasons, reason)
	}
	if len(d.Reasons) == 0 {
		p.fail("no reasons")
	}
	return p.err
}

// A parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) object(name string, v ast.Value, fields int) ast.Object {
	o, ok := v.(ast.Object)
	switch {
	case !ok:
		p.fail("%s is not an object", name)
		return ast.NewObject()
	case o.Len() > fields:
		p.fail("%s has more fields than it may have", name)
	}
	return o
}

func (p *parser) field(o ast.Object, name string) ast.Value {
	t := o.Get(ast.InternedTerm(name))
	if t == nil {
		p.fail("%s is missing", name)
		return ast.Null{}
	}
	return t.Value
}

func (p *parser) boolean(o ast.Object, name string) bool {
	b, ok := p.field(o, name).(ast.Boolean)
	if !ok {
		p.fail("%s is not true or false", name)
	}
	return bool(b)
}

func (p *parser) text(o ast.Object, name string, max int) string {
	s, ok := p.field(o, name).(ast.String)
	if !ok || len(s) > max {
		p.fail("%s is not a string of at most %d bytes", name, max)
		return ""
	}
	return string(s)
}

func (p *parser) number(o ast.Object, name string, max int64) int64 {
	n, ok := p.field(o, name).(ast.Number)
	i, whole := n.Int64()
	if !ok || !whole || i < 0 || i > max {
		p.fail("%s is not a whole number from 0 to %d", name, max)
		return 0
	}
	return i
}

func (p *parser) array(o ast.Object, name string, max int) []ast.Value {
	a, ok := p.field(o, name).(*ast.Array)
	if !ok || a.Len() > max {
		p.fail("%s is not a list of at most %d", name, max)
		return nil
	}
	out := make([]ast.Value, 0, a.Len())
	a.Foreach(func(t *ast.Term) { out = append(out, t.Value) })
	return out
}
