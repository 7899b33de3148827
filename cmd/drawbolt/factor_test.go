package main

import (
	"strings"
	"testing"
)

// Secrets are asked for on a terminal only: nothing is sent without one.
func TestFactorsNeedATerminal(t *testing.T) {
	p := newPerson(t).signedIn(newServer(t, map[string]any{}))
	for _, verb := range []string{"password", "totp"} {
		code, out, errs := p.run(verb)
		if code != exitUsage || out != "" || !strings.Contains(errs, "no terminal") {
			t.Errorf("%s: exit %d: %s%s", verb, code, out, errs)
		}
	}
}
