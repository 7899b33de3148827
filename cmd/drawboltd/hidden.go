package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// hiddenCommand shows what was typed unseen in a session. It is for whoever holds
// the master key, on the server's machine: there is no such verb over the network.
func hiddenCommand() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use: "hidden SESSION...", Short: "Print what was typed unseen in sessions, such as passwords; needs the master key",
		Long: `Print what was typed unseen in sessions, a line each: the session, the moment in its
recording, and the keys as a Go string literal. That they were looked at stands in the
audit log with the reason. With recordings.hidden_recipients only these people can
open it: drawboltd sealed SESSION.hidden.age --reason TEXT | age -d -i key.txt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onMachine(cmd, path, func(a *App) error {
				names, err := a.sink.List(cmd.Context())
				if err != nil {
					return err
				}
				for _, session := range args {
					err = errors.Join(err, a.printHidden(cmd.Context(), cmd.OutOrStdout(), names, session, reason))
				}
				return err
			})
		},
	}
	configFlag(cmd, &path)
	reasonFlag(cmd, &reason, "why it must be seen")
	return cmd
}

// printHidden puts the look on record before anything is seen.
func (a *App) printHidden(ctx context.Context, w io.Writer, names []string, session, reason string) error {
	found := false
	for _, name := range names {
		if !strings.HasPrefix(name, session+".") || !strings.HasSuffix(name, recorder.HiddenSuffix) {
			continue
		}
		found = true
		e := audit.Event{Actor: "system", Action: "recording.hidden", Object: name, Session: session, Outcome: audit.Done, Reason: reason}
		if err := a.db.Record(ctx, e); err != nil {
			return err
		}
		if err := a.printTyped(ctx, w, session, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !found {
		return fmt.Errorf("nothing that was typed unseen is kept of the session %q", session)
	}
	return nil
}

func (a *App) printTyped(ctx context.Context, w io.Writer, session, name string) error {
	f, err := a.sink.Open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := age.Decrypt(io.NewSectionReader(f, 0, f.Size()), a.keys.hidden)
	if err != nil {
		return fmt.Errorf("it can be opened by those in recordings.hidden_recipients only: %w", err)
	}
	lines := bufio.NewScanner(plain)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var t recorder.Typed
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s %s %q\n", session, time.Duration(t.At)*time.Microsecond, t.Keys); err != nil {
			return err
		}
	}
	return lines.Err()
}
