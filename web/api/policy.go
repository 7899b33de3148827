package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxBundle is the longest archive of a policy bundle that is taken, in bytes.
const MaxBundle = 4 << 20

// A Candidate is a policy that is not in force. What it leaves out is as it is now.
type Candidate struct {
	// Bundle is a gzipped tar archive of a bundle's folder. In JSON it is base64.
	Bundle []byte `json:"bundle,omitempty"`
	Roles  []Role `json:"roles,omitempty"` // all that there are
}

// ExplainInput asks what the policy would say. User "" is the caller.
type ExplainInput struct {
	User            string     `json:"user,omitempty"`
	Target          string     `json:"target"`
	Account         string     `json:"account"`
	Action          string     `json:"action"`
	DurationSeconds int64      `json:"duration_seconds,omitempty"`
	At              *time.Time `json:"at,omitempty"`     // nil: now
	Source          string     `json:"source,omitempty"` // IP address
	Ticket          string     `json:"ticket,omitempty"`
	BreakGlass      bool       `json:"break_glass,omitempty"`
	SecondFactor    bool       `json:"second_factor,omitempty"` // as if it had just been proved
	Candidate       *Candidate `json:"candidate,omitempty"`     // to be asked instead
}

// A Decision is the policy's answer.
type Decision struct {
	ID                 string         `json:"id"`
	Allow              bool           `json:"allow"`
	Role               string         `json:"role"`
	Rule               string         `json:"rule"`
	RuleText           string         `json:"rule_text,omitempty"` // in words
	Approvals          []ApproverNeed `json:"approvals"`
	MaxDurationSeconds int64          `json:"max_duration_seconds"`
	Session            SessionRules   `json:"session"`
	SessionTerms       []string       `json:"session_terms,omitempty"` // what bounds sessions besides, in words
	MFAWithinSeconds   int64          `json:"mfa_within_seconds"`
	BreakGlass         bool           `json:"break_glass"`
	Reasons            []RuleReason   `json:"reasons"` // the first one decided
	// Ways are sets of changes, each of which turns the answer round.
	Ways         []PolicyWay `json:"ways"`
	InputHash    string      `json:"input_hash"`
	PolicyDigest string      `json:"policy_digest"`
	DataDigest   string      `json:"data_digest,omitempty"`
}

// A RuleReason is one sentence of the policy, and the rule that says it.
type RuleReason struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// A PolicyWay is a set of changes. All of them are needed.
type PolicyWay struct {
	Changes []PolicyChange `json:"changes"`
}

// A PolicyChange is one thing that could be otherwise.
type PolicyChange struct {
	Kind string `json:"kind"` // "group", "hours", "mfa", ...
	Text string `json:"text"`
}

// Explain asks what the policy would say and what would change it, without asking for
// access.
func (c *Client) Explain(ctx context.Context, in ExplainInput) (Decision, error) {
	return call[Decision](ctx, c, http.MethodPost, "/v1/policy/explain", nil, in)
}

// A PolicyView is what is in force, as people read it.
type PolicyView struct {
	Digest     string         `json:"digest"`
	DataDigest string         `json:"data_digest"`
	Roles      []PolicyRole   `json:"roles"`
	Servers    []PolicyServer `json:"servers"`
	Files      []PolicyFile   `json:"files"` // of the bundle by which the server decides that was asked
}

// A PolicyFile is a file of a bundle, in Rego.
type PolicyFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A PolicyRole is a role in words.
type PolicyRole struct {
	Name    string       `json:"name"`
	Members string       `json:"members"`
	Rules   []PolicyRule `json:"rules"`
}

// A PolicyRule is a rule in words.
type PolicyRule struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// A PolicyServer says by which bundle a server decides.
type PolicyServer struct {
	Name     string    `json:"name"`
	Digest   string    `json:"digest"`
	Source   string    `json:"source"` // "": the bundle in the program
	Commit   string    `json:"commit,omitempty"`
	Signer   string    `json:"signer,omitempty"`
	LoadedAt time.Time `json:"loaded_at"`
	// Refused is why the bundle that is there now is not in force; "" when it is.
	Refused   string     `json:"refused"`
	RefusedAt *time.Time `json:"refused_at,omitempty"`
}

// Policy returns what is in force.
func (c *Client) Policy(ctx context.Context) (PolicyView, error) {
	return call[PolicyView](ctx, c, http.MethodGet, "/v1/policy", nil, nil)
}

// An AccessWay is a way to an account, and for whom it is the same.
type AccessWay struct {
	Path               []string       `json:"path"` // "group dbas", "role db-admin"
	Role               string         `json:"role"`
	Rule               string         `json:"rule"`
	RuleText           string         `json:"rule_text"`
	Allowed            bool           `json:"allowed"` // now, with a fresh second factor
	Approvals          []ApproverNeed `json:"approvals"`
	MaxDurationSeconds int64          `json:"max_duration_seconds"`
	BreakGlass         bool           `json:"break_glass"`
	Standing           bool           `json:"standing"` // nobody else is asked
	Missing            []string       `json:"missing"`  // what has to be otherwise first
	Count              int            `json:"count"`
	People             []string       `json:"people,omitempty"`  // the first of them
	Targets            []string       `json:"targets,omitempty"` // account@target, the first of them
}

// WhoCan says who can come to an account.
type WhoCan struct {
	Target  string         `json:"target"`
	Account string         `json:"account"`
	Ways    []AccessWay    `json:"ways"`
	Holders []AccessHolder `json:"holders"` // of a grant that is open now
	Beside  []string       `json:"beside"`  // what lets people in without drawbolt
	Users   int            `json:"users"`   // that there are
}

