package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/policy/pack"
	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) policyCmd() *cobra.Command {
	return nounCmd("policy", "The policy: ask it, test it, see what a change would do",
		c.policyShowCmd(), c.policyExplainCmd(), c.policyWhoCanCmd(), c.policyTestCmd(), c.policyReplayCmd(), c.policyDiffCmd(),
		c.policyKeyCmd(), c.policySignCmd())
}

// A candidateFlags names a policy that is not in force.
type candidateFlags struct{ bundle, roles string }

func (o *candidateFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.roles, "roles", "", "with the roles in this JSON `file`, as role ls --json prints them, and no others")
}

// read reads the files, and packs a bundle as the server takes it.
func (c *cli) readCandidate(o candidateFlags) (api.Candidate, error) {
	var out api.Candidate
	if o.bundle != "" {
		b, err := c.readBundle(o.bundle)
		if err != nil {
			return out, err
		}
		if out.Bundle, err = b.Pack(); err != nil {
			return out, err
		}
	}
	if o.roles != "" {
		if err := c.readJSON(o.roles, &out.Roles); err != nil {
			return out, err
		}
		if out.Roles == nil {
			return out, usage("%s: there are no roles in it", o.roles)
		}
	}
	return out, nil
}

func (c *cli) readBundle(name string) (*pack.Bundle, error) {
	b, err := pack.Read(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &failure{code: exitNotFound, text: fmt.Sprintf("there is no bundle at %q", name), cause: err}
	case err != nil:
		return nil, usage("the bundle cannot be read: %v", err)
	}
	return b, nil
}

// ---- show ----

func (c *cli) policyShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "The roles and their rules in sentences, and which bundle decides", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.PolicyView{})
			if err != nil {
				return err
			}
			p, err := cl.Policy(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(p); ok {
				return err
			}
			for _, r := range p.Roles {
				c.print("%s: %s", r.Name, r.Members)
				for _, rule := range r.Rules {
					c.print("  %s: %s", rule.ID, rule.Text)
				}
			}
			if len(p.Roles) > 0 {
				c.print("")
			}
			for _, s := range p.Servers {
				c.print("%s decides by %s", s.Name, bundleName(s))
				if s.Refused != "" {
					c.print("  ▲ refused the bundle that is there: %s", s.Refused)
				}
				if s.Digest != p.Digest {
					c.print("  ▲ this is another bundle than that of the server that you asked")
				}
			}
			return nil
		},
	}
}

// bundleName is what a server decides by, in words.
func bundleName(s api.PolicyServer) string {
	out := "the bundle in the program"
	if s.Source != "" {
		out = s.Source
	}
	out += ", digest " + s.Digest[:min(len(s.Digest), 12)]
	if s.Commit != "" {
		out += ", commit " + s.Commit[:min(len(s.Commit), 12)]
	}
	if s.Signer != "" {
		out += ", signed by " + s.Signer
	}
	return out
}

// ---- explain ----

