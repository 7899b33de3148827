package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// A checkoutJSON is a lease, and what was shown when that is to go to stdout.
type checkoutJSON struct {
	api.Lease
	Secret string `json:"secret,omitempty"`
}

type checkoutOptions struct {
	requestOptions
	show, stdout bool
	clear        string
}

// Bounds of how long a secret stays on the clipboard or the screen.
const (
	clearAfter = 45 * time.Second
	maxClear   = 10 * time.Minute
)

func (c *cli) checkoutCmd() *cobra.Command {
	var o checkoutOptions
	cmd := &cobra.Command{
		Use:   "checkout [[ACCOUNT@]TARGET --as ACCOUNT]",
		Short: "See an account's password and have it for yourself; without a target, who has which",
		Long: `See the password or key of an account, for use where drawbolt is not in between. You
have it alone until you check it in or your access ends; then it is changed, where the
server can. Access is asked for when you have none, as drawbolt request does.

It is shown once. On a terminal it goes to the clipboard without being printed (OSC 52,
which the terminal has to support), and is taken off again after a while. --show prints
it to the terminal instead, on a screen that is left again. --stdout writes it to
stdout, for a pipe. What a clipboard manager, a terminal that logs, or tmux has kept
by then is theirs.

Exit codes: 0 it is yours, 3 denied, 5 nobody decided in time, 7 the grant is over,
8 still pending (--no-wait). Whoever lost it checks it in, and out again.`,
		Example: `  drawbolt checkout db01 --as sa --reason "INC-1234 console only"
  drawbolt checkout sa@db01 --show
  drawbolt checkout postgres@pg01 --stdout | ./restore --password-stdin
  drawbolt checkout --json=user,target,account,until,known`,
		Args:              between(0, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.runLeases(cmd.Context())
			}
			if o.show && o.stdout {
				return usage("--show and --stdout exclude each other")
			}
			if err := o.setTarget(args[0]); err != nil {
				return err
			}
			return c.runCheckout(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.account, "as", "", "the `account`; may be left out when there is only one")
	f.StringVar(&o.reason, "reason", "", "why: an incident or change number and what you will do (DRAWBOLT_REASON); the request's when there is one")
	f.StringVar(&o.length, "for", "", "when access is asked for: for how long, a `duration` like 30m")
	f.BoolVar(&o.breakGlass, "break-glass", false, "emergency: take access without approval; everybody is told and it is reviewed")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait for approval; exit 8 while it is pending")
	f.BoolVar(&o.show, "show", false, "print it to the terminal, once")
	f.BoolVar(&o.stdout, "stdout", false, "write it to stdout, for a pipe")
	f.StringVar(&o.clear, "clear", "", "take it off the clipboard or the screen after this `duration` (45s; at most 10m)")
	cmd.RegisterFlagCompletionFunc("as", c.completeAccounts)
	return cmd
}

// setTarget reads [ACCOUNT@]TARGET.
func (o *requestOptions) setTarget(s string) error {
	o.target = s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		if o.account != "" && o.account != s[:i] {
			return usage("the account is given twice: %s and %s", s[:i], o.account)
		}
		o.account, o.target = s[:i], s[i+1:]
	}
	return nil
}

