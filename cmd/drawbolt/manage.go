package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// onboarded is what became of one of many accounts.
type onboarded struct {
	Account string       `json:"account"`
	Target  string       `json:"target"`
	ID      string       `json:"id,omitempty"`
	State   string       `json:"state"` // "managed", "changed", "would be managed", "managed already", "failed"
	Problem *api.Problem `json:"problem,omitempty"`
}

// many picks accounts that scans have found, to be managed together.
type many struct {
	picked inventoryFlags
	labels []string
	owner  string
	dry    bool
}

func (m *many) add(c *cli, cmd *cobra.Command) {
	m.picked.add(c, cmd)
	f := cmd.Flags()
	f.StringSliceVar(&m.labels, "label", nil, "only on targets with this `name=value`: environment, tier, criticality or owner; may be repeated")
	f.StringVar(&m.owner, "owner-to", "", "`user` whose they are from now on")
	f.BoolVar(&m.dry, "dry-run", false, "only say of each whether it would be taken over, and otherwise why not")
}

// given says that accounts are picked out of what scans have found, and not named as one.
func (m *many) given(cmd *cobra.Command, args []string) bool {
	return len(args) != 1 || m.picked.given(cmd) || cmd.Flags().Changed("label") || cmd.Flags().Changed("owner-to") || m.dry
}