func (c *cli) policyExplainCmd() *cobra.Command {
	var in api.ExplainInput
	var length, at string
	var candidate candidateFlags
	cmd := &cobra.Command{
		Use: "explain --target TARGET --as ACCOUNT", Short: "What the policy would say, why, and what would change it",
		Long: `Ask what the policy would say without asking for access: the rule that decides, in
words, and the nearest changes that would turn the answer, each of which has been
asked for. The exit code is 0 when it would allow, and 3 when it would refuse.`,
		Example: "  drawbolt policy explain --user alice --target db01 --as root --for 4h\n" +
			"  drawbolt policy explain --user alice --target db01 --as root --at 2026-03-07T22:00:00Z --source 198.51.100.7",
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if in.DurationSeconds, err = seconds(length); err != nil {
				return err
			}
			if in.Target == "" || in.Account == "" {
				return usage("about what? Add --target TARGET and --as ACCOUNT")
			}
			if at != "" {
				t, err := parseMoment(at, c.now())
				if err != nil {
					return err
				}
				in.At = &t
			}
			if candidate != (candidateFlags{}) {
				what, err := c.readCandidate(candidate)
				if err != nil {
					return err
				}
				in.Candidate = &what
			}
			return c.runExplain(cmd.Context(), in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.User, "user", "", "for this `user` instead of you")
	f.StringVar(&in.Target, "target", "", "on this `target`")
	f.StringVar(&in.Account, "as", "", "the `account`")
	f.StringVar(&in.Action, "action", "request", "to do `what`")
	f.StringVar(&length, "for", "", "for this `duration`")
	f.StringVar(&at, "at", "", "at this `time` instead of now: 2026-03-07T22:00:00Z, or as request --start reads it")
	f.StringVar(&in.Source, "source", "", "from this IP `address`")
	f.StringVar(&in.Ticket, "ticket", "", "with this `ticket`")
	f.BoolVar(&in.SecondFactor, "second-factor", false, "as if the second factor had just been proved")
	f.BoolVar(&in.BreakGlass, "break-glass", false, "as an emergency")
	f.StringVar(&candidate.bundle, "bundle", "", "ask this bundle, a `folder` or .tar.gz, instead of the one that decides")
	candidate.add(cmd)
	cmd.RegisterFlagCompletionFunc("target", c.completeTargets)
	cmd.RegisterFlagCompletionFunc("as", c.completeAccountsOfTarget)
	cmd.RegisterFlagCompletionFunc("user", c.completeUsers)
	return cmd
}

func (c *cli) runExplain(ctx context.Context, in api.ExplainInput) error {
	cl, _, err := c.client(api.Decision{})
	if err != nil {
		return err
	}
	d, err := cl.Explain(ctx, in)
	if err != nil {
		return err
	}
	ok, err := c.emit(d)
	if err != nil {
		return err
	}
	if !ok {
		c.showDecision(&d)
	}
	if !d.Allow {
		return silent(exitDenied)
	}
	return nil
}

func (c *cli) showDecision(d *api.Decision) {
	word := "refuse"
	if d.Allow {
		word = "allow"
	}
	c.print("%s", word)
	row := func(name, value string) {
		if value != "" {
			c.print("  %-11s%s", name, value)
		}
	}
	if d.Rule != "" {
		row("rule", strings.TrimPrefix(d.Role+" / "+d.Rule, " / "))
		row("says", d.RuleText)
	}
	if d.Allow {
		row("approvals", need(needsOf(d.Approvals)))
		if d.MaxDurationSeconds > 0 {
			row("at most", formatSeconds(d.MaxDurationSeconds))
		}
		if asks := d.Session.Text(); asks != "nothing" {
			row("session", asks)
		}
		for i, text := range d.SessionTerms {
			row([]string{"limits", ""}[min(i, 1)], text)
		}
		if d.MFAWithinSeconds > 0 {
			row("2nd factor", "not older than "+formatDuration(time.Duration(d.MFAWithinSeconds)*time.Second))
		}
		if d.BreakGlass {
			row("break-glass", "nobody approves this: everybody is told")
		}
	}
	for i, r := range d.Reasons {
		name := "also"
		if i == 0 {
			name = "because"
		}
		row(name, fmt.Sprintf("%s (%s)", r.Text, r.Rule))
	}
	name := "allowed if"
	if d.Allow {
		name = "refused if"
	}
	for i, way := range d.Ways {
		if i > 0 {
			name = "or if"
		}
		for j, change := range way.Changes {
			if j > 0 {
				name = "  and"
			}
			row(name, change.Text)
		}
	}
	row("policy", d.PolicyDigest)
}

func needsOf(list []api.ApproverNeed) (needs []api.Need) {
	for _, n := range list {
		needs = append(needs, api.Need{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: n.EscalateAfterSeconds, EscalateTo: n.EscalateTo})
	}
	return needs
}

// ---- who-can ----

func (c *cli) policyWhoCanCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "who-can TARGET ACCOUNT | --user USER", Short: "Who can come to an account, or what somebody can come to",
		Long: `List who can come to an account: by which way (group, roles, rule), who has to
approve, what has to be so first, and who can without anybody else. With --user,
what one person can come to.`,
		Example: "  drawbolt policy who-can db01 root\n  drawbolt policy who-can --user alice",
		Args:    between(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case user != "" && len(args) == 0:
				return c.runCanReach(cmd.Context(), user)
			case user == "" && len(args) == 2:
				return c.runWhoCan(cmd.Context(), args[0], args[1])
			}
			return usage("say either TARGET ACCOUNT or --user USER")
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "what this `user` can come to")
	cmd.RegisterFlagCompletionFunc("user", c.completeUsers)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return c.completeAccounts(cmd, args, typed)
		}
		return c.completeTargets(cmd, args, typed)
	}
	return cmd
}