func (c *cli) runCheckout(ctx context.Context, o checkoutOptions) error {
	// Where it goes is settled before it is shown: it is shown once.
	if !o.stdout && !c.errTTY {
		e := usage("there is no terminal to which it could go")
		e.next = "drawbolt checkout " + o.target + " --stdout | PROGRAM"
		return e
	}
	if term := c.env("TERM"); !o.stdout && !o.show && (term == "dumb" || term == "linux") {
		e := usage("this terminal (TERM=%s) has no clipboard", term)
		e.next = "drawbolt checkout " + o.target + " --show"
		return e
	}
	after := clearAfter
	if o.clear != "" {
		var err error
		if after, err = parseDuration(o.clear); err != nil {
			return err
		}
		if after > maxClear {
			return usage("--clear is at most %s", maxClear)
		}
	}
	cl, _, err := c.client(checkoutJSON{})
	if err != nil {
		return err
	}
	if o.account == "" {
		if o.account, err = c.onlyAccount(ctx, cl, o.target); err != nil {
			return err
		}
	}
	id, err := c.grantFor(ctx, cl, o.requestOptions)
	if err != nil {
		return err
	}
	got, err := cl.Checkout(ctx, id, api.CheckoutInput{Reason: first(o.reason, c.env("DRAWBOLT_REASON"))})
	checkin := "drawbolt checkin " + o.target + " --as " + o.account
	if err != nil {
		if api.AsProblem(err) == nil && !api.Untrusted(err) { // it may have been shown, to nobody
			return &failure{code: exitError, text: "the answer was lost: " + err.Error(), next: checkin + ", then check it out again", cause: err}
		}
		return err
	}
	out := checkoutJSON{Lease: got.Lease}
	if o.stdout {
		out.Secret = got.Secret
	}
	printed, err := c.emit(out)
	if err != nil {
		return err
	}
	l := got.Lease
	c.done("%s@%s is yours alone until %s (%s)", l.Account, l.Target, c.when(l.Until), l.Request)
	if l.Managed {
		c.say("  its %s is changed when you check it in: %s", l.Credential, checkin)
	} else {
		c.say("  the server cannot change its %s: it is marked as known to you until somebody sets another", l.Credential)
		c.next("%s", checkin)
	}
	switch {
	case o.stdout && printed:
		return nil
	case o.stdout:
		_, err := io.WriteString(c.stdout, strings.TrimSuffix(got.Secret, "\n")+"\n")
		return err
	case o.show:
		return c.showOnce(got.Secret, after)
	default:
		return c.copyOnce(got.Secret, after)
	}
}

// grantFor returns the request of the caller's active grant for the account, and asks
// for one when there is none.
func (c *cli) grantFor(ctx context.Context, cl *api.Client, o requestOptions) (string, error) {
	list, err := requests(ctx, cl, api.RequestFilter{Mine: true, State: api.Approved})
	if err != nil {
		return "", err
	}
	for _, r := range list {
		if r.Target == o.target && r.Account == o.account && r.Grant != nil && r.Grant.State == api.Active {
			return r.ID, nil
		}
	}
	in := api.RequestInput{Target: o.target, Account: o.account, BreakGlass: o.breakGlass}
	if in.DurationSeconds, err = seconds(o.length); err != nil {
		return "", err
	}
	if in.Reason, err = c.reason(o.reason); err != nil {
		return "", err
	}
	limit := time.Duration(0) // as for request
	if c.timeout != "" {
		limit, cl.Timeout = cl.Timeout, 0
	}
	r, err := cl.Request(ctx, in)
	if err != nil {
		return "", err
	}
	if r.State == api.Pending {
		c.say("%s  %s@%s  %s  %s", r.ID, r.Account, r.Target, formatSeconds(r.DurationSeconds), r.Reason)
		c.showPolicy(&r)
		if !o.noWait {
			if r, err = c.wait(ctx, cl, r, limit); err != nil {
				return "", err
			}
		}
	}
	if code := requestCode(&r); code != 0 || r.Grant == nil || r.Grant.State != api.Active {
		if r.State == api.Pending && !o.noWait {
			code = exitExpired
		}
		text, next := c.verdict(&r)
		return "", &failure{code: max(code, exitError), text: text, next: next}
	}
	return r.ID, nil
}

// copyOnce puts a secret on the clipboard of the terminal, and another text in its
// place after a while, or at Ctrl-C or Enter. The terminal does not say whether it
// takes it: xterm, "Operating System Commands", 52.
func (c *cli) copyOnce(secret string, after time.Duration) error {
	put := func(s string) {
		fmt.Fprintf(c.stderr, "\x1b]52;c;%s\x07", base64.StdEncoding.EncodeToString([]byte(s)))
	}
	put(secret)
	defer put(" ") // not every terminal can empty it
	c.say("  copied, if your terminal takes it (OSC 52); it is taken off the clipboard in %s, or now at Enter", after)
	c.linger(after)
	return nil
}

// showOnce prints a secret on the terminal's other screen, which has no history, and
// leaves that after a while, or at Ctrl-C or Enter.
func (c *cli) showOnce(secret string, after time.Duration) error {
	fmt.Fprint(c.stderr, "\x1b[?1049h\x1b[2J\x1b[H")
	defer fmt.Fprint(c.stderr, "\x1b[2J\x1b[?1049l")
	for line := range strings.Lines(secret) {
		fmt.Fprintf(c.stderr, "%s\r\n", clean(strings.TrimRight(line, "\r\n")))
	}
	fmt.Fprintf(c.stderr, "\r\nThis is gone in %s, or at Enter.\r\n", after)
	c.linger(after)
	return nil
}

