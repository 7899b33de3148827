package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Candidate is a policy that is not in force. What it leaves out is as it is now.
type Candidate struct {
	Files map[string][]byte // of a bundle; nil: the one that decides
	Tests policy.Data       // roles of the bundle's tests
	Roles []access.Role     // nil: those that are in force
}

// asks is what must be permitted to whoever has a candidate looked at: a bundle is a
// program that runs here, so it takes who may put one into service.
func (c *Candidate) asks() policy.Action {
	if c.Files != nil {
		return policy.ActionPolicyWrite
	}
	return policy.ActionPolicyRead
}

// A PolicyReplay says what a candidate would have answered to decisions that were made.
type PolicyReplay struct {
	Looked int       // decisions that were asked again
	From   time.Time // the oldest of them
	Until  time.Time // the newest
	// Partial: there are older ones in the time that was asked for, and the limits did
	// not let them be looked at.
	Partial bool
	Flipped int // of them are answered in another way
	Flips   []FlipGroup
	// Doubtful are decisions whose question is not the one that the audit log has the
	// hash of: somebody has changed it in the database. They were not asked again.
	Doubtful []string
}

// A FlipGroup are flips of one kind between the same two rules.
type FlipGroup struct {
	Kind     string // of policy.Difference
	Action   string
	Was, Now string // role/rule
	Text     string // of the newest of them
	Count    int
	Flips    []Flip // the newest of them
}

// A Flip is a decision that the candidate answers in another way.
type Flip struct {
	Decision              string // its id
	At                    time.Time
	User, Account, Target string
	Text                  string
}

// The limits of a replay.
const (
	maxReplayed = 100_000
	replayFor   = 15 * time.Second
	maxFlips    = 1_000 // that are listed; all are counted
	maxGroups   = 500
	replayPage  = 500
)

// ReplayPolicy asks a candidate what was decided since then, the newest first, and lists
// what it answers in another way than was answered.
func (b *Broker) ReplayPolicy(ctx context.Context, by access.Caller, c Candidate, since time.Time) (PolicyReplay, error) {
	e := event(by, "policy.replay", "")
	if _, err := b.allow(ctx, question{action: c.asks(), by: by}, e); err != nil {
		return PolicyReplay{}, err
	}
	candidate, err := b.candidate(ctx, c)
	if err != nil {
		return PolicyReplay{}, err
	}
	return b.replayDecisions(ctx, candidate, since, func(_ context.Context, _ policy.Input, answered policy.Decision) (policy.Decision, error) {
		return answered, nil
	})
}

// A PolicyDiff says how a candidate differs from the policy that is in force.
type PolicyDiff struct {
	From, To string // digests of the bundles
	Roles    []string
	// Replay is over what was decided, and compares with what the policy in force would
	// answer to it now.
	Replay PolicyReplay
}

// DiffPolicy compares a candidate with the policy that is in force: the roles in words,
// and what both answer to what was decided since then.
func (b *Broker) DiffPolicy(ctx context.Context, by access.Caller, c Candidate, since time.Time) (PolicyDiff, error) {
	if _, err := b.allow(ctx, question{action: c.asks(), by: by}, event(by, "policy.diff", "")); err != nil {
		return PolicyDiff{}, err
	}
	candidate, err := b.candidate(ctx, c)
	if err != nil {
		return PolicyDiff{}, err
	}
	out := PolicyDiff{From: b.c.Policy.Digest(), To: candidate.Digest()}
	if c.Roles != nil {
		data, err := readPolicyData(ctx, b.c.Store)
		if err != nil {
			return out, err
		}
		out.Roles = policy.RoleDifferences(data, policyData(c.Roles, nil))
	}
	out.Replay, err = b.replayDecisions(ctx, candidate, since, func(ctx context.Context, in policy.Input, _ policy.Decision) (policy.Decision, error) {
		return b.c.Policy.Decide(ctx, in)
	})
	return out, err
}

// TestPolicy says whether a bundle may be put into service; see policy.Prove.
func (b *Broker) TestPolicy(ctx context.Context, by access.Caller, c Candidate) (policy.Verdict, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionPolicyWrite, by: by}, event(by, "policy.test", "")); err != nil {
		return policy.Verdict{}, err
	}
	return ProvePolicy(ctx, b.c.Store, c.Files, c.Tests)
}

