package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
)

func breakglassCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "breakglass", Short: "Sealed codes with which somebody gets in when nothing else lets them", Args: cobra.NoArgs}
	cmd.AddCommand(codesCommand(), codesStatusCommand(), codesRevokeCommand())
	return cmd
}

func codesCommand() *cobra.Command {
	var path, people, user string
	var need int
	var pipe bool
	cmd := &cobra.Command{
		Use: "codes --people WHO --need K", Short: "Print a new set of sealed codes, once; the set from before is void", Args: cobra.NoArgs,
		Long: `Print a new set of codes to this terminal, one for each envelope, and make the set
from before void. Nobody can print them again: they are kept nowhere but on the
paper. K of them, typed together, open a login of the emergency user for an hour,
which may break glass and nothing else; then the whole set is void.

WHO is a number of envelopes, or names of users, who get one each. Whoever's code
was used does not review what was done with it.`,
		Example: "  drawboltd breakglass codes --people alice,bob,carol,dave,erin --need 3\n  drawboltd breakglass codes --people 5 --need 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, ok := cmd.OutOrStdout().(*os.File)
			if !pipe && !(ok && isTerminal(out)) {
				return usageError{errors.New("the codes are printed to a terminal and nowhere else; if this leads to a printer, add --pipe")}
			}
			return onMachine(cmd, path, func(a *App) error {
				return a.printCodes(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), user, people, need)
			})
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&people, "people", "", "how many envelopes there are, or names of the users who get them, with commas")
	cmd.Flags().IntVar(&need, "need", 0, "how many codes open the login, at least 2")
	cmd.Flags().StringVar(&user, "user", "emergency", "name of the emergency user, who is made if there is none")
	cmd.Flags().BoolVar(&pipe, "pipe", false, "print although stdout is no terminal")
	return cmd
}

// printCodes makes a set of codes and prints it. The codes go to out and nowhere
// else.
func (a *App) printCodes(ctx context.Context, out, talk io.Writer, user, people string, need int) error {
	holders, err := a.codeHolders(ctx, people)
	if err != nil {
		return err
	}
	if need < 2 || need > len(holders) {
		return usageError{fmt.Errorf("of %d codes, --need is between 2 and %d: nobody opens it alone", len(holders), len(holders))}
	}
	u, err := a.broker.EmergencyUser(ctx, user)
	if err != nil {
		return err
	}
	codes, set, err := a.logins.NewCodes(ctx, access.System(), u, holders, need)
	if err != nil {
		return err
	}
	for i, code := range codes {
		holder := ""
		if name := set.Codes[i].HolderName; name != "" {
			holder = ", for " + name
		}
		if _, err := fmt.Fprintf(out, `----------------------------------------------------------------------
drawbolt emergency code %d of %d%s
%s, %s. %d codes together open the login of %s.
In an emergency: drawbolt login --break-glass %s
or %s/login/breakglass

    %s

`, i+1, len(codes), holder, set.ID, set.CreatedAt.Format(time.DateOnly), need, u.Name, a.config.Server.ExternalURL, strings.TrimSuffix(a.config.Server.ExternalURL, "/"), code); err != nil {
			return err
		}
	}
	fmt.Fprintln(talk, "Cut, seal and hand out. They are printed this once; clear the terminal. Sets from before are void.")
	can, err := a.broker.BreaksGlass(ctx, u)
	if err != nil {
		return err
	}
	if !can {
		fmt.Fprintf(talk, "Next: no role lets %s break glass yet: give one that lists break_glass the group %s, with drawbolt role set\n", u.Name, broker.EmergencyGroup)
	}
	return nil
}

func (a *App) codeHolders(ctx context.Context, people string) ([]identity.Holder, error) {
	if people == "" {
		return nil, usageError{errors.New("who gets them? Add --people with a number, or with names")}
	}
	if n, err := strconv.Atoi(people); err == nil {
		if n < 1 || n > identity.MaxCodes {
			return nil, usageError{fmt.Errorf("--people is between 2 and %d", identity.MaxCodes)}
		}
		return make([]identity.Holder, n), nil
	}
	var list []identity.Holder
	for name := range strings.SplitSeq(people, ",") {
		u, err := a.db.User(ctx, strings.TrimSpace(name))
		if errors.Is(err, access.ErrNotFound) || err == nil && (u.Bot || u.Emergency) {
			return nil, usageError{fmt.Errorf("--people: %q is no person here", name)}
		}
		if err != nil {
			return nil, err
		}
		for _, h := range list {
			if h.ID == u.ID {
				return nil, usageError{fmt.Errorf("--people names %s twice: each person has one code", u.Name)}
			}
		}
		list = append(list, identity.Holder{ID: u.ID, Name: u.Name})
	}
	return list, nil
}

func codesStatusCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether sealed codes are valid, and who has them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onMachine(cmd, path, func(a *App) error {
				s, err := a.logins.Codes(cmd.Context())
				if errors.Is(err, access.ErrNotFound) {
					fmt.Fprintln(cmd.OutOrStdout(), "no sealed codes are valid\nNext: drawboltd breakglass codes --people WHO --need K")
					return nil
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s, of %s: %d of %d codes open a login\n", s.ID, s.CreatedAt.Format(time.DateOnly), s.Need, len(s.Codes))
				for _, c := range s.Codes {
					holder := c.HolderName
					if holder == "" {
						holder = "somebody who is not known here"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "  %2d  %s\n", c.N, holder)
				}
				return nil
			})
		},
	}
	configFlag(cmd, &path)
	return cmd
}

func codesRevokeCommand() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use: "revoke --reason TEXT", Short: "Make the sealed codes void, as when an envelope is lost", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onMachine(cmd, path, func(a *App) error {
				err := a.logins.VoidCodes(cmd.Context(), access.System(), reason)
				if errors.Is(err, access.ErrNotFound) {
					return errors.New("no sealed codes are valid: nothing was changed")
				}
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), "the sealed codes are void\nNext: drawboltd breakglass codes --people WHO --need K")
				}
				return err
			})
		},
	}
	configFlag(cmd, &path)
	reasonFlag(cmd, &reason, "why they are void")
	return cmd
}

// glassRules are what the configuration says of break-glass.
func (a *App) glassRules() broker.GlassRules {
	c := &a.config.BreakGlass
	return broker.GlassRules{
		MaxDuration: time.Duration(c.MaxDuration), RequireAlarms: c.RequireAlarms, StopAfter: c.StopAfter.duration(), Alarms: a.alarms,
	}
}

// alarms are the ways by which people are told of break-glass at once: the log of
// the server, which needs no network, and the channels that are given it. The
// channels are opened after the broker, and do not change after that.
func (a *App) alarms() []string {
	return append([]string{"log"}, alarmChannels(a.routes)...)
}

// glassMetrics count break-glass, by whether it was reviewed.
func (a *App) glassMetrics() []prometheus.Collector {
	count := func(reviewed bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "drawbolt_breakglass_total", Help: "Times that access was taken without approval, on all servers of the database, by whether it was reviewed.",
			ConstLabels: prometheus.Labels{"reviewed": strconv.FormatBool(reviewed)},
		}, func() float64 {
			open, closed, err := a.db.CountGlassReviews(context.Background())
			switch {
			case err != nil:
				return -1
			case reviewed:
				return float64(closed)
			default:
				return float64(open)
			}
		})
	}
	return []prometheus.Collector{count(false), count(true)}
}

// examineGlass looks whether somebody could get in on the worst day, and whether
// anybody would hear of it.
func (a *App) examineGlass(ctx context.Context) (list []finding) {
	add := func(state, text, next string) { list = append(list, finding{"break-glass", state, text, next}) }
	const next = "configure a channel that is told of breakglass: docs/operating.md"
	ways := a.alarms()
	told := fmt.Sprintf("ways that raise the alarm: %d (%s)", len(ways), strings.Join(ways, ", "))
	switch required := a.config.BreakGlass.RequireAlarms; {
	case len(ways) < required:
		add("error", fmt.Sprintf("%s, and breakglass.require_alarms is %d: nobody breaks glass", told, required), next)
	case len(ways) < 2:
		add("warning", told, next)
	default:
		add("ok", told, "")
	}
	s, err := a.logins.Codes(ctx)
	switch made, e := a.db.CodesMade(ctx); {
	case err == nil:
		add("ok", fmt.Sprintf("%d of %d sealed codes of %s open a login", s.Need, len(s.Codes), s.CreatedAt.Format(time.DateOnly)), "")
	case !errors.Is(err, access.ErrNotFound) || e != nil:
		add("error", errors.Join(err, e).Error(), "")
	case made:
		add("warning", "the sealed codes were used or made void, and no others were printed", "drawboltd breakglass codes --people WHO --need K")
	default:
		add("ok", "no sealed codes were ever printed (drawboltd breakglass codes)", "")
	}
	open, _, err := a.db.CountGlassReviews(ctx)
	switch {
	case err != nil:
		add("error", err.Error(), "")
	case open > 0:
		add("warning", fmt.Sprintf("%d cases wait for a review", open), "drawbolt breakglass ls --open")
	}
	return list
}
