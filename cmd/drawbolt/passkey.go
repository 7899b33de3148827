package main

import (
	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) userPasskeyCmd() *cobra.Command {
	return nounCmd("passkey", "Passkeys, which people add and remove on the web under \"How you sign in\"", c.userPasskeyLsCmd(), c.userPasskeyRmCmd())
}

func (c *cli) userPasskeyLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls [USER]", Short: "List the passkeys of a person, or yours", Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			var list api.List[api.Passkey]
			if len(args) == 0 {
				list, err = cl.MyPasskeys(cmd.Context())
			} else {
				list, err = cl.Passkeys(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Passkey{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, k := range list.Items {
				used, state := "never", "active"
				if k.UsedAt != nil {
					used = c.when(*k.UsedAt)
				}
				if k.Blocked != nil {
					state = "blocked: somebody may have a copy"
				}
				rows = append(rows, []string{k.ID, k.Name, c.when(k.AddedAt), used, state})
			}
			c.table("No passkeys.", []string{"ID", "NAME", "ADDED", "USED", "STATE"}, rows)
			return nil
		},
	}
}

func (c *cli) userPasskeyRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm USER ID", Short: "Take a lost passkey away from a person", Args: between(2, 2),
		Long: `Take a lost passkey away from a person. When it was their last second factor,
their password alone is enough to log in. Their logins go on; "drawbolt user lock"
ends them, too.`,
		Example: "  drawbolt user passkey rm bob PKY-0123456789abcdef",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := cl.RemovePasskey(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			c.done("%s is no passkey of %s any more", args[1], args[0])
			return nil
		},
	}
}
