package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) groupCmd() *cobra.Command {
	return nounCmd("group", "Groups of people", &cobra.Command{
		Use: "ls", Short: "List groups and their members", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.client()
			if err != nil {
				return err
			}
			list, err := cl.Groups(cmd.Context())
			if err != nil {
				return err
			}
			if list.Items == nil {
				list.Items = []api.Group{}
			}
			if ok, err := c.emit(list.Items); ok {
				return err
			}
			var rows [][]string
			for _, g := range list.Items {
				rows = append(rows, []string{g.Name, strings.Join(g.Members, ", ")})
			}
			c.table("No groups.", []string{"NAME", "MEMBERS"}, rows)
			return nil
		},
	})
}
