package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A PolicyOrigin says where a bundle came from.
type PolicyOrigin struct {
	Source  string // its path; "" is the one in the program
	Content string // digest over all of its files, tests included
	Commit  string // of the git checkout, as that says
	Signer  string // name of the key that has signed it; "" when none had to
}

// ProvePolicy says whether a bundle may be put into service; see policy.Prove. tests
// are the roles of the bundle's tests. The roles that are in force are read from db.
func ProvePolicy(ctx context.Context, db *store.DB, files map[string][]byte, tests policy.Data) (policy.Verdict, error) {
	data, err := readPolicyData(ctx, db)
	if err != nil {
		return policy.Verdict{}, err
	}
	return policy.Prove(ctx, files, tests, data)
}

// UsePolicy puts a bundle into service that has been proven: on record first, then it
// decides, and then every session here is asked for again and ends if it is no longer
// allowed. A bundle by which this server decided before, as the database knows, is no
// event.
func (b *Broker) UsePolicy(ctx context.Context, p *policy.Program, o PolicyOrigin) error {
	was, err := b.c.Store.PolicyServer(ctx, b.c.Node)
	known := err == nil
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return err
	}
	row := store.PolicyServer{Node: b.c.Node, Digest: p.Digest(), Content: o.Content, Revision: o.Commit, Signer: o.Signer, Source: o.Source, LoadedAt: b.now(), SeenAt: b.now()}
	switch {
	case known && was.Digest == row.Digest && was.Content == row.Content && was.Revision == row.Revision && was.Signer == row.Signer:
		row.LoadedAt = was.LoadedAt
		err = b.c.Store.SetPolicyServer(ctx, &row)
	case !known && o.Source == "": // the first start of a server, with the bundle in the program
		err = b.c.Store.SetPolicyServer(ctx, &row)
	default:
		e := b.policyEvent("policy.load", o)
		detail(&e, "policy", row.Digest)
		detail(&e, "before", was.Digest)
		err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) { return e, tx.SavePolicyServer(ctx, &row) })
	}
	if err != nil {
		return fmt.Errorf("put the policy bundle on record: %w", err)
	}
	if b.c.Policy.Digest() == p.Digest() {
		return nil
	}
	b.c.Policy.Use(p)
	b.cut(ctx, func(*Live) bool { return true })
	b.cutWatchers(ctx)
	return nil
}

// PolicyRefused puts on record that a bundle was not put into service, and why. The one
// that decides stays. The same again is no further event.
func (b *Broker) PolicyRefused(ctx context.Context, o PolicyOrigin, why string) error {
	why = audit.Clean(why, audit.MaxReason)
	row, err := b.c.Store.PolicyServer(ctx, b.c.Node)
	switch {
	case errors.Is(err, access.ErrNotFound):
		row = store.PolicyServer{Node: b.c.Node, Digest: b.c.Policy.Digest(), LoadedAt: b.now(), SeenAt: b.now()}
	case err != nil:
		return err
	case row.Refused == why:
		return nil
	}
	row.Refused, row.RefusedAt = why, b.now()
	e := b.policyEvent("policy.refused", o)
	e.Reason, e.Outcome = why, audit.Refused
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) { return e, tx.SavePolicyServer(ctx, &row) })
}

func (b *Broker) policyEvent(action string, o PolicyOrigin) audit.Event {
	e := event(access.System(), action, b.c.Node)
	detail(&e, "source", o.Source)
	detail(&e, "content", o.Content)
	detail(&e, "commit", o.Commit)
	detail(&e, "signer", o.Signer)
	return e
}

// TellPolicy notes that this server still decides by what it has said, and forgets
// decisions that are older than so long, and what is beyond the newest million.
func (b *Broker) TellPolicy(ctx context.Context, keep time.Duration) error {
	if err := b.c.Store.SeePolicyServer(ctx, b.c.Node); err != nil {
		return err
	}
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = b.c.Store.PruneDecisions(ctx, b.now().Add(-keep), maxDecisions); err != nil {
			return err
		}
	}
	return nil
}

