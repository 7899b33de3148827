package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// opensWithin is how long a server may take from its last share until it serves.
const opensWithin = 2 * time.Minute

func unsealCommand() *cobra.Command {
	var path, ceremony, cancel string
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use: "unseal", Short: "Unseal the server that runs on this machine: with the passphrase, or with shares", Args: cobra.NoArgs,
		Long: `Asks for the passphrase, or for one share after another, and gives them to the server
that runs on this machine. What is typed is not shown, and reaches the server over a
socket in its data folder, never over the network.

The first share begins a ceremony, which has a name and ends after ten minutes. When
the shareholders do not come to the same terminal, the others go on with it by its
name: drawboltd unseal --ceremony NAME. Nobody without the name can end it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			u := unsealing{config: &c, ask: consoleOf(cmd, stdin), out: cmd.OutOrStdout(), talk: cmd.ErrOrStderr(), ceremony: ceremony, json: asJSON}
			if cancel != "" {
				_, err := c.ask(cmd.Context(), question{Verb: "cancel", Ceremony: cancel})
				return err
			}
			return u.run(cmd.Context())
		},
	}
	configFlag(cmd, &path)
	stdinFlag(cmd, &stdin)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&ceremony, "ceremony", "", "go on with the ceremony of this `name`")
	cmd.Flags().StringVar(&cancel, "cancel", "", "end the ceremony of this `name`")
	return cmd
}

type unsealing struct {
	config    *Config
	ask       *console
	out, talk io.Writer
	ceremony  string
	json      bool
}

// say tells how far it came.
func (u *unsealing) say(unsealed bool, p keeper.Progress) error {
	if u.json {
		return json.NewEncoder(u.out).Encode(struct {
			Unsealed bool            `json:"unsealed"`
			Ceremony string          `json:"ceremony,omitempty"`
			Progress keeper.Progress `json:"progress"`
		}{unsealed, u.ceremony, p})
	}
	text := "unsealed"
	if !unsealed {
		text = fmt.Sprintf("%d of %d shares are given; the ceremony goes on: %s", p.Given, p.Needed, u.ceremony)
	}
	_, err := fmt.Fprintln(u.out, text)
	return err
}

func (u *unsealing) run(ctx context.Context) error {
	p := keeper.Progress{Kind: keeper.KindShares}
	if u.ceremony == "" {
		a, err := u.config.ask(ctx, question{Verb: "begin"})
		if err != nil {
			return err
		}
		if a.Opened {
			return u.opened(ctx, *a.Progress)
		}
		u.ceremony, p = a.Ceremony, *a.Progress
		if p.Needed > 1 {
			fmt.Fprintf(u.talk, "ceremony %s, until %s: others go on with it by drawboltd unseal --ceremony\n", u.ceremony, p.Ends.Local().Format(time.TimeOnly))
		}
	} else if a, err := u.config.ask(ctx, question{Verb: "status"}); err != nil {
		return err
	} else if s := a.Status; s.Ceremony != nil {
		p = *s.Ceremony
	}
	for {
		what := "Passphrase of the vault: "
		if p.Kind == keeper.KindShares {
			what = fmt.Sprintf("Share %d of %d: ", p.Given+1, p.Needed)
		}
		s, err := u.ask.secret(what)
		if errors.Is(err, io.EOF) && p.Given > 0 {
			return u.say(false, p)
		}
		if err != nil {
			return fmt.Errorf("read what unseals: %w", err)
		}
		a, err := u.config.ask(ctx, question{Verb: "give", Ceremony: u.ceremony, Secret: s.Expose()})
		s.Wipe()
		e, refused := errors.AsType[*access.Error](err)
		switch {
		case refused && !u.ask.stdin && (e.Code == "DB-6376" || e.Code == "DB-6377" || e.Code == "DB-6378"):
			fmt.Fprintf(u.talk, "%s; %s\n", e.Text, e.Next)
			continue
		case err != nil:
			return err
		}
		p = *a.Progress
		if a.Opened {
			return u.opened(ctx, p)
		}
		fmt.Fprintf(u.talk, "%d of %d\n", p.Given, p.Needed)
	}
}

// opened waits until the server serves.
func (u *unsealing) opened(ctx context.Context, p keeper.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, opensWithin)
	defer cancel()
	for {
		a, err := u.config.ask(ctx, question{Verb: "status"})
		switch {
		case err != nil:
			return fmt.Errorf("the server was unsealed and does not answer; look at its log: %w", err)
		case a.Status.State == gateOpen:
			u.ceremony = "" // which is over
			return u.say(true, p)
		case a.Status.State == gateSealed:
			return refusedError{errors.New("the server could not open what is in the vault; look at its log")}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func sealCommand() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use: "seal", Short: "Seal the server that runs on this machine: its keys are dropped, its sessions end", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			if _, err := c.ask(cmd.Context(), question{Verb: "seal", Reason: reason}); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), opensWithin)
			defer cancel()
			for {
				a, err := c.ask(ctx, question{Verb: "status"})
				if err != nil {
					return err
				}
				if a.Status.State == gateSealed {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "sealed")
					return err
				}
				select {
				case <-ctx.Done():
					return errors.New("sessions are ending still: drawboltd status")
				case <-time.After(100 * time.Millisecond):
				}
			}
		},
	}
	configFlag(cmd, &path)
	reasonFlag(cmd, &reason, "why it is sealed")
	return cmd
}

func statusCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether the server on this machine is sealed; exit 0 if it serves, 3 if not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			a, err := c.ask(cmd.Context(), question{Verb: "status"})
			if err != nil {
				return err
			}
			s := a.Status
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(s)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "state     %s\nkeeper    %s\nserver    %s, version %s, since %s\n", s.State, s.Keeper, s.Node, s.Version, s.Since.Format(time.RFC3339))
				if p := s.Ceremony; err == nil && p != nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "ceremony  %d of %d given, until %s\n", p.Given, p.Needed, p.Ends.UTC().Format(time.RFC3339))
				}
			}
			switch {
			case err != nil:
				return err
			case s.Stale:
				return refusedError{errors.New("the vault was given another keeper, which this server does not have: drawboltd unseal")}
			case s.State != gateOpen:
				return refusedError{errors.New("the server is " + s.State)}
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func rekeyCommand() *cobra.Command {
	var path string
	var stdin bool
	var n newKeeper
	cmd := &cobra.Command{
		Use: "rekey --keeper WHAT", Short: "Give the vault another keeper of its root key, or other shares or another passphrase", Args: cobra.NoArgs,
		Long: `Opens the vault with the keeper that it has (asking for as many shares as it takes, or
for the passphrase), and wraps its keyset with another one. Records are not touched.
What the new keeper wrapped is opened again, by the shares that were just handed out,
before it takes the place of the old one: until then, and whenever this is interrupted,
the old keeper opens the vault.

Shares and passphrases from before open nothing any more, but for copies of the
database of the time before. Whoever may have both calls for drawboltd vault
rotate-root as well. Other servers of the database go on, and are unsealed once more
with the new keeper: drawboltd unseal.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			if n.reference == "" {
				return usageError{errors.New("say with --keeper what is to hold the root key")}
			}
			return rekey(cmd.Context(), &c, &n, consoleOf(cmd, stdin), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &path)
	stdinFlag(cmd, &stdin)
	n.flags(cmd)
	return cmd
}

