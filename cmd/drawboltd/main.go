// Drawboltd is the drawbolt server: the broker, the SSH bastion, the recorder,
// the vault, the web pages and the API in one program.
//
// This package wires the rooms together and decides nothing. It trusts its
// configuration file and its data folder; whoever can read the master key there
// can read the vault.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // rules and windows name time zones, which a container may not have

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/drawbolt/drawbolt/broker/access"
)

// version is set when a release is built.
var version = "dev"

func main() {
	// Relaying allocates a byte for each byte; a collector that may let the
	// heap grow to five times what lives costs a fifth less processor time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes of the server's verbs.
const (
	exitError   = 1
	exitUsage   = 2
	exitRefused = 3
)

// refusedError: what was looked at is not fit.
type refusedError struct{ error }

// usageError is a mistake in the command line.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "drawboltd", Short: "The drawbolt server: just-in-time privileged access",
		SilenceUsage: true, SilenceErrors: true, Version: version,
		SuggestionsMinimumDistance: 2,
	}
	// Without a RunE cobra would answer an unknown verb with the help and a 0.
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("there is no verb %q: drawboltd --help", args[0])}
		}
		return nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(initCommand(), serveCommand(), demoCommand(), doctorCommand(), healthcheckCommand(), configCommand(), policyCommand(), viewsCommand(), hiddenCommand(), sealedCommand(), unsealCommand(), sealCommand(), statusCommand(), rekeyCommand(), vaultCommand(), breakglassCommand(), versionCommand(), manCommand(), makeViewCommand(), makeVideoCommand())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "drawboltd: %v\n", err)
	if e, ok := errors.AsType[*access.Error](err); ok && e.Next != "" {
		fmt.Fprintf(stderr, "Next: %s\n", e.Next)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var refused refusedError
	if errors.As(err, &refused) {
		return exitRefused
	}
	return exitError
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "drawboltd", version)
			return err
		},
	}
}

// newLog makes the operators' log: text on a terminal, JSON elsewhere.
func newLog(c Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked with the configuration
	options := &slog.HandlerOptions{Level: level}
	f, isFile := w.(*os.File)
	if c.Log.Format == "text" || c.Log.Format == "auto" && isFile && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
