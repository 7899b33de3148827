package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) roleCmd() *cobra.Command {
	return nounCmd("role", "Roles: who may do what", c.roleLsCmd(), c.roleShowCmd(), c.roleSetCmd(), c.roleRmCmd())
}

func (c *cli) roleLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List roles", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client(api.Role{})
			if err != nil {
				return err
			}
			list, err := cl.Roles(cmd.Context())
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Role{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, r := range list.Items {
				var rules []string
				for _, rule := range r.Rules {
					rules = append(rules, rule.ID)
				}
				rows = append(rows, []string{r.Name, "@" + strings.Join(r.Groups, ",@"), fmt.Sprint(len(r.Users)), strings.Join(rules, ",")})
			}
			c.table("No roles.", []string{"NAME", "GROUPS", "USERS", "RULES"}, rows)
			return nil
		},
	}
}

func (c *cli) roleShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ROLE", Short: "Print a role as JSON, as role set reads it", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Role{})
			if err != nil {
				return err
			}
			r, err := cl.FindRole(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json != "" {
				_, err := c.emit(r)
				return err
			}
			return c.printJSON(r)
		},
	}
}

func (c *cli) roleSetCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "set -f FILE", Short: "Make or change a role, from a JSON file",
		Long: `Make a role, or replace the one of that name, from a JSON file as role show prints
it. Keys that are not known are refused. A version in the file must be that of
the role as it is; without one it is replaced as it is now.`,
		Example: "  drawbolt role show dba > dba.json; $EDITOR dba.json; drawbolt role set -f dba.json",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("which file? Add -f FILE")
			}
			return c.runRoleSet(cmd.Context(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "JSON `file`; - is stdin")
	return cmd
}

func (c *cli) runRoleSet(ctx context.Context, file string) error {
	var r api.Role
	if err := c.readJSON(file, &r); err != nil {
		return err
	}
	if r.Name == "" {
		return usage("%s: the role has no name", file)
	}
	cl, _, err := c.client(api.Role{})
	if err != nil {
		return err
	}
	if r.Version == 0 {
		now, err := cl.FindRole(ctx, r.Name)
		if p := api.AsProblem(err); err != nil && (p == nil || problemCode(p) != exitNotFound) {
			return err
		}
		r.Version = now.Version
	}
	if r, err = cl.SetRole(ctx, r); err != nil {
		return err
	}
	if ok, err := c.emit(r); ok {
		return err
	}
	c.done("the role %s is set: version %d", r.Name, r.Version)
	return nil
}

// readJSON reads a file of JSON, in which there may be nothing that is not known.
func (c *cli) readJSON(file string, into any) error {
	f, err := c.openInput(file)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return usage("%s is longer than %d bytes", file, maxFile)
	}
	if err := api.Unmarshal(b, into); err != nil {
		return usage("%s: %v", file, err)
	}
	return nil
}

// printJSON prints what readJSON reads, for people to edit.
func (c *cli) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer // armour first: line ends are what it escapes
	if err := json.Indent(&out, armour(b), "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(c.stdout)
	return err
}

func (c *cli) roleRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm ROLE", Short: "Remove a role", Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Role{})
			if err != nil {
				return err
			}
			if err := c.confirm("Remove the role " + args[0] + "?"); err != nil {
				return err
			}
			if err := cl.RemoveRole(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.done("the role %s is removed", args[0])
			return nil
		},
	}
}
