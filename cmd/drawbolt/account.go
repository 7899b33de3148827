package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// accountJSON is an account with the name of its target, so that a list of them
// can be read alone.
type accountJSON struct {
	Target string `json:"target"`
	api.Account
}

func (c *cli) accountCmd() *cobra.Command {
	return nounCmd("account", "Accounts on targets", c.accountAddCmd(), c.accountShowCmd(), c.accountSetCmd(), c.accountGiveUpCmd(), c.accountLsCmd(),
		c.accountManageCmd(), c.accountUnmanageCmd(), c.accountRotateCmd(), c.accountCandidatesCmd(),
		c.accountDiscoverCmd(), c.accountAdoptCmd(), c.accountWaysCmd())
}

func (c *cli) accountLsCmd() *cobra.Command {
	var found inventoryFlags
	cmd := &cobra.Command{
		Use: "ls [TARGET]", Short: "List accounts: those of targets, or those that scans have found", Args: between(0, 1), ValidArgsFunction: c.completeTargets,
		Long: `List the accounts of targets that you may know of. With --found, or one of the other
flags, list what scans have found on targets instead, the gravest first.`,
		Example: "  drawbolt account ls db01\n  drawbolt account ls --class unmanaged --risk high\n  drawbolt account ls --found --csv >accounts.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			if found.given(cmd) {
				return c.listFound(cmd.Context(), found.filter(args), found.csv)
			}
			targets, err := c.targetsLike(cmd.Context(), first(append(args, "*")...))
			if err != nil {
				return err
			}
			all := []accountJSON{}
			var rows [][]string
			for _, t := range targets {
				for _, a := range t.Accounts {
					all = append(all, accountJSON{t.Name, a})
					rows = append(rows, []string{a.Name, t.Name, first(a.Credential, "-"), c.accountState(t, a), longest(a)})
				}
			}
			if ok, err := c.emit(all); ok {
				return err
			}
			c.table("No accounts.", []string{"ACCOUNT", "TARGET", "CREDENTIAL", "STATE", "LONGEST"}, rows)
			return c.listMade(cmd.Context())
		},
	}
	found.add(c, cmd)
	return cmd
}

// listMade lists the accounts that exist for a grant at this moment.
func (c *cli) listMade(ctx context.Context) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	made, err := cl.MadeAccounts(ctx)
	if err != nil || len(made.Items) == 0 {
		return err
	}
	var rows [][]string
	for _, a := range made.Items {
		rows = append(rows, []string{a.ID, a.Login + "@" + a.Target, a.User, a.Request, madeState(&a)})
	}
	c.print("")
	c.table("", []string{"MADE", "LOGIN", "FOR", "REQUEST", "STATE"}, rows)
	return nil
}

func madeState(a *api.MadeAccount) string {
	switch {
	case a.Stuck:
		return "SHOULD BE GONE: " + a.Problem
	case a.State == "failed":
		return "failed: " + a.Problem
	case a.Tries > 0:
		return a.State + ", failed so far: " + a.Problem
	default:
		return a.State
	}
}

// warnOfAccounts says which accounts should be gone and are not.
func (c *cli) warnOfAccounts(ctx context.Context, cl *api.Client) error {
	made, err := cl.MadeAccounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range made.Items {
		if a.Stuck {
			c.say("%s@%s should be gone and is not: %s (drawbolt account ls)", a.Login, a.Target, a.Problem)
		}
	}
	return nil
}

