package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) sshCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh [ACCOUNT@]TARGET [SSH-OPTION|COMMAND]...",
		Short: "Connect with your own ssh, without changing ~/.ssh/config",
		Long: `Run ssh with the configuration of the profile. What stands behind the target goes
to ssh as it is. The exit code is that of the remote command; 255 when ssh failed.`,
		Example:           "  drawbolt ssh root@db01\n  drawbolt ssh root@db01 -- uptime",
		Args:              between(1, -1),
		ValidArgsFunction: c.completeSSH,
		RunE: func(cmd *cobra.Command, args []string) error {
			host := args[0]
			if i := strings.LastIndexByte(host, '@'); i >= 0 {
				host = host[i+1:]
			}
			if strings.HasPrefix(args[0], "-") || !plainHost(host) {
				return usage("%q is not a target: options stand behind it", args[0])
			}
			return c.runStock(cmd.Context(), "ssh", args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// runStock runs ssh or scp with the configuration of the profile, which is
// refreshed first, and passes its exit code on.
func (c *cli) runStock(ctx context.Context, program string, args []string) error {
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	if _, _, err := c.refreshConfig(ctx, cl, p); err != nil {
		return err
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return &failure{code: exitTransport, text: fmt.Sprintf("the program %s is not installed: %v", program, err), next: "install OpenSSH"}
	}
	// Not CommandContext: on Ctrl-C the terminal tells ssh itself, and ssh decides.
	cmd := exec.Command(path, append([]string{"-F", p.path("ssh_config")}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	err = cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if code := e.ExitCode(); code >= 0 {
			return silent(code)
		}
		return &failure{code: exitTransport, text: program + " was killed: " + e.String()}
	}
	if err != nil {
		return &failure{code: exitTransport, text: fmt.Sprintf("run %s: %v", program, err)}
	}
	return nil
}
