package main

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/spf13/cobra"
)

type proxyOptions struct{ host, port string }

func (c *cli) proxyCmd() *cobra.Command {
	var o proxyOptions
	cmd := &cobra.Command{
		Use:   "proxy TARGET | proxy --host HOST --port PORT",
		Short: "Carry ssh over HTTPS, as its ProxyCommand",
		Long: `Carry the bytes of ssh on stdin and stdout to a target, over the HTTPS port of the
server and under your login, where nothing else gets out. The port is not used:
the target has its own. HTTPS_PROXY is respected.

"drawbolt ssh-config --transport https" writes the configuration that calls it.`,
		Example:           "  ssh -o ProxyCommand='drawbolt proxy --host %h --port %p' root@db01",
		Args:              between(0, 1),
		ValidArgsFunction: c.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (o.host != "") {
				return usage("name one target: drawbolt proxy TARGET, or --host and --port")
			}
			if o.host != "" {
				if n, err := strconv.ParseUint(o.port, 10, 16); o.port != "" && (err != nil || n == 0) {
					return usage("%q is not a port", o.port)
				}
				args = []string{o.host}
			} else if o.port != "" {
				return usage("--port goes with --host")
			}
			return c.runProxy(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "", "the target, as ssh says it: %h")
	f.StringVar(&o.port, "port", "", "what ssh says as %p")
	f.StringVar(&c.folder, "folder", "", "`folder` of drawbolt's files (DRAWBOLT_CONFIG_DIR)")
	return cmd
}

// runProxy moves bytes until either side has ended.
func (c *cli) runProxy(ctx context.Context, target string) error {
	if !plainHost(target) {
		return usage("%q is not the name of a target", target)
	}
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	// A certificate that has ended is renewed before ssh shows it.
	if err := c.ensureIdentity(ctx, cl, p); err != nil {
		return err
	}
	conn, err := cl.SSH(ctx, target)
	if err != nil {
		return err
	}
	defer conn.Close()
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(conn, c.stdin); ended <- err }()
	go func() { _, err := io.Copy(c.stdout, conn); ended <- err }()
	err = <-ended // what is left of the other copy ends with the process
	if ctx.Err() != nil {
		return silent(exitInterrupt)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return &failure{code: exitTransport, text: "the connection to " + p.Server + " broke: " + err.Error(), cause: err}
	}
	return nil
}
