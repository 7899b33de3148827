package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder/audit"
)

// sealedCommand gives whoever has a key of their own what that key opens, such as
// the copy of a file, without a way to it over the network.
func sealedCommand() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use: "sealed NAME", Short: "Write a sealed file whole: a recording, or what is kept beside it",
		Long: `Write a sealed file of the folder of recordings to stdout with its header, which is
in the database. It stays encrypted: drawboltd sealed SES-9f2c.1.file.age --reason TEXT
| age -d -i key.txt. That it was taken stands in the audit log with the reason.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onMachine(cmd, path, func(a *App) error { return a.writeSealed(cmd.Context(), cmd.OutOrStdout(), args[0], reason) })
		},
	}
	configFlag(cmd, &path)
	reasonFlag(cmd, &reason, "why it is needed")
	return cmd
}

// writeSealed puts it on record before anything is written.
func (a *App) writeSealed(ctx context.Context, w io.Writer, name, reason string) error {
	f, err := a.sink.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	session, _, _ := strings.Cut(name, ".")
	e := audit.Event{Actor: "system", Action: "recording.sealed", Object: name, Session: session, Outcome: audit.Done, Reason: reason}
	if err := a.db.Record(ctx, e); err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(f, 0, f.Size()))
	return err
}
