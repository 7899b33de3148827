package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// inventoryFlags pick accounts that scans have found.
type inventoryFlags struct {
	f          api.InventoryFilter
	found, csv bool
}

func (i *inventoryFlags) add(c *cli, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&i.f.Class, classFlag(cmd), "", "only this `class`: managed, emergency, orphaned, dormant, shared, service, unmanaged")
	f.StringVar(&i.f.Target, "target", "", "only on this `target`")
	f.StringVar(&i.f.Risk, "risk", "", "only of this `risk` or a graver one: critical, high, medium, low")
	f.StringVar(&i.f.Owner, "owner", "", "only of this `user`")
	if cmd.Name() == "ls" {
		f.BoolVar(&i.found, "found", false, "what scans have found")
		f.BoolVar(&i.csv, "csv", false, "print CSV")
	}
	for name, words := range map[string][]string{classFlag(cmd): {"managed", "emergency", "orphaned", "dormant", "shared", "service", "unmanaged"}, "risk": {"critical", "high", "medium", "low"}} {
		cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, w := range words {
				if strings.HasPrefix(w, typed) {
					out = append(out, w)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		})
	}
	cmd.RegisterFlagCompletionFunc("target", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c.completeTargets(cmd, nil, typed)
	})
}

// classFlag picks a class. Where passwords are made, --class is one of characters.
func classFlag(cmd *cobra.Command) string {
	if cmd.Name() == "manage" {
		return "account-class"
	}
	return "class"
}

func (i *inventoryFlags) given(cmd *cobra.Command) bool {
	given := false
	for _, name := range []string{classFlag(cmd), "target", "risk", "owner", "found", "csv"} {
		given = given || cmd.Flags().Changed(name)
	}
	return given
}

func (i *inventoryFlags) filter(args []string) api.InventoryFilter {
	f := i.f
	if len(args) > 0 {
		f.Target = args[0]
	}
	return f
}

// inventory reads all accounts that a filter picks.
func (c *cli) inventory(ctx context.Context, cl *api.Client, f api.InventoryFilter) ([]api.FoundAccount, error) {
	list := []api.FoundAccount{}
	f.Limit = 500
	for {
		page, err := cl.Inventory(ctx, f)
		if err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
		if page.Next == "" || page.Next == f.After { // a server that goes round in circles is left
			return list, nil
		}
		f.After = page.Next
	}
}

func (c *cli) listFound(ctx context.Context, f api.InventoryFilter, asCSV bool) error {
	cl, _, err := c.client(api.FoundAccount{})
	if err != nil {
		return err
	}
	list, err := c.inventory(ctx, cl, f)
	if err != nil {
		return err
	}
	if asCSV {
		return api.InventoryCSV(c.stdout, list)
	}
	if ok, err := c.emit(list); ok {
		return err
	}
	c.foundTable(list)
	return nil
}

func (c *cli) foundTable(list []api.FoundAccount) {
	var rows [][]string
	for _, f := range list {
		why := ""
		if len(f.Reasons) > 0 {
			why = f.Reasons[0]
		}
		rows = append(rows, []string{f.Name + "@" + f.Target, f.Class, f.Risk, first(f.Owner, "-"), why})
	}
	c.table("No such accounts. Scan with: drawbolt account discover", []string{"ACCOUNT", "CLASS", "RISK", "OWNER", "WHY"}, rows)
}

func (c *cli) showFound(f api.FoundAccount) error {
	if ok, err := c.emit(f); ok {
		return err
	}
	line := func(name, value string) {
		if value != "" {
			c.print("  %-13s%s", name, value)
		}
	}
	c.print("%s@%s, as scans have found it (%s)", f.Name, f.Target, f.ID)
	line("class", f.Class)
	line("risk", f.Risk)
	line("owner", first(f.Owner, "nobody"))
	line("said to be", strings.TrimSpace(f.Declared+" "+f.Note))
	for _, r := range f.Reasons {
		line("because", r)
	}
	line("password", f.Password)
	line("shell", f.Shell)
	if f.LastLogin != nil {
		line("last login", c.when(*f.LastLogin))
	}
	line("groups", strings.Join(f.Groups, " "))
	for _, r := range f.Rights {
		line("may", r.Text+" ("+r.Source+")")
	}
	for _, k := range f.Keys {
		line("key", strings.TrimSpace(k.Type+" "+k.Fingerprint+" "+k.Comment+" "+k.Options))
	}
	line("first seen", c.when(f.FirstSeen))
	line("last seen", c.when(f.LastSeen))
	if f.GoneAt != nil {
		line("gone", c.when(*f.GoneAt))
	}
	c.listWays(f.Ways)
	return nil
}

func (c *cli) listWays(ways []api.Way) {
	for _, w := range ways {
		c.print("  past drawbolt: %s (%s)", w.Text, w.Risk)
		c.print("    closed by:   %s", w.Command)
	}
}

