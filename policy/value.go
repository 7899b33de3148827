package policy

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Names of fields, made once: a decision looks for each of them.
var (
	kAction, kUser, kTarget, kAccount, kEnvironment, kRequest = name("action"), name("user"), name("target"),
		name("account"), name("environment"), name("request")

	kID, kName, kGroups, kBot, kLocked, kMFAAge, kAttributes = name("id"), name("name"), name("groups"), name("bot"),
		name("locked"), name("mfa_age_seconds"), name("attributes")

	kLabels, kApplications, kFacts, kValue, kAgeSeconds = name("labels"), name("applications"), name("facts"), name("value"), name("age_seconds")

	kTime, kWeekday, kHour, kMinute, kSource, kWindow, kTicket = name("time"), name("weekday"), name("hour"), name("minute"),
		name("source"), name("maintenance_window"), name("ticket")
	kFreeze, kSessions, kOfUser, kOnTarget, kOfOthers = name("freeze"), name("sessions"), name("of_user"), name("on_target"), name("on_account_of_others")

	kRequester, kRole, kRule, kReason, kDuration = name("requester"), name("role"), name("rule"), name("reason"), name("duration_seconds")
	kBreakGlass, kCreatedAt, kApprovals, kState  = name("break_glass"), name("created_at"), name("approvals"), name("state")
	kUserID, kStandsFor, kOwner                  = name("user_id"), name("stands_for"), name("owner")
	kStep, kWaited, kEscalateAfter, kEscalateTo  = name("step"), name("waited_seconds"), name("escalate_after_seconds"), name("escalate_to")
	kDenyThreshold                               = name("deny_threshold")

	kValid, kAssignee, kTitle, kWhy, kRequestedBy, kApprovedBy = name("valid"), name("assignee"), name("title"), name("why"), name("requested_by"), name("approved_by")
	kTier, kSeparate                                           = name("tier"), name("separate")

	kAllow, kMaxSeconds, kMFASeconds, kSession, kReasons = name("allow"), name("max_seconds"), name("mfa_seconds"), name("session"), name("reasons")
	kCount, kText, kKind, kUnmet, kRules                 = name("count"), name("text"), name("kind"), name("unmet"), name("rules")
	kAnswer, kLevel, kMaxText, kMFAText, kQuorums        = name("answer"), name("level"), name("max_text"), name("mfa_text"), name("quorums")
	kStandard, kStrict                                   = name(RecordingStandard), name(RecordingStrict)

	kRecording, kShell, kExec, kAgent, kX11 = name("recording"), name("shell"), name("exec"), name("agent"), name("x11")
	kCommands, kFiles, kForwards, kDetect   = name("commands"), name("files"), name("forwards"), name("detect")
	kSilentWatch, kFourEyes, kCheckout      = name("silent_watch"), name("four_eyes"), name("checkout")
)

func name(s string) *ast.Term { return ast.StringTerm(s) }

