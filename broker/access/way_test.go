package access

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckWay(t *testing.T) {
	hop := func(name string, via ...string) Target { return Target{Name: name, HopAccount: "hop", Via: via} }
	all := []Target{hop("a"), hop("b", "a"), hop("c", "b"), {Name: "plain"}, hop("x", "t"), hop("y", "x"), hop("loop1", "loop2"), hop("loop2", "loop1")}
	for name, tt := range map[string]struct {
		via  []string
		says string // "": it holds
	}{
		"none":                           {nil, ""},
		"one":                            {[]string{"a"}, ""},
		"the whole way":                  {[]string{"a", "b", "c"}, ""},
		"a hop's own way does not count": {[]string{"c"}, ""},
		"a hop that was never right":     {[]string{"loop1"}, ""},
		"unknown":                        {[]string{"a", "nowhere"}, "there is no target nowhere"},
		"without a hop account":          {[]string{"plain"}, "plain has no hop account"},
		"a circle":                       {[]string{"x"}, "x is itself reached via t"},
		"a circle through another":       {[]string{"a", "y"}, "y is itself reached via t"},
	} {
		t.Run(name, func(t *testing.T) {
			target := Target{Name: "t", Via: tt.via}
			err := target.CheckWay(all)
			if tt.says == "" && err != nil || tt.says != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
	for name, tt := range map[string]struct {
		target Target
		says   string
	}{
		"itself":    {Target{Via: []string{"t"}}, "via itself"},
		"twice":     {Target{Via: []string{"a", "b", "a"}}, "through a twice"},
		"too long":  {Target{Via: []string{"a", "b", "c", "d", "e"}}, "at most 4"},
		"a name":    {Target{Via: []string{"-oProxyCommand=x"}}, "target"},
		"an option": {Target{HopAccount: "-root"}, "account"},
	} {
		t.Run(name, func(t *testing.T) {
			target := tt.target
			target.Name, target.Address = "t", "192.0.2.1:22"
			if err := target.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}
