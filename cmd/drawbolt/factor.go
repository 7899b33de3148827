package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// The password and the authenticator are what one proves oneself with.

func (c *cli) passwordCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Change your own password",
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.runPassword(cmd.Context()) },
	}
}

func (c *cli) totpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "totp",
		Short: "Set up an authenticator that makes one-time codes for your logins",
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.runTOTP(cmd.Context()) },
	}
}

// prove asks for the password, and for a code where there is an authenticator.
func (c *cli) prove(ctx context.Context, cl *api.Client) (password, otp string, err error) {
	if !c.interactive() {
		return "", "", usage("this asks for your password, and there is no terminal to ask on")
	}
	me, err := cl.Me(ctx)
	if err != nil {
		return "", "", err
	}
	if password, err = c.askSecret("Your password now: "); err != nil {
		return "", "", err
	}
	if me.TOTP {
		otp, err = c.ask("One-time code: ")
	}
	return password, strings.TrimSpace(otp), err
}

func (c *cli) runPassword(ctx context.Context) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	in := api.PasswordInput{}
	if in.Current, in.OTP, err = c.prove(ctx, cl); err != nil {
		return err
	}
	if in.New, err = c.askSecret("The new one: "); err != nil {
		return err
	}
	again, err := c.askSecret("The new one again: ")
	if err != nil {
		return err
	}
	if again != in.New {
		return usage("the two are not the same; nothing was changed")
	}
	if err := cl.SetPassword(ctx, in); err != nil {
		return err
	}
	c.done("Your password is changed; your other logins have ended")
	return nil
}

func (c *cli) runTOTP(ctx context.Context) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	in := api.TOTPInput{}
	if in.Password, in.OTP, err = c.prove(ctx, cl); err != nil {
		return err
	}
	secret, err := cl.BeginTOTP(ctx, in)
	if err != nil {
		return err
	}
	c.print("%s", secret.URL)
	c.say("Add it to your authenticator (or type in the secret %s), and enter the code that it shows.", secret.Secret)
	code, err := c.ask("One-time code: ")
	if err != nil {
		return err
	}
	if err := cl.ConfirmTOTP(ctx, strings.TrimSpace(code)); err != nil {
		return err
	}
	c.done("Your logins now need a one-time code")
	return nil
}