// find returns the accounts that are meant.
func (m *many) find(ctx context.Context, c *cli, cl *api.Client, cmd *cobra.Command, args []string) (list []api.FoundAccount, err error) {
	picks := m.picked.given(cmd) || len(m.labels) > 0
	if len(args) > 0 == picks {
		return nil, usage("name accounts, or pick them with --account-class, --target, --risk, --owner or --label")
	}
	for _, arg := range args {
		account, target, err := splitAccount(arg)
		if err != nil {
			return nil, err
		}
		list = append(list, api.FoundAccount{ID: arg, Name: account, Target: target})
	}
	if len(args) > 0 {
		return list, nil
	}
	f := m.picked.f
	pattern := strings.ContainsAny(f.Target, `*?[\`)
	var targets map[string]bool // nil: any
	if pattern || len(m.labels) > 0 {
		if targets, err = m.targets(ctx, c, first(f.Target, "*")); err != nil {
			return nil, err
		}
	}
	if pattern {
		f.Target = ""
	}
	if list, err = c.inventory(ctx, cl, f); err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(a api.FoundAccount) bool { return a.GoneAt != nil || targets != nil && !targets[a.Target] })
	if len(list) == 0 {
		return nil, &failure{code: exitNotFound, text: "no scan has found such accounts", next: "drawbolt account ls --found"}
	}
	return list, nil
}

// targets are the names of those that have all labels.
func (m *many) targets(ctx context.Context, c *cli, pattern string) (map[string]bool, error) {
	var want api.Labels
	if err := setLabels(&want, m.labels); err != nil {
		return nil, err
	}
	all, err := c.targetsLike(ctx, pattern)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	has := func(want, is string) bool { return want == "" || want == is }
	for _, t := range all {
		l := t.Labels
		names[t.Name] = has(want.Environment, l.Environment) && has(want.Tier, l.Tier) && has(want.Criticality, l.Criticality) && has(want.Owner, l.Owner)
	}
	return names, nil
}

// managedAtOnce is how many accounts are taken over side by side.
const managedAtOnce = 4

// manageMany takes accounts over and has their passwords changed, or their keys: each by
// itself, whatever becomes of the others.
func (c *cli) manageMany(ctx context.Context, cl *api.Client, list []api.FoundAccount, in api.OnboardInput, wait string) error {
	var long time.Duration
	var err error
	if wait != "" {
		if long, err = parseDuration(wait); err != nil {
			return err
		}
	}
	if !in.DryRun {
		for _, a := range list {
			c.say("  %s@%s", a.Name, a.Target)
		}
		if err := c.confirm(fmt.Sprintf("Take these %d accounts over, and have their passwords changed?", len(list))); err != nil {
			return err
		}
	}
	results := make([]onboarded, len(list))
	var mu sync.Mutex // guards done
	done := 0
	places := make(chan struct{}, managedAtOnce)
	var all sync.WaitGroup
	for i, a := range list {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			results[i] = onboardOne(ctx, cl, a, in)
			mu.Lock()
			defer mu.Unlock()
			done++
			c.say("  %d of %d  %s@%s: %s", done, len(list), a.Name, a.Target, results[i].text())
		})
	}
	all.Wait()
	if long > 0 && !in.DryRun {
		c.awaitChanges(ctx, cl, results, long)
	}
	failed, pending := 0, 0
	for _, r := range results {
		switch r.State {
		case "failed":
			failed++
		case "managed":
			pending++
		}
	}
	if ok, err := c.emit(results); err != nil {
		return err
	} else if !ok {
		c.onboardTable(results)
	}
	switch {
	case failed > 0:
		return &failure{code: exitError, text: fmt.Sprintf("%d of %d accounts failed; the others are not touched by that", failed, len(list)), next: "drawbolt account manage --dry-run ..."}
	case pending > 0 && long > 0:
		return &failure{code: exitPending, text: fmt.Sprintf("of %d accounts it is not changed yet what they log in with", pending), next: "drawbolt account show " + list[0].Name + "@" + list[0].Target}
	}
	return nil
}

func (r onboarded) text() string {
	if r.Problem != nil && r.State == "failed" {
		return r.Problem.Error()
	}
	return r.State
}

func (c *cli) onboardTable(list []onboarded) {
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.Account + "@" + r.Target, r.State, problemText(r.Problem)})
	}
	c.table("", []string{"ACCOUNT", "STATE", "WHY NOT"}, rows)
}

func problemText(p *api.Problem) string {
	if p == nil {
		return "-"
	}
	return strings.TrimSpace(p.Error() + " " + p.Code)
}

// onboardOne takes one account over, and waits where the server is asked too much.
func onboardOne(ctx context.Context, cl *api.Client, a api.FoundAccount, in api.OnboardInput) onboarded {
	r := onboarded{Account: a.Name, Target: a.Target, ID: a.ID}
	for {
		f, err := cl.OnboardAccount(ctx, a.ID, in)
		p := api.AsProblem(err)
		switch {
		case err == nil:
			r.ID, r.State = f.ID, "managed"
			if in.DryRun {
				r.State = "would be managed"
			}
		case p != nil && p.Code == "DB-6504":
			r.State = "managed already"
		case p != nil && p.Status == http.StatusTooManyRequests:
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
				continue
			}
			fallthrough
		default:
			if p == nil {
				p = &api.Problem{Title: "no answer", Detail: err.Error()}
			}
			r.State, r.Problem = "failed", p
		}
		return r
	}
}

// awaitChanges waits until what was taken over is changed, or has failed.
func (c *cli) awaitChanges(ctx context.Context, cl *api.Client, results []onboarded, long time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	for {
		waiting := 0
		asked := map[string]map[string]api.Password{}
		for i := range results {
			r := &results[i]
			if r.State != "managed" || ctx.Err() != nil {
				continue
			}
			if asked[r.Target] == nil {
				asked[r.Target] = map[string]api.Password{}
				list, err := cl.Passwords(ctx, r.Target)
				for _, p := range list.Items {
					asked[r.Target][p.Account] = p
				}
				if p := api.AsProblem(err); p != nil {
					r.State, r.Problem = "failed", p
					continue
				}
			}
			name, _, _ := strings.Cut(strings.ToLower(r.Account), "@") // as it is called here
			switch p := asked[r.Target][name]; {
			case p.State == "failing":
				r.State, r.Problem = "failed", &api.Problem{Title: "it could not be changed", Detail: "what it logs in with could not be changed yet: " + p.Problem, Next: "drawbolt account show " + r.Account + "@" + r.Target}
			case p.ChangedAt != nil && p.State != "working" && p.Cause != "taken over":
				r.State = "changed"
			default:
				waiting++
				continue
			}
			c.say("  %s@%s: %s", r.Account, r.Target, r.text())
		}
		if waiting == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(4 * askEvery):
		}
	}
}
