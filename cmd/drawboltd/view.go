package main

import (
	"context"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder/view"
)

// viewVerb is what this program is started with to make a view.
const viewVerb = "make-view"

// viewCommand is for view.Worker: it reads a recording and writes its view, in a
// process that has nothing else.
func viewCommand() *cobra.Command {
	var last bool
	cmd := &cobra.Command{
		Use: viewVerb, Short: "Make the view of a recording, from standard input to standard output", Args: cobra.NoArgs, Hidden: true,
		Run: func(cmd *cobra.Command, _ []string) {
			// It is for the server to end it.
			os.Exit(view.Work(context.WithoutCancel(cmd.Context()), os.Stdin, os.Stdout, os.Stderr, last))
		},
	}
	cmd.Flags().BoolVar(&last, "last", false, "only how the screen stands at the end")
	return cmd
}

// ownProgram is the program that runs, even if another has taken its place since.
func ownProgram() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