const (
	maxDecisions = 1_000_000
	// policySeen is for how long a server counts as running after it has said by which
	// bundle it decides, which it does each minute.
	policySeen = 5 * time.Minute
)

// A PolicyView is the policy as people read it.
type PolicyView struct {
	Digest, DataDigest string
	Roles              []PolicyRole
	Servers            []PolicyServer // those that run, and this one
	Node               string         // this one
	Files              []policy.File  // of the bundle by which this one decides
}

// A PolicyServer says by which bundle a server decides.
type PolicyServer = store.PolicyServer

// A PolicyRole is a role in words.
type PolicyRole struct {
	Name    string
	Members string
	Rules   []PolicyRule
}

// A PolicyRule is a rule in words.
type PolicyRule struct{ ID, Text string }

// ShowPolicy returns the roles in sentences, and by which bundles the servers decide.
func (b *Broker) ShowPolicy(ctx context.Context, by access.Caller) (PolicyView, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionPolicyRead, by: by}, event(by, "policy.show", "")); err != nil {
		return PolicyView{}, err
	}
	data, err := readPolicyData(ctx, b.c.Store)
	if err != nil {
		return PolicyView{}, err
	}
	program := b.c.Policy.Program()
	v := PolicyView{Digest: program.Digest(), DataDigest: b.c.Policy.DataDigest(), Node: b.c.Node, Files: program.Files()}
	for _, r := range data.Roles {
		role := PolicyRole{Name: r.Name, Members: r.Members()}
		for _, rule := range r.Rules {
			role.Rules = append(role.Rules, PolicyRule{rule.ID, rule.Sentence()})
		}
		v.Roles = append(v.Roles, role)
	}
	v.Servers, err = b.runningPolicies(ctx)
	return v, err
}

// runningPolicies are those of the servers that run.
func (b *Broker) runningPolicies(ctx context.Context) (list []PolicyServer, err error) {
	all, err := b.c.Store.PolicyServers(ctx)
	here := false
	for _, s := range all {
		here = here || s.Node == b.c.Node
		if s.Node == b.c.Node || s.SeenAt.After(b.now().Add(-policySeen)) {
			list = append(list, s)
		}
	}
	if !here { // it has not said so yet
		list = append(list, PolicyServer{Node: b.c.Node, Digest: b.c.Policy.Digest(), LoadedAt: b.now(), SeenAt: b.now()})
	}
	return list, err
}

// A PolicyFinding is something about the policy that an operator should look at.
type PolicyFinding struct{ Text, Next string }

// PolicyFindings are for the doctor, who holds the master key: a bundle that was
// refused, and servers that decide by different ones.
func (b *Broker) PolicyFindings(ctx context.Context) (list []PolicyFinding, err error) {
	servers, err := b.runningPolicies(ctx)
	if err != nil {
		return nil, err
	}
	digests := map[string][]string{}
	for _, s := range servers {
		digests[s.Digest] = append(digests[s.Digest], s.Node)
		if s.Refused != "" {
			list = append(list, PolicyFinding{
				fmt.Sprintf("%s refused its policy bundle on %s and goes on with the one before: %s", s.Node, s.RefusedAt.UTC().Format(time.DateTime), s.Refused),
				"drawboltd policy test FOLDER tells all that is wrong with it",
			})
		}
	}
	if len(digests) > 1 {
		var each []string
		for _, s := range servers {
			each = append(each, s.Node+" by "+short(s.Digest))
		}
		list = append(list, PolicyFinding{"servers of one database decide by different policy bundles: " + strings.Join(each, ", "), "bring the same bundle to each"})
	}
	return list, nil
}

// short is a digest as people compare it.
func short(digest string) string { return digest[:min(len(digest), 12)] }
