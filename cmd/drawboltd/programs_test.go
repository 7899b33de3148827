package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestPrograms: what rotation.programs may say.
func TestPrograms(t *testing.T) {
	many := make([]string, maxPrograms+1)
	for i := range many {
		many[i] = fmt.Sprintf("{name: p%d, command: [/p]}", i)
	}
	for _, c := range []struct{ programs, says string }{
		{"[{name: switch, command: [/usr/local/lib/drawbolt/switch, --site, north]}, {name: box2, command: [/p]}]", ""},
		{"[{name: Switch, command: [/p]}]", "is none"}, {"[{name: '', command: [/p]}]", "is none"}, {"[{name: ../sh, command: [/p]}]", "is none"},
		{"[{name: a, command: [/p]}, {name: a, command: [/q]}]", "named twice"}, {"[{name: a, command: []}]", "an absolute path"},
		{"[{name: a, command: [switch]}]", "an absolute path"}, {"[{name: a, command: [/p], path: /q}]", "path"}, {"[" + strings.Join(many, ", ") + "]", "at most 64"},
	} {
		config, err := loadConfig(writeConfig(t, least+"rotation: {programs: "+c.programs+"}\n"), nil)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: %v, want %q", c.programs, err, c.says)
		}
		if c.says == "" && strings.Join(config.programs(), " ") != "switch box2" {
			t.Errorf("the programs are %v", config.programs())
		}
	}
	if _, err := loadConfig(writeConfig(t, least), []string{"DRAWBOLT_ROTATION_PROGRAMS=sh=/bin/sh"}); err == nil {
		t.Error("the environment names a program")
	}
}
