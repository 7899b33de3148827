package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) userFactorCmd() *cobra.Command {
	cmd := nounCmd("factor", "Second factors, which people add and remove on the web under \"How you sign in\"", c.userFactorLsCmd(), c.userFactorRmCmd())
	cmd.Aliases = []string{"passkey"}
	return cmd
}

// factorTOTP is the id of an authenticator, and the kind of one.
const factorTOTP = "totp"

// A factor is a second factor as it is listed.
type factor struct {
	Kind string `json:"kind"` // passkey or totp
	api.Passkey
}

func (c *cli) userFactorLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls [USER]", Short: "List the second factors of a person, or yours", Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			var passkeys api.List[api.Passkey]
			var kinds []string
			if len(args) == 0 {
				me, failed := cl.Me(cmd.Context())
				if failed != nil {
					return failed
				}
				kinds = me.SecondFactors
				passkeys, err = cl.MyPasskeys(cmd.Context())
			} else {
				u, failed := cl.FindUser(cmd.Context(), args[0])
				if failed != nil {
					return failed
				}
				kinds = u.SecondFactors
				passkeys, err = cl.Passkeys(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			list := []factor{}
			for _, k := range passkeys.Items {
				list = append(list, factor{"passkey", k})
			}
			if slices.Contains(kinds, factorTOTP) {
				list = append(list, factor{factorTOTP, api.Passkey{ID: factorTOTP, Name: "authenticator"}})
			}
			if ok, err := c.emit(list); ok {
				return err
			}
			var rows [][]string
			for _, k := range list {
				added, used, state := "-", "-", "active"
				if k.Kind != factorTOTP {
					added, used = c.when(k.AddedAt), "never"
				}
				if k.UsedAt != nil {
					used = c.when(*k.UsedAt)
				}
				if k.Blocked != nil {
					state = "blocked: somebody may have a copy"
				}
				rows = append(rows, []string{k.ID, k.Kind, k.Name, added, used, state})
			}
			c.table("No second factors.", []string{"ID", "KIND", "NAME", "ADDED", "USED", "STATE"}, rows)
			return nil
		},
	}
}

func (c *cli) userFactorRmCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "rm USER ID --reason TEXT", Short: "Take away a second factor that a person has lost", Args: between(2, 2),
		Long: `Take away a second factor that a person has lost: a passkey by its id, or "totp".
Ask them by a way that you know, such as their telephone. It ends their logins, and
they are told that it was you. When it was their last one, their password alone is
enough to log in, so for a day after it was chosen none is taken away, and for a day
afterwards nobody makes a link to choose another.`,
		Example: "  drawbolt user factor rm bob totp --reason 'INC-7 phone stolen, called back'\n  drawbolt user factor rm bob PKY-0123456789abcdef --reason 'INC-8 key lost'",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if reason, err = c.because(reason); err != nil {
				return err
			}
			if err := cl.TakeFactor(cmd.Context(), args[0], args[1], reason); err != nil {
				return err
			}
			c.done("%s is no second factor of %s any more, and their logins have ended", args[1], args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the person is told")
	return cmd
}
