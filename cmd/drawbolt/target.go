package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) targetCmd() *cobra.Command {
	return nounCmd("target", "Machines behind the bastion",
		c.targetLsCmd(), c.targetShowCmd(), c.targetAddCmd(), c.targetSetCmd(), c.targetImportCmd(), c.targetRmCmd(),
		c.targetBootstrapCmd(), c.targetCheckCmd(), c.targetPostureCmd(),
		c.lockCmd("target", api.Target{}, true, c.completeTargets, lockTarget), c.lockCmd("target", api.Target{}, false, c.completeTargets, lockTarget))
}

func (c *cli) targetLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls [PATTERN]", Short: "List targets", Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := c.targetsLike(cmd.Context(), first(append(args, "*")...))
			if err != nil {
				return err
			}
			if ok, err := c.emit(targets); ok {
				return err
			}
			var rows [][]string
			for _, t := range targets {
				var accounts []string
				for _, a := range t.Accounts {
					accounts = append(accounts, a.Name)
				}
				state := "open"
				if t.Locked {
					state = "locked: " + t.LockReason
				}
				rows = append(rows, []string{t.Name, first(t.Address, "-"), strings.Join(accounts, ","), state, labels(t.Labels)})
			}
			c.table("No targets.", []string{"NAME", "ADDRESS", "ACCOUNTS", "STATE", "LABELS"}, rows)
			return nil
		},
	}
}

func (c *cli) targetShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show TARGET", Short: "Show a target", Args: between(1, 1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			t, err := cl.FindTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.showTarget(&t)
		},
	}
}

func (c *cli) showTarget(t *api.Target) error {
	if ok, err := c.emit(*t); ok {
		return err
	}
	c.print("%s  %s", t.Name, t.ID)
	row := func(name, value string) {
		if value != "" {
			c.print("  %-13s%s", name, value)
		}
	}
	row("kind", t.Kind)
	row("address", t.Address)
	row("labels", labels(t.Labels))
	row("applications", strings.Join(t.Applications, ", "))
	for _, k := range t.HostKeys {
		if !hasSSH(t.Kind) {
			row("certificate", certificateText(k))
			continue
		}
		row("host key", k)
	}
	row("via", strings.Join(t.Via, ", "))
	row("hop account", t.HopAccount)
	row("provisioner", t.Provisioner)
	row("principals", t.PrincipalsFolder)
	row("scanned as", t.ScanAccount)
	for _, name := range slices.Sorted(maps.Keys(t.Facts)) {
		f := t.Facts[name]
		row("fact", fmt.Sprintf("%s=%s, %s by %s", name, f.Value, c.when(f.At), f.By))
	}
	if t.Locked {
		row("locked", first(t.LockReason, "yes"))
	}
	for _, a := range t.Accounts {
		with := ""
		if a.Credential != "" && a.Credential != "certificate" {
			with = ", with a " + a.Credential
		}
		row("account", a.Name+": "+c.accountState(*t, a)+with)
	}
	return nil
}

// hasSSH reports whether people log in at targets of that kind through the bastion.
func hasSSH(kind string) bool { return kind == "" || kind == "windows" }

type targetOptions struct {
	kind         string
	address      string
	accounts     []string
	labels       []string
	applications []string
	hostKeys     []string
	certificates []string
	via          []string
	hopAccount   string
	provisioner  string
	principals   string
	scanAccount  string
}

func (o *targetOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.address, "address", "", "`host:port` of its SSH server, or of the system that it is")
	f.StringSliceVar(&o.accounts, "account", nil, "`name` of an account; may be repeated")
	f.StringSliceVar(&o.labels, "label", nil, "`name=value`: environment, tier, criticality or owner; may be repeated")
	f.StringSliceVar(&o.applications, "application", nil, "`name` of an application; may be repeated")
	f.StringArrayVar(&o.hostKeys, "host-key", nil, "pinned host `key`, or a file that holds it; may be repeated")
	f.StringArrayVar(&o.certificates, "ca", nil, "`file` with the certificate, in PEM, that signed that of its TLS; may be repeated")
	f.StringSliceVar(&o.via, "via", nil, "`target` to go through, the nearest first; may be repeated; \"\" for none")
	f.StringVar(&o.hopAccount, "hop-account", "", "`name` of the account in which others are reached via it")
	f.StringVar(&o.provisioner, "provisioner", "", "`name` of the account in which drawbolt makes accounts for grants")
	f.StringVar(&o.principals, "principals-folder", "", "`folder` where its sshd reads the principals of each account")
	f.StringVar(&o.scanAccount, "scan-account", "", "`name` of the account as which it is scanned; \"\" for the provisioner, or the one that resets passwords")
}