func (c *cli) runWhoCan(ctx context.Context, target, account string) error {
	cl, _, err := c.client(api.WhoCan{})
	if err != nil {
		return err
	}
	w, err := cl.WhoCan(ctx, target, account)
	if err != nil {
		return err
	}
	if ok, err := c.emit(w); ok {
		return err
	}
	people := 0
	for _, way := range w.Ways {
		c.showWay(way, way.People, "people")
		people += way.Count
	}
	for _, h := range w.Holders {
		c.print("has it now: %s until %s (%s)", h.User, c.when(h.Until), h.Request)
	}
	for _, text := range w.Beside {
		c.print("▲ %s", text)
	}
	if len(w.Ways) == 0 {
		c.print("nobody can come to %s on %s", w.Account, w.Target)
	}
	return nil
}

func (c *cli) runCanReach(ctx context.Context, user string) error {
	cl, _, err := c.client(api.AccessWay{})
	if err != nil {
		return err
	}
	ways, err := cl.CanReach(ctx, user)
	if err != nil {
		return err
	}
	if ok, err := c.emit(ways.Items); ok {
		return err
	}
	for _, way := range ways.Items {
		c.showWay(way, way.Targets, "accounts")
	}
	if len(ways.Items) == 0 {
		c.print("%s can come to nothing", user)
	}
	return nil
}

// maxNamed bounds how many are named in a line.
const maxNamed = 12

func (c *cli) showWay(w api.AccessWay, of []string, what string) {
	line := strings.Join(of[:min(len(of), maxNamed)], ", ")
	if more := w.Count - min(len(of), maxNamed); more > 0 {
		line += fmt.Sprintf(" and %d more %s", more, what)
	}
	c.print("%s", line)
	row := func(name, value string) {
		if value != "" {
			c.print("  %-11s%s", name, value)
		}
	}
	row("by", strings.Join(append(w.Path, "rule "+w.Rule), " → "))
	row("says", w.RuleText)
	switch {
	case w.BreakGlass:
		row("▲ alarm", "break-glass: nobody approves this, and everybody is told")
	case w.Standing:
		row("▲ standing", "nobody else is asked")
	default:
		row("approvals", need(needsOf(w.Approvals)))
	}
	for i, text := range w.Missing {
		row([]string{"only if", "  and"}[min(i, 1)], text)
	}
}

// ---- test ----

func (c *cli) policyTestCmd() *cobra.Command {
	var roles string
	cmd := &cobra.Command{
		Use: "test BUNDLE", Short: "Say whether a policy bundle may be put into service",
		Long: `Have the server compile a policy bundle (a folder or a .tar.gz), run its tests over
the roles in its roles_test.json, and see whether it answers every kind of question,
also under the roles that are in force. The exit code is 3 when it would be refused.
drawboltd policy test does the same without a server.`,
		Example: "  drawbolt policy test ./policy",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := c.readBundle(args[0])
			if err != nil {
				return err
			}
			if roles != "" {
				text, err := os.ReadFile(roles)
				if err != nil {
					return err
				}
				b.Files[pack.RolesFile] = text
				b = pack.New(b.Files)
			}
			packed, err := b.Pack()
			if err != nil {
				return err
			}
			return c.runPolicyTest(cmd.Context(), api.Candidate{Bundle: packed})
		},
	}
	cmd.Flags().StringVar(&roles, "roles", "", "`file` of the roles for the tests, in the place of roles_test.json")
	return cmd
}

