package web

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	bundles "github.com/drawbolt/drawbolt/policy/pack" // pack is how assets are packed here
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/api"
)

// maxCandidate is the longest body with a candidate: a bundle in base64, and roles.
const maxCandidate = api.MaxBundle/3*4 + 2<<20

// maxRoles is the longest form with roles, of which each quote is three bytes.
const maxRoles = 2 << 20

// candidate unpacks what was sent.
func candidate(in api.Candidate) (broker.Candidate, error) {
	var c broker.Candidate
	if in.Roles != nil {
		c.Roles = each(in.Roles, accessRole)
	}
	if len(in.Bundle) == 0 {
		return c, nil
	}
	b, err := unpack(in.Bundle)
	if err != nil {
		return c, err
	}
	c.Files = b.Files
	c.Tests, err = testRoles(b)
	return c, err
}

// unpack reads an archive, within the limits of bundles.
func unpack(archive []byte) (*bundles.Bundle, error) {
	b, err := bundles.Unpack(bytes.NewReader(archive))
	if err != nil {
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6150", Text: "the bundle cannot be read: " + audit.Clean(err.Error(), audit.MaxReason), Next: "drawbolt policy test FOLDER"}
	}
	return b, nil
}

// testRoles are those over which the tests of a bundle run.
func testRoles(b *bundles.Bundle) (policy.Data, error) {
	text := b.Files[bundles.RolesFile]
	if text == nil {
		return policy.Data{}, nil
	}
	d, err := policy.ParseData(text)
	if err != nil {
		return d, &access.Error{Kind: access.ErrInvalid, Code: "DB-6151", Text: bundles.RolesFile + " in the bundle cannot be read: " + audit.Clean(err.Error(), audit.MaxReason)}
	}
	return d, nil
}

// mayProve lets a few candidates be looked at at a time, one for each person: it takes
// a processor while it lasts.
func (s *Server) mayProve(by access.Caller) (leave func(), err error) {
	busy := &access.Error{Kind: errRate, Code: "DB-6153", Text: "a policy is being looked at already", Next: "wait for it, then try again"}
	mine, ok := s.proving.enter(by.User.ID)
	if !ok {
		return nil, busy
	}
	all, ok := s.provings.enter("")
	if !ok {
		mine()
		return nil, busy
	}
	return func() { all(); mine() }, nil
}

func (s *Server) policy(ctx context.Context, by access.Caller, _ *struct{}) (api.PolicyView, error) {
	v, err := s.c.Broker.ShowPolicy(ctx, by)
	return api.PolicyView{
		Digest: v.Digest, DataDigest: v.DataDigest,
		Roles: each(v.Roles, func(r broker.PolicyRole) api.PolicyRole {
			return api.PolicyRole{Name: r.Name, Members: r.Members, Rules: each(r.Rules, func(x broker.PolicyRule) api.PolicyRule { return api.PolicyRule(x) })}
		}),
		Servers: each(v.Servers, func(p broker.PolicyServer) api.PolicyServer {
			return api.PolicyServer{
				Name: p.Node, Digest: p.Digest, Source: p.Source, Commit: p.Revision, Signer: p.Signer, LoadedAt: p.LoadedAt.UTC(),
				Refused: p.Refused, RefusedAt: when(p.RefusedAt),
			}
		}),
		Files: each(v.Files, func(f policy.File) api.PolicyFile { return api.PolicyFile(f) }),
	}, err
}

func (s *Server) explain(ctx context.Context, by access.Caller, in *struct{ Body api.ExplainInput }) (api.Decision, error) {
	q := in.Body
	w := broker.WhatIf{
		User: q.User, Target: q.Target, Account: q.Account, Action: q.Action, Duration: duration(q.DurationSeconds),
		Ticket: q.Ticket, BreakGlass: q.BreakGlass, SecondFactor: q.SecondFactor,
	}
	if q.At != nil {
		w.At = *q.At
	}
	var err error
	if q.Source != "" {
		if w.Source, err = netip.ParseAddr(q.Source); err != nil {
			return api.Decision{}, access.Invalid("the source %q is not an IP address", clipped(q.Source))
		}
	}
	if q.Candidate != nil {
		leave, err := s.mayProve(by)
		if err != nil {
			return api.Decision{}, err
		}
		defer leave()
		if w.Candidate, err = candidate(*q.Candidate); err != nil {
			return api.Decision{}, err
		}
	}
	x, err := s.c.Broker.Explain(ctx, by, w)
	if err != nil {
		return api.Decision{}, err
	}
	d := x.Decision
	return api.Decision{
		ID: d.ID, Allow: d.Allow, Role: d.Role, Rule: d.Rule, RuleText: x.Rule, MaxDurationSeconds: seconds(d.MaxDuration),
		Approvals: each(d.Approvals, func(n policy.Need) api.ApproverNeed {
			return api.ApproverNeed{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: n.EscalateSeconds, EscalateTo: n.EscalateTo}
		}),
		Reasons: each(d.Reasons, func(r policy.Reason) api.RuleReason { return api.RuleReason(r) }),
		Session: api.SessionRules(d.Rules), SessionTerms: x.Terms,
		MFAWithinSeconds: seconds(d.MFAWithin), BreakGlass: d.BreakGlass, InputHash: d.InputHash, PolicyDigest: d.PolicyDigest, DataDigest: d.DataDigest,
		Ways: each(x.Ways, func(set []policy.Change) api.PolicyWay {
			return api.PolicyWay{Changes: each(set, func(c policy.Change) api.PolicyChange { return api.PolicyChange(c) })}
		}),
	}, nil
}

