package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) targetBootstrapCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "bootstrap TARGET [-o FILE]", Short: "Print the shell script that makes a target trust drawbolt",
		Long: `Print a shell script, to be read and then run as root at the target: from a console,
by ssh, or by the script module of Ansible. It installs the keys of the user authority
(both, while they are rotated), the principals of the target's accounts and the list
of revoked certificates, which it has fetched every minute, and tells drawbolt the
target's host keys when none is pinned. When drawbolt cannot log in after that, it
puts sshd's old configuration back. "--uninstall" takes everything away again.

The script bears a token for this one target that is good for an hour and for one
enrolment: keep it as you keep a key. Making another voids it. Running one again
changes nothing where nothing has to change.`,
		Example:           "  drawbolt target bootstrap db01 | ssh admin@10.0.0.5 sudo sh\n  drawbolt target bootstrap db01 -o db01.sh",
		Args:              between(1, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Bootstrap{})
			if err != nil {
				return err
			}
			b, err := cl.BootstrapTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(b); ok {
				return err
			}
			if err := c.save(strings.NewReader(b.Script), out); err != nil {
				return err
			}
			c.say("run it as root at %s within %s, then: drawbolt target check %s", b.Target, formatDuration(b.ExpiresAt.Sub(c.now()).Round(time.Minute)), b.Target)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write instead of stdout; only you can read it")
	return cmd
}