func (c *cli) accountAddCmd() *cobra.Command {
	var made api.AccountTemplate
	var knownAs string
	cmd := &cobra.Command{
		Use: "add ACCOUNT@TARGET", Short: "Add an account to a target, or change how it is made for a grant", Args: between(1, 1),
		Long: `Add an account to a target. With --prefix or --login it is one that drawbolt
makes on the target at the first use of a grant, and removes at the grant's end.
The target needs a provisioner for that: drawbolt target set TARGET --provisioner root`,
		Example: "  drawbolt account add dba@db01 --prefix jit- --group adm --sudo 'ALL=(postgres) NOPASSWD: ALL'",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, target, ok := strings.Cut(args[0], "@")
			if !ok {
				return usage("write it like dba@db01")
			}
			cl, _, err := c.client(api.Target{})
			if err != nil {
				return err
			}
			t, err := cl.FindTarget(cmd.Context(), target)
			if err != nil {
				return err
			}
			in := inputOf(&t)
			in.Accounts = slices.DeleteFunc(in.Accounts, func(a api.AccountInput) bool { return a.Name == name })
			a := api.AccountInput{Name: name, KnownAs: knownAs}
			if i := slices.IndexFunc(t.Accounts, func(a api.Account) bool { return a.Name == name }); i >= 0 {
				a.Credential = t.Accounts[i].Credential
			}
			if made.Prefix != "" || made.Login != "" {
				a.Made = &made
			} else if len(made.Groups)+len(made.Sudo) > 0 || made.Shell != "" || made.KeepHome {
				return usage("an account that is made for a grant needs --prefix or --login")
			}
			in.Accounts = append(in.Accounts, a)
			if t, err = cl.SetTarget(cmd.Context(), in); err != nil {
				return err
			}
			if ok, err := c.emit(t); ok {
				return err
			}
			c.done("%s is added to %s", name, t.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&made.Prefix, "prefix", "", "`text` before the person's name, which makes the login name")
	f.StringVar(&made.Login, "login", "", "login `name` for everybody, one holder at a time")
	f.StringSliceVar(&made.Groups, "group", nil, "`group` of the target that it joins; may be repeated")
	f.StringArrayVar(&made.Sudo, "sudo", nil, "`line` of sudoers without the user; may be repeated")
	f.StringVar(&made.Shell, "shell", "", "`path` of the login shell; default /bin/sh")
	f.StringVar(&knownAs, "known-as", "", "`name` in its system, where that is another: the DN of its entry in a directory, user@host of MySQL")
	f.BoolVar(&made.KeepHome, "keep-home", false, "put the home aside at the end, for root of the target")
	return cmd
}

// findAccount reads ACCOUNT@TARGET and returns the target with that account.
func (c *cli) findAccount(ctx context.Context, cl *api.Client, arg string) (api.Target, api.Account, error) {
	name, target, ok := strings.Cut(arg, "@")
	if !ok {
		return api.Target{}, api.Account{}, usage("write it like root@db01")
	}
	t, err := cl.FindTarget(ctx, target)
	if err != nil {
		return t, api.Account{}, err
	}
	i := slices.IndexFunc(t.Accounts, func(a api.Account) bool { return a.Name == name })
	if i < 0 {
		return t, api.Account{}, &failure{code: exitNotFound, text: "no account " + arg + " that you may know of", next: "drawbolt account ls " + target}
	}
	return t, t.Accounts[i], nil
}

func (c *cli) accountShowCmd() *cobra.Command {
	var found bool
	cmd := &cobra.Command{
		Use: "show ACCOUNT@TARGET", Short: "Show an account; of one that no target has, what scans have found of it", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			t, a, err := c.findAccount(cmd.Context(), cl, args[0])
			if err != nil || found {
				f, unfound := cl.FindFound(cmd.Context(), args[0])
				switch {
				case unfound == nil:
					return c.showFound(f)
				case err == nil:
					err = unfound
				}
				return err
			}
			if ok, err := c.emit(accountJSON{t.Name, a}); ok {
				return err
			}
			c.print("%s@%s", a.Name, t.Name)
			c.print("  %-13s%s", "logs in with", first(a.Credential, "-"))
			c.print("  %-13s%s", "state", c.accountState(t, a))
			c.print("  %-13s%s", "longest", longest(a))
			for _, k := range a.KnownTo {
				c.print("  %-13s%s, who was shown it at %s", "known to", k.User, c.when(k.At))
			}
			if a.KnownAs != "" {
				c.print("  %-13s%s", "known as", a.KnownAs)
			}
			if a.Managed == nil {
				return nil
			}
			c.print("  %-13s%s", "kept", managedText(a.Managed))
			return c.showPassword(cmd.Context(), cl, t.Name, a.Name)
		},
	}
	cmd.Flags().BoolVar(&found, "found", false, "what scans have found of it")
	return cmd
}

// maxSecret bounds what is read of a password or a key, in bytes; the server
// takes less.
const maxSecret = 32 << 10

func (c *cli) accountSetCmd() *cobra.Command {
	var password, certificate bool
	var keyFile string
	cmd := &cobra.Command{
		Use: "set ACCOUNT@TARGET --password-stdin | --key-file FILE | --certificate", Short: "Say what drawbolt logs in with at an account", Args: between(1, 1),
		Long: `Say what drawbolt logs in with at an account: a certificate for each session,
which is how an account begins, or a password or a private key, for targets that
know nothing else. The server seals it, and nobody gets it back. It is for the
address and the host keys that the target has now; set it anew when they change.`,
		Example: "  drawbolt account set root@switch01 --password-stdin <password.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, target, ok := strings.Cut(args[0], "@")
			if !ok {
				return usage("write it like root@db01")
			}
			in, err := c.credentialInput(password, certificate, keyFile)
			if err != nil {
				return err
			}
			cl, _, err := c.client(api.AccountInput{})
			if err != nil {
				return err
			}
			a, err := cl.SetCredential(cmd.Context(), target, name, in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(a); ok {
				return err
			}
			c.done("%s logs in with a %s", args[0], in.Credential)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&password, "password-stdin", false, "with the password on stdin; one newline at its end is cut")
	f.StringVar(&keyFile, "key-file", "", "with the private key in `file`: OpenSSH's form, no passphrase")
	f.BoolVar(&certificate, "certificate", false, "with a certificate for each session; what was kept is removed")
	return cmd
}

func (c *cli) credentialInput(password, certificate bool, keyFile string) (in api.CredentialInput, err error) {
	n := 0
	for _, given := range []bool{password, certificate, keyFile != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		return in, usage("give one of --password-stdin, --key-file FILE and --certificate")
	}
	var secret []byte
	switch {
	case certificate:
		in.Credential = "certificate"
	case password:
		in.Credential = "password"
		if secret, err = c.readSecret(); err != nil {
			return in, err
		}
	default:
		in.Credential = "key"
		if secret, err = readFile(keyFile); err != nil {
			return in, err
		}
	}
	if len(secret) > maxSecret {
		return in, usage("a password or key has at most %d bytes", maxSecret)
	}
	in.Secret = secret
	return in, nil
}

func (c *cli) accountGiveUpCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "give-up ID --reason TEXT", Short: "Stop removing an account that cannot be removed: it is gone, you say", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := c.because(reason)
			if err != nil {
				return err
			}
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := cl.GiveUpAccount(cmd.Context(), args[0], why); err != nil {
				return err
			}
			c.done("%s is not removed any more", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the audit log")
	return cmd
}