func (c *cli) runPolicyTest(ctx context.Context, in api.Candidate) error {
	cl, _, err := c.client(api.PolicyTest{})
	if err != nil {
		return err
	}
	t, err := cl.TestPolicy(ctx, in)
	if err != nil {
		return err
	}
	ok, err := c.emit(t)
	if err != nil {
		return err
	}
	if !ok {
		for line := range strings.Lines(t.Text()) {
			c.print("%s", strings.TrimSuffix(line, "\n"))
		}
	}
	if len(t.Problems) > 0 {
		return silent(exitDenied)
	}
	return nil
}

// ---- replay and diff ----

func (c *cli) policyReplayCmd() *cobra.Command {
	return c.candidateCmd(&cobra.Command{
		Use: "replay [BUNDLE]", Short: "Which past decisions a candidate would turn",
		Long: `Ask a candidate (a bundle, roles, or both) what was decided, and list every answer
that would be another: allowed or refused, other approvals, another duration. The
exit code is 3 when there is one, so that a pipeline stops.`,
		Example: "  drawbolt policy replay --since 30d ./policy\n  drawbolt role ls --json >roles.json; $EDITOR roles.json; drawbolt policy replay --roles roles.json",
	}, func(ctx context.Context, in api.ReplayInput) error {
		cl, _, err := c.client(api.PolicyReplay{})
		if err != nil {
			return err
		}
		r, err := cl.ReplayPolicy(ctx, in)
		if err != nil {
			return err
		}
		ok, err := c.emit(r)
		if err != nil {
			return err
		}
		if !ok {
			c.showReplay(r)
		}
		return flips(r, 0)
	})
}

func (c *cli) policyDiffCmd() *cobra.Command {
	return c.candidateCmd(&cobra.Command{
		Use: "diff [BUNDLE]", Short: "How a candidate differs from the policy in force",
		Long: `Compare a candidate (a bundle, roles, or both) with the policy that is in force:
roles and rules in sentences, and what both answer to what was decided. The exit
code is 3 when they differ in any of these.`,
		Example: "  drawbolt policy diff ./policy",
	}, func(ctx context.Context, in api.ReplayInput) error {
		cl, _, err := c.client(api.PolicyDiff{})
		if err != nil {
			return err
		}
		d, err := cl.DiffPolicy(ctx, in)
		if err != nil {
			return err
		}
		ok, err := c.emit(d)
		if err != nil {
			return err
		}
		if !ok {
			if d.From != d.To {
				c.print("bundle %.12s instead of %.12s", d.To, d.From)
			}
			for _, line := range d.Roles {
				c.print("%s", line)
			}
			c.showReplay(d.Replay)
		}
		return flips(d.Replay, len(d.Roles))
	})
}

// candidateCmd completes a command that takes a candidate and a time.
func (c *cli) candidateCmd(cmd *cobra.Command, do func(context.Context, api.ReplayInput) error) *cobra.Command {
	var o candidateFlags
	var since string
	cmd.Args = between(0, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			o.bundle = args[0]
		}
		if o == (candidateFlags{}) {
			return usage("compare with what? Add a bundle, or --roles FILE")
		}
		var in api.ReplayInput
		var err error
		if in.Since, err = parsePast(since, c.now()); err != nil {
			return err
		}
		if in.Candidate, err = c.readCandidate(o); err != nil {
			return err
		}
		return do(cmd.Context(), in)
	}
	cmd.Flags().StringVar(&since, "since", "30d", "over what was decided from this `time` on: 30d (ago), 2026-03-01, or RFC 3339")
	o.add(cmd)
	return cmd
}

// flips is how a comparison ends.
func flips(r api.PolicyReplay, others int) error {
	if len(r.Flips)+len(r.Doubtful)+others > 0 {
		return silent(exitDenied)
	}
	return nil
}

