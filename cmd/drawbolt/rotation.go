package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// splitAccount reads ACCOUNT@TARGET.
func splitAccount(arg string) (account, target string, err error) {
	account, target, ok := strings.Cut(arg, "@")
	if !ok {
		return "", "", usage("write it like root@db01")
	}
	return account, target, nil
}

func (c *cli) accountManageCmd() *cobra.Command {
	var m api.Managed
	var every, window, wait, keyFile string
	var password, key bool
	var together many
	cmd := &cobra.Command{
		Use: "manage [ACCOUNT@TARGET ...]", Short: "Have the passwords of accounts changed by drawbolt, or their keys", Args: between(0, -1),
		Long: `Have the password of an account changed by drawbolt: at once, and then as the
flags say. The one that is in force now is read from stdin, or is the one that is
kept already. Where another account may set it, it need not be known. Each day a
login proves the password. Of an account that is managed already the flags say
how from now on.

With --key or --key-file it is a key that is changed: a new one takes the old one's
line in the account's ~/.ssh/authorized_keys.

Several accounts are named, or picked out of what scans have found with --account-class,
--target, --risk, --owner and --label: each is taken over and managed by itself, and one that
fails stops none of the others. --dry-run says before what would become of each.

Exit code: 0 when all are done, 1 when one failed, 8 when --wait was too short.`,
		Example: "  drawbolt account manage app@pg01 --every 30d --after-use --password-stdin <password.txt\n  drawbolt account manage root@db01 --every 7d\n  drawbolt account manage deploy@web01 --key-file deploy_ed25519 --every 7d\n  drawbolt account manage --account-class unmanaged --target 'web*' --label environment=prod --every 30d --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.ManageInput{Managed: m}
			if key {
				in.Credential = "key"
			}
			for _, d := range []struct {
				text string
				to   *int64
			}{{every, &in.EverySeconds}, {window, &in.WindowSeconds}} {
				if d.text == "" {
					continue
				}
				parsed, err := parseDuration(d.text)
				if err != nil {
					return err
				}
				*d.to = int64(parsed / time.Second)
			}
			if together.given(cmd, args) {
				if password || keyFile != "" {
					return usage("the password or the key of one account is none of many")
				}
				cl, _, err := c.client([]onboarded{})
				if err != nil {
					return err
				}
				list, err := together.find(cmd.Context(), c, cl, cmd, args)
				if err != nil {
					return err
				}
				how := api.OnboardInput{Credential: in.Credential, Managed: in.Managed, DryRun: together.dry}
				if cmd.Flags().Changed("owner-to") {
					how.Owner = &together.owner
				}
				return c.manageMany(cmd.Context(), cl, list, how, wait)
			}
			name, target, err := splitAccount(args[0])
			if err != nil {
				return err
			}
			switch {
			case password && (key || keyFile != ""):
				return usage("it is a password or a key that is changed, not both")
			case password:
				in.Credential = "password"
				if in.Secret, err = c.readSecret(); err != nil {
					return err
				}
			case keyFile != "":
				if in.Secret, err = readFile(keyFile); err != nil {
					return err
				}
				in.Credential = "key"
			}
			defer clear(in.Secret)
			cl, _, err := c.client(api.AccountInput{})
			if err != nil {
				return err
			}
			p, err := cl.ManageAccount(cmd.Context(), target, name, in)
			if err != nil {
				return err
			}
			return c.changed(cmd.Context(), cl, args[0], p, wait, "the "+first(in.Credential, "password")+" of "+args[0]+" is changed by drawbolt from now on")
		},
	}
	together.add(c, cmd)
	f := cmd.Flags()
	f.BoolVar(&password, "password-stdin", false, "with the password that is in force on stdin; one newline at its end is cut")
	f.BoolVar(&key, "key", false, "it is a key that is changed, which another account may set or which is kept already")
	f.StringVar(&keyFile, "key-file", "", "it is a key that is changed, and the one in force is in `file`: OpenSSH's form, no passphrase")
	f.StringVar(&every, "every", "", "how `old` it becomes before it is changed: 30d, 12h")
	f.BoolVar(&m.AfterUse, "after-use", false, "change it after each session, too")
	f.StringVar(&m.Reset, "reset", "", "`name` of the account of the same target that sets it, whatever is in force")
	f.IntVar(&m.Length, "length", 0, "how many `characters` it has; default 32")
	f.StringArrayVar(&m.Classes, "class", nil, "`characters` of which it has one at least; may be repeated; default letters, digits and -_.+")
	f.StringVar(&m.Never, "never", "", "`characters` that it has none of")
	f.IntVar(&m.Failures, "failures", 0, "`logins` that may fail before nothing more is tried; default 2")
	f.StringVar(&window, "within", "", "`time` in which they count; default 30m")
	f.StringVar(&wait, "wait", "", "wait so `long` until it is changed")
	return cmd
}

