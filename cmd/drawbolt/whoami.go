package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) whoamiCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Who you are to the server, and until when",
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.runWhoami(cmd.Context()) },
	}
}

func (c *cli) runWhoami(ctx context.Context) error {
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	me, err := cl.Me(ctx)
	if err != nil {
		return err
	}
	if ok, err := c.emit(me); ok {
		return err
	}
	c.print("%s", me.User)
	c.say("  server   %s (profile %s)", p.Server, p.name)
	c.say("  groups   %s", strings.Join(me.Groups, ", "))
	c.say("  roles    %s", strings.Join(me.Roles, ", "))
	for _, r := range me.RolesNotHeld {
		c.say("  ▲ not %s: %s", r.Name, r.Why)
	}
	c.say("  signed in until %s", c.when(me.LoginExpiresAt))
	if me.MFAAgeSeconds != nil {
		c.say("  second factor proved %s ago", formatDuration(time.Duration(*me.MFAAgeSeconds)*time.Second))
	} else {
		c.say("  no second factor in this login")
	}
	return nil
}