func (c *cli) showReplay(r api.PolicyReplay) {
	for _, flip := range r.Flips {
		rule := flip.Now
		if flip.Was != flip.Now {
			rule = flip.Was + " → " + flip.Now
		}
		c.print("%s %d × %s: %s (%s)", sign(flip.Kind), flip.Count, flip.Action, flip.Text, rule)
		for i, of := range flip.Of {
			if i == maxNamed {
				c.print("    and %d more", flip.Count-i)
				break
			}
			c.print("    %s  %s  %s", of.At.UTC().Format("2006-01-02 15:04"), of.User, of.Account+"@"+of.Target)
		}
	}
	for _, id := range r.Doubtful {
		c.print("▲ decision %s is not the one that the audit log has the hash of: it was changed in the database", id)
	}
	if r.Partial {
		c.say("▲ there are more decisions than could be looked at: narrow it with --since")
	}
	if r.From == nil {
		c.say("No decision was asked again.")
		return
	}
	word := "decisions"
	if r.Looked == 1 {
		word = "decision"
	}
	c.say("%d %s since %s asked again, %d answered in another way.", r.Looked, word, r.From.UTC().Format("2006-01-02 15:04"), r.Flipped)
}

// sign says at a glance what a flip opens or closes.
func sign(kind string) string {
	switch kind {
	case "allowed":
		return "+"
	case "refused":
		return "-"
	default:
		return "~"
	}
}

// ---- key and sign ----

func (c *cli) policyKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key NAME FILE", Short: "Make a key to sign policy bundles with",
		Long: `Make a key to sign policy bundles with: the secret half goes into a new FILE, the
public half, for policy.verify_keys of the servers, to stdout. NAME says whose it is.`,
		Example: "  drawbolt policy key security-team ~/policy.key",
		Args:    between(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			secret, public, err := note.GenerateKey(rand.Reader, args[0])
			if err != nil {
				return usage("%q is not a name for a key: %v", args[0], err)
			}
			f, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, os.ErrExist) {
				return usage("there is a file %s already", args[1])
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(secret + "\n")
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			out := struct {
				Name      string `json:"name"`
				PublicKey string `json:"public_key"`
			}{args[0], public}
			if ok, err := c.emit(out); ok {
				return err
			}
			c.print("%s", public)
			return nil
		},
	}
}

func (c *cli) policySignCmd() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "sign FOLDER --key FILE", Short: "Sign a policy bundle",
		Long: `Sign the policy bundle in a folder with a key of policy key: all of its files, tests
included, as they are now. The signature goes into bundle.note there. Signatures of
other keys for the same files stay.`,
		Example: "  drawbolt policy sign ./policy --key ~/policy.key",
		Args:    between(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				return usage("with which key? Add --key FILE")
			}
			secret, err := readFile(key)
			if err != nil {
				return err
			}
			signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
			if err != nil {
				return usage("%s is not a key of policy key", key)
			}
			b, err := c.readBundle(args[0])
			if err != nil {
				return err
			}
			signed, err := b.Sign(signer)
			if err == nil {
				err = os.WriteFile(filepath.Join(args[0], pack.NoteFile), signed, 0o644)
			}
			if err != nil {
				return err
			}
			c.done("%s is signed by %s: %s", args[0], signer.Name(), b.Digest)
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "`file` of the secret key")
	return cmd
}

// ---- completion ----

func (c *cli) completeUsers(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	list := recall(cmd.Context(), c, "users", func(ctx context.Context, cl *api.Client) (api.List[api.User], error) {
		return cl.Users(ctx)
	})
	var out []string
	for _, u := range list.Items {
		if strings.HasPrefix(u.Name, typed) {
			out = append(out, choice(u.Name, strings.Join(u.Groups, ",")))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeAccountsOfTarget completes --as of the --target that stands there already.
func (c *cli) completeAccountsOfTarget(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	target, _ := cmd.Flags().GetString("target")
	var out []string
	for _, t := range c.knownTargets(cmd.Context()) {
		if t.Name != target {
			continue
		}
		for _, a := range t.Accounts {
			if strings.HasPrefix(a.Name, typed) {
				out = append(out, choice(a.Name, c.accountState(t, a)))
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
