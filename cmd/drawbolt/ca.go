package main

import (
	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) caCmd() *cobra.Command {
	return nounCmd("ca", "The SSH authorities", c.caShowCmd(), c.caKRLCmd(), c.caRevokeCmd())
}

func (c *cli) caShowCmd() *cobra.Command {
	return &cobra.Command{
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
			cl, err := c.anybody()
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
	}
}

// anybody connects for what needs no login.
func (c *cli) anybody() (*api.Client, error) {
	p, err := c.loadProfile()
	if err != nil {
		return nil, err
	}
	if p.Server == "" {
		return nil, &failure{code: exitLogin, text: "which server?", next: "drawbolt login https://YOUR-SERVER"}
	}
	return c.dial(p.Server, p.Fingerprint)
}

func (c *cli) caKRLCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "krl -o FILE", Short: "Save the list of revoked certificates, for sshd's RevokedKeys",
		Long: `Save the key revocation list: certificates that targets must not accept although
they have not expired. It is binary; "ssh-keygen -Q -l -f FILE" shows it. A file that
exists is not overwritten without --yes. It needs no login.`,
		Example: "  drawbolt ca krl --yes -o /etc/ssh/drawbolt_krl",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" || out == "-" && c.outTTY {
				return usage("the list is binary: it needs -o FILE")
			}
			cl, err := c.anybody()
			if err != nil {
				return err
			}
			r, err := cl.KRL(cmd.Context())
			if err != nil {
				return err
			}
			defer r.Close()
			return c.save(r, out)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - is stdout")
	return cmd
}

func (c *cli) caRevokeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke SERIAL|SESSION --reason TEXT", Short: "Revoke a certificate, or those of a session",
		Long: `Revoke a certificate by its serial, which stands in the event that issued it, or all
of a session. Targets learn it with the next list that they fetch; the bastion knows at
once. It cuts nobody off: "drawbolt revoke" and "drawbolt user lock" do, and revoke
the certificates as well.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := c.because(reason)
			if err != nil {
				return err
			}
			cl, _, err := c.client(api.Revocation{})
			if err != nil {
				return err
			}
			n, err := cl.RevokeCertificate(cmd.Context(), api.RevokeInput{Certificate: args[0], Reason: why})
			if err != nil {
				return err
			}
			if ok, err := c.emit(n); ok {
				return err
			}
			c.done("certificates revoked: %d", n.Certificates)
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the audit log")
	return cmd
}
