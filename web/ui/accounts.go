package ui

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/drawbolt/drawbolt/web/api"
)

// Accounts are those that scans have found, as they were asked for.
type Accounts struct {
	Class, Risk, Target, Name, Owner string
	Classes                          []string // that there are
	Items                            []api.FoundAccount
	Next                             string // the page after this one; "": none
	CSV                              string // all of them as a table
	MayManage                        bool   // of some target: to choose accounts and have their passwords changed
}

// AccountRights say what the reader may do with an account that was found.
type AccountRights struct {
	Adopt   bool // say whose it is, and take it over
	Manage  bool // have its password changed by drawbolt
	Managed bool // it is already
}

func foundURL(id string) templ.SafeURL { return templ.SafeURL("/accounts/" + url.PathEscape(id)) }

func postureURL(target string) templ.SafeURL {
	return templ.SafeURL("/targets/" + url.PathEscape(target) + "/posture")
}

func reasons(f api.FoundAccount) string { return strings.Join(f.Reasons, "; ") }

func seen(f api.FoundAccount) string {
	parts := []string{"owner " + orNobody(f.Owner), "first seen " + Stamp(f.FirstSeen)}
	if f.GoneAt != nil {
		parts = append(parts, "gone since "+Stamp(*f.GoneAt))
	}
	return strings.Join(parts, " · ")
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// A Fact has a name.
type Fact struct{ Name, Text string }

func aboutFound(f api.FoundAccount) (list []Fact) {
	add := func(name, text string) {
		if text != "" {
			list = append(list, Fact{name, text})
		}
	}
	add("Owner", orNobody(f.Owner))
	add("Password", f.Password)
	if f.Disabled {
		add("Disabled", "yes")
	}
	add("Shell", f.Shell)
	add("Groups", strings.Join(f.Groups, ", "))
	if f.LastLogin != nil {
		add("Last login", Stamp(*f.LastLogin))
	}
	add("First seen", Stamp(f.FirstSeen))
	add("Last seen", Stamp(f.LastSeen))
	if f.GoneAt != nil {
		add("Gone since", Stamp(*f.GoneAt))
	}
	return list
}

func keyText(k api.FoundKey) string {
	return strings.Join(strings.Fields(strings.Join([]string{k.Type, k.Options, k.Comment}, " ")), " ")
}

func score(t api.Posture) string {
	switch {
	case t.Score == nil:
		return "Nothing is known of its settings"
	case len(t.Faults) == 0:
		return strconv.FormatInt(*t.Score, 10) + "%: as it should be"
	default:
		return strconv.FormatInt(*t.Score, 10) + "%: what should be otherwise"
	}
}

func scanned(t api.Posture) string {
	var parts []string
	if t.ScannedAt == nil {
		parts = append(parts, "Never scanned")
	} else {
		parts = append(parts, "Scanned "+Stamp(*t.ScannedAt))
	}
	if t.NextAt != nil {
		parts = append(parts, "next "+Stamp(*t.NextAt))
	}
	if len(t.Incomplete) > 0 {
		parts = append(parts, "not whole: "+strings.Join(t.Incomplete, ", "))
	}
	if len(t.Unknown) > 0 {
		parts = append(parts, "not known: "+strings.Join(t.Unknown, ", "))
	}
	return strings.Join(parts, " · ")
}
