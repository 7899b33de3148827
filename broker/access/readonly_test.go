package access

import (
	"slices"
	"testing"
)

// TestReadOnly: what is left reads, whatever was there; and it is not offered where
// nothing is left, or nothing taken.
func TestReadOnly(t *testing.T) {
	for name, c := range map[string]struct {
		rules SessionRules
		files []string
		may   bool
	}{
		"a shell alone":   {SessionRules{Shell: true}, nil, false},
		"uploads alone":   {SessionRules{Files: []string{"upload *"}}, nil, false},
		"downloads alone": {SessionRules{Files: []string{"download *"}}, []string{"download *"}, false},
		"both":            {SessionRules{Files: []string{"download /var/log/**", "upload *"}}, []string{"download /var/log/**"}, true},
		"everything": {SessionRules{Shell: true, Exec: true, Commands: []string{"cat *"}, Agent: true, X11: true, Forwards: []string{"local localhost:5432"}, Checkout: CheckoutAny,
			Files: []string{"upload /srv/**", "download * max 1MiB keep"}}, []string{"download * max 1MiB keep"}, true},
		"what is no rule": {SessionRules{Shell: true, Files: []string{"sideways *", "download *"}}, []string{"download *"}, true},
	} {
		r := Request{Rules: c.rules}
		if got := r.MayBeReadOnly(); got != c.may {
			t.Errorf("%s: offered: %v", name, got)
		}
		left := c.rules.After(ReadOnly())
		if left.Shell || left.Exec || left.Agent || left.X11 || len(left.Commands)+len(left.Forwards) > 0 || left.Checkout != "" || !slices.Equal(left.Files, c.files) {
			t.Errorf("%s: left is %+v", name, left)
		}
	}
}
