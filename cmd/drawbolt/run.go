package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type runOptions struct {
	patterns        string
	account         string
	length, reason  string
	ssh             bool
	parallel        int
	partial, giveUp bool
	command         []string
}

// maxParallel bounds how many ssh run at once.
const maxParallel = 50

func (c *cli) runCmd() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run PATTERN[,PATTERN] --as ACCOUNT --reason TEXT [--ssh] -- COMMAND...",
		Short: "Ask for many targets at once, then run a command",
		Long: `Ask for an account on every target that a pattern names, in requests that approvers
see and decide together, wait for them, and then run COMMAND:

  here, once, with an ssh configuration for these targets in its environment: for
  ansible-playbook, rsync and the like (DRAWBOLT_HOSTS, DRAWBOLT_ACCOUNT and
  DRAWBOLT_SSH_CONFIG; ANSIBLE_REMOTE_USER and ANSIBLE_SSH_COMMON_ARGS;
  GIT_SSH_COMMAND and RSYNC_RSH);

  with --ssh on each target, several at a time, each line of output behind the
  name of its target. --json then prints how each one ended, and the output goes
  to stderr.

When one target is not granted nothing is run, unless --partial. Ctrl-C while
waiting leaves the requests open.

Exit codes: that of COMMAND, and with --ssh the highest of all targets, 255 where
ssh failed; 3 denied, 5 nobody decided in time, 6 no such target, 7 a grant ended
while it ran.`,
		Example: `  drawbolt run 'db01,web*' --as deploy --reason CHG-77 -- ansible-playbook site.yml
  drawbolt run 'web*' --as deploy --for 15m --reason CHG-78 --ssh --parallel 5 -- uptime`,
		Args:              between(1, -1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at != 1 || len(args) < 2 {
				return usage("say on what, and behind -- what to run: %s", cmd.UseLine())
			}
			o.patterns, o.command = args[0], args[1:]
			switch {
			case o.account == "":
				return usage("which account? --as ACCOUNT")
			case o.parallel < 1 || o.parallel > maxParallel:
				return usage("--parallel is between 1 and %d", maxParallel)
			case c.json != "" && !o.ssh:
				return usage("--json is for --ssh: what runs here writes its own output")
			}
			return c.runRun(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.account, "as", "", "the `account` on each target")
	f.StringVar(&o.length, "for", "", "for how long: a `duration` like 30m, 1h or 1h30m")
	f.StringVar(&o.reason, "reason", "", "why: an incident or change number and what you will do (DRAWBOLT_REASON)")
	f.BoolVar(&o.ssh, "ssh", false, "run the command on each target, by ssh")
	f.IntVar(&o.parallel, "parallel", 10, "with --ssh, on how many at a `time`")
	f.BoolVar(&o.partial, "partial", false, "run it on those that were granted, even if others were not")
	f.BoolVar(&o.giveUp, "end", false, "give the grants back when it has run")
	cmd.RegisterFlagCompletionFunc("as", c.completeAccounts)
	return cmd
}

func (c *cli) runRun(ctx context.Context, o runOptions) error {
	length, err := seconds(o.length)
	if err != nil {
		return err
	}
	cl, p, err := c.client(outcomeJSON{})
	if err != nil {
		return err
	}
	list, err := cl.Targets(ctx)
	if err != nil {
		return err
	}
	hosts, err := pickTargets(list.Items, o.patterns, o.account)
	if err != nil {
		return err
	}
	reason, err := c.reason(o.reason)
	if err != nil {
		return err
	}
	limit := time.Duration(0)
	if c.timeout != "" {
		limit, cl.Timeout = cl.Timeout, 0
	}
	in := api.RequestInput{Account: o.account, DurationSeconds: length, Reason: reason}
	if len(hosts) > 1 {
		in.Batch = api.NewBatch()
	}
	asked, err := c.askAll(ctx, cl, in, hosts, o.partial)
	if err != nil {
		return err
	}
	c.showAskedAll(p, in, asked)
	if asked, err = c.waitAll(ctx, cl, asked, limit); err != nil {
		return err
	}
	granted, err := c.sift(asked, o.partial)
	if err != nil {
		return err
	}
	config, remove, err := c.runConfig(ctx, cl, p, granted)
	if err != nil {
		return err
	}
	defer remove()
	if o.ssh {
		err = c.runEverywhere(ctx, config, granted, o)
	} else {
		err = c.runHere(ctx, config, granted, o)
	}
	err = c.endedMeanwhile(ctx, cl, granted, err)
	if o.giveUp {
		err = errors.Join(err, c.giveBack(ctx, cl, granted))
	}
	return err
}