func rekey(ctx context.Context, c *Config, n *newKeeper, ask *console, out io.Writer) error {
	next := *c
	next.Vault.MasterKey = n.reference
	if problems := next.masterProblems(); len(problems) > 0 {
		return usageError{errors.New("--keeper: " + problems[0])}
	}
	if kind, file, err := next.masterKey(nil); err == nil && kind == keeper.KindFile {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			return usageError{fmt.Errorf("%s is there already: name a new file with --keeper file:PATH", file)}
		}
	}
	wrapped, err := c.wrappedIn(ctx)
	if err != nil {
		return err
	}
	if wrapped == nil {
		return fmt.Errorf("there is no vault yet: %w", vault.ErrNotFound)
	}
	k, err := c.openKeeper(ctx, wrapped, ask)
	if err != nil {
		return err
	}
	a, err := newApp(ctx, *c, newLog(*c, io.Discard), opening{keeper: k})
	if err != nil {
		return err
	}
	defer a.Close()
	to, fresh, err := n.make(ctx, &next, ask, out)
	if err != nil {
		return err
	}
	if err := a.keys.vault.Rekey(ctx, to, fresh); err != nil {
		return fmt.Errorf("the vault keeps the keeper that it had, and shares printed above are of nothing: %w", err)
	}
	kind, _, err := next.masterKey(nil)
	if err != nil {
		return err
	}
	if err := a.db.Record(ctx, audit.Event{Actor: "system", Action: "vault.rekey", Object: c.Server.Name, Outcome: audit.Done, Details: map[string]string{"keeper": kind}}); err != nil {
		return err
	}
	fmt.Fprintf(out, "the vault is wrapped by its new keeper: %s\n", n.reference)
	if c.Vault.MasterKey != "" || n.reference != kind {
		fmt.Fprintf(out, "Next: set vault.master_key to %s on every server, then drawboltd unseal on each\n", n.reference)
	} else {
		fmt.Fprintln(out, "Next: drawboltd unseal on every server that runs; it goes on serving meanwhile")
	}
	return nil
}

func vaultCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vault", Short: "Versions of the data key, by the server that runs on this machine", Args: cobra.NoArgs}
	cmd.AddCommand(
		vaultVerb("status", "Say which versions there are, and how much is sealed with each", "vault.status", false),
		vaultVerb("rotate-root", "Make a new version, with which everything is sealed anew while the server runs", "vault.rotate", true),
		vaultForgetCommand(),
	)
	return cmd
}

func vaultVerb(use, short, verb string, reasoned bool) *cobra.Command {
	var path, reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			a, err := c.ask(cmd.Context(), question{Verb: verb, Reason: reason})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(a.Vault)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), a.Vault.words())
			return err
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if reasoned {
		reasonFlag(cmd, &reason, "why it is rotated")
	}
	return cmd
}

func vaultForgetCommand() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use: "forget SERVER", Short: "Forget a server that never comes back, so that versions which it needed can be destroyed", Args: cobra.ExactArgs(1),
		Long: `Forgets a server that never comes back. Journals that are still on its disk can be
opened by nobody once the version of the data key is destroyed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			_, err = c.ask(cmd.Context(), question{Verb: "vault.forget", Node: args[0], Reason: reason})
			return err
		},
	}
	configFlag(cmd, &path)
	reasonFlag(cmd, &reason, "why it never comes back")
	return cmd
}