// candidate makes an engine of a candidate.
func (b *Broker) candidate(ctx context.Context, c Candidate) (*policy.Engine, error) {
	program := b.c.Policy.Program()
	if c.Files != nil {
		var err error
		if program, err = policy.Compile(c.Files); err != nil {
			return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6152", Text: "the bundle cannot be used: " + audit.Clean(err.Error(), audit.MaxReason), Next: "drawbolt policy test FOLDER"}
		}
	}
	data, err := readPolicyData(ctx, b.c.Store)
	if err != nil {
		return nil, err
	}
	for i := range c.Roles {
		if err := c.Roles[i].Validate(); err != nil {
			return nil, err
		}
	}
	if c.Roles != nil {
		data.Roles = policyData(c.Roles, nil).Roles
	}
	engine, err := policy.NewEngine(program, 0)
	if err != nil {
		return nil, err
	}
	if err := engine.SetData(data); err != nil {
		return nil, access.Invalid("the roles would not hold together: %v", err)
	}
	return engine, nil
}

// replayDecisions asks a candidate again and compares with the base.
func (b *Broker) replayDecisions(ctx context.Context, candidate *policy.Engine, since time.Time, base func(context.Context, policy.Input, policy.Decision) (policy.Decision, error)) (PolicyReplay, error) {
	var out PolicyReplay
	groups := map[string]*FlipGroup{}
	var order []string
	listed, until := 0, time.Now().Add(replayFor)
	for before := int64(math.MaxInt64); ; {
		page, err := b.c.Store.Decisions(ctx, before, replayPage)
		if err != nil {
			return out, err
		}
		for _, kept := range page {
			if kept.At.Before(since) {
				page = nil
				break
			}
			if out.Looked == maxReplayed || time.Now().After(until) {
				out.Partial, page = true, nil
				break
			}
			var in policy.Input
			var answered policy.Decision
			if !genuine(&kept) || json.Unmarshal([]byte(kept.Input), &in) != nil || json.Unmarshal([]byte(kept.Answer), &answered) != nil {
				if len(out.Doubtful) < maxFlips {
					out.Doubtful = append(out.Doubtful, kept.ID)
				}
				continue
			}
			if out.Looked++; out.Looked == 1 {
				out.Until = kept.At
			}
			out.From = kept.At
			was, err := base(ctx, in, answered)
			if err == nil {
				var now policy.Decision
				if now, err = candidate.Decide(ctx, in); ctx.Err() == nil {
					err = nil // it refuses, and says that it failed
				}
				differences := policy.Differences(was, now)
				if len(differences) > 0 {
					out.Flipped++
				}
				for _, d := range differences {
					g := FlipGroup{Kind: d.Kind, Action: string(in.Action), Was: ruleName(was), Now: ruleName(now), Text: d.Text}
					key := strings.Join([]string{g.Kind, g.Action, g.Was, g.Now}, "\n")
					if groups[key] == nil {
						if len(groups) == maxGroups {
							out.Partial = true
							continue
						}
						groups[key] = &g
						order = append(order, key)
					}
					groups[key].Count++
					if listed++; listed <= maxFlips {
						groups[key].Flips = append(groups[key].Flips, Flip{kept.ID, kept.At, in.User.Name, in.Account, in.Target.Name, d.Text})
					}
				}
			}
			if err != nil && ctx.Err() != nil {
				return out, ctx.Err()
			}
		}
		if len(page) < replayPage {
			break
		}
		before = page[len(page)-1].Seq
	}
	for _, key := range order {
		out.Flips = append(out.Flips, *groups[key])
	}
	// What opens comes first, then what closes.
	rank := []string{policy.Allowed, policy.Refused, policy.Approvals, policy.Session, policy.MFA, policy.Duration}
	slices.SortStableFunc(out.Flips, func(a, b FlipGroup) int { return slices.Index(rank, a.Kind) - slices.Index(rank, b.Kind) })
	return out, nil
}

func ruleName(d policy.Decision) string {
	if d.Role == "" {
		return "no rule"
	}
	return d.Role + "/" + d.Rule
}

// genuine reports whether a kept question and its answer are those that the event of
// the decision has the hashes of.
func genuine(k *store.KeptDecision) bool {
	e, err := audit.Parse(k.Leaf)
	return err == nil && e.Details["decision"] == k.ID && e.Details["input"] == hexSum(k.Input) && e.Details["answer"] == hexSum(k.Answer)
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
