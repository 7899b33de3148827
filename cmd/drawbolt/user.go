package main

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) userCmd() *cobra.Command {
	return nounCmd("user", "People", c.userLsCmd(), c.userShowCmd(), c.userAddCmd(), c.userSetCmd(), c.userLinkCmd(),
		c.lockCmd("user", api.User{}, true, nil, lockUser), c.lockCmd("user", api.User{}, false, nil, lockUser), c.userKeyCmd(), c.userFactorCmd())
}

func (c *cli) userLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List people", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			list, err := cl.Users(cmd.Context())
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.User{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, u := range list.Items {
				rows = append(rows, []string{u.Name, first(u.Display, "-"), first(strings.Join(u.Groups, ","), "-"), userState(&u)})
			}
			c.table("Nobody.", []string{"NAME", "DISPLAY", "GROUPS", "STATE"}, rows)
			return nil
		},
	}
}

func userState(u *api.User) string {
	switch {
	case u.Locked:
		return "locked: " + u.LockReason
	case u.Bot:
		return "bot"
	default:
		return "active"
	}
}

func (c *cli) userShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show USER", Short: "Show a person", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			u, err := cl.FindUser(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ok, err := c.emit(u); ok {
				return err
			}
			c.print("%s  %s", u.Name, u.ID)
			c.print("  %-9s%s", "display", u.Display)
			c.print("  %-9s%s", "groups", strings.Join(u.Groups, ", "))
			for _, k := range slices.Sorted(maps.Keys(u.Attributes)) {
				c.print("  %-8s %s", k, u.Attributes[k])
			}
			c.print("  %-9s%s", "state", userState(&u))
			return nil
		},
	}
}

// attributeEmail is the attribute of a person that holds their address.
const attributeEmail = "email"

type userOptions struct {
	display     string
	email       string
	groups      []string
	add, remove []string
	attributes  []string
	bot         bool
	owner       string
}

func (c *cli) userAddCmd() *cobra.Command {
	var o userOptions
	cmd := &cobra.Command{
		Use: "add USER", Short: "Add a person, and print the one-time link to set a password",
		Args:    between(1, 1),
		Example: "  drawbolt user add alice --display \"Alice Kim\" --group dba,web",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.SetupLink{})
			if err != nil {
				return err
			}
			attributes, err := keyValues("attribute", o.attributes)
			if err != nil {
				return err
			}
			in := api.UserInput{Name: args[0], Display: o.display, Groups: o.groups, Attributes: attributes, Bot: o.bot, Owner: o.owner}
			if o.email != "" {
				if in.Attributes == nil {
					in.Attributes = map[string]string{}
				}
				in.Attributes[attributeEmail] = o.email
			}
			u, err := cl.AddUser(cmd.Context(), in)
			if err != nil {
				return err
			}
			c.done("%s is added", u.Name)
			return c.runUserLink(cmd.Context(), cl, u.Name)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.display, "display", "", "`name` as people write it")
	f.StringVar(&o.email, "email", "", "`address` that gets mail for this person")
	f.StringSliceVar(&o.groups, "group", nil, "`group`; may be repeated")
	f.StringSliceVar(&o.attributes, "attribute", nil, "`name=value`, such as department=dba; may be repeated")
	f.BoolVar(&o.bot, "bot", false, "a program, which may never approve")
	f.StringVar(&o.owner, "owner", "", "`user` whose bot it is, and who never approves what it asks for; you, if you name nobody")
	return cmd
}

func (c *cli) userLinkCmd() *cobra.Command {
	return &cobra.Command{
		Use: "link USER", Short: "Print a new one-time link to set a password", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.SetupLink{})
			if err != nil {
				return err
			}
			return c.runUserLink(cmd.Context(), cl, args[0])
		},
	}
}

func (c *cli) runUserLink(ctx context.Context, cl *api.Client, name string) error {
	link, err := cl.SetupLink(ctx, name)
	if err != nil {
		return err
	}
	if ok, err := c.emit(link); ok {
		return err
	}
	c.print("%s", link.URL)
	c.say("  for %s alone; it works once, until %s", name, c.when(link.ExpiresAt))
	return nil
}

