package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Sign out and remove the SSH identity",
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.runLogout(cmd.Context()) },
	}
}

func (c *cli) runLogout(ctx context.Context) error {
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	err = cl.Logout(ctx)
	if pr := api.AsProblem(err); pr != nil && problemCode(pr) == exitLogin {
		err = nil // it was over already
	}
	// What is here goes even when the server cannot be reached; its error is
	// still told, because the token then lives until it expires.
	for _, f := range []string{"token", "id", "id.pub", "id-cert.pub"} {
		if rerr := os.Remove(p.path(f)); rerr != nil && !os.IsNotExist(rerr) && err == nil {
			err = rerr
		}
	}
	if err != nil {
		return err
	}
	c.done("Signed out of %s", p.Server)
	return nil
}
