package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder/video"
	"github.com/drawbolt/drawbolt/recorder/view"
)

// What this program is started with to make a view, and a video.
const (
	viewVerb  = "make-view"
	videoVerb = "make-video"
)

// viewsCommand tells what becomes of views, and has them made again. It shows
// nothing of a recording.
func viewsCommand() *cobra.Command {
	var path, again string
	cmd := &cobra.Command{
		Use: "views", Short: "Say which views of recordings wait or could not be made; have them made again", Args: cobra.NoArgs,
		Long: `Say how many views of recordings wait to be made and which could not be, with the
error of the last try. Views are what the player seeks with and the search finds.
With --again the server makes views again, and tries what it had given up.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onMachine(cmd, path, func(a *App) error { return a.printViews(cmd.Context(), cmd.OutOrStdout(), again) })
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&again, "again", "", "make again: the id of a session, failed, or all")
	return cmd
}

func (a *App) printViews(ctx context.Context, w io.Writer, again string) error {
	if again != "" {
		id := again
		if again == "all" || again == "failed" {
			id = ""
		}
		n, err := a.db.AgainViews(ctx, id, again == "failed")
		if err != nil {
			return err
		}
		if n == 0 && id != "" {
			return fmt.Errorf("there is no view of %q that could be made again: drawboltd views --again all", id)
		}
		fmt.Fprintf(w, "%d are made again\n", n)
	}
	open, failed, err := a.db.CountViews(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d wait to be made, %d could not be made\n", open, failed)
	list, err := a.db.FailedViews(ctx, 100)
	for _, v := range list {
		fmt.Fprintf(w, "%s  %s, try %d: %s\n", v.SessionID, v.State, v.Tries, v.Error)
	}
	return err
}

// makeViewCommand is for view.Worker: it reads a recording and writes its view, in a
// process that has nothing else.
func makeViewCommand() *cobra.Command {
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

// makeVideoCommand is for video.Maker: it reads a recording and has the encoder write
// its film, in a process that has nothing else.
func makeVideoCommand() *cobra.Command {
	var encoder, size string
	cmd := &cobra.Command{
		Use: videoVerb, Short: "Make the video of a recording, from standard input to standard output", Args: cobra.NoArgs, Hidden: true,
		Run: func(cmd *cobra.Command, _ []string) {
			os.Exit(video.Work(context.WithoutCancel(cmd.Context()), os.Stdin, os.Stdout, os.Stderr, encoder, size))
		},
	}
	cmd.Flags().StringVar(&encoder, "encoder", "", "the ffmpeg that is run")
	cmd.Flags().StringVar(&size, "size", "", "columns and rows of the picture, as 80x24")
	return cmd
}

// ownProgram is the program that runs, even if another has taken its place since.
func ownProgram() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
