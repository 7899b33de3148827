package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) caCmd() *cobra.Command {
	return nounCmd("ca", "The SSH authorities", c.caShowCmd(), c.caExportCmd(), c.caRotateCmd(), c.caKRLCmd(), c.caRevokeCmd())
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
	cmd.AddCommand(c.caKRLPushCmd())
	return cmd
}

func (c *cli) caKRLPushCmd() *cobra.Command {
	return &cobra.Command{
		Use: "push", Short: "Bring the list of revoked certificates to the targets now",
		Long: `Have the server bring the list of revoked certificates to all targets that have a
provisioner. It does so by itself when something is revoked, to the targets that this
concerns, and each target fetches the list every minute. Whom it reached stands in the
audit log: "drawbolt audit search --action revocations.push".`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Pushed{})
			if err != nil {
				return err
			}
			p, err := cl.PushKRL(cmd.Context())
			if err != nil {
				return err
			}
			if ok, err := c.emit(p); ok {
				return err
			}
			c.done("targets to which the list is brought: %d", p.Targets)
			return nil
		},
	}
}

func (c *cli) caRevokeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke SERIAL|SESSION --reason TEXT", Short: "Revoke a certificate, or those of a session",
		Long: `Revoke a certificate by its serial, which stands in the event that issued it, or all
of a session. A target learns it at once where it has a provisioner, and otherwise with
the next list that it fetches; the bastion knows at once. It cuts nobody off: "drawbolt
revoke" and "drawbolt user lock" do, and revoke the certificates as well.`,
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

func (c *cli) caExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export [user|host|identity]", Short: "Print all authority keys that are to be trusted, as files want them",
		Long: `Print the public keys of the SSH authorities, all that are to be trusted: two of a kind
while it is rotated. user is the content of a file for sshd's TrustedUserCAKeys; host is
lines for known_hosts; identity is keys that only the bastion needs. It needs no login.`,
		Example:   "  drawbolt ca export user > /etc/ssh/drawbolt_user_ca.pub\n  drawbolt ca export host >> ~/.ssh/known_hosts",
		Args:      between(0, 1),
		ValidArgs: authorityKinds(),
		RunE: func(cmd *cobra.Command, args []string) error {
			which := first(args...)
			if which != "" && !slices.Contains(authorityKinds(), which) {
				return usage("there is no authority %q: user, host or identity", which)
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
			for _, part := range []struct {
				kind, title, before string
				keys                []string
			}{
				{"user", "# TrustedUserCAKeys of targets", "", a.Users},
				{"host", "# known_hosts of clients", "@cert-authority * ", a.Hosts},
				{"identity", "# the bastion itself", "", a.Identities},
			} {
				if which != "" && which != part.kind {
					continue
				}
				if which == "" {
					c.print("%s", part.title)
				}
				for _, key := range part.keys {
					text, _, err := parseKey([]byte(key))
					if err != nil {
						return fmt.Errorf("the server sent an authority that is no key: %w", err)
					}
					c.print("%s%s drawbolt-%s-ca", part.before, text, part.kind)
				}
			}
			return nil
		},
	}
}

func authorityKinds() []string { return []string{"user", "host", "identity"} }

func (c *cli) caRotateCmd() *cobra.Command {
	var activate, retire, now bool
	cmd := &cobra.Command{
		Use: "rotate KIND [--activate|--retire [--now]]", Short: "Replace the key of an authority, in three steps",
		Long: `Replace the key of an authority (user, host or identity) without cutting anybody off:

  drawbolt ca rotate user               makes the next key; it signs nothing yet
  drawbolt ca export user               goes to every target (host: every client)
  drawbolt ca rotate user --activate    signs with it from now on
  drawbolt ca rotate user --retire      trusts the old key no more

The last step is refused while a certificate of the old key is valid. --now does it
all the same: for a key that is stolen. Then take the old key off the targets as well.`,
		Args:      between(1, 1),
		ValidArgs: authorityKinds(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(authorityKinds(), args[0]) {
				return usage("there is no authority %q: user, host or identity", args[0])
			}
			if activate && retire || now && !retire {
				return usage("one step at a time: --activate, or --retire with or without --now")
			}
			in, did, next := api.RotateInput{Step: "stage", Now: now}, "has a next key", "drawbolt ca export "+args[0]+"      then: drawbolt ca rotate "+args[0]+" --activate"
			switch {
			case activate:
				in.Step, did, next = "activate", "signs with its next key", "drawbolt ca rotate "+args[0]+" --retire"
			case retire:
				in.Step, did, next = "retire", "has forgotten its old key", "drawbolt ca export "+args[0]
				if err := c.confirm("Trust the old key of the " + args[0] + " authority no more?"); err != nil {
					return err
				}
			}
			cl, _, err := c.client([]api.AuthorityKey{})
			if err != nil {
				return err
			}
			list, err := cl.RotateAuthority(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, k := range list.Items {
				rows = append(rows, []string{k.State, k.Key})
			}
			c.table("No keys.", []string{"STATE", "KEY"}, rows)
			c.done("the %s authority %s", args[0], did)
			c.next(next)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&activate, "activate", false, "sign with the next key")
	f.BoolVar(&retire, "retire", false, "trust the old key no more")
	f.BoolVar(&now, "now", false, "with --retire: although its certificates are valid still")
	return cmd
}
