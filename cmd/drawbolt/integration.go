package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) integrationCmd() *cobra.Command {
	return nounCmd("integration", "The channels over which people are told", c.integrationLsCmd(), c.integrationShowCmd(), c.integrationTestCmd(), c.integrationRetryCmd(), c.slackCmd())
}

func (c *cli) completeIntegrations(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, i := range recall(cmd.Context(), c, "integrations", func(ctx context.Context, cl *api.Client) (api.List[api.Integration], error) {
		return cl.Integrations(ctx)
	}).Items {
		out = append(out, choice(i.Name, i.Type+", "+i.State))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) integrationLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the channels: whether they work, how far they are, what they have set aside", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			list, err := cl.Integrations(cmd.Context())
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Integration{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, i := range list.Items {
				taken, problem := "never", ""
				if i.SuccessAt != nil {
					taken = c.when(*i.SuccessAt)
				}
				if i.State == api.IntegrationFails {
					problem = i.Error
				}
				rows = append(rows, []string{i.Name, i.Type, i.State, strconv.FormatInt(i.Behind, 10), strconv.FormatInt(i.Late, 10), strconv.FormatInt(i.Aside, 10), taken, problem})
			}
			c.table("No integrations: name channels in notifications.channels of the server's configuration.", []string{"NAME", "TYPE", "STATE", "BEHIND", "LATE", "ASIDE", "LAST TAKEN", "ERROR"}, rows)
			return nil
		},
	}
}

func (c *cli) integrationShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a channel with the notices that it has set aside", Args: between(1, 1),
		ValidArgsFunction: c.completeIntegrations,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Integration{})
			if err != nil {
				return err
			}
			i, err := cl.FindIntegration(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(i); ok {
				return err
			}
			c.print("%s (%s): %s, at event %d, told by %s", i.Name, i.Type, i.State, i.Position, first(i.Node, "no server"))
			if i.Behind > 0 {
				c.print("  behind      %d events, %s", i.Behind, formatDuration(time.Duration(i.LagSeconds)*time.Second))
			}
			if i.SuccessAt != nil {
				c.print("  last taken  %s", c.when(*i.SuccessAt))
			}
			if i.ErrorAt != nil {
				c.print("  last error  %s: %s", c.when(*i.ErrorAt), clean(i.Error))
			}
			if i.Late > 0 {
				c.print("  late        %d, which are tried again, or wait for their time", i.Late)
			}
			var rows [][]string
			for _, a := range i.SetAside {
				rows = append(rows, []string{strconv.FormatInt(a.Position, 10), a.Action, strconv.Itoa(a.Tries), a.Error})
			}
			if i.Aside > 0 {
				c.print("  set aside   %d", i.Aside)
				c.table("", []string{"EVENT", "ACTION", "TRIES", "ERROR"}, rows)
				c.say("  Next: drawbolt integration retry %s", i.Name)
			}
			return nil
		},
	}
}

func (c *cli) integrationTestCmd() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Send a test, and say whether it was taken",
		Long: `Have the server send a test over a channel. It goes the way of every other notice,
behind those that wait. Exit code 0: the other side has taken it; 1: it was refused, or
not taken in time, and is still tried.`,
		Args: between(1, 1), ValidArgsFunction: c.completeIntegrations,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Integration{})
			if err != nil {
				return err
			}
			return c.runIntegrationTest(cmd.Context(), cl, args[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 20*time.Second, "how long to wait for the other side")
	return cmd
}

// lookEvery is how often it is looked whether a test was taken.
const lookEvery = 300 * time.Millisecond

func (c *cli) runIntegrationTest(ctx context.Context, cl *api.Client, name string, wait time.Duration) error {
	t, err := cl.TestIntegration(ctx, name)
	if err != nil {
		return err
	}
	next := "drawbolt integration show " + name
	for end := time.Now().Add(wait); ; {
		i, err := cl.FindIntegration(ctx, name)
		if err != nil {
			return err
		}
		aside := slices.IndexFunc(i.SetAside, func(a api.SetAside) bool { return a.Position == t.Position })
		switch {
		case aside >= 0:
			return &failure{code: exitError, text: fmt.Sprintf("%s does not take the test: %s", name, clean(i.SetAside[aside].Error)), next: next}
		case i.Position > t.Position:
			if ok, err := c.emit(i); ok {
				return err
			}
			c.done("%s has taken the test", name)
			return nil
		case !time.Now().Before(end):
			text := fmt.Sprintf("%s has not taken the test within %s", name, formatDuration(wait))
			if i.State != api.IntegrationWorks {
				text += ": it " + i.State
			}
			if i.State == api.IntegrationFails {
				text += ": " + clean(i.Error)
			}
			return &failure{code: exitError, text: text, next: next}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

func (c *cli) integrationRetryCmd() *cobra.Command {
	return &cobra.Command{
		Use: "retry NAME", Short: "Send again what a channel has set aside, and try at once what fails", Args: between(1, 1),
		ValidArgsFunction: c.completeIntegrations,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.IntegrationRetry{})
			if err != nil {
				return err
			}
			r, err := cl.RetryIntegration(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(r); ok {
				return err
			}
			c.done("%s tries again what it had set aside: %d", args[0], r.Retried)
			return nil
		},
	}
}
