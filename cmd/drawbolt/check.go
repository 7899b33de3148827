package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// checksAtOnce is how many targets are checked side by side: the server takes
// eight of one person.
const checksAtOnce = 6

func (c *cli) targetCheckCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use: "check TARGET|PATTERN ...", Short: "Try what a session at a target needs, and say what does not hold",
		Long: `Have the server try what a session at a target needs: the name, the port, the host
key, each hop on the way, a login with a certificate as each account, and, where the
target has a provisioner, its tools, the clock and the list of revoked certificates.
At accounts of people it logs in and runs nothing. It needs the right to change the
target, and each check stands in the audit log.

Exit code: 0 when nothing failed, 1 when something did, 6 when there is no such target.`,
		Example:           "  drawbolt target check db01\n  drawbolt target check 'web*' db01 --account deploy --json",
		Args:              between(1, -1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.checkFields([]api.TargetCheck{}); err != nil {
				return err
			}
			names, err := c.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			return c.checkAll(cmd.Context(), names, account)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "`name` of the only account to try; default all")
	return cmd
}

// named returns the targets that the arguments name, each once.
func (c *cli) named(ctx context.Context, args []string) ([]string, error) {
	var names []string
	for _, arg := range args {
		if !strings.ContainsAny(arg, `*?[\`) {
			names = append(names, arg) // the server says whether there is one
			continue
		}
		found, err := c.targetsLike(ctx, arg)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, &failure{code: exitNotFound, text: "no target is like " + arg, next: "drawbolt target ls"}
		}
		for _, t := range found {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (c *cli) checkAll(ctx context.Context, names []string, account string) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	if cl.Timeout == 0 {
		cl.Timeout = time.Minute
	}
	results, errs := make([]api.TargetCheck, len(names)), make([]error, len(names))
	places := make(chan struct{}, checksAtOnce)
	var all sync.WaitGroup
	var mu sync.Mutex // of what follows
	finished := 0
	for i, name := range names {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			results[i], errs[i] = checkOne(ctx, cl, name, account)
			mu.Lock()
			defer mu.Unlock()
			if finished++; c.errTTY && len(names) > 1 {
				c.say("%d of %d: %s", finished, len(names), name)
			}
		})
	}
	all.Wait()
	return c.showChecks(names, results, errs)
}

// checkOne checks a target, and waits where the server has to do with others.
func checkOne(ctx context.Context, cl *api.Client, name, account string) (api.TargetCheck, error) {
	for {
		r, err := cl.CheckTarget(ctx, name, api.CheckInput{Account: account})
		if p := api.AsProblem(err); p == nil || p.Status != http.StatusTooManyRequests {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// showChecks prints what was found. A target that could not be checked is an
// error, the first of which ends the command.
func (c *cli) showChecks(names []string, results []api.TargetCheck, errs []error) error {
	done := []api.TargetCheck{}
	passed := true
	var failed error
	for i := range names {
		if errs[i] == nil {
			done = append(done, results[i])
			passed = passed && results[i].Passed
			continue
		}
		if failed == nil {
			failed = errs[i]
		}
		if len(names) > 1 {
			c.say("%s: %v", names[i], errs[i])
		}
	}
	if ok, err := c.emit(done); err != nil {
		return err
	} else if !ok {
		for _, r := range done {
			c.print("%s", r.Target)
			for _, s := range r.Steps {
				c.showStep(r.Target, s)
			}
		}
	}
	if failed == nil && !passed {
		return silent(exitError)
	}
	return failed
}

func (c *cli) showStep(target string, s api.CheckStep) {
	what := s.Step
	if s.Account != "" {
		what += " " + s.Account
	}
	if s.Target != target {
		what += " at " + s.Target
	}
	word := s.State
	if s.State == api.CheckFailed {
		word = "FAILED"
	}
	c.print("  %-8s%-22s %s", word, what, s.Detail)
	if s.Next != "" && s.State == api.CheckFailed {
		c.print("          Next: %s", s.Next)
	}
}
