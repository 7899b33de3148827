package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// setupTTL is how long the first administrator's link lasts.
const setupTTL = 24 * time.Hour

func initCommand() *cobra.Command {
	var path, administrator string
	var unattended, stdin bool
	var n newKeeper
	cmd := &cobra.Command{
		Use: "init", Short: "Set an installation up: data folder, keys, first administrator", Args: cobra.NoArgs,
		Long: `Makes the data folder, the master key, the certificate authorities and the
first administrator, whose one-time link is printed once. What is there already
stays, so an init that was interrupted is simply run again.

With --keeper shares the root key of the vault is split among people, and each share
is printed once: as many as --threshold open the vault, fewer give nothing of it. With
--keeper passphrase it is asked for, twice. Either way the server starts sealed:
drawboltd unseal.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			if administrator == "" && unattended {
				administrator = "admin"
			}
			if administrator == "" {
				if administrator, err = askName(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			return initialize(cmd.Context(), c, administrator, &n, consoleOf(cmd, stdin), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &path)
	stdinFlag(cmd, &stdin)
	n.flags(cmd)
	cmd.Flags().StringVar(&administrator, "admin", "", "name of the first administrator")
	cmd.Flags().BoolVar(&unattended, "unattended", false, "ask nothing")
	return cmd
}

func askName(in io.Reader, out io.Writer) (string, error) {
	if f, ok := in.(*os.File); !ok || !isTerminal(f) {
		return "", usageError{errors.New("there is no terminal to ask on: give --admin NAME or --unattended")}
	}
	fmt.Fprint(out, "Name of the first administrator [admin]: ")
	var name string
	if _, err := fmt.Fscanln(in, &name); err != nil && err.Error() != "unexpected newline" {
		return "", err
	}
	if name == "" {
		name = "admin"
	}
	return name, nil
}

func initialize(ctx context.Context, c Config, administrator string, n *newKeeper, ask *console, out io.Writer) error {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	if n.reference != "" {
		if c.Vault.MasterKey != "" && c.Vault.MasterKey != n.reference {
			return usageError{fmt.Errorf("vault.master_key is %s already: change the setting, or leave --keeper out", c.Vault.MasterKey)}
		}
		if c.Vault.MasterKey = n.reference; len(c.masterProblems()) > 0 {
			return usageError{errors.New("--keeper: " + c.masterProblems()[0])}
		}
	}
	wrapped, err := c.wrappedIn(ctx)
	if err != nil {
		return err
	}
	k, err := c.firstKeeper(ctx, wrapped, n, ask, out)
	if err != nil {
		return err
	}
	a, err := newApp(ctx, c, newLog(c, io.Discard), opening{keeper: k, create: true})
	if err != nil {
		return err
	}
	defer a.Close()
	if wrapped, err = wrappedOf(ctx, a.db); err != nil {
		return err
	}
	kind, rest, err := c.masterKey(wrapped)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "data folder      %s\nmaster key       %s   (%s)\n", c.Data, strings.TrimSuffix(kind+":"+rest, ":"), adviceOf(kind))
	fmt.Fprintf(out, "audit log key    %s\n", a.keys.verifierKey)
	u, err := a.broker.Found(ctx, access.User{Name: administrator, Display: "Administrator", Groups: []string{"administrators"}}, foundingRoles())
	if errors.Is(err, access.ErrConflict) {
		fmt.Fprintln(out, "users            there are some already: no new administrator was made")
		return nil
	}
	if err != nil {
		return err
	}
	token, _, err := a.local.NewSetup(ctx, access.System(), u.ID, setupTTL)
	if err != nil {
		return err
	}
	next := "drawboltd serve"
	if keeper.ByPeople(kind) && rest == "" {
		next += ", and beside it drawboltd unseal"
	}
	fmt.Fprintf(out, "administrator    %s, who sets a password here, once, within 24 hours:\n\n  %s/setup?token=%s\n\nNext: %s\n",
		u.Name, strings.TrimSuffix(c.Server.ExternalURL, "/"), token, next)
	return nil
}

// firstKeeper makes the keeper of a vault that is not there yet, or opens that of one
// which is. What it made is proved before anything is wrapped with it.
func (c *Config) firstKeeper(ctx context.Context, wrapped []byte, n *newKeeper, ask *console, out io.Writer) (vault.Keeper, error) {
	if wrapped != nil {
		return c.openKeeper(ctx, wrapped, ask)
	}
	to, fresh, err := n.make(ctx, c, ask, out)
	if err != nil {
		return nil, err
	}
	proof, err := to.Wrap(ctx, vault.NewSecret([]byte("proof")))
	if err == nil {
		_, err = fresh.Unwrap(ctx, proof)
	}
	if errors.Is(err, vault.ErrWrongKey) {
		err = usageError{errors.New("what was given twice is not the same")}
	}
	return fresh, err
}

// adviceOf says what to do so that the vault can be opened tomorrow.
func adviceOf(kind string) string {
	switch kind {
	case keeper.KindFile:
		return "keep a copy of it away from this machine: without it nothing can be read"
	case keeper.KindShares:
		return "give each share to one person, who keeps it away from this machine: without enough of them nothing can be read"
	case keeper.KindPassphrase:
		return "keep it away from this machine: without it nothing can be read"
	case keeper.KindTPM:
		return "it never leaves this machine: give the vault shares with drawboltd rekey before the machine is replaced"
	default:
		return "without it nothing can be read"
	}
}

// foundingRoles are the roles that a new installation begins with. They are
// data like any other role: change them, or remove those that are not needed.
func foundingRoles() []access.Role {
	all := access.SessionRules{Recording: "strict", Shell: true, Exec: true}
	return []access.Role{
		{
			Name: "administrator", Groups: []string{"administrators"},
			Rules: []access.Rule{{ID: "administer", Actions: actions(
				policy.ActionTargetRead, policy.ActionTargetWrite, policy.ActionTargetFacts, policy.ActionUserRead, policy.ActionUserWrite,
				policy.ActionRoleRead, policy.ActionRoleWrite, policy.ActionPolicyRead, policy.ActionPolicyWrite,
				policy.ActionSecretRead, policy.ActionSecretWrite, policy.ActionSecretRotate, policy.ActionLockRead, policy.ActionLockWrite, policy.ActionSystemRead, policy.ActionSystemWrite,
				policy.ActionIntegrationRead, policy.ActionIntegrationWrite, policy.ActionRequestRead, policy.ActionSessionList, policy.ActionReviewRead, policy.ActionReviewWrite,
				policy.ActionAccountRead, policy.ActionAccountDiscover, policy.ActionAccountAdopt)}},
		},
		{
			Name: "auditor", Groups: []string{"auditors"},
			Rules: []access.Rule{{ID: "audit", Actions: actions(
				policy.ActionRequestRead, policy.ActionSessionList, policy.ActionSessionReplay, policy.ActionSessionWatch,
				policy.ActionAuditRead, policy.ActionAuditExport, policy.ActionTargetRead, policy.ActionRoleRead, policy.ActionPolicyRead,
				policy.ActionGlassReview, policy.ActionReviewRead, policy.ActionAccountRead)}},
		},
		{
			// It takes two of them to delete a recording, to lift a hold, or to say
			// how long recordings are kept.
			Name: "custodian", Groups: []string{"custodians"},
			Rules: []access.Rule{{ID: "keep", Actions: actions(policy.ActionRecordingHold, policy.ActionRecordingDelete, policy.ActionSessionList)}},
		},
		{
			Name: "approver", Groups: []string{"approvers"},
			Rules: []access.Rule{{ID: "decide", Actions: actions(
				policy.ActionApprove, policy.ActionDeny, policy.ActionRevoke, policy.ActionLockWrite,
				policy.ActionRequestRead, policy.ActionSessionList, policy.ActionSessionWatch, policy.ActionSessionModerate, policy.ActionSessionTerminate,
				policy.ActionGlassReview)}},
		},
		{
			// Whoever logs in with the sealed codes: drawboltd breakglass codes.
			Name: "emergency", Groups: []string{broker.EmergencyGroup},
			Rules: []access.Rule{{ID: "break-glass", Actions: actions(policy.ActionBreakGlass), Accounts: []string{"*"}, MaxDuration: time.Hour, MFAWithin: 2 * time.Hour, Session: all}},
		},
		{
			Name: "engineer", Groups: []string{"engineers"},
			Rules: []access.Rule{
				{
					ID: "with-approval", Actions: actions(policy.ActionRequest, policy.ActionExtend),
					Targets: access.Selector{Labels: map[string][]string{"tier": {"1", "2"}}}, Accounts: []string{"*"},
					MaxDuration: 4 * time.Hour, Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}}}, Session: all,
				},
				{
					ID: "guest", Actions: actions(policy.ActionRequest, policy.ActionExtend),
					Targets: access.Selector{Labels: map[string][]string{"tier": {"1", "2"}}}, Accounts: []string{"guest"},
					MaxDuration: 8 * time.Hour, Session: all,
				},
				{
					ID: "two-for-tier-0", Actions: actions(policy.ActionRequest),
					Targets: access.Selector{Labels: map[string][]string{"tier": {"0"}}}, Accounts: []string{"*"},
					MaxDuration: time.Hour, Approvals: []access.Need{{Count: 2, Groups: []string{"approvers"}}}, MFAWithin: 12 * time.Hour, Session: all,
				},
			},
		},
	}
}

func actions(list ...policy.Action) []string {
	var out []string
	for _, a := range list {
		out = append(out, string(a))
	}
	return out
}
