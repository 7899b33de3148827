package main

import (
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
	return nounCmd("account", "Accounts on targets", &cobra.Command{
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
			return nil
		},
	})
}