// linger waits for a while, or until Enter or Ctrl-C.
func (c *cli) linger(after time.Duration) {
	enter := make(chan struct{})
	if c.inTTY {
		// Nothing ends this read but input: the process is about to end then.
		go func() {
			_, _ = bufio.NewReader(c.stdin).ReadString('\n')
			close(enter)
		}()
	}
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
	case <-enter:
	case <-c.stop:
	}
}

func (c *cli) checkinCmd() *cobra.Command {
	var account, reason string
	cmd := &cobra.Command{
		Use:   "checkin [[ACCOUNT@]TARGET --as ACCOUNT | REQUEST]",
		Short: "Give a password back, which is then changed",
		Long: `Give back what you have checked out: others may use the account again, and its
password is changed where the server can. Your access goes on. Who may revoke access
may check in what others have.`,
		Example:           "  drawbolt checkin db01 --as sa\n  drawbolt checkin REQ-4821 --reason 'he has gone home'",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := requestOptions{account: account}
			if len(args) == 1 && !strings.HasPrefix(args[0], "REQ-") {
				if err := o.setTarget(args[0]); err != nil {
					return err
				}
				args = nil
			}
			return c.runCheckin(cmd.Context(), args, o, reason)
		},
	}
	cmd.Flags().StringVar(&account, "as", "", "the `account`; may be left out when there is only one")
	cmd.Flags().StringVar(&reason, "reason", "", "why, when it is somebody else's")
	cmd.RegisterFlagCompletionFunc("as", c.completeAccounts)
	return cmd
}

func (c *cli) runCheckin(ctx context.Context, id []string, o requestOptions, reason string) error {
	cl, p, err := c.client(api.Lease{})
	if err != nil {
		return err
	}
	if len(id) == 0 {
		if id, err = c.leased(ctx, cl, p.User, o); err != nil {
			return err
		}
	}
	l, err := cl.Checkin(ctx, id[0], api.CheckoutInput{Reason: reason})
	if err != nil {
		return err
	}
	if ok, err := c.emit(l); ok {
		return err
	}
	if l.Managed {
		c.done("%s@%s is checked in; its %s is being changed", l.Account, l.Target, l.Credential)
	} else {
		c.done("%s@%s is checked in; its %s is known to %s until somebody sets another", l.Account, l.Target, l.Credential, l.User)
	}
	return nil
}

// leased returns the request under which the account is checked out: by the caller,
// or else by somebody else.
func (c *cli) leased(ctx context.Context, cl *api.Client, user string, o requestOptions) ([]string, error) {
	list, err := cl.Leases(ctx, api.LeaseFilter{Active: true, Target: o.target, Limit: api.MaxPage})
	if err != nil {
		return nil, err
	}
	var own, others []string
	var names []string
	for _, l := range list.Items {
		switch {
		case o.account != "" && l.Account != o.account:
		case l.User == user:
			own, names = append(own, l.Request), append(names, l.Account+"@"+l.Target)
		case o.target != "":
			others, names = append(others, l.Request), append(names, l.Account+"@"+l.Target)
		}
	}
	if len(own) == 0 {
		own = others
	}
	switch len(own) {
	case 0:
		return nil, &failure{code: exitNotFound, text: "nothing of that is checked out, as far as you may know", next: "drawbolt checkout"}
	case 1:
		return own, nil
	default:
		e := usage("which one? There are %s", strings.Join(names, ", "))
		e.next = "drawbolt checkin " + names[0]
		return nil, e
	}
}

// runLeases lists who has what, and who knows what from before, the newest first.
func (c *cli) runLeases(ctx context.Context) error {
	cl, _, err := c.client(api.Lease{})
	if err != nil {
		return err
	}
	list, err := cl.Leases(ctx, api.LeaseFilter{})
	if err != nil {
		return err
	}
	if ok, err := c.emit(list.Items); ok {
		return err
	}
	var rows [][]string
	for _, l := range list.Items {
		state := "over: " + l.EndReason
		switch {
		case l.Active:
			state = "until " + c.when(l.Until)
		case l.Known && l.Managed:
			state = "over, being changed"
		case l.Known:
			state = "over, still known to " + l.User
		}
		rows = append(rows, []string{l.Request, l.Account + "@" + l.Target, l.User, c.when(l.At), state, l.Reason})
	}
	c.table("Nothing is checked out, as far as you may know. Next: drawbolt checkout TARGET --as ACCOUNT", []string{"REQUEST", "WHAT", "WHO", "SINCE", "STATE", "WHY"}, rows)
	return nil
}
