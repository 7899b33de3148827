package ui

import "github.com/drawbolt/drawbolt/web/api"

// Manage is how accounts are to be managed that scans have found, and what becomes of
// each.
type Manage struct {
	Items      []Onboarded
	Every      string // of everyChoices
	AfterUse   bool
	Credential string // "password" or "key"
	Owner      string
	Done       bool // it was done, and not only asked
}

// Onboarded is what becomes of one account, or became.
type Onboarded struct {
	Account api.FoundAccount
	State   string       // in words
	Problem *api.Problem // why not
}

// A choice is one of a list.
type choice struct{ Value, Text string }

// everyChoices are how old a password may become.
func everyChoices() []choice {
	return []choice{{"", "when it was used or somebody leaves"}, {"24h", "each day"}, {"168h", "each week"}, {"720h", "each 30 days"}, {"2160h", "each 90 days"}}
}

// Takes reports whether some of the accounts can be taken over.
func (m Manage) Takes() bool {
	for _, x := range m.Items {
		if x.Problem == nil {
			return true
		}
	}
	return false
}
