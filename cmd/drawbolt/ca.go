package main

import (
	"github.com/spf13/cobra"
)

func (c *cli) caCmd() *cobra.Command {
	return nounCmd("ca", "The SSH authorities", &cobra.Command{
		Use: "show [user|host]", Short: "Print the public keys of the authorities",
		Long: `Print the public keys of the SSH authorities: user is what targets trust for people
(TrustedUserCAKeys), host is what clients trust for hosts (@cert-authority).`,
		Example:   "  drawbolt ca show user > /etc/ssh/drawbolt_user_ca.pub",
		Args:      between(0, 1),
		ValidArgs: []string{"user", "host"},
		RunE: func(cmd *cobra.Command, args []string) error {
			which := first(args...)
			if which != "" && which != "user" && which != "host" {
				return usage("there is no authority %q: user or host", which)
			}
			p, err := c.loadProfile()
			if err != nil {
				return err
			}
			if p.Server == "" {
				return &failure{code: exitLogin, text: "which server?", next: "drawbolt login https://YOUR-SERVER"}
			}
			cl, err := c.dial(p.Server, p.Fingerprint) // the keys are public: no token is needed
			if err != nil {
				return err
			}
			a, err := cl.Authorities(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(a); ok {
				return err
			}
			switch which {
			case "user":
				c.print("%s", a.User)
			case "host":
				c.print("%s", a.Host)
			default:
				c.print("user %s", a.User)
				c.print("host %s", a.Host)
			}
			return nil
		},
	})
}