// An AccessHolder has a grant.
type AccessHolder struct {
	User    string    `json:"user"`
	Request string    `json:"request"`
	Until   time.Time `json:"until"`
}

// WhoCan lists who can come to an account of a target.
func (c *Client) WhoCan(ctx context.Context, target, account string) (WhoCan, error) {
	return call[WhoCan](ctx, c, http.MethodGet, "/v1/policy/who-can", url.Values{"target": {target}, "account": {account}}, nil)
}

// CanReach lists what a person can come to.
func (c *Client) CanReach(ctx context.Context, user string) (List[AccessWay], error) {
	return call[List[AccessWay]](ctx, c, http.MethodGet, "/v1/policy/reach", url.Values{"user": {user}}, nil)
}

// A PolicyTest says whether a bundle may be put into service.
type PolicyTest struct {
	Digest   string             `json:"digest"`  // of what would decide
	Content  string             `json:"content"` // of all files: what is signed
	Tests    []PolicyTestResult `json:"tests"`
	Rules    int                `json:"rules"`
	Untested []string           `json:"untested"` // rules that held in no test
	Problems []string           `json:"problems"` // why it may not; none when it may
}

// A PolicyTestResult is the outcome of a test.
type PolicyTestResult struct {
	Name     string `json:"name"`
	At       string `json:"at"` // file:line
	Passed   bool   `json:"passed"`
	Error    string `json:"error,omitempty"`
	Failed   string `json:"failed,omitempty"` // the line that did not hold
	FailedAt string `json:"failed_at,omitempty"`
}

// Text tells it to people: what did not pass and where, which rules no test made hold,
// and whether it may be put into service.
func (t PolicyTest) Text() string {
	var b strings.Builder
	passed := 0
	for _, r := range t.Tests {
		switch {
		case r.Passed:
			passed++
		case r.Failed != "":
			fmt.Fprintf(&b, "✗ %s (%s)\n    does not hold: %s  (%s)\n", r.Name, r.At, r.Failed, r.FailedAt)
		default:
			fmt.Fprintf(&b, "✗ %s (%s)\n    %s\n", r.Name, r.At, r.Error)
		}
	}
	fmt.Fprintf(&b, "%d of %d tests passed. %d of %d rules held in a test.\n", passed, len(t.Tests), t.Rules-len(t.Untested), t.Rules)
	for i, rule := range t.Untested {
		if i == 20 {
			fmt.Fprintf(&b, "  and %d more\n", len(t.Untested)-i)
			break
		}
		fmt.Fprintf(&b, "  untested: %s\n", rule)
	}
	if len(t.Problems) == 0 {
		fmt.Fprintf(&b, "It may be put into service. Digest %.12s; files %s\n", t.Digest, t.Content)
		return b.String()
	}
	fmt.Fprintf(&b, "It would be refused:\n")
	for _, p := range t.Problems {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	return b.String()
}

// TestPolicy asks whether a bundle may be put into service.
func (c *Client) TestPolicy(ctx context.Context, in Candidate) (PolicyTest, error) {
	return call[PolicyTest](ctx, c, http.MethodPost, "/v1/policy/test", nil, in)
}

// ReplayInput says what to ask again.
type ReplayInput struct {
	Candidate
	Since time.Time `json:"since"`
}

// A PolicyReplay says what a candidate would have answered.
type PolicyReplay struct {
	Looked   int          `json:"looked"`  // decisions that were asked again
	Flipped  int          `json:"flipped"` // of them are answered in another way
	From     *time.Time   `json:"from,omitempty"`
	Until    *time.Time   `json:"until,omitempty"`
	Partial  bool         `json:"partial"` // there are more than could be looked at
	Flips    []PolicyFlip `json:"flips"`
	Doubtful []string     `json:"doubtful"` // ids of decisions that were changed in the database
}

// A PolicyFlip are flips of one kind between the same two rules.
type PolicyFlip struct {
	Kind   string            `json:"kind"` // allowed, refused, approvals, duration, mfa, session
	Action string            `json:"action"`
	Was    string            `json:"was"` // role/rule
	Now    string            `json:"now"`
	Text   string            `json:"text"`
	Count  int               `json:"count"`
	Of     []FlippedDecision `json:"of"` // the newest of them
}

// A FlippedDecision is one that the candidate answers in another way.
type FlippedDecision struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	User    string    `json:"user"`
	Account string    `json:"account"`
	Target  string    `json:"target"`
	Text    string    `json:"text"`
}

// ReplayPolicy asks a candidate what was decided since then.
func (c *Client) ReplayPolicy(ctx context.Context, in ReplayInput) (PolicyReplay, error) {
	return call[PolicyReplay](ctx, c, http.MethodPost, "/v1/policy/replay", nil, in)
}

// A PolicyDiff says how a candidate differs from what is in force.
type PolicyDiff struct {
	From   string       `json:"from"` // digests of the bundles
	To     string       `json:"to"`
	Roles  []string     `json:"roles"` // in sentences
	Replay PolicyReplay `json:"replay"`
}

// DiffPolicy compares a candidate with what is in force.
func (c *Client) DiffPolicy(ctx context.Context, in ReplayInput) (PolicyDiff, error) {
	return call[PolicyDiff](ctx, c, http.MethodPost, "/v1/policy/diff", nil, in)
}
