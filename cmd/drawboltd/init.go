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
)

// setupTTL is how long the first administrator's link lasts.
const setupTTL = 24 * time.Hour

func initCommand() *cobra.Command {
	var path, administrator string
	var unattended bool
	cmd := &cobra.Command{
		Use: "init", Short: "Set an installation up: data folder, keys, first administrator", Args: cobra.NoArgs,
		Long: `Makes the data folder, the master key, the certificate authorities and the
first administrator, whose one-time link is printed once. What is there already
stays, so an init that was interrupted is simply run again.`,
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
			return initialize(cmd.Context(), c, administrator, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &path)
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

func initialize(ctx context.Context, c Config, administrator string, out io.Writer) error {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	if err := createMaster(c.Vault.MasterKey); err != nil {
		return fmt.Errorf("make the master key: %w", err)
	}
	a, err := NewApp(ctx, c, newLog(c, io.Discard), true)
	if err != nil {
		return err
	}
	defer a.Close()
	fmt.Fprintf(out, "data folder      %s\nmaster key       %s   (keep a copy of it away from this machine: without it nothing can be read)\n", c.Data, c.Vault.MasterKey)
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
	fmt.Fprintf(out, "administrator    %s, who sets a password here, once, within 24 hours:\n\n  %s/setup?token=%s\n\nNext: drawboltd serve\n",
		u.Name, strings.TrimSuffix(c.Server.ExternalURL, "/"), token)
	return nil
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
