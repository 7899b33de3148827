package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) scpCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "scp SCP-ARGUMENT...",
		Short:   "Copy files with your own scp, without changing ~/.ssh/config",
		Example: "  drawbolt scp dump.sql root@db01:/tmp/\n  drawbolt scp -r root@db01:/etc ./etc",
		Long: `Run scp with the configuration of the profile. Options of one letter are those of
scp, long ones are drawbolt's. The exit code is that of scp.`,
		Args:               between(1, -1),
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := ownFlags(cmd, args)
			if err != nil {
				return err
			}
			if help, _ := cmd.Flags().GetBool("help"); help {
				return cmd.Help()
			}
			if len(args) < 2 {
				return usage("something is missing: drawbolt scp SOURCE... DESTINATION")
			}
			return c.runStock(cmd.Context(), "scp", args)
		},
	}
}

// ownFlags takes the long flags, which scp has none of, out of args.
func ownFlags(cmd *cobra.Command, args []string) ([]string, error) {
	var own, rest []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			rest = append(rest, args[i:]...)
			break
		}
		name, long := strings.CutPrefix(args[i], "--")
		if !long {
			rest = append(rest, args[i])
			continue
		}
		own = append(own, args[i])
		f := cmd.Flags().Lookup(name)
		if f != nil && f.NoOptDefVal == "" && i+1 < len(args) {
			i++
			own = append(own, args[i])
		}
	}
	if err := cmd.Flags().Parse(own); err != nil {
		return nil, flagError(cmd, err)
	}
	return rest, nil
}
