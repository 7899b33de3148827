package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what the build knows of itself.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

type versionJSON struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Server   string `json:"server,omitempty"` // its version, when one is known and answers
}

func (c *cli) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "The version of the client, and of the server", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionJSON{Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if p, err := c.loadProfile(); err == nil && p.Server != "" {
				if cl, err := c.dial(p.Server, p.Fingerprint); err == nil {
					if s, err := cl.Version(cmd.Context()); err == nil {
						v.Server = s.Version
					}
				}
			}
			if ok, err := c.emit(v); ok {
				return err
			}
			c.print("drawbolt %s (%s, %s)", v.Version, v.Go, v.Platform)
			if v.Server != "" {
				c.print("server %s", v.Server)
			}
			return nil
		},
	}
}
