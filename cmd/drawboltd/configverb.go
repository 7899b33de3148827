package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and show the configuration", Args: cobra.NoArgs}
	var path string
	check := &cobra.Command{
		Use: "check", Short: "Check the configuration without starting anything", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(path)
			if err != nil {
				return err
			}
			if _, err := serverTLSFiles(c); err != nil {
				return err
			}
			if _, err := c.routes(nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the configuration is sound")
			return err
		},
	}
	configFlag(check, &path)
	var showPath string
	show := &cobra.Command{
		Use: "show", Short: "Show the configuration with every default filled in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(showPath)
			if err != nil {
				return err
			}
			// A database URL may hold a password.
			if i := strings.LastIndexByte(c.Database.URL, '@'); i >= 0 {
				scheme, _, _ := strings.Cut(c.Database.URL, "://")
				c.Database.URL = scheme + "://***" + c.Database.URL[i:]
			}
			b, err := yaml.Marshal(c)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	configFlag(show, &showPath)
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration file, for editors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(configSchema())
		},
	}
	cmd.AddCommand(check, show, schema)
	return cmd
}

// serverTLSFiles checks that configured certificate files load.
func serverTLSFiles(c Config) (bool, error) {
	if c.Server.TLS.Mode != "files" {
		return false, nil
	}
	_, err := serverTLS(c)
	return true, err
}

// configSchema describes the file to editors (JSON Schema, draft 2020-12).
func configSchema() map[string]any {
	root := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "drawbolt.yaml",
		"type": "object", "additionalProperties": false, "properties": map[string]any{},
	}
	c := defaultConfig()
	for _, s := range settings(&c) {
		at := root
		parts := strings.Split(s.name, ".")
		for _, part := range parts[:len(parts)-1] {
			properties := at["properties"].(map[string]any)
			if properties[part] == nil {
				properties[part] = map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
			}
			at = properties[part].(map[string]any)
		}
		leaf := map[string]any{"description": s.doc, "type": "string"}
		switch v := s.value.Interface().(type) {
		case []string:
			leaf["type"], leaf["items"] = "array", map[string]any{"type": "string"}
		case int:
			leaf["type"], leaf["minimum"], leaf["maximum"], leaf["default"] = "integer", 1, maxSessions, v
		case bool:
			leaf["type"], leaf["default"] = "boolean", v
		case Duration:
			leaf["pattern"] = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
			b, _ := v.MarshalYAML()
			leaf["default"] = string(b)
		case Days:
			leaf["pattern"] = "^[0-9]+d$"
		case []ChannelConfig:
			leaf["type"], leaf["items"], leaf["maxItems"] = "array", channelSchema(), maxChannels
		case []ProgramConfig:
			leaf["type"], leaf["items"], leaf["maxItems"] = "array", programSchema(), maxPrograms
		case string:
			if v != "" {
				leaf["default"] = v
			}
		}
		at["properties"].(map[string]any)[parts[len(parts)-1]] = leaf
	}
	return root
}

func manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "man", Short: "Write the manual pages", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Title: "DRAWBOLTD", Section: "8", Source: "drawbolt " + version}, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "man", "folder to write to")
	return cmd
}
