package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder/audit"
)

// configFlag adds --config, whose default is the file in /etc if it exists.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "", "configuration file (default /etc/drawbolt/drawbolt.yaml if it exists; DRAWBOLT_... variables count in any case)")
}

const standardConfig = "/etc/drawbolt/drawbolt.yaml"

func configOf(path string) (Config, error) {
	if path == "" {
		if _, err := os.Stat(standardConfig); err == nil {
			path = standardConfig
		}
	}
	return loadConfig(path, os.Environ())
}

// onMachine opens what the server works with, beside it or without it, for a verb
// of whoever holds the master key, which people are asked for where it takes them.
func onMachine(cmd *cobra.Command, path string, do func(*App) error) error {
	c, err := configOf(path)
	if err != nil {
		return err
	}
	wrapped, err := c.wrappedIn(cmd.Context())
	if err != nil {
		return err
	}
	f, isFile := cmd.InOrStdin().(*os.File)
	k, err := c.openKeeper(cmd.Context(), wrapped, consoleOf(cmd, !isFile || !isTerminal(f)))
	if err != nil {
		return err
	}
	a, err := newApp(cmd.Context(), c, newLog(c, cmd.ErrOrStderr()), opening{keeper: k})
	if err != nil {
		return err
	}
	defer a.Close()
	return do(a)
}

// reasonFlag adds --reason, which must be given.
func reasonFlag(cmd *cobra.Command, reason *string, usage string) {
	cmd.Flags().StringVar(reason, "reason", "", usage+" (required)")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if strings.TrimSpace(*reason) == "" {
			return usageError{errors.New("say why with --reason: it stands in the audit log")}
		}
		return nil
	}
}

func serveCommand() *cobra.Command {
	var path string
	var acceptClock bool
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			log := newLog(c, cmd.ErrOrStderr())
			if err := harden(); err != nil {
				return fmt.Errorf("keep secrets out of core dumps: %w", err)
			}
			g, err := newGate(cmd.Context(), c, log)
			if err != nil {
				return err
			}
			if acceptClock {
				g.prepare = func(ctx context.Context, a *App) error {
					e := audit.Event{Actor: "system", Action: "clock.accept", Object: c.Server.Name, Reason: "the operator took the clock as right although it stands before the last event"}
					return a.db.AcceptClock(ctx, e)
				}
			}
			return g.run(cmd.Context())
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&acceptClock, "accept-clock", false, "go on although the clock stands before the last event: it was ahead before")
	return cmd
}

// healthcheckCommand asks a running server, for container engines.
func healthcheckCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "healthcheck", Short: "Ask the server on this machine whether it is ready; exit 0 if so", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			if c.Server.Listen.Metrics == "" {
				return errors.New("server.listen.metrics is off, so there is nobody to ask")
			}
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
			resp, err := client.Get("http://" + c.Server.Listen.Metrics + "/readyz")
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the server is not ready (%s)", resp.Status)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		},
	}
	configFlag(cmd, &path)
	return cmd
}
