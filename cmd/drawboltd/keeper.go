package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// masterKey says what opens the vault: what is configured, and otherwise what has
// wrapped the keyset. rest is a path or a name, "" where there is none.
func (c *Config) masterKey(wrapped []byte) (kind, rest string, err error) {
	kind, rest, _ = strings.Cut(c.Vault.MasterKey, ":")
	if wrapped != nil {
		is, err := keeper.KindOf(wrapped)
		if err != nil {
			return "", "", fmt.Errorf("read the vault's keyset: %w", err)
		}
		if kind != "" && kind != is {
			return "", "", fmt.Errorf("vault.master_key names a keeper of the kind %s, and the vault was wrapped by one of the kind %s: change the setting, or remove it where no path or name belongs to it", kind, is)
		}
		kind = is
	}
	switch {
	case kind == "":
		kind = keeper.KindFile
	case (kind == keeper.KindTransit || kind == keeper.KindPKCS11) && rest == "":
		return "", "", fmt.Errorf("the vault was wrapped by a keeper of the kind %s: name its key in vault.master_key, as %s:NAME", kind, kind)
	}
	if kind == keeper.KindFile && rest == "" {
		rest = filepath.Join(c.Data, "master.key")
	}
	return kind, rest, nil
}

// peopleError: only people can open the vault.
type peopleError struct{ kind string }

func (e peopleError) Error() string {
	return "the vault is opened by people, with " + map[string]string{keeper.KindShares: "their shares", keeper.KindPassphrase: "a passphrase"}[e.kind]
}

// keeperOf opens the keeper of the vault's root key; a peopleError when it takes people.
func (c *Config) keeperOf(wrapped []byte) (vault.Keeper, error) {
	kind, rest, err := c.masterKey(wrapped)
	if err != nil {
		return nil, err
	}
	switch kind {
	case keeper.KindTransit:
		return c.transit(rest)
	case keeper.KindPassphrase:
		if rest == "" {
			return nil, peopleError{kind}
		}
		b, err := os.ReadFile(rest)
		if err != nil {
			return nil, err
		}
		defer clear(b)
		return keeper.Passphrase(vault.NewSecret([]byte(strings.TrimRight(string(b), "\r\n")))), nil
	case keeper.KindShares:
		return nil, peopleError{kind}
	case keeper.KindTPM:
		return c.tpm(rest)
	case keeper.KindPKCS11:
		p := c.Vault.PKCS11
		return keeper.NewPKCS11(keeper.PKCS11{Module: p.Module, Token: p.Token, Key: rest, PINFile: p.PINFile})
	case keeper.KindFile:
		return keeper.File(rest)
	}
	return nil, fmt.Errorf("vault.master_key: this program has no keeper of the kind %s", kind)
}

// createMaster makes the key file if that is what is configured and it is not
// there yet.
func (c *Config) createMaster() error {
	kind, path, err := c.masterKey(nil)
	if err != nil || kind != keeper.KindFile {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return keeper.CreateFile(path)
}

// wrappedIn reads the wrapped keyset, nil when there is none yet.
func (c *Config) wrappedIn(ctx context.Context) ([]byte, error) {
	db, err := c.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return wrappedOf(ctx, db)
}

func wrappedOf(ctx context.Context, db *store.DB) ([]byte, error) {
	b, err := vault.Wrapped(ctx, db.VaultRecords())
	if errors.Is(err, vault.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

func (c *Config) openDatabase(ctx context.Context) (*store.DB, error) {
	url, err := c.databaseURL()
	if err != nil {
		return nil, fmt.Errorf("database.url: %w", err)
	}
	return store.Open(ctx, store.Config{URL: url})
}

// A console asks whoever sits at a verb. On a terminal what is typed is not shown;
// with --stdin, each answer is a line.
type console struct {
	in    io.Reader
	out   io.Writer // where questions go: never where data goes
	stdin bool
	lines *bufio.Reader
}

func consoleOf(cmd *cobra.Command, stdin bool) *console {
	return &console{in: cmd.InOrStdin(), out: cmd.ErrOrStderr(), stdin: stdin, lines: bufio.NewReaderSize(cmd.InOrStdin(), 4096)}
}

func stdinFlag(cmd *cobra.Command, stdin *bool) {
	cmd.Flags().BoolVar(stdin, "stdin", false, "read the passphrase, or the shares, from stdin: one a line")
}

// maxAnswer bounds a line that somebody gives, in bytes.
const maxAnswer = 4096

// secret asks for a line. io.EOF: there is none any more.
func (c *console) secret(question string) (vault.Secret, error) {
	if f, ok := c.in.(*os.File); ok && !c.stdin {
		if !isTerminal(f) {
			return vault.Secret{}, usageError{errors.New("there is no terminal to ask on: give --stdin")}
		}
		fmt.Fprint(c.out, question)
		defer fmt.Fprintln(c.out)
		b, err := term.ReadPassword(int(f.Fd()))
		defer clear(b)
		return vault.NewSecret(b), err
	}
	line, err := c.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return vault.Secret{}, usageError{fmt.Errorf("a line has more than %d bytes", maxAnswer)}
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return vault.Secret{}, err
	}
	s := vault.NewSecret([]byte(strings.TrimRight(string(line), "\r\n")))
	clear(line)
	return s, nil
}

// quorum asks people for what opens the wrapped keyset, without a server.
func (c *console) quorum(ctx context.Context, wrapped []byte) (vault.Keeper, error) {
	kind, err := keeper.KindOf(wrapped)
	if err != nil {
		return nil, err
	}
	if kind == keeper.KindPassphrase {
		s, err := c.secret("Passphrase of the vault: ")
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		return keeper.Passphrase(s), nil
	}
	g, err := keeper.NewGathering(wrapped)
	if err != nil {
		return nil, err
	}
	missing, given := g.Missing(), 0
	for missing > 0 {
		s, err := c.secret(fmt.Sprintf("Share %d of %d: ", given+1, given+missing))
		if err != nil {
			return nil, fmt.Errorf("%d more shares are needed: %w", missing, err)
		}
		n, err := g.Add(s)
		s.Wipe()
		if err != nil && c.stdin {
			return nil, err
		}
		if err != nil {
			fmt.Fprintln(c.out, err)
			continue
		}
		missing, given = n, given+1
	}
	return g.Keeper()
}

// openKeeper opens the keeper of a vault that is there, and asks people where it takes
// them.
func (c *Config) openKeeper(ctx context.Context, wrapped []byte, ask *console) (vault.Keeper, error) {
	k, err := c.keeperOf(wrapped)
	if people := (peopleError{}); errors.As(err, &people) {
		return ask.quorum(ctx, wrapped)
	}
	return k, err
}

// newKeeper is what a vault is to be wrapped by.
type newKeeper struct {
	reference         string // as in vault.master_key
	shares, threshold int
	folder            string // for the shares; "": they are printed
}

func (n *newKeeper) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.reference, "keeper", "", "`what` holds the root key: file, passphrase, shares, tpm, transit:NAME or pkcs11:LABEL; file:PATH, passphrase:PATH and tpm:PATH too (default vault.master_key)")
	cmd.Flags().IntVar(&n.shares, "shares", 5, "with --keeper shares: into how many shares the key is split")
	cmd.Flags().IntVar(&n.threshold, "threshold", 3, "with --keeper shares: how many of them open the vault")
	cmd.Flags().StringVar(&n.folder, "shares-dir", "", "with --keeper shares: write each into a file of this `folder`, instead of printing them")
}