func (c *cli) accountDiscoverCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use: "discover TARGET|PATTERN ...", Short: "Find out which accounts targets have, and how these are set up",
		Long: `Have the server log in at targets and find out which accounts there are, what they
may do, which ways lead past drawbolt, and how the target is set up. It is done as the
target's scan account, its provisioner, or the account that resets its passwords; or with
--as as one that sees less. Nothing is changed there, and no hash of a password leaves the
target. Targets are also scanned once a day by themselves: "drawbolt target posture".

Exit code: 0 when all were scanned, 1 when one was not.`,
		Example: "  drawbolt account discover db01\n  drawbolt account discover 'web*' --json",
		Args:    between(1, -1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.checkFields([]api.Discovery{}); err != nil {
				return err
			}
			names, err := c.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			return c.discoverAll(cmd.Context(), names, account)
		},
	}
	cmd.Flags().StringVar(&account, "as", "", "`account` to scan as; default the one as which it is scanned daily")
	return cmd
}

func (c *cli) discoverAll(ctx context.Context, names []string, account string) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	if cl.Timeout == 0 {
		cl.Timeout = 5 * time.Minute
	}
	results, errs := make([]api.Discovery, len(names)), make([]error, len(names))
	places := make(chan struct{}, checksAtOnce)
	var all sync.WaitGroup
	for i, name := range names {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			results[i], errs[i] = discoverOne(ctx, cl, name, account)
		})
	}
	all.Wait()
	done := []api.Discovery{}
	var failed error
	for i := range names {
		if errs[i] == nil {
			done = append(done, results[i])
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
		for _, d := range done {
			c.showDiscovery(d)
		}
	}
	return failed
}

// discoverOne scans a target, and waits where the server has to do with others.
func discoverOne(ctx context.Context, cl *api.Client, name, account string) (api.Discovery, error) {
	for {
		d, err := cl.Discover(ctx, name, api.DiscoverInput{Account: account})
		if p := api.AsProblem(err); p == nil || p.Status != http.StatusTooManyRequests {
			return d, err
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (c *cli) showDiscovery(d api.Discovery) {
	c.print("%s: %d accounts, %d ways past drawbolt, posture %s", d.Target, len(d.Accounts), len(d.Posture.Ways), score(d.Posture))
	for _, x := range d.Changes {
		c.print("  %-8s%s: %s", x.What, x.Account, x.Text)
	}
	c.foundTable(d.Accounts)
	c.listWays(d.Posture.Ways)
	c.next("drawbolt target posture %s", d.Target)
}

func score(p api.Posture) string {
	if p.Score == nil {
		return "unknown"
	}
	return strconv.FormatInt(*p.Score, 10) + "%"
}

func (c *cli) accountAdoptCmd() *cobra.Command {
	var picked inventoryFlags
	var in api.AdoptInput
	var owner, declare string
	cmd := &cobra.Command{
		Use: "adopt [ACCOUNT@TARGET ...]", Short: "Take accounts over that were found, give them an owner, say what they are",
		Long: `Take accounts over that scans have found: each becomes an account of its target,
which people get under a grant only. With --owner-to or --declare alone it is noted whose
an account is, or what, and it is not taken over; with --take-over it is both. Accounts
are named, or picked with the flags of "account ls"; they are shown before, and it is
done for all of them or none, five hundred at once.

Taking over closes nothing by itself: "drawbolt account ways" says what else opens it.`,
		Example: "  drawbolt account adopt deploy@db01\n  drawbolt account adopt --class unmanaged --target db01 --owner-to alice --take-over --yes\n  drawbolt account adopt backup@nas --declare service --note 'nightly rsync'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 == picked.given(cmd) {
				return usage("name accounts, or pick them with --class, --target, --risk or --owner")
			}
			if cmd.Flags().Changed("owner-to") {
				in.Owner = &owner
			}
			if cmd.Flags().Changed("declare") {
				in.Declare = &declare
			}
			in.TakeOver = in.TakeOver || in.Owner == nil && in.Declare == nil
			in.Accounts = args
			return c.adopt(cmd.Context(), in, picked.f)
		},
	}
	picked.add(c, cmd)
	f := cmd.Flags()
	f.StringVar(&owner, "owner-to", "", "`user` whose they are from now on; \"\": nobody's")
	f.StringVar(&declare, "declare", "", "`what` they are: service, shared or emergency; \"\": what scans say")
	f.StringVar(&in.Note, "note", "", "why; it stands with the account")
	f.BoolVar(&in.TakeOver, "take-over", false, "take them over too")
	return cmd
}

// adoptedAtOnce is how many accounts one call takes.
const adoptedAtOnce = 500

func (c *cli) adopt(ctx context.Context, in api.AdoptInput, f api.InventoryFilter) error {
	cl, _, err := c.client(api.FoundAccount{})
	if err != nil {
		return err
	}
	if len(in.Accounts) == 0 {
		list, err := c.inventory(ctx, cl, f)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return &failure{code: exitNotFound, text: "no scan has found such accounts", next: "drawbolt account ls --found"}
		}
		if len(list) > adoptedAtOnce {
			return usage("these are %d accounts, and at most %d are adopted at once: pick fewer", len(list), adoptedAtOnce)
		}
		for _, a := range list {
			in.Accounts = append(in.Accounts, a.ID)
			c.say("  %s@%s: %s, %s", a.Name, a.Target, a.Class, a.Risk)
		}
		if err := c.confirm(fmt.Sprintf("Adopt these %d accounts?", len(list))); err != nil {
			return err
		}
	}
	done, err := cl.Adopt(ctx, in)
	if err != nil {
		return err
	}
	if ok, err := c.emit(done.Items); ok {
		return err
	}
	for _, a := range done.Items {
		what := first(a.Owner, "nobody") + "'s, " + a.Class
		c.done("%s@%s is %s", a.Name, a.Target, what)
	}
	if in.TakeOver {
		c.next("drawbolt account ways")
	}
	return nil
}