// value is in as OPA's own value: the same as its JSON (a test compares them),
// without the detour. in must be filled.
func (in *Input) value() ast.Value {
	u, t, e, r := &in.User, &in.Target, &in.Environment, &in.Request
	size := 60 + len(u.Groups) + len(u.StandsFor) + 2*len(u.Attributes) + 2*len(t.Labels) + len(t.Applications) + 3*len(t.Facts) +
		len(r.Ticket.RequestedBy) + len(r.Ticket.ApprovedBy)
	for _, v := range r.Approvals {
		size += 3 + len(v.Groups)
	}
	b := terms{make([]ast.Term, 0, size)}
	mfa := ast.NullTerm()
	if u.MFAAgeSeconds != nil {
		mfa = ast.InternedTerm(*u.MFAAgeSeconds)
	}
	votes := make([]*ast.Term, len(r.Approvals))
	for i, v := range r.Approvals {
		votes[i] = b.object([2]*ast.Term{kUserID, b.text(v.UserID)}, [2]*ast.Term{kGroups, b.list(v.Groups)},
			[2]*ast.Term{kStep, ast.InternedTerm(v.Step)}, [2]*ast.Term{kWaited, ast.InternedTerm(v.WaitedSeconds)})
	}
	return ast.NewObject(
		[2]*ast.Term{kAction, b.text(string(in.Action))},
		[2]*ast.Term{kUser, b.object(
			[2]*ast.Term{kID, b.text(u.ID)},
			[2]*ast.Term{kName, b.text(u.Name)},
			[2]*ast.Term{kGroups, b.list(u.Groups)},
			[2]*ast.Term{kBot, ast.InternedTerm(u.Bot)},
			[2]*ast.Term{kLocked, ast.InternedTerm(u.Locked)},
			[2]*ast.Term{kMFAAge, mfa},
			[2]*ast.Term{kAttributes, b.strings(u.Attributes)},
			[2]*ast.Term{kStandsFor, b.list(u.StandsFor)},
		)},
		[2]*ast.Term{kTarget, b.object(
			[2]*ast.Term{kID, b.text(t.ID)},
			[2]*ast.Term{kName, b.text(t.Name)},
			[2]*ast.Term{kLabels, b.strings(t.Labels)},
			[2]*ast.Term{kApplications, b.list(t.Applications)},
			[2]*ast.Term{kLocked, ast.InternedTerm(t.Locked)},
			[2]*ast.Term{kFacts, b.facts(t.Facts)},
		)},
		[2]*ast.Term{kAccount, b.text(in.Account)},
		[2]*ast.Term{kEnvironment, b.object(
			[2]*ast.Term{kTime, b.text(e.Time)},
			[2]*ast.Term{kWeekday, b.text(e.Weekday)},
			[2]*ast.Term{kHour, ast.InternedTerm(e.Hour)},
			[2]*ast.Term{kMinute, ast.InternedTerm(e.Minute)},
			[2]*ast.Term{kSource, b.text(e.Source)},
			[2]*ast.Term{kWindow, ast.InternedTerm(e.MaintenanceWindow)},
			[2]*ast.Term{kTicket, b.text(e.Ticket)},
			[2]*ast.Term{kFreeze, b.text(e.Freeze)},
			[2]*ast.Term{kSessions, b.sessions(e.Sessions)},
		)},
		[2]*ast.Term{kRequest, b.object(
			[2]*ast.Term{kID, b.text(r.ID)},
			[2]*ast.Term{kRequester, b.text(r.Requester)},
			[2]*ast.Term{kOwner, b.text(r.Owner)},
			[2]*ast.Term{kRole, b.text(r.Role)},
			[2]*ast.Term{kRule, b.text(r.Rule)},
			[2]*ast.Term{kReason, b.text(r.Reason)},
			[2]*ast.Term{kDuration, ast.InternedTerm(r.DurationSeconds)},
			[2]*ast.Term{kBreakGlass, ast.InternedTerm(r.BreakGlass)},
			[2]*ast.Term{kCreatedAt, b.text(r.CreatedAt)},
			[2]*ast.Term{kApprovals, b.array(votes)},
			[2]*ast.Term{kState, b.text(r.State)},
			[2]*ast.Term{kTicket, b.ticket(&r.Ticket)},
		)},
	)
}

// What most questions have: no session that is counted, and no ticket that was
// looked up.
var (
	noSessions = ast.ObjectTerm(sessionFields(Sessions{})...)
	noTicket   = ast.NewTerm((&terms{}).ticketValue(&Ticket{}))
)

func sessionFields(s Sessions) [][2]*ast.Term {
	return [][2]*ast.Term{
		{kOfUser, ast.InternedTerm(s.OfUser)}, {kOnTarget, ast.InternedTerm(s.OnTarget)}, {kOfOthers, ast.InternedTerm(s.OnAccountOfOthers)},
	}
}

func (b *terms) sessions(s Sessions) *ast.Term {
	if s == (Sessions{}) {
		return noSessions
	}
	return b.object(sessionFields(s)...)
}

