package access

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Need is k distinct persons out of these groups, never the requester.
type Need struct {
	Count  int
	Groups []string
	// Step puts needs into an order: those of a step are asked, and votes for them
	// counted, when all needs of the steps before are met.
	Step int `json:",omitempty"` // requests of before it was known keep their digest
	// EscalateTo are groups whose members may meet the need as well once it has been
	// asked for EscalateAfter.
	EscalateAfter time.Duration `json:",omitempty"`
	EscalateTo    []string      `json:",omitempty"`
	// When says for which requests it is needed. A request has only those of its
	// rule's needs that apply to it, without this.
	When Occasion `json:",omitzero"`
}

// An Occasion picks requests. What it does not say does not limit.
type Occasion struct {
	LongerThan time.Duration       // those that ask for more time
	Labels     map[string][]string // those on targets with each of these labels, at one of its values
}

// IsZero reports whether the occasion picks every request.
func (o Occasion) IsZero() bool { return o.LongerThan == 0 && len(o.Labels) == 0 }

// Limits of a need.
const (
	maxNeeds    = 8  // of one rule
	maxCount    = 16 // people of one need
	maxStep     = 8
	maxEscalate = 24 * time.Hour
)

func (n *Need) validate(rule string) error {
	if n.Count < 1 || n.Count > maxCount || len(n.Groups) == 0 || len(n.Groups) > MaxItems || len(n.EscalateTo) > MaxItems {
		return Invalid("rule %s: approvals are 1 to %d people out of named groups", rule, maxCount)
	}
	for _, g := range slices.Concat(n.Groups, n.EscalateTo) {
		if err := CheckGroupName(g); err != nil {
			return err
		}
	}
	switch {
	case n.Step < 0 || n.Step > maxStep:
		return Invalid("rule %s: the steps of approvals are numbers from 0 to %d", rule, maxStep)
	case (n.EscalateAfter == 0) != (len(n.EscalateTo) == 0):
		return Invalid("rule %s: an escalation has a time and groups", rule)
	case n.EscalateAfter < 0 || n.EscalateAfter > maxEscalate || n.EscalateAfter%time.Second != 0:
		return Invalid("rule %s: an escalation comes after at most %s", rule, FormatDuration(maxEscalate))
	case n.When.LongerThan < 0 || len(n.When.Labels) > MaxItems:
		return Invalid("rule %s: an approval is needed for requests longer than a time, or on targets with labels", rule)
	}
	for name, values := range n.When.Labels {
		if len(values) == 0 || len(values) > MaxItems {
			return Invalid("rule %s: an approval for the label %s names its values", rule, name)
		}
	}
	return nil
}

// asks returns the groups whose members may meet the need after it has been
// asked for so long.
func (n *Need) asks(waited time.Duration) []string {
	if n.EscalateAfter > 0 && waited >= n.EscalateAfter {
		return slices.Concat(n.Groups, n.EscalateTo)
	}
	return n.Groups
}

// An Approval is one person's vote, bound to what that person was shown.
type Approval struct {
	UserID   string
	UserName string
	// StandsFor is the id of the person in whose place this one voted; "": for
	// themselves. The vote then counts with that person's groups and no others.
	StandsFor string
	Groups    []string // with which it counted when it was given
	Comment   string
	Duration  time.Duration // what the approver allows; never longer than asked
	Narrowing Narrowing     // what the approver takes away
	Digest    string        // Request.Digest at the time of the vote
	Step      int           // for whose needs it was given
	Via       string
	At        time.Time
	// Statement is the vote as the server has signed it, see audit.Vote.
	Statement string
}

// seat is who the vote counts as. A seat is taken once.
func (a *Approval) seat() string {
	if a.StandsFor != "" {
		return a.StandsFor
	}
	return a.UserID
}

// A Narrowing is what an approver takes away from what the role allows in a
// session. There is no way to write one that gives anything.
type Narrowing struct {
	Without  []string `json:",omitempty"` // of Rights
	FourEyes bool     `json:",omitempty"` // nothing is done while nobody else watches
}

// Rights are what a [Narrowing] can take away.
func Rights() []string {
	return []string{"shell", "exec", "files", "uploads", "forwards", "agent", "x11", "checkout"}
}