func apiWay(a broker.Access) api.AccessWay {
	return api.AccessWay{
		Path: list(a.Path), Role: a.Role, Rule: a.Rule, RuleText: a.Text, Allowed: a.Allowed,
		Approvals:          each(a.Needs, approverNeed),
		MaxDurationSeconds: seconds(a.Longest), BreakGlass: a.BreakGlass, Standing: a.Standing, Missing: list(a.Missing),
		Count: a.Count, People: a.People, Targets: a.Targets,
	}
}

// list is never null in JSON.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func (s *Server) whoCan(ctx context.Context, by access.Caller, in *struct {
	Target  string `query:"target" required:"true" maxLength:"64"`
	Account string `query:"account" required:"true" maxLength:"64"`
}) (api.WhoCan, error) {
	w, err := s.c.Broker.WhoCan(ctx, by, in.Target, in.Account)
	return apiWhoCan(w), err
}

func apiWhoCan(w broker.WhoCan) api.WhoCan {
	return api.WhoCan{
		Target: w.Target, Account: w.Account, Users: w.Users, Beside: list(w.Beside),
		Ways: each(w.Ways, apiWay),
		Holders: each(w.Holders, func(h broker.Holder) api.AccessHolder {
			return api.AccessHolder{User: h.Name, Request: h.Request, Until: h.Until.UTC()}
		}),
	}
}

func (s *Server) canReach(ctx context.Context, by access.Caller, in *struct {
	User string `query:"user" required:"true" maxLength:"64"`
}) (api.List[api.AccessWay], error) {
	ways, err := s.c.Broker.CanReach(ctx, by, in.User)
	return api.List[api.AccessWay]{Items: each(ways, apiWay)}, err
}

func (s *Server) testPolicy(ctx context.Context, by access.Caller, in *struct{ Body api.Candidate }) (api.PolicyTest, error) {
	leave, err := s.mayProve(by)
	if err != nil {
		return api.PolicyTest{}, err
	}
	defer leave()
	c, err := candidate(in.Body)
	if err == nil && c.Files == nil {
		err = access.Invalid("there is no bundle to test")
	}
	if err != nil {
		return api.PolicyTest{}, err
	}
	v, err := s.c.Broker.TestPolicy(ctx, by, c)
	if err != nil {
		return api.PolicyTest{}, err
	}
	return APITest(v, bundles.New(c.Files).Digest), nil
}

// APITest is a verdict as it is shown. content is the digest of the bundle's files.
func APITest(v policy.Verdict, content string) api.PolicyTest {
	out := api.PolicyTest{
		Content: content, Rules: v.Report.Rules, Untested: list(v.Report.Untested), Problems: list(v.Problems),
		Tests: each(v.Report.Tests, func(t policy.TestResult) api.PolicyTestResult {
			r := api.PolicyTestResult{Name: t.Name, At: t.File, Passed: t.Err == nil, Failed: t.Failed, FailedAt: t.FailedAt}
			if t.Err != nil {
				r.Error = t.Err.Error()
			}
			return r
		}),
	}
	if v.Program != nil {
		out.Digest = v.Program.Digest()
	}
	return out
}

func apiReplay(r broker.PolicyReplay) api.PolicyReplay {
	return api.PolicyReplay{
		Looked: r.Looked, Flipped: r.Flipped, From: when(r.From), Until: when(r.Until), Partial: r.Partial, Doubtful: list(r.Doubtful),
		Flips: each(r.Flips, func(g broker.FlipGroup) api.PolicyFlip {
			return api.PolicyFlip{
				Kind: g.Kind, Action: g.Action, Was: g.Was, Now: g.Now, Text: g.Text, Count: g.Count,
				Of: each(g.Flips, func(f broker.Flip) api.FlippedDecision {
					return api.FlippedDecision{ID: f.Decision, At: f.At.UTC(), User: f.User, Account: f.Account, Target: f.Target, Text: f.Text}
				}),
			}
		}),
	}
}

// prepared is a candidate that may be asked, with the end of the asking.
func (s *Server) prepared(by access.Caller, in api.ReplayInput) (broker.Candidate, time.Time, func(), error) {
	leave, err := s.mayProve(by)
	if err != nil {
		return broker.Candidate{}, time.Time{}, nil, err
	}
	c, err := candidate(in.Candidate)
	if err == nil && c.Files == nil && c.Roles == nil {
		err = access.Invalid("there is neither a bundle nor roles to ask")
	}
	if err != nil {
		leave()
		return c, time.Time{}, nil, err
	}
	return c, in.Since, leave, nil
}

func (s *Server) replayPolicy(ctx context.Context, by access.Caller, in *struct{ Body api.ReplayInput }) (api.PolicyReplay, error) {
	c, since, leave, err := s.prepared(by, in.Body)
	if err != nil {
		return api.PolicyReplay{}, err
	}
	defer leave()
	r, err := s.c.Broker.ReplayPolicy(ctx, by, c, since)
	return apiReplay(r), err
}

func (s *Server) diffPolicy(ctx context.Context, by access.Caller, in *struct{ Body api.ReplayInput }) (api.PolicyDiff, error) {
	c, since, leave, err := s.prepared(by, in.Body)
	if err != nil {
		return api.PolicyDiff{}, err
	}
	defer leave()
	d, err := s.c.Broker.DiffPolicy(ctx, by, c, since)
	return apiDiff(d), err
}

func apiDiff(d broker.PolicyDiff) api.PolicyDiff {
	return api.PolicyDiff{From: d.From, To: d.To, Roles: list(d.Roles), Replay: apiReplay(d.Replay)}
}