func (b *terms) ticket(t *Ticket) *ast.Term {
	if t.ID == "" && t.Why == "" && len(t.RequestedBy) == 0 && len(t.ApprovedBy) == 0 && !t.Valid && t.State == "" && t.Assignee == "" && t.Title == "" {
		return noTicket
	}
	return b.term(b.ticketValue(t))
}

func (b *terms) ticketValue(t *Ticket) ast.Value {
	return ast.NewObject(
		[2]*ast.Term{kID, b.text(t.ID)},
		[2]*ast.Term{kValid, ast.InternedTerm(t.Valid)},
		[2]*ast.Term{kState, b.text(t.State)},
		[2]*ast.Term{kAssignee, b.text(t.Assignee)},
		[2]*ast.Term{kTitle, b.text(t.Title)},
		[2]*ast.Term{kWhy, b.text(t.Why)},
		[2]*ast.Term{kRequestedBy, b.list(t.RequestedBy)},
		[2]*ast.Term{kApprovedBy, b.list(t.ApprovedBy)},
	)
}

func (b *terms) facts(m map[string]Fact) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	items := make([][2]*ast.Term, 0, len(m))
	for k, f := range m {
		items = append(items, [2]*ast.Term{b.text(k), b.object(
			[2]*ast.Term{kValue, b.text(f.Value)},
			[2]*ast.Term{kAgeSeconds, ast.InternedTerm(f.AgeSeconds)},
		)})
	}
	return b.object(items...)
}

// terms hands out the terms of one Input from one piece of memory.
type terms struct{ free []ast.Term }

func (b *terms) term(v ast.Value) *ast.Term {
	b.free = append(b.free, ast.Term{Value: v})
	return &b.free[len(b.free)-1]
}

func (b *terms) text(s string) *ast.Term { return b.term(ast.String(s)) }

func (b *terms) object(fields ...[2]*ast.Term) *ast.Term { return b.term(ast.NewObject(fields...)) }

func (b *terms) array(ts []*ast.Term) *ast.Term {
	if len(ts) == 0 {
		return ast.InternedEmptyArray
	}
	return b.term(ast.NewArray(ts...))
}

func (b *terms) list(l []string) *ast.Term {
	ts := make([]*ast.Term, len(l))
	for i, s := range l {
		ts[i] = b.text(s)
	}
	return b.array(ts)
}

func (b *terms) strings(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	items := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		items = append(items, [2]*ast.Term{b.text(k), b.text(v)})
	}
	return b.object(items...)
}