// apply changes in where a flag was given.
func (o *targetOptions) apply(cmd *cobra.Command, in *api.TargetInput) error {
	given := cmd.Flags().Changed
	if given("address") {
		in.Address = o.address
	}
	if given("account") {
		was := in.Accounts
		in.Accounts = nil
		for _, name := range o.accounts {
			a := api.AccountInput{Name: name}
			if i := slices.IndexFunc(was, func(a api.AccountInput) bool { return a.Name == name }); i >= 0 {
				a = was[i] // how it is made stays
			}
			in.Accounts = append(in.Accounts, a)
		}
	}
	if given("provisioner") {
		in.Provisioner = o.provisioner
	}
	if given("principals-folder") {
		in.PrincipalsFolder = o.principals
	}
	if given("scan-account") {
		in.ScanAccount = o.scanAccount
	}
	if given("application") {
		in.Applications = o.applications
	}
	if err := setLabels(&in.Labels, o.labels); err != nil {
		return err
	}
	if given("via") {
		in.Via = o.via
	}
	if given("hop-account") {
		in.HopAccount = o.hopAccount
	}
	if given("ca") {
		in.HostKeys = nil
		for _, name := range o.certificates {
			b, err := readFile(name)
			if err != nil {
				return err
			}
			n := len(in.HostKeys)
			for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
				if block.Type == "CERTIFICATE" {
					in.HostKeys = append(in.HostKeys, base64.StdEncoding.EncodeToString(block.Bytes))
				}
			}
			if n == len(in.HostKeys) {
				return usage("%s holds no certificate in PEM", name)
			}
		}
	}
	if given("host-key") {
		in.HostKeys = nil
		for _, k := range o.hostKeys {
			key, err := keyText(k)
			if err != nil {
				return err
			}
			in.HostKeys = append(in.HostKeys, key)
		}
	}
	return nil
}

// setLabels sets labels that are given as name=value.
func setLabels(to *api.Labels, given []string) error {
	for _, l := range given {
		name, value, ok := strings.Cut(l, "=")
		at := map[string]*string{"environment": &to.Environment, "env": &to.Environment, "tier": &to.Tier, "criticality": &to.Criticality, "owner": &to.Owner}[name]
		if !ok || at == nil {
			return usage("the label %q is not one: environment=, tier=, criticality= or owner=", l)
		}
		*at = value
	}
	return nil
}

// keyText returns an SSH public key in the form of authorized_keys, without its
// comment, given itself or as the file that holds it.
func keyText(arg string) (string, error) {
	key, _, err := parseKey([]byte(arg))
	if err == nil {
		return key, nil
	}
	b, ferr := readFile(arg)
	if os.IsNotExist(ferr) {
		return "", usage("%q is neither a public key nor a file", arg)
	} else if ferr != nil {
		return "", ferr
	}
	if key, _, err = parseKey(b); err != nil {
		return "", usage("%s holds no public key: %v", arg, err)
	}
	return key, nil
}

func (c *cli) targetAddCmd() *cobra.Command {
	var o targetOptions
	cmd := &cobra.Command{
		Use: "add TARGET --address HOST:PORT --account NAME", Short: "Add a target", Args: between(1, 1),
		Example: "  drawbolt target add db01 --address 10.0.0.5:22 --account root,app --label environment=prod --host-key db01.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.address == "" || len(o.accounts) == 0 {
				return usage("a target needs --address HOST:PORT and --account NAME")
			}
			in := api.TargetInput{Name: args[0], Kind: o.kind}
			if err := o.apply(cmd, &in); err != nil {
				return err
			}
			cl, _, err := c.client(api.Target{})
			if err != nil {
				return err
			}
			t, err := cl.AddTarget(cmd.Context(), in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(t); ok {
				return err
			}
			c.done("%s is added", t.Name)
			if t.Kind != "" {
				c.say("  have its passwords changed by drawbolt: drawbolt account manage ACCOUNT@%s", t.Name)
				return nil
			}
			if len(t.HostKeys) == 0 {
				c.say("  no host key is pinned: a bootstrap pins what the target has, or it shows a certificate of drawbolt's host authority (drawbolt ca show host)")
			}
			c.say("  it must trust drawbolt's user authority: drawbolt target bootstrap %s, and then: drawbolt target check %s", t.Name, t.Name)
			return nil
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.kind, "kind", "", "what it is, if no Unix machine with SSH: `postgres`, mysql, ldap, ad, windows, or plugin:NAME of a program that the server's configuration names")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"postgres", "mysql", "ldap", "ad", "windows", "plugin:"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// certificateText is the fingerprint of a certificate in PEM.
func certificateText(text string) string {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "one that cannot be read"
	}
	return fmt.Sprintf("SHA-256 %x", sha256.Sum256(der))
}

