package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/rotation"
	"github.com/drawbolt/drawbolt/vault/rotate/plugin"
)

// A ProgramConfig is one entry of rotation.programs.
type ProgramConfig struct {
	Name    string   `yaml:"name" doc:"by which targets of its kind know it: plugin:NAME"`
	Command []string `yaml:"command" doc:"the program, by its absolute path, and its first arguments; a word is appended"`
}

// Bounds of rotation.programs.
const (
	maxPrograms  = 64
	maxArguments = 32
)

// programProblems says what is wrong with rotation.programs. It looks at no file.
func (c *Config) programProblems() (problems []error) {
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("rotation.programs: "+format, args...))
	}
	if len(c.Rotation.Programs) > maxPrograms {
		bad("at most %d", maxPrograms)
	}
	var names []string
	for _, p := range c.Rotation.Programs {
		switch {
		case access.ProgramOf(access.KindProgram+p.Name) == "":
			bad("the name %q is none: a-z, 0-9 and hyphen, beginning with a letter, at most 31", p.Name)
		case slices.Contains(names, p.Name):
			bad("%s is named twice", p.Name)
		case len(p.Command) == 0 || len(p.Command) > maxArguments || !filepath.IsAbs(p.Command[0]):
			bad("%s needs its command: an absolute path, and at most %d arguments", p.Name, maxArguments-1)
		}
		names = append(names, p.Name)
	}
	return problems
}

// programSchema describes an entry of rotation.programs to editors.
func programSchema() map[string]any {
	return map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"name", "command"},
		"properties": map[string]any{
			"name":    map[string]any{"type": "string", "pattern": "^[a-z][a-z0-9-]{0,30}$"},
			"command": map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "minItems": 1, "maxItems": maxArguments},
		},
	}
}

// programs are the names of the programs that change passwords.
func (c *Config) programs() (names []string) {
	for _, p := range c.Rotation.Programs {
		names = append(names, p.Name)
	}
	return names
}

// openRotation makes what changes passwords and keys.
func (a *App) openRotation() (err error) {
	machines := sshproxy.Machines{Broker: a.broker}
	systems := map[string]rotation.System{
		"":                         rotation.Linux(machines),
		access.KindWindows:         rotation.Windows(machines),
		access.KindPostgres:        rotation.Postgres,
		access.KindMySQL:           rotation.MySQL,
		access.KindLDAP:            rotation.LDAP,
		access.KindActiveDirectory: rotation.LDAP,
	}
	for _, p := range a.config.Rotation.Programs {
		systems[access.KindProgram+p.Name] = rotation.Program(p.Command)
	}
	a.rotation, err = rotation.New(rotation.Config{Broker: a.broker, Log: a.log, Systems: systems})
	return err
}

// examinePrograms is the doctor's look at the programs that change passwords: those that
// are configured, and those that targets need and nobody configured here.
func (a *App) examinePrograms(ctx context.Context) []finding {
	var list findings
	for _, p := range a.config.Rotation.Programs {
		if err := plugin.CheckProgram(p.Command[0]); err != nil {
			list.bad("rotation", fmt.Errorf("program %s: %w", p.Name, err), "mend rotation.programs, or the owner and the mode of the file and its folders")
		} else {
			list.ok("rotation", "program %s: %s", p.Name, p.Command[0])
		}
	}
	kinds, err := a.db.TargetKinds(ctx)
	if err != nil {
		list.bad("rotation", err, "")
		return list
	}
	known := a.config.programs()
	for _, kind := range kinds {
		if name, is := strings.CutPrefix(kind, access.KindProgram); is && !slices.Contains(known, name) {
			list.bad("rotation", errors.New("there are targets of the kind "+kind+", and this server knows no such program"), "name it in rotation.programs")
		}
	}
	return list
}