// parseDecision takes v apart. Every field must be there, but for those of which
// a missing one stands for zero, have its type and a sensible value, and there
// must be no other: a misspelt field in a bundle must not become a permission.
func parseDecision(v ast.Value, d *Decision) error {
	p := parser{}
	o := p.object("decision", v, 9+p.count(v, kDenyThreshold))
	d.Allow = p.boolean(o, kAllow)
	d.Role = p.text(o, kRole, maxName)
	d.Rule = p.text(o, kRule, maxName)
	for _, n := range p.array(o, kApprovals, maxNeeds) {
		no := p.object("approvals", n, 2+p.count(n, kStep, kEscalateAfter, kEscalateTo))
		need := Need{Count: int(p.number(no, kCount, maxApprovers)), Groups: p.list(no, kGroups, maxRuleList)}
		if p.count(n, kStep) > 0 {
			need.Step = int(p.number(no, kStep, maxStep))
		}
		if p.count(n, kEscalateAfter, kEscalateTo) > 0 {
			need.EscalateSeconds, need.EscalateTo = p.number(no, kEscalateAfter, maxRuleMinutes*60), p.list(no, kEscalateTo, maxRuleList)
		}
		if need.Count < 1 || len(need.Groups) == 0 || (need.EscalateSeconds == 0) != (len(need.EscalateTo) == 0) {
			p.fail("approvals: a need asks for nobody")
		}
		d.Approvals = append(d.Approvals, need)
	}
	if p.count(v, kDenyThreshold) > 0 {
		d.DenyThreshold = int(p.number(o, kDenyThreshold, maxApprovers))
	}
	d.MaxDuration = time.Duration(p.number(o, kMaxSeconds, maxRuleMinutes*60)) * time.Second
	d.MFAWithin = time.Duration(p.number(o, kMFASeconds, maxRuleMinutes*60)) * time.Second
	d.BreakGlass = p.boolean(o, kBreakGlass)
	so := p.object("session", p.field(o, kSession), 11+p.count(p.field(o, kSession), kCheckout))
	d.Rules = SessionRules{
		Recording: p.text(so, kRecording, 16),
		Shell:     p.boolean(so, kShell),
		Exec:      p.boolean(so, kExec),
		Agent:     p.boolean(so, kAgent),
		X11:       p.boolean(so, kX11),
		Commands:  p.list(so, kCommands, maxSessionRules),
		Files:     p.list(so, kFiles, maxSessionRules),
		Forwards:  p.list(so, kForwards, maxSessionRules),
		Detect:    p.list(so, kDetect, maxSessionRules),

		SilentWatch: p.boolean(so, kSilentWatch),
		FourEyes:    p.boolean(so, kFourEyes),
	}
	if p.count(so, kCheckout) > 0 { // bundles of before it was known do not give it
		d.Rules.Checkout = p.text(so, kCheckout, 16)
	}
	if c := d.Rules.Checkout; c != "" && c != CheckoutManaged && c != CheckoutAny {
		p.fail("session: checkout is %q", c)
	}
	if r := d.Rules.Recording; r != RecordingStandard && r != RecordingStrict {
		p.fail("session: recording is %q", r)
	}
	for _, r := range p.array(o, kReasons, maxReasons) {
		ro := p.object("reasons", r, 2)
		reason := Reason{Rule: p.text(ro, kRule, maxName), Text: p.text(ro, kText, maxReasonText)}
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

// count is how many of the fields v has, which may be missing.
func (p *parser) count(v ast.Value, names ...*ast.Term) (n int) {
	if o, ok := v.(ast.Object); ok {
		for _, name := range names {
			if o.Get(name) != nil {
				n++
			}
		}
	}
	return n
}

func (p *parser) field(o ast.Object, name *ast.Term) ast.Value {
	t := o.Get(name)
	if t == nil {
		p.fail("%s is missing", text(name))
		return ast.Null{}
	}
	return t.Value
}

func (p *parser) boolean(o ast.Object, name *ast.Term) bool {
	b, ok := p.field(o, name).(ast.Boolean)
	if !ok {
		p.fail("%s is not true or false", text(name))
	}
	return bool(b)
}

func (p *parser) text(o ast.Object, name *ast.Term, max int) string {
	s, ok := p.field(o, name).(ast.String)
	if !ok || len(s) > max {
		p.fail("%s is not a string of at most %d bytes", text(name), max)
		return ""
	}
	return string(s)
}

func (p *parser) number(o ast.Object, name *ast.Term, max int64) int64 {
	n, ok := p.field(o, name).(ast.Number)
	i, whole := n.Int64()
	if !ok || !whole || i < 0 || i > max {
		p.fail("%s is not a whole number from 0 to %d", text(name), max)
		return 0
	}
	return i
}

func (p *parser) array(o ast.Object, name *ast.Term, max int) []ast.Value {
	a, ok := p.field(o, name).(*ast.Array)
	if !ok || a.Len() > max {
		p.fail("%s is not a list of at most %d", text(name), max)
		return nil
	}
	out := make([]ast.Value, 0, a.Len())
	a.Foreach(func(t *ast.Term) { out = append(out, t.Value) })
	return out
}

// list is a list of strings that are not empty; nil when it is empty.
func (p *parser) list(o ast.Object, name *ast.Term, max int) (out []string) {
	for _, v := range p.array(o, name, max) {
		s, ok := v.(ast.String)
		if !ok || s == "" || len(s) > maxName {
			p.fail("%s: an entry is not a string of 1 to %d bytes", text(name), maxName)
		}
		out = append(out, string(s))
	}
	return out
}

// text is a field's name, for an error.
func text(name *ast.Term) string { return string(name.Value.(ast.String)) }