// IsZero reports whether nothing is taken away.
func (n Narrowing) IsZero() bool { return len(n.Without) == 0 && !n.FourEyes }

// String says what is taken away: "without forwards and agent, with four eyes".
func (n Narrowing) String() string {
	var parts []string
	if len(n.Without) > 0 {
		parts = append(parts, "without "+strings.Join(n.Without, " and "))
	}
	if n.FourEyes {
		parts = append(parts, "with four eyes")
	}
	return strings.Join(parts, ", ")
}

// tidy brings the rights into their order, each once.
func (n Narrowing) tidy() (Narrowing, error) {
	var without []string
	for _, right := range Rights() {
		if slices.Contains(n.Without, right) {
			without = append(without, right)
		}
	}
	for _, right := range n.Without {
		if !slices.Contains(Rights(), right) {
			return n, Invalid("%s is no right that can be taken away; these are: %s", strconv.QuoteToASCII(clip(right)), strings.Join(Rights(), ", "))
		}
	}
	n.Without = without
	return n, nil
}

// ReadOnly is the narrowing that leaves nothing but fetching files. Of a shell, or of
// a command, no rule says that it only reads, and so they go.
func ReadOnly() Narrowing {
	return Narrowing{Without: slices.DeleteFunc(Rights(), func(right string) bool { return right == "files" })}
}

// MayBeReadOnly reports whether [ReadOnly] would leave something of what the request
// may have now, and take something away.
func (r *Request) MayBeReadOnly() bool {
	rules := r.Permitted()
	left := rules.After(ReadOnly())
	return !left.empty() && (len(left.Files) < len(rules.Files) || rules.Shell || rules.Exec || len(rules.Forwards) > 0 || rules.Checkout != "")
}

// After returns what is left of the rules after the narrowing.
func (r SessionRules) After(n Narrowing) SessionRules {
	for _, right := range n.Without {
		switch right {
		case "shell":
			r.Shell = false
		case "exec":
			r.Exec, r.Commands = false, nil
		case "files":
			r.Files = nil
		case "uploads":
			r.Files = slices.DeleteFunc(slices.Clone(r.Files), func(s string) bool {
				rule, err := ParseFileRule(s)
				return err != nil || rule.Direction != Download
			})
		case "forwards":
			r.Forwards = nil
		case "agent":
			r.Agent = false
		case "x11":
			r.X11 = false
		case "checkout":
			r.Checkout = ""
		}
	}
	r.FourEyes = r.FourEyes || n.FourEyes
	return r
}

// empty reports whether the rules allow nothing at all.
func (r *SessionRules) empty() bool {
	return !r.Shell && !r.Exec && len(r.Files) == 0 && len(r.Forwards) == 0 && r.Checkout == ""
}

// A Counter returns the groups with which a vote counts now: those that its
// giver has, or the person in whose place it was given; none when the vote does
// not count any more. See broker.voting.
type Counter func(*Approval) []string

// A ballot is a vote as it is counted: with which groups, and how long its step
// had been asked when it was given.
type ballot struct {
	groups []string
	waited time.Duration
}

func (b *ballot) meets(n *Need) bool {
	return slices.ContainsFunc(n.asks(b.waited), func(g string) bool { return slices.Contains(b.groups, g) })
}

// lacking returns how many more people the needs want. One person counts once
// in all of them together: by Hall's theorem the needs can be met by distinct
// persons if and only if every set of them has enough persons who may meet one.
func lacking(needs []Need, ballots []ballot) int {
	most := 0
	for set := 1; set < 1<<len(needs); set++ {
		lack := 0
		for i := range needs {
			if set&(1<<i) != 0 {
				lack += needs[i].Count
			}
		}
		for _, b := range ballots {
			for i := range needs {
				if set&(1<<i) != 0 && b.meets(&needs[i]) {
					lack--
					break
				}
			}
		}
		most = max(most, lack)
	}
	return most
}

// A Stage is the step of a pending request whose needs are asked at a moment.
type Stage struct {
	Step    int
	Since   time.Time // when it began to be asked
	Needs   []Need
	at      time.Time
	ballots []ballot
}