func (c *cli) targetSetCmd() *cobra.Command {
	var o targetOptions
	var facts []string
	var gathered string
	cmd := &cobra.Command{
		Use: "set TARGET [FLAGS]", Short: "Change what the flags name; the rest stays", Args: between(1, 1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Target{})
			if err != nil {
				return err
			}
			t, err := cl.FindTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			found, err := c.factsInput(facts, gathered)
			if err != nil {
				return err
			}
			in := inputOf(&t)
			if err := o.apply(cmd, &in); err != nil {
				return err
			}
			if only := found != nil && cmd.Flags().NFlag() == factFlags(cmd); !only {
				if t, err = cl.SetTarget(cmd.Context(), in); err != nil {
					return err
				}
			}
			if found != nil {
				if t, err = cl.RecordFacts(cmd.Context(), t.Name, *found); err != nil {
					return err
				}
			}
			if ok, err := c.emit(t); ok {
				return err
			}
			c.done("%s is changed", t.Name)
			return nil
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&facts, "fact", nil, "`name=value` of what was found out about it, such as patched=yes; may be repeated; name= forgets one")
	cmd.Flags().StringVar(&gathered, "facts-at", "", "`time` at which the facts were gathered: 10m (ago), or RFC 3339; now, unless said")
	return cmd
}

// factFlags is how many flags were given that say nothing of the target itself.
func factFlags(cmd *cobra.Command) (n int) {
	for _, name := range []string{"fact", "facts-at", "json", "quiet", "no-input", "yes", "no-color", "timeout", "profile", "server", "token-file"} {
		if cmd.Flags().Changed(name) {
			n++
		}
	}
	return n
}

// factsInput reads facts; nil when there are none.
func (c *cli) factsInput(facts []string, gathered string) (*api.FactsInput, error) {
	if len(facts) == 0 {
		return nil, nil
	}
	values, err := keyValues("fact", facts)
	if err != nil {
		return nil, err
	}
	in := &api.FactsInput{Facts: values}
	if gathered != "" {
		at, err := parsePast(gathered, c.now())
		if err != nil {
			return nil, err
		}
		in.At = &at
	}
	return in, nil
}

// keyValues reads name=value.
func keyValues(what string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usage("the %s %q is not one: write it like name=value", what, s)
		}
		out[name] = value
	}
	return out, nil
}

// inputOf is what an administrator would write to get the target as it is.
func inputOf(t *api.Target) api.TargetInput {
	in := api.TargetInput{Name: t.Name, Kind: t.Kind, Address: t.Address, Labels: t.Labels, Applications: t.Applications,
		HostKeys: t.HostKeys, Via: t.Via, HopAccount: t.HopAccount, Provisioner: t.Provisioner, PrincipalsFolder: t.PrincipalsFolder, ScanAccount: t.ScanAccount, Version: t.Version}
	for _, a := range t.Accounts {
		in.Accounts = append(in.Accounts, api.AccountInput{Name: a.Name, Credential: a.Credential, Made: a.Made, KnownAs: a.KnownAs})
	}
	return in
}

func (c *cli) targetRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm TARGET", Short: "Remove a target", Args: between(1, 1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := c.confirm("Remove the target " + args[0] + "?"); err != nil {
				return err
			}
			if err := cl.RemoveTarget(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.done("%s is removed", args[0])
			return nil
		},
	}
}

// lockCmd makes lock and unlock of targets and users.
func (c *cli) lockCmd(what string, output any, lock bool, complete cobra.CompletionFunc,
	do func(ctx context.Context, cl *api.Client, name, reason string, lock bool) (any, error)) *cobra.Command {
	verb, short, did := "lock", "Deny everything about it now, and cut its sessions", "locked; its sessions are cut"
	if !lock {
		verb, short, did = "unlock", "End a lock", "not locked any more"
	}
	var reason string
	cmd := &cobra.Command{
		Use: verb + " " + strings.ToUpper(what) + " --reason TEXT", Short: short, Args: between(1, 1), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := c.because(reason)
			if err != nil {
				return err
			}
			cl, _, err := c.client(output)
			if err != nil {
				return err
			}
			v, err := do(cmd.Context(), cl, args[0], why, lock)
			if err != nil {
				return err
			}
			if ok, err := c.emit(v); ok {
				return err
			}
			c.done("%s is %s", args[0], did)
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the audit log")
	return cmd
}

func lockTarget(ctx context.Context, cl *api.Client, name, reason string, lock bool) (any, error) {
	if lock {
		return cl.LockTarget(ctx, name, reason)
	}
	return cl.UnlockTarget(ctx, name, reason)
}

func lockUser(ctx context.Context, cl *api.Client, name, reason string, lock bool) (any, error) {
	if lock {
		return cl.LockUser(ctx, name, reason)
	}
	return cl.UnlockUser(ctx, name, reason)
}
