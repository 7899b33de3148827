package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type requestOptions struct {
	target, account string
	length, reason  string
	start           string
	breakGlass      bool
	noWait          bool
}

func (c *cli) requestCmd() *cobra.Command {
	var o requestOptions
	cmd := &cobra.Command{
		Use:   "request [ACCOUNT@]TARGET --as ACCOUNT --reason TEXT",
		Short: "Ask for access, and wait for the decision",
		Long: `Ask for an account on a target and wait until somebody has decided. Ctrl-C stops
the waiting, not the request. The id of the request goes to stdout.

Exit codes: 0 approved, 3 denied, 5 nobody decided in time, 8 still pending
(--no-wait).`,
		Example: `  drawbolt request db01 --as root --for 1h --reason "INC-1234 replication lag"
  drawbolt request root@db01 --reason "CHG-77" --no-wait --json=id,state,url`,
		Args:              between(1, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.setTarget(args[0]); err != nil {
				return err
			}
			return c.runRequest(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.account, "as", "", "the `account`; may be left out when there is only one")
	f.StringVar(&o.length, "for", "", "for how long: a `duration` like 30m, 1h or 1h30m")
	f.StringVar(&o.reason, "reason", "", "why: an incident or change number and what you will do (DRAWBOLT_REASON)")
	f.StringVar(&o.start, "start", "", "not before this `time`: 2026-03-01T09:00:00Z, 09:00 or +2h")
	f.BoolVar(&o.breakGlass, "break-glass", false, "emergency: take it without approval; everybody is told and it is reviewed")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait; exit 8 while it is pending")
	cmd.RegisterFlagCompletionFunc("as", c.completeAccounts)
	cmd.AddCommand(c.requestEditCmd())
	return cmd
}

func (c *cli) runRequest(ctx context.Context, o requestOptions) error {
	in := api.RequestInput{Target: o.target, Account: o.account, BreakGlass: o.breakGlass}
	var err error
	if in.DurationSeconds, err = seconds(o.length); err != nil {
		return err
	}
	if o.start != "" {
		at, err := parseMoment(o.start, c.now())
		if err != nil {
			return err
		}
		at = at.UTC()
		in.Start = &at
	}
	cl, _, err := c.client(api.Request{})
	if err != nil {
		return err
	}
	if in.Account == "" {
		if in.Account, err = c.onlyAccount(ctx, cl, o.target); err != nil {
			return err
		}
	}
	if in.Reason, err = c.reason(o.reason); err != nil {
		return err
	}
	// waiting is bounded by the deadline of the request, or by --timeout
	limit := time.Duration(0)
	if c.timeout != "" {
		limit = cl.Timeout
		cl.Timeout = 0
	}
	r, err := cl.Request(ctx, in)
	if err != nil {
		return err
	}
	c.showAsked(&r)
	if r.State == api.Pending && !o.noWait {
		if r, err = c.wait(ctx, cl, r, limit); err != nil {
			return err
		}
	}
	if c.quiet && c.json == "" {
		c.print("%s", r.ID)
	}
	return c.concludeRequest(&r, !o.noWait)
}

// onlyAccount returns the account that is meant when none is named.
func (c *cli) onlyAccount(ctx context.Context, cl *api.Client, target string) (string, error) {
	t, err := cl.FindTarget(ctx, target)
	if err != nil {
		return "", err
	}
	var may []string
	for _, a := range t.Accounts {
		if a.Usable || a.MayAsk {
			may = append(may, a.Name)
		}
	}
	switch len(may) {
	case 1:
		return may[0], nil
	case 0:
		return "", &failure{code: exitDenied, text: "there is no account on " + target + " that you may ask for", next: "drawbolt ls"}
	default:
		e := usage("which account? You can ask for %s@%s", strings.Join(may, "@"+target+", "), target)
		e.next = "drawbolt request " + target + " --as " + may[0]
		return "", e
	}
}

// reason takes the reason from the flag, the environment or the person.
func (c *cli) reason(flag string) (string, error) {
	r := first(flag, c.env("DRAWBOLT_REASON"))
	if r == "" && c.interactive() {
		var err error
		if r, err = c.ask("Reason (incident or change number, and what you will do): "); err != nil {
			return "", err
		}
	}
	if r = strings.TrimSpace(r); r == "" {
		e := usage("a reason is needed")
		e.next = `--reason "INC-1234 what you will do", or DRAWBOLT_REASON`
		return "", e
	}
	return r, nil
}

// showAsked prints what was asked for and who may answer.
func (c *cli) showAsked(r *api.Request) {
	if c.json == "" && !c.quiet {
		c.print("%s  %s@%s  %s  %s", r.ID, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Reason)
	}
	if r.State != api.Pending {
		return
	}
	c.showPolicy(r)
	if r.URL != "" {
		c.say("  link     %s", r.URL)
	}
}

// showPolicy says whose approval is needed, who is asked now, and who will be.
func (c *cli) showPolicy(r *api.Request) {
	if r.Policy.Rule != "" {
		c.say("  policy   %s: %s", r.Policy.Rule, need(r.Needs))
	}
	if len(r.Waiting) > 0 {
		c.say("  asked    %s", strings.Join(r.Waiting, ", "))
	} else {
		c.say("  asked    nobody who may approve it is known")
	}
	if r.EscalatesAt != nil {
		c.say("  then     @%s from %s, if nobody has decided", strings.Join(r.EscalateTo, ", @"), c.when(*r.EscalatesAt))
	}
}

// concludeRequest prints how the request stands and ends with its exit code.
// waited says that the command was to wait for a decision.
func (c *cli) concludeRequest(r *api.Request, waited bool) error {
	if ok, err := c.emit(*r); ok && err != nil {
		return err
	}
	code := requestCode(r)
	if r.State == api.Pending && waited {
		code = exitExpired
	}
	text, next := c.verdict(r)
	switch {
	case code == 0:
		c.done("%s", text)
		if next != "" {
			c.next("%s", next)
		}
		return nil
	case code == exitPending:
		c.say("%s %s", "•", text)
		c.next("%s", next)
		return silent(code)
	default:
		return &failure{code: code, text: text, next: next}
	}
}

// verdict is the sentence for where a request stands, and what to type next.
func (c *cli) verdict(r *api.Request) (text, next string) {
	what := r.Account + "@" + r.Target
	again := fmt.Sprintf("drawbolt request %s --as %s", r.Target, r.Account)
	switch r.State {
	case api.Pending:
		text = r.ID + " is pending until " + c.when(r.ExpiresAt)
		if len(r.Waiting) > 0 {
			text += ": " + strings.Join(r.Waiting, ", ") + " may decide"
		}
		return text, "drawbolt status " + r.ID + " --wait"
	case api.Denied:
		text = fmt.Sprintf("%s was denied by %s", r.ID, first(r.DecidedBy, "somebody"))
		if r.Note != "" {
			text += fmt.Sprintf(": “%s”", r.Note)
		}
		return text, again
	case api.Cancelled:
		return fmt.Sprintf("%s was cancelled by %s", r.ID, first(r.DecidedBy, "its requester")), again
	case api.Expired:
		text = fmt.Sprintf("nobody decided about %s before %s", r.ID, c.when(r.ExpiresAt))
		if len(r.Waiting) > 0 {
			text += "; asked were " + strings.Join(r.Waiting, ", ")
		}
		return text, again
	case api.Approved:
	default:
		return fmt.Sprintf("%s is %s", r.ID, r.State), "drawbolt status " + r.ID
	}
	for _, a := range r.Approvals {
		c.say("  approved by %s%s%s", a.User, narrowed(&a), quoted(a.Comment))
	}
	g := r.Grant
	if g == nil {
		return r.ID + " is approved", "ssh " + what
	}
	switch g.State {
	case api.Active:
		if g.Start == nil {
			text = fmt.Sprintf("%s is yours: %s from the first connection, which must come before %s", what, formatSeconds(g.DurationSeconds), c.when(g.ActivateBy))
		} else {
			text = fmt.Sprintf("%s is yours until %s (%s)", what, c.when(g.End), r.ID)
		}
		return text, "ssh " + what
	case api.Scheduled:
		text = what + " will be yours"
		if r.Start != nil {
			text += " from " + c.when(*r.Start)
		}
		return text, "drawbolt status " + r.ID
	default:
		text = fmt.Sprintf("the grant of %s is over: %s at %s", r.ID, first(g.EndReason, "ended"), c.when(g.End))
		if g.EndedBy != "" {
			text += " by " + g.EndedBy
		}
		return text + quoted(g.EndNote), again
	}
}

// quoted writes what a person wrote behind a sentence.
func quoted(s string) string {
	if s == "" {
		return ""
	}
	return ": “" + s + "”"
}