// pickTargets returns the names of the targets that the patterns name and on
// which the account may be asked for, sorted. A name without a wildcard must be
// one of them.
func pickTargets(targets []api.Target, patterns, account string) ([]string, error) {
	may := func(t api.Target) bool {
		return plainHost(t.Name) && slices.ContainsFunc(t.Accounts, func(a api.Account) bool { return a.Name == account && (a.Usable || a.MayAsk) })
	}
	var names []string
	for pattern := range strings.SplitSeq(patterns, ",") {
		pattern = strings.TrimSpace(pattern)
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, usage("%q is not a pattern like web* or db0[1-3]", pattern)
		}
		found := false
		for _, t := range targets {
			if ok, _ := path.Match(pattern, t.Name); ok && may(t) {
				names, found = append(names, t.Name), true
			}
		}
		if !found {
			return nil, &failure{code: exitNotFound, text: fmt.Sprintf("there is no target %s with an account %s that you may ask for", pattern, account), next: "drawbolt ls " + pattern}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > api.MaxBatch {
		return nil, usage("%s names %d targets, and at most %d are asked for at once: narrow it, and run it several times", patterns, len(names), api.MaxBatch)
	}
	return names, nil
}

// askAll files a request for each host, or joins what there is. When one is
// refused, and partial is not said, what was filed is taken back.
func (c *cli) askAll(ctx context.Context, cl *api.Client, in api.RequestInput, hosts []string, partial bool) ([]api.Request, error) {
	var asked []api.Request
	for _, host := range hosts {
		in.Target = host
		r, err := cl.Request(ctx, in)
		if p := api.AsProblem(err); partial && p != nil && problemCode(p) == exitDenied {
			c.say("  %s: %v", host, err)
			asked = append(asked, api.Request{Target: host, Account: in.Account, State: api.Denied, DecidedBy: "the policy", Note: p.Detail})
			continue
		}
		if err != nil {
			back := context.WithoutCancel(ctx)
			for _, r := range asked {
				if r.State == api.Pending && r.Batch == in.Batch && in.Batch != "" {
					if _, err := cl.Cancel(back, r.ID); err != nil {
						c.say("  %s stays open: %v", r.ID, err)
					}
				}
			}
			return nil, fmt.Errorf("ask for %s@%s: %w", in.Account, host, err)
		}
		asked = append(asked, r)
	}
	return asked, nil
}

// showAskedAll says what was asked for, and who may answer.
func (c *cli) showAskedAll(p *profile, in api.RequestInput, asked []api.Request) {
	pending := 0
	var who []string
	for _, r := range asked {
		if r.State == api.Pending {
			pending++
			who = append(who, r.Waiting...)
		}
	}
	slices.Sort(who)
	who = slices.Compact(who)
	batch := in.Batch
	if batch != "" && !slices.ContainsFunc(asked, func(r api.Request) bool { return r.Batch == batch }) {
		batch = asked[0].Batch // there were requests already
	}
	c.say("%s  %s on %s  %s", first(batch, asked[0].ID), in.Account, countTargets(len(asked)), in.Reason)
	if pending == 0 {
		return
	}
	c.say("  pending  %d of %d", pending, len(asked))
	c.say("  asked    %s", first(strings.Join(who, ", "), "nobody who may approve it is known"))
	switch {
	case batch != "":
		c.say("  link     %s/batch/%s", p.Server, batch)
	case asked[0].URL != "":
		c.say("  link     %s", asked[0].URL)
	}
	if batch != "" {
		c.say("  status   drawbolt status %s", batch)
	}
}

func countTargets(n int) string {
	if n == 1 {
		return "one target"
	}
	return fmt.Sprintf("%d targets", n)
}

// pollMany is how long the server holds a question while several requests are
// pending: the others are asked about in between.
const pollMany = 3 * time.Second

// waitAll waits until none of the requests is pending, or limit has passed (0:
// none; they expire). It says what happens to each.
func (c *cli) waitAll(ctx context.Context, cl *api.Client, list []api.Request, limit time.Duration) ([]api.Request, error) {
	isOpen := func(r api.Request) bool { return r.State == api.Pending }
	if !slices.ContainsFunc(list, isOpen) {
		return list, nil
	}
	began := c.now()
	stop := c.ticker(ctx, began)
	defer func() { stop() }()
	for failures := 0; ; {
		waiting := slices.IndexFunc(list, isOpen)
		if waiting < 0 || limit > 0 && c.now().Sub(began) >= limit {
			return list, nil
		}
		hold := pollMany
		if limit > 0 {
			hold = min(hold, max(limit-c.now().Sub(began), time.Second))
		}
		changed, err := c.lookAll(ctx, cl, list, waiting, hold)
		switch {
		case ctx.Err() != nil:
			stop()
			id := first(list[waiting].Batch, list[waiting].ID)
			return list, &failure{code: exitInterrupt, cause: ctx.Err(), text: id + " stays open", next: "drawbolt status " + id + " --wait    or    drawbolt cancel " + id}
		case err != nil:
			// The server may be starting anew; the requests are safe there.
			if p := api.AsProblem(err); p != nil && p.Status < 500 || api.Untrusted(err) || failures >= 5 {
				return list, err
			}
			failures++
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(failures) * time.Second):
			}
			continue
		}
		failures = 0
		if len(changed) == 0 {
			continue
		}
		stop()
		for _, i := range changed {
			r := list[i]
			switch by := ""; r.State {
			case api.Pending:
				c.say("  %s: %s still needed", r.Target, need(missing(r.Needs)))
			default:
				if r.DecidedBy != "" {
					by = " by " + r.DecidedBy
				}
				c.say("  %s: %s%s%s", r.Target, r.State, by, quoted(r.Note))
			}
		}
		stop = c.ticker(ctx, began)
	}
}