// Stage returns the step that is asked at t: the first that is not met by the
// votes as they count now. There is none when all needs are met.
func (r *Request) Stage(t time.Time, groups Counter) (Stage, bool) {
	if len(r.Needs) > maxNeeds {
		return Stage{Needs: r.Needs[:maxNeeds], at: t}, true // and so it can never be met
	}
	digest := r.Digest()
	for _, step := range r.steps() {
		s := Stage{Step: step, Since: r.began(step), at: t}
		for _, n := range r.Needs {
			if n.Step == step {
				s.Needs = append(s.Needs, n)
			}
		}
		seats := map[string]bool{r.RequesterID: true, r.OwnerID: true, "": true}
		for i := range r.Approvals {
			a := &r.Approvals[i]
			if a.Step != step || a.Digest != digest || seats[a.UserID] || seats[a.seat()] {
				continue
			}
			seats[a.UserID], seats[a.seat()] = true, true
			s.ballots = append(s.ballots, ballot{groups(a), a.At.Sub(s.Since)})
		}
		if lacking(s.Needs, s.ballots) > 0 {
			return s, true
		}
	}
	return Stage{}, false
}

// steps are the numbers of the request's steps, in order.
func (r *Request) steps() []int {
	numbers := map[int]bool{}
	for _, n := range r.Needs {
		numbers[n.Step] = true
	}
	return slices.Sorted(maps.Keys(numbers))
}

// began returns when the step began to be asked: with the last vote of an
// earlier one, or when the request was made or last edited.
func (r *Request) began(step int) time.Time {
	t := r.CreatedAt
	if r.EditedAt.After(t) {
		t = r.EditedAt
	}
	for _, a := range r.Approvals {
		if a.Step < step && a.At.After(t) {
			t = a.At
		}
	}
	return t
}

// Waited is how long the step of a vote had been asked when it was given.
func (r *Request) Waited(a *Approval) time.Duration { return max(0, a.At.Sub(r.began(a.Step))) }

// Wants reports whether a vote with these groups would bring the stage closer to
// its end. Whose vote would change nothing is not asked.
func (s *Stage) Wants(groups []string) bool {
	b := ballot{groups, s.at.Sub(s.Since)}
	return lacking(s.Needs, append(slices.Clip(s.ballots), b)) < lacking(s.Needs, s.ballots)
}

