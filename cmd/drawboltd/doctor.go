package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/recorder"
)

// A finding is the outcome of one check of the doctor.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // "ok", "warning" or "error"
	Text  string `json:"text"`
	Next  string `json:"next,omitempty"`
}

func doctorCommand() *cobra.Command {
	var path string
	var asJSON, strict bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this installation; each line that is not ok says what to type", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := examine(cmd.Context(), path)
			errorsFound, warnings := 0, 0
			for _, f := range list {
				switch f.State {
				case "error":
					errorsFound++
				case "warning":
					warnings++
				}
			}
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(list); err != nil {
					return err
				}
			} else {
				marks := map[string]string{"ok": "✓", "warning": "▲", "error": "✗"}
				for _, f := range list {
					fmt.Fprintf(cmd.OutOrStdout(), " %s %-14s %s\n", marks[f.State], f.Check, f.Text)
					if f.Next != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "   → %s\n", f.Next)
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Result: %d errors, %d warnings\n", errorsFound, warnings)
			}
			if errorsFound > 0 || strict && warnings > 0 {
				return errors.New("the doctor found something")
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings count as errors")
	return cmd
}

// examine runs the checks, each of which goes on where the one before allows.
// It changes nothing but the schema, which serve would bring up to date too.
func examine(ctx context.Context, path string) []finding {
	var list findings

	c, err := configOf(path)
	if err != nil {
		list.bad("configuration", err, "drawboltd config check")
		return list
	}
	t, err := serverTLS(c)
	if err != nil {
		list.bad("tls", err, "drawboltd config show")
		t = nil
	}
	list = append(list, c.findings(t)...)
	a, err := NewApp(ctx, c, newLog(c, io.Discard), false)
	if people := (peopleError{}); errors.As(err, &people) {
		list.warn("vault", people.Error()+", so that what is in it is not looked at", "drawboltd status")
		return list
	}
	if err != nil {
		list.bad("installation", err, "drawboltd init")
		return list
	}
	defer a.Close()
	return append(list, a.findings(ctx)...)
}

// A findings list is filled by ok, bad and warn.
type findings []finding

func (l *findings) ok(check, format string, args ...any) {
	*l = append(*l, finding{check, "ok", fmt.Sprintf(format, args...), ""})
}

func (l *findings) bad(check string, err error, next string) {
	*l = append(*l, finding{check, "error", err.Error(), next})
}

func (l *findings) warn(check, text, next string) {
	*l = append(*l, finding{check, "warning", text, next})
}

// findings are those about what is configured; t is nil when there is no certificate.
func (c Config) findings(t *tls.Config) []finding {
	var list findings
	list.ok("configuration", "sound")
	if t == nil {
		// told already
	} else if left := time.Until(certificateEnd(t)); left < 14*24*time.Hour {
		list.warn("tls", fmt.Sprintf("the certificate ends in %d days", int(left.Hours()/24)), "renew server.tls.certificate")
	} else {
		list.ok("tls", "%d days left, %s", int(left.Hours()/24), c.Server.TLS.Mode)
	}
	for _, dir := range []string{c.Data, c.Recordings.Folder} {
		if err := writable(dir); err != nil {
			list.bad("disk", err, "make it writable for this user: "+dir)
		} else {
			list.ok("disk", "%s is writable", dir)
		}
	}
	if info, err := os.Stat(c.Data); err == nil && info.Mode().Perm()&0o077 != 0 {
		list.warn("disk", c.Data+" can be read by others", "chmod 700 "+c.Data)
	}
	return list
}

// findings are those about the installation as it is.
func (a *App) findings(ctx context.Context) []finding {
	var list findings
	c := a.config
	begin := time.Now()
	if err := a.db.Ping(ctx); err != nil {
		list.bad("database", err, "")
	} else {
		list.ok("database", "answers in %s", time.Since(begin).Round(10*time.Microsecond))
	}
	list.ok("vault", "opened, certificate authorities loaded")
	list = append(append(list, a.examinePolicy(ctx)...), a.examinePrograms(ctx)...)
	if a.onCall != nil {
		a.onCall.Refresh(ctx)
		problems := a.onCall.Problems(time.Now())
		for _, group := range slices.Sorted(maps.Keys(problems)) {
			list.bad("on call", fmt.Errorf("%s: %s", group, problems[group]), "mend the schedule in "+c.OnCall.File)
		}
		if len(problems) == 0 {
			list.ok("on call", "every schedule is read")
		}
	}
	if err := a.checkLog(ctx); errors.Is(err, errNoKept) {
		list.warn("audit log", err.Error(), "compare drawbolt audit export with a checkpoint that an auditor keeps")
	} else if err != nil {
		list.bad("audit log", err, "drawbolt audit export, and compare with checkpoints kept elsewhere")
	} else if n, err := a.db.AuditSize(ctx); err != nil {
		list.bad("audit log", err, "")
	} else {
		list.ok("audit log", "%d events, nothing was rolled back", n)
	}
	if left, err := filepath.Glob(filepath.Join(c.Data, "journals", "quarantine", "*")); err == nil && len(left) > 0 {
		list.warn("recordings", fmt.Sprintf("%d damaged journals are in quarantine", len(left)), "look at "+filepath.Join(c.Data, "journals", "quarantine"))
	} else {
		list.ok("recordings", "no journal is damaged")
	}
	switch open, failed, err := a.db.CountViews(ctx); {
	case err != nil:
		list.bad("views", err, "")
	case !c.Recordings.Views:
		list.ok("views", "none are made (recordings.views)")
	case failed > 0:
		list.warn("views", fmt.Sprintf("of %d recordings no view could be made; %d wait", failed, open), "drawboltd views")
	default:
		list.ok("views", "%d wait to be made", open)
	}
	list = append(append(list, a.examineKeeping(ctx)...), a.examineNotices(ctx)...)
	return append(list, a.examineGlass(ctx)...)
}

// examinePolicy tells what decides, and what keeps another bundle from it.
func (a *App) examinePolicy(ctx context.Context) []finding {
	var list findings
	findings, err := a.broker.PolicyFindings(ctx)
	if err != nil {
		list.bad("policy", err, "")
		return list
	}
	for _, f := range findings {
		list.warn("policy", f.Text, f.Next)
	}
	switch s := a.bundle; {
	case s.refused != nil && len(findings) == 0:
		list.warn("policy", "the bundle that is there is refused: "+s.refused.Error(), "drawboltd policy test "+s.path)
	case s.refused == nil && s.path == "":
		list.ok("policy", "the bundle in the program, %.12s", s.program.Digest())
	case s.refused == nil:
		list.ok("policy", "%s", strings.Join(strings.Fields(fmt.Sprintf("%s, %.12s %s %s", s.path, s.program.Digest(), s.origin.Commit, s.origin.Signer)), " "))
	}
	return list
}

func writable(dir string) error {
	if _, err := recorder.Directory(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