// lookAll looks at each pending request again, at the first of them for as long
// as hold, and returns which have changed.
func (c *cli) lookAll(ctx context.Context, cl *api.Client, list []api.Request, waiting int, hold time.Duration) (changed []int, err error) {
	for i := waiting; i < len(list); i++ {
		if list[i].State != api.Pending {
			continue
		}
		var r api.Request
		if i == waiting {
			r, err = cl.AwaitRequest(ctx, list[i].ID, list[i].Version, hold)
		} else {
			r, err = cl.FindRequest(ctx, list[i].ID)
		}
		if err != nil {
			return changed, err
		}
		if r.Version != list[i].Version || r.State != list[i].State {
			changed = append(changed, i)
		}
		list[i] = r
	}
	return changed, nil
}

// sift returns the requests that were granted. When some were not, and partial
// is not said, it is an error, with the exit code of the first of them.
func (c *cli) sift(list []api.Request, partial bool) ([]api.Request, error) {
	var granted []api.Request
	var not []string
	code := 0
	for _, r := range list {
		n := requestCode(&r)
		if n == 0 && (r.Grant == nil || r.Grant.State != api.Active) {
			n = exitPending // it begins later
		}
		if n == 0 {
			granted = append(granted, r)
			continue
		}
		if n == exitPending {
			n = exitExpired // the wait is over
		}
		if code == 0 {
			code = n
		}
		why := r.State
		if r.DecidedBy != "" {
			why += " by " + r.DecidedBy
		}
		not = append(not, r.Target+" ("+why+quoted(r.Note)+")")
	}
	if len(not) == 0 {
		return granted, nil
	}
	text := fmt.Sprintf("%d of %s not granted: %s", len(not), countTargets(len(list)), strings.Join(not, ", "))
	if len(granted) > 0 && partial {
		c.say("! %s", text)
		return granted, nil
	}
	f := &failure{code: code, text: text + "; nothing was run"}
	if len(granted) > 0 {
		f.next = "the same with --partial, which runs it on the others; their grants stay open until they lapse"
	}
	return nil, f
}

// endedMeanwhile says 7 for a command that failed when a grant had ended.
func (c *cli) endedMeanwhile(ctx context.Context, cl *api.Client, granted []api.Request, err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.code == exitInterrupt || ctx.Err() != nil {
		return err
	}
	for _, r := range granted {
		now, ferr := cl.FindRequest(ctx, r.ID)
		if ferr == nil && now.Grant != nil && now.Grant.State == api.Ended {
			text, next := c.verdict(&now)
			return &failure{code: exitEnded, text: text, next: next, cause: err}
		}
	}
	return err
}

// giveBack ends the grants.
func (c *cli) giveBack(ctx context.Context, cl *api.Client, granted []api.Request) error {
	var errs []error
	for _, r := range granted {
		_, err := cl.End(context.WithoutCancel(ctx), r.ID)
		if p := api.AsProblem(err); p != nil && problemCode(p) == exitEnded {
			err = nil // it has ended by itself
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("give %s@%s back: %w", r.Account, r.Target, err))
		}
	}
	if len(errs) == 0 {
		c.done("%d grants were given back", len(granted))
	}
	return errors.Join(errs...)
}
