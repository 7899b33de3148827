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
	return nounCmd("account", "Accounts on targets", c.accountAddCmd(), c.accountGiveUpCmd(), &cobra.Command{
		Use: "ls [TARGET]", Short: "List accounts", Args: between(0, 1), ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
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
	})
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
			a := api.AccountInput{Name: name}
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
	f.BoolVar(&made.KeepHome, "keep-home", false, "put the home aside at the end, for root of the target")
	return cmd
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