// Groups are those whose members are asked.
func (s *Stage) Groups() []string {
	var groups []string
	for i := range s.Needs {
		groups = append(groups, s.Needs[i].asks(s.at.Sub(s.Since))...)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// Escalated returns the groups that were the last to be asked besides the first.
func (s *Stage) Escalated() []string {
	var last time.Duration
	var to []string
	for _, n := range s.Needs {
		if n.EscalateAfter == 0 || n.EscalateAfter > s.at.Sub(s.Since) || n.EscalateAfter < last {
			continue
		}
		if n.EscalateAfter > last {
			last, to = n.EscalateAfter, nil
		}
		to = append(to, n.EscalateTo...)
	}
	return to
}

// Missing returns how many people, besides the requester, are missing among these
// for all needs to be met, if each said yes as late as may be.
func (r *Request) Missing(people []User) int {
	var ballots []ballot
	for _, u := range people {
		if u.ID != r.RequesterID && u.ID != r.OwnerID && !u.Bot && !u.Locked {
			ballots = append(ballots, ballot{u.Groups, maxEscalate})
		}
	}
	return lacking(r.Needs, ballots)
}

// EscalatedAt is when those of Escalated began to be asked; zero: there are none.
func (s *Stage) EscalatedAt() time.Time {
	var last time.Duration
	for _, n := range s.Needs {
		if n.EscalateAfter <= s.at.Sub(s.Since) {
			last = max(last, n.EscalateAfter)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return s.Since.Add(last)
}

// Escalation returns the next moment after t at which more groups will be asked,
// and which they are; the zero time when there is none.
func (s *Stage) Escalation(t time.Time) (time.Time, []string) {
	var at time.Time
	var to []string
	for _, n := range s.Needs {
		due := s.Since.Add(n.EscalateAfter)
		if n.EscalateAfter == 0 || !due.After(t) || !at.IsZero() && due.After(at) {
			continue
		}
		if due.Before(at) {
			to = nil
		}
		at, to = due, append(to, n.EscalateTo...)
	}
	return at, to
}

// Escalates returns the next moment after t at which more groups are asked, if
// the votes count as when they were given; the zero time: never.
func (r *Request) Escalates(t time.Time) time.Time {
	if r.State != Pending {
		return time.Time{}
	}
	stage, _ := r.Stage(t, func(a *Approval) []string { return a.Groups })
	at, _ := stage.Escalation(t)
	return at
}

// Have is how many distinct persons' votes could meet the need as it stands.
func (r *Request) Have(n *Need) int {
	have := 0
	for i := range r.Approvals {
		a := &r.Approvals[i]
		b := ballot{a.Groups, r.Waited(a)}
		if a.Step == n.Step && b.meets(n) {
			have++
		}
	}
	return min(have, n.Count)
}

// Voters are the groups whose members may be asked at some time.
func (r *Request) Voters() []string {
	var groups []string
	for _, n := range r.Needs {
		groups = append(append(groups, n.Groups...), n.EscalateTo...)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// notAsked says why a vote with these groups is not wanted in the stage.
func (r *Request) notAsked(s *Stage, groups []string) *Error {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(g string) bool { return slices.Contains(groups, g) })
	}
	status := "drawbolt status " + r.ID
	for _, n := range r.Needs {
		if n.Step > s.Step && has(n.Groups) {
			return &Error{Kind: ErrDenied, Code: "DB-6130", Rule: "vote.step", Next: status,
				Text: fmt.Sprintf("%s is not asked yet: %s must approve %s first", or(n.Groups), or(s.Groups()), r.ID)}
		}
	}
	for _, n := range s.Needs {
		if has(n.EscalateTo) && s.at.Before(s.Since.Add(n.EscalateAfter)) {
			return &Error{Kind: ErrDenied, Code: "DB-6131", Rule: "vote.escalation", Next: status,
				Text: fmt.Sprintf("%s is asked at %s, when %s has not decided by then", or(n.EscalateTo), s.Since.Add(n.EscalateAfter).UTC().Format(time.TimeOnly), or(n.Groups))}
		}
	}
	return &Error{Kind: ErrConflict, Code: "DB-6132", Rule: "vote.needless", Next: status,
		Text: fmt.Sprintf("your approval of %s would change nothing: %s is asked", r.ID, or(s.Groups()))}
}

func or(groups []string) string { return strings.Join(groups, " or ") }

// check refuses a vote of somebody who has none: of the requester, of whose bot
// the requester is, of a bot, in the place of one of them, twice, or on
// something else than what the request says now.
func (r *Request) check(a *Approval, bot bool) error {
	switch {
	case r.StateAt(a.At) != Pending:
		return r.decided(a.At)
	case a.UserID == r.RequesterID:
		return &Error{Kind: ErrDenied, Code: "DB-2002", Text: "nobody approves a request of their own", Rule: "approve.self", Next: "ask one of the approvers: drawbolt status " + r.ID}
	case a.UserID == r.OwnerID:
		return &Error{Kind: ErrDenied, Code: "DB-6133", Text: "nobody approves what their own bot asks for", Rule: "approve.self", Next: "ask one of the approvers: drawbolt status " + r.ID}
	case a.StandsFor != "" && (a.StandsFor == r.RequesterID || a.StandsFor == r.OwnerID):
		return &Error{Kind: ErrDenied, Code: "DB-6134", Text: "nobody approves in the place of who asks", Rule: "approve.self", Next: "ask one of the approvers: drawbolt status " + r.ID}
	case bot:
		return &Error{Kind: ErrDenied, Code: "DB-2003", Text: "a bot cannot approve", Rule: "approve.bot"}
	case a.Digest != "" && a.Digest != r.Digest():
		return &Error{Kind: ErrConflict, Code: "DB-3004", Text: r.ID + " is not what you were shown; look at it again", Next: "drawbolt status " + r.ID}
	}
	return CheckText("the note", a.Comment, MaxComment)
}

// taken refuses a second vote of one person, or for one seat.
func (r *Request) taken(a *Approval, votes []Approval, said string) error {
	for i := range votes {
		v := &votes[i]
		switch {
		case v.UserID == a.UserID:
			return &Error{Kind: ErrConflict, Code: "DB-3003", Text: fmt.Sprintf("you have %s %s already; one person counts once", said, r.ID)}
		case v.seat() == a.seat() || v.seat() == a.UserID || v.UserID == a.seat():
			return &Error{Kind: ErrConflict, Code: "DB-6135", Rule: "vote.seat",
				Text: fmt.Sprintf("%s has voted on %s for the same seat already: of two people of whom one stands for the other, one counts", v.UserName, r.ID)}
		}
	}
	return nil
}

// Approve records a yes. It refuses a vote of the requester, of a bot, a second
// vote of one person, a vote on something else than what the request says now,
// one that nobody asked for yet, and one that widens. It reports whether the
// request has all the approvals it needs and has become approved.
//
// Whether the approver may vote on this request at all is for the policy,
// which the caller asks first. a.Groups are the groups with which the vote
// counts; the earlier ones are counted as they stand now.
func (r *Request) Approve(a Approval, bot bool, groups Counter) (bool, error) {
	if err := r.check(&a, bot); err != nil {
		return false, err
	}
	if err := r.taken(&a, r.Approvals, "approved"); err != nil {
		return false, err
	}
	if err := r.taken(&a, r.Objections, "refused"); err != nil {
		return false, err
	}
	if a.Digest == "" {
		return false, &Error{Kind: ErrConflict, Code: "DB-3004", Text: r.ID + " is not what you were shown; look at it again", Next: "drawbolt status " + r.ID}
	}
	if a.Duration == 0 {
		a.Duration = r.Duration
	}
	if err := CheckDuration(a.Duration); err != nil {
		return false, err
	}
	if a.Duration > r.Duration {
		return false, Invalid("an approval may shorten the time, not lengthen it: %s was asked for", FormatDuration(r.Duration))
	}
	var err error
	if a.Narrowing, err = a.Narrowing.tidy(); err != nil {
		return false, err
	}
	stage, open := r.Stage(a.At, groups)
	if !open {
		return false, r.notAsked(&stage, nil)
	}
	if !stage.Wants(a.Groups) {
		return false, r.notAsked(&stage, a.Groups)
	}
	a.Step = stage.Step
	left := r.Permitted().After(a.Narrowing)
	if !a.Narrowing.IsZero() && left.empty() {
		return false, &Error{Kind: ErrInvalid, Code: "DB-6136", Text: "that would leave nothing that a session could do", Next: "drawbolt deny " + r.ID + " --reason TEXT"}
	}
	r.Approvals = append(r.Approvals, a)
	if !r.Satisfied(groups) {
		return false, nil
	}
	return true, r.move(Approved, a.At)
}

// Satisfied reports whether the votes meet every need as they count now. One
// person counts once in all needs together; votes for another digest and votes
// of the requester count for none.
func (r *Request) Satisfied(groups Counter) bool {
	_, open := r.Stage(time.Time{}, groups)
	return !open
}

// Deny records a no with its reason. It reports whether that has ended the
// request, which needs as many people as its rule says: one, if it says nothing.
// A yes may become a no, and a no stays one.
func (r *Request) Deny(a Approval, bot bool) (bool, error) {
	if a.UserID == r.RequesterID {
		return false, &Error{Kind: ErrDenied, Code: "DB-2002", Text: "a request of your own is cancelled, not denied", Rule: "approve.self", Next: "drawbolt cancel " + r.ID}
	}
	if err := CheckReason(a.Comment); err != nil {
		return false, err
	}
	if err := r.check(&a, bot); err != nil {
		return false, err
	}
	if err := r.taken(&a, r.Objections, "refused"); err != nil {
		return false, err
	}
	a.Duration, a.Narrowing = r.Duration, Narrowing{}
	r.Approvals = slices.DeleteFunc(slices.Clone(r.Approvals), func(v Approval) bool { return v.UserID == a.UserID })
	r.Objections = append(r.Objections, a)
	if len(r.Objections) < r.DenyThreshold {
		return false, nil
	}
	r.DecidedBy, r.Note = a.UserName, a.Comment
	return true, r.move(Denied, a.At)
}

// Granted is the time that the approvers allow: the shortest of their answers.
func (r *Request) Granted() time.Duration {
	d := r.Duration
	for _, a := range r.Approvals {
		d = min(d, a.Duration)
	}
	return d
}

// Permitted is what the approvers allow in a session: what the role does, without
// what any of them has taken away.
func (r *Request) Permitted() SessionRules {
	rules := r.Rules
	for _, a := range r.Approvals {
		rules = rules.After(a.Narrowing)
	}
	return rules
}