// make makes the keeper, and one that opens what it wraps as it will be opened later.
// Shares have been handed out when it returns: if anything fails after that they are of
// nothing.
func (n *newKeeper) make(ctx context.Context, c *Config, ask *console, out io.Writer) (to, fresh vault.Keeper, err error) {
	kind, rest, err := c.masterKey(nil)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case kind == keeper.KindShares:
		return n.split(out)
	case kind == keeper.KindPassphrase && rest == "":
		first, err := ask.secret("New passphrase of the vault: ")
		if err != nil {
			return nil, nil, fmt.Errorf("read the passphrase: %w", err)
		}
		second, err := ask.secret("Once more: ")
		if err != nil {
			return nil, nil, fmt.Errorf("read the passphrase once more: %w", err)
		}
		return keeper.Passphrase(first), keeper.Passphrase(second), nil
	case kind == keeper.KindFile:
		if err := c.createMaster(); err != nil {
			return nil, nil, fmt.Errorf("make the master key: %w", err)
		}
	}
	if to, err = c.keeperOf(nil); err != nil {
		return nil, nil, err
	}
	fresh, err = c.keeperOf(nil)
	return to, fresh, err
}

// split hands out the shares.
func (n *newKeeper) split(out io.Writer) (to, fresh vault.Keeper, err error) {
	shares, to, err := keeper.Split(n.shares, n.threshold)
	if err != nil {
		return nil, nil, usageError{err}
	}
	for i, s := range shares {
		if n.folder == "" {
			_, err = fmt.Fprintf(out, "share %d of %d: %s\n", i+1, len(shares), s.Expose())
		} else {
			err = writeShare(filepath.Join(n.folder, fmt.Sprintf("share-%d.txt", i+1)), s)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("hand out share %d: %w", i+1, err)
		}
	}
	if n.folder != "" {
		fmt.Fprintf(out, "shares           %d files in %s: give each to one person and remove it here\n", len(shares), n.folder)
	}
	return to, sharesKeeper{to, shares[len(shares)-n.threshold:]}, nil
}

func writeShare(path string, s vault.Secret) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(s.Expose(), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// sharesKeeper opens with shares, as people do.
type sharesKeeper struct {
	vault.Keeper
	shares []vault.Secret
}

func (k sharesKeeper) Unwrap(ctx context.Context, wrapped []byte) (vault.Secret, error) {
	g, err := keeper.NewGathering(wrapped)
	if err != nil {
		return vault.Secret{}, err
	}
	for _, s := range k.shares {
		if _, err := g.Add(s); err != nil {
			return vault.Secret{}, err
		}
	}
	opened, err := g.Keeper()
	if err != nil {
		return vault.Secret{}, err
	}
	return opened.Unwrap(ctx, wrapped)
}

func isSealed() error {
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-6370", Text: "this server is sealed: its keys are not in memory until people unseal it", Next: "drawboltd unseal, on the server"}
}
