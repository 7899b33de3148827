package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) slackCmd() *cobra.Command {
	return nounCmd("slack", "Approve and ask from Slack: set it up, and say whose accounts there are whose",
		c.slackSetupCmd(), c.slackManifestCmd(), c.slackLinksCmd(), c.slackUnlinkCmd())
}

func (c *cli) slackSetupCmd() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use: "setup", Short: "Say what to do, check what the app needs, and post a test card",
		Long: `Until the server has the tokens of an app in Slack, print what to do: the address at
which Slack makes the app, and what goes into the server's configuration. After that,
have the server try everything that the app needs, and post a card.

Exit code: 0 when nothing failed, 1 when something did, or there is still something to do.`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkFields(api.SlackCheck{}); err != nil {
				return err
			}
			return c.runSlackSetup(cmd.Context(), mode)
		},
	}
	modeFlag(cmd, &mode)
	return cmd
}

func modeFlag(cmd *cobra.Command, mode *string) {
	cmd.Flags().StringVar(mode, "mode", "socket", "how Slack reaches the server: socket (no address to the outside is needed) or http (several servers behind one address)")
}

func (c *cli) runSlackSetup(ctx context.Context, mode string) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	if cl.Timeout == 0 {
		cl.Timeout = time.Minute
	}
	m, err := cl.SlackManifest(ctx, mode)
	if err != nil {
		return err
	}
	if !m.Configured {
		c.say("1. Open this address, choose the workspace, and press Create, then Install:\n\n   %s\n", m.CreateURL)
		c.say("2. Put the tokens into files that only the server may read: the Bot User OAuth Token (xoxb-)")
		if mode == "http" {
			c.say("   and the Signing Secret.")
		} else {
			c.say("   and an App-Level Token (xapp-) with the scope connections:write.")
		}
		c.say("3. Name them in the server's configuration, and start it again:\n")
		c.say("     notifications:\n       slack:\n         mode: %s\n         channel: C0123456789\n         bot_token_file: /etc/drawbolt/slack-bot", mode)
		if mode == "http" {
			c.say("         signing_secret_file: /etc/drawbolt/slack-secret")
		} else {
			c.say("         app_token_file: /etc/drawbolt/slack-app")
		}
		return &failure{code: exitError, text: "the server has no app in Slack yet", next: "drawbolt integration slack setup, when that is done"}
	}
	check, err := cl.CheckSlack(ctx)
	if err != nil {
		return err
	}
	if ok, err := c.emit(check); err != nil {
		return err
	} else if !ok {
		for _, s := range check.Steps {
			c.showStep(s.Target, s)
		}
	}
	if !check.Passed {
		return silent(exitError)
	}
	c.done("Slack works; everybody types /access link there once")
	return nil
}

func (c *cli) slackManifestCmd() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use: "manifest", Short: "Print what Slack makes the app of", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.SlackManifest{})
			if err != nil {
				return err
			}
			m, err := cl.SlackManifest(cmd.Context(), mode)
			if err != nil {
				return err
			}
			if ok, err := c.emit(m); ok {
				return err
			}
			for line := range strings.Lines(m.Manifest) {
				c.print("%s", strings.TrimRight(line, "\n"))
			}
			return nil
		},
	}
	modeFlag(cmd, &mode)
	return cmd
}

func (c *cli) slackLinksCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "links", Short: "List your accounts in other systems, or those of a person", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client([]api.Link{})
			if err != nil {
				return err
			}
			list, err := cl.Links(cmd.Context(), user)
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Link{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, l := range list.Items {
				rows = append(rows, []string{l.Kind, l.Account, l.Team, first(l.Name, "-"), c.when(l.CreatedAt)})
			}
			c.table("No account is linked: type /access link in Slack.", []string{"SYSTEM", "ACCOUNT", "WORKSPACE", "NAME", "SINCE"}, rows)
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "`name` of the person; default you")
	return cmd
}

func (c *cli) slackUnlinkCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "unlink [ACCOUNT]", Short: "Take an account in Slack away from you, or from a person", Args: between(0, 1),
		Long: `Take an account in Slack away, at once. Without ACCOUNT it is the only one there is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			list, err := cl.Links(cmd.Context(), user)
			if err != nil {
				return err
			}
			var found []api.Link
			for _, l := range list.Items {
				if l.Kind == "slack" && (len(args) == 0 || l.Account == args[0]) {
					found = append(found, l)
				}
			}
			if len(found) != 1 {
				return &failure{code: exitNotFound, text: fmt.Sprintf("%d accounts in Slack are meant, not one", len(found)), next: "drawbolt integration slack links"}
			}
			if err := cl.Unlink(cmd.Context(), user, found[0]); err != nil {
				return err
			}
			c.done("%s is linked no more", first(found[0].Name, found[0].Account))
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "`name` of the person; default you")
	return cmd
}