func (c *cli) accountWaysCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ways [TARGET]", Short: "Ways into targets past drawbolt, each with what closes it", Args: between(0, 1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Posture{})
			if err != nil {
				return err
			}
			list := []api.Posture{}
			if len(args) == 1 {
				p, err := cl.Posture(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list = append(list, p)
			} else if list, err = c.postures(cmd.Context(), cl); err != nil {
				return err
			}
			if ok, err := c.emit(list); ok {
				return err
			}
			ways := 0
			for _, p := range list {
				if ways += len(p.Ways); len(p.Ways) > 0 {
					c.print("%s", p.Target)
					c.listWays(p.Ways)
				}
			}
			if ways == 0 {
				c.say("No way past drawbolt is known. %d targets were scanned.", len(list))
			}
			return nil
		},
	}
}

// postures reads how all targets stand.
func (c *cli) postures(ctx context.Context, cl *api.Client) ([]api.Posture, error) {
	list := []api.Posture{}
	for after := ""; ; {
		page, err := cl.Postures(ctx, after)
		if err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
		if page.Next == "" || page.Next == after {
			return list, nil
		}
		after = page.Next
	}
}

func (c *cli) targetPostureCmd() *cobra.Command {
	var failed bool
	cmd := &cobra.Command{
		Use: "posture [TARGET]", Short: "How a target is set up, by its last scan, and what mends it", Args: between(0, 1), ValidArgsFunction: c.completeTargets,
		Long: `Show how a target is set up by its last scan, what mends it, and what leads past
drawbolt. Without TARGET list how the scans of all targets went, when the next ones are
due, and why those failed that did.`,
		Example: "  drawbolt target posture db01\n  drawbolt target posture --failed",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Posture{})
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.listPostures(cmd.Context(), cl, failed)
			}
			if failed {
				return usage("--failed lists targets: leave the name out")
			}
			p, err := cl.Posture(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(p); ok {
				return err
			}
			when := "never"
			if p.ScannedAt != nil {
				when = c.when(*p.ScannedAt)
			}
			c.print("%s: %s, scanned %s", p.Target, score(p), when)
			if p.Problem != "" {
				c.print("  the last try failed: %s", p.Problem)
			}
			for _, f := range p.Faults {
				c.print("  FAILED  %s: it is %s, and should be %s", f.Title, first(f.Is, "empty"), f.Wants)
				c.print("          Next: %s", f.Mend)
			}
			for _, d := range p.Drift {
				c.print("  changed %s", d)
			}
			if len(p.Unknown) > 0 {
				c.print("  unknown %s", strings.Join(p.Unknown, " "))
			}
			if len(p.Incomplete) > 0 {
				c.print("  not seen in full: %s", strings.Join(p.Incomplete, ", "))
			}
			c.listWays(p.Ways)
			return nil
		},
	}
	cmd.Flags().BoolVar(&failed, "failed", false, "list those alone whose last scan failed")
	return cmd
}

// listPostures lists how the scans of targets went, and when the next ones are due.
func (c *cli) listPostures(ctx context.Context, cl *api.Client, failed bool) error {
	list, err := c.postures(ctx, cl)
	if err != nil {
		return err
	}
	if failed {
		list = slices.DeleteFunc(list, func(p api.Posture) bool { return p.Problem == "" })
	}
	if ok, err := c.emit(list); ok {
		return err
	}
	at := func(t *time.Time, none string) string {
		if t == nil {
			return none
		}
		return c.when(*t)
	}
	var rows [][]string
	for _, p := range list {
		rows = append(rows, []string{p.Target, score(p), at(p.ScannedAt, "never"), at(p.NextAt, "when asked"), first(p.Problem, "-")})
	}
	c.table("No such scans. Scan with: drawbolt account discover", []string{"TARGET", "POSTURE", "SCANNED", "NEXT", "PROBLEM"}, rows)
	return nil
}