// readSecret reads a password from stdin.
func (c *cli) readSecret() ([]byte, error) {
	secret, err := io.ReadAll(io.LimitReader(c.stdin, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read from stdin: %w", err)
	}
	if cut, ok := bytes.CutSuffix(secret, []byte("\n")); ok {
		secret = bytes.TrimSuffix(cut, []byte("\r"))
	}
	if len(secret) > maxSecret {
		return nil, usage("a password has at most %d bytes", maxSecret)
	}
	if len(secret) == 0 {
		return nil, usage("there is no password on stdin")
	}
	return secret, nil
}

// askEvery is how often is asked whether a password is changed.
const askEvery = 250 * time.Millisecond

// changed says what was begun, or waits for its end.
func (c *cli) changed(ctx context.Context, cl *api.Client, arg string, p api.Password, wait, said string) error {
	if wait == "" {
		if ok, err := c.emit(p); ok {
			return err
		}
		c.done("%s", said)
		return nil
	}
	long, err := parseDuration(wait)
	if err != nil {
		return err
	}
	account, target, _ := strings.Cut(arg, "@")
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	for {
		now, err := findPassword(ctx, cl, target, account)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && now.State == "failing" && now.NextAt != nil:
			return &failure{code: exitError, text: "what " + arg + " logs in with could not be changed: " + now.Problem, next: "drawbolt account show " + arg}
		case err == nil && now.State != "working" && now.Cause != "demand" && now.Cause != "taken over":
			if ok, err := c.emit(now); ok {
				return err
			}
			c.done("what %s logs in with is changed", arg)
			return nil
		}
		select {
		case <-ctx.Done():
			return &failure{code: exitPending, text: "what " + arg + " logs in with is not changed yet", next: "drawbolt account show " + arg}
		case <-time.After(askEvery):
		}
	}
}

func findPassword(ctx context.Context, cl *api.Client, target, account string) (api.Password, error) {
	list, err := cl.Passwords(ctx, target)
	if err != nil {
		return api.Password{}, err
	}
	for _, p := range list.Items {
		if p.Account == account {
			return p, nil
		}
	}
	return api.Password{}, &failure{code: exitNotFound, text: "what " + account + "@" + target + " logs in with is not changed by drawbolt", next: "drawbolt account manage " + account + "@" + target}
}

func (c *cli) accountRotateCmd() *cobra.Command {
	var reason, wait string
	cmd := &cobra.Command{
		Use: "rotate ACCOUNT@TARGET --reason TEXT", Short: "Have the password or key of an account changed now", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, target, err := splitAccount(args[0])
			if err != nil {
				return err
			}
			why, err := c.because(reason)
			if err != nil {
				return err
			}
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			p, err := cl.RotateAccount(cmd.Context(), target, name, why)
			if err != nil {
				return err
			}
			return c.changed(cmd.Context(), cl, args[0], p, wait, "what "+args[0]+" logs in with is about to be changed")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the audit log")
	cmd.Flags().StringVar(&wait, "wait", "", "wait so `long` until it is changed")
	return cmd
}

func (c *cli) accountUnmanageCmd() *cobra.Command {
	var in api.UnmanageInput
	cmd := &cobra.Command{
		Use: "unmanage ACCOUNT@TARGET --reason TEXT", Short: "Leave the password or key of an account to others; it stays kept", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, target, err := splitAccount(args[0])
			if err != nil {
				return err
			}
			if in.Reason, err = c.because(in.Reason); err != nil {
				return err
			}
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if err := cl.UnmanageAccount(cmd.Context(), target, name, in); err != nil {
				return err
			}
			c.done("what %s logs in with is not changed by drawbolt any more", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why; it stands in the audit log")
	cmd.Flags().BoolVar(&in.Gone, "system-is-gone", false, "even if it is not certain which password is in force: the others are forgotten")
	return cmd
}

func (c *cli) accountCandidatesCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "candidates ACCOUNT@TARGET --reason TEXT", Short: "Read every password or key of an account that may be in force, when all else fails", Args: between(1, 1),
		Long: `Read every password of an account that may be in force, the likeliest first. It
is for the day on which nothing else helps: it stands in the audit log, and the
password is changed an hour later.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, target, err := splitAccount(args[0])
			if err != nil {
				return err
			}
			why, err := c.because(reason)
			if err != nil {
				return err
			}
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			list, err := cl.RecoverPasswords(cmd.Context(), target, name, why)
			if err != nil {
				return err
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, p := range list.Items {
				proved := "-"
				if p.ProvedAt != nil {
					proved = c.when(*p.ProvedAt)
				}
				rows = append(rows, []string{p.State, c.when(p.MadeAt), proved, string(p.Secret)})
			}
			c.table("", []string{"STATE", "MADE", "PROVED", "PASSWORD"}, rows)
			c.say("  these stand in the audit log as read by you; the password is changed in an hour")
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the audit log")
	return cmd
}

// showPassword says how the password of a managed account stands, to who may know.
func (c *cli) showPassword(ctx context.Context, cl *api.Client, target, account string) error {
	p, err := findPassword(ctx, cl, target, account)
	if problem, ok := errors.AsType[*api.Problem](err); ok && (problem.Status == 403 || problem.Status == 404) {
		return nil
	}
	if err != nil {
		return err
	}
	row := func(name string, at *time.Time, more string) {
		if at != nil {
			c.print("  %-13s%s%s", name, c.when(*at), more)
		}
	}
	c.print("  %-13s%s", "password", p.State)
	row("changed", p.ChangedAt, "")
	row("proved", p.ProvedAt, "")
	if p.DueAt != nil {
		row("next change", p.DueAt, ", "+p.Cause)
	}
	row("held until", p.HeldUntil, "")
	row("next proof", p.ProveAt, "")
	if p.Tries > 0 {
		row("failing since", p.Since, fmt.Sprintf(", %d times: %s", p.Tries, p.Problem))
		row("tried again", p.NextAt, "")
	}
	return nil
}

// managedText says in a line how an account's password is changed.
func managedText(m *api.Managed) string {
	var parts []string
	if m.EverySeconds > 0 {
		parts = append(parts, "every "+formatSeconds(m.EverySeconds))
	}
	if m.AfterUse {
		parts = append(parts, "after use")
	}
	if m.Reset != "" {
		parts = append(parts, "by "+m.Reset)
	}
	return strings.Join(append([]string{"by drawbolt"}, parts...), ", ")
}
