package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// FuzzDecision: an answer of a bundle, which may be any value at all, is refused
// or says exactly what was read out of it: written down again it is the same
// value, so that no field was overlooked, misread or made up.
func FuzzDecision(f *testing.F) {
	const valid = `{"allow": true, "role": "dba", "rule": "root", "approvals": [{"count": 2, "groups": ["leads"]}], "max_seconds": 3600, "mfa_seconds": 300, "break_glass": false,
		"session": {"recording": "strict", "shell": true, "exec": true, "agent": false, "x11": false, "commands": ["id"], "files": [], "forwards": ["local *:80"], "detect": [], "silent_watch": false, "four_eyes": true},
		"reasons": [{"rule": "root", "text": "because"}]}`
	f.Add(valid)
	for old, new := range map[string]string{
		`"allow": true, `: "", `true`: `"true"`, `3600`: `3600.5`, `"count": 2`: `"count": 0`, `300`: `-1`, `"leads"`: `""`, `3600,`: `1e3,`,
		`"agent"`: `"Agent"`, `"strict"`: `"best_effort"`, `"reasons": [`: `"more": 1, "reasons": [`, `"x11": false`: `"x11": null`, `["id"]`: `"id"`,
	} {
		f.Add(strings.Replace(valid, old, new, 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ast.ValueFromReader(strings.NewReader(text))
		if err != nil {
			return
		}
		var d Decision
		if parseDecision(v, &d) != nil {
			return
		}
		again, err := json.Marshal(map[string]any{
			"allow": d.Allow, "role": d.Role, "rule": d.Rule, "approvals": orNone(d.Approvals), "max_seconds": d.MaxDuration / time.Second,
			"mfa_seconds": d.MFAWithin / time.Second, "break_glass": d.BreakGlass, "reasons": orNone(d.Reasons),
			"session": map[string]any{
				"recording": d.Rules.Recording, "shell": d.Rules.Shell, "exec": d.Rules.Exec, "agent": d.Rules.Agent, "x11": d.Rules.X11,
				"commands": orNone(d.Rules.Commands), "files": orNone(d.Rules.Files), "forwards": orNone(d.Rules.Forwards), "detect": orNone(d.Rules.Detect),
				"silent_watch": d.Rules.SilentWatch, "four_eyes": d.Rules.FourEyes,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		w, err := ast.ValueFromReader(strings.NewReader(string(again)))
		if err != nil {
			t.Fatal(err)
		}
		if v.Compare(w) != 0 {
			t.Errorf("%s was read as %s", v, w)
		}
	})
}

// orNone is the list; an empty one instead of none.
func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