func (c *cli) userSetCmd() *cobra.Command {
	var o userOptions
	cmd := &cobra.Command{
		Use: "set USER [FLAGS]", Short: "Change what the flags name; the rest stays", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.User{})
			if err != nil {
				return err
			}
			u, err := cl.FindUser(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			in := api.UserInput{Name: u.Name, Display: u.Display, Groups: u.Groups, Attributes: u.Attributes, Bot: u.Bot, Version: u.Version}
			if cmd.Flags().Changed("display") {
				in.Display = o.display
			}
			if cmd.Flags().Changed("email") {
				in.Attributes = maps.Clone(in.Attributes)
				if delete(in.Attributes, attributeEmail); o.email != "" {
					if in.Attributes == nil {
						in.Attributes = map[string]string{}
					}
					in.Attributes[attributeEmail] = o.email
				}
			}
			if cmd.Flags().Changed("group") {
				in.Groups = o.groups
			}
			in.Groups = slices.DeleteFunc(append(slices.Clone(in.Groups), o.add...), func(g string) bool { return slices.Contains(o.remove, g) })
			slices.Sort(in.Groups)
			in.Groups = slices.Compact(in.Groups)
			attributes, err := keyValues("attribute", o.attributes)
			if err != nil {
				return err
			}
			in.Attributes = maps.Clone(in.Attributes)
			for name, value := range attributes {
				if value == "" {
					delete(in.Attributes, name)
					continue
				}
				if in.Attributes == nil {
					in.Attributes = map[string]string{}
				}
				in.Attributes[name] = value
			}
			if u, err = cl.SetUser(cmd.Context(), in); err != nil {
				return err
			}
			if ok, err := c.emit(u); ok {
				return err
			}
			c.done("%s is changed: groups %s", u.Name, first(strings.Join(u.Groups, ", "), "none"))
			for _, k := range slices.Sorted(maps.Keys(u.Attributes)) {
				c.say("  %s: %s", k, u.Attributes[k])
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.display, "display", "", "`name` as people write it")
	f.StringVar(&o.email, "email", "", "`address` that gets mail for this person; empty: none")
	f.StringSliceVar(&o.groups, "group", nil, "exactly these `groups`")
	f.StringSliceVar(&o.add, "add-group", nil, "add to this `group`")
	f.StringSliceVar(&o.remove, "remove-group", nil, "take out of this `group`")
	f.StringSliceVar(&o.attributes, "attribute", nil, "set `name=value`, such as department=dba; may be repeated; name= takes one away")
	return cmd
}

func (c *cli) userKeyCmd() *cobra.Command {
	return nounCmd("key", "SSH public keys that say who somebody is", c.userKeyLsCmd(), c.userKeyAddCmd(), c.userKeyRmCmd())
}

func (c *cli) userKeyLsCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "ls", Short: "List registered keys", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			var list api.List[api.Key]
			if user == "" {
				list, err = cl.MyKeys(cmd.Context())
			} else {
				list, err = cl.Keys(cmd.Context(), user)
			}
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Key{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, k := range list.Items {
				kind, _, _ := strings.Cut(k.Key, " ")
				rows = append(rows, []string{k.Fingerprint, kind, c.when(k.CreatedAt), k.Comment})
			}
			c.table("No keys.", []string{"FINGERPRINT", "KIND", "SINCE", "COMMENT"}, rows)
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "of this `user` instead of you")
	return cmd
}

func (c *cli) userKeyAddCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "add FILE", Short: "Register a public key", Args: between(1, 1),
		Example: "  drawbolt user key add ~/.ssh/id_ed25519.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readFile(args[0])
			if err != nil {
				return err
			}
			key, comment, err := parseKey(b)
			if err != nil {
				return usage("%s: %v", args[0], err)
			}
			cl, _, err := c.client(api.Key{})
			if err != nil {
				return err
			}
			in := api.KeyInput{Key: key, Comment: comment}
			var k api.Key
			if user == "" {
				k, err = cl.AddMyKey(cmd.Context(), in)
			} else {
				k, err = cl.AddKey(cmd.Context(), user, in)
			}
			if err != nil {
				return err
			}
			if ok, err := c.emit(k); ok {
				return err
			}
			c.done("%s is registered", k.Fingerprint)
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "for this `user` instead of you")
	return cmd
}

func (c *cli) userKeyRmCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "rm FINGERPRINT", Short: "Forget a public key", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			if user == "" {
				err = cl.RemoveMyKey(cmd.Context(), args[0])
			} else {
				err = cl.RemoveKey(cmd.Context(), user, args[0])
			}
			if err != nil {
				return err
			}
			c.done("%s is forgotten", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "of this `user` instead of you")
	return cmd
}

var errNoKey = errors.New("it is not one SSH public key")

// parseKey reads one line of authorized_keys without options. A private key is
// refused before anything of it is sent.
func parseKey(b []byte) (key, comment string, err error) {
	pub, comment, options, rest, err := ssh.ParseAuthorizedKey(b)
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 || bytes.Contains(b, []byte("PRIVATE KEY")) {
		return "", "", errNoKey
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), comment, nil
}
