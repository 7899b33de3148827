package ui

// An Entry is a page that the navigation leads to.
type Entry struct {
	Path, Name string
	Key        string // that leads there after g; "": none
	Needs      string // the action that the policy must allow for it to be shown; "": it is everybody's
}

// Entries are the pages of the navigation, in order.
func Entries() []Entry {
	return []Entry{
		{"/", "My access", "m", ""},
		{"/inbox", "Inbox", "i", ""},
		{"/targets", "Targets", "t", ""},
		{"/accounts", "Accounts", "c", "account.read"},
		{"/requests", "Requests", "r", ""},
		{"/sessions", "Sessions", "s", ""},
		{"/audit", "Audit log", "a", "audit.read"},
		{"/checkouts", "Check-outs", "k", "secret.read"},
		{"/breakglass", "Break-glass", "b", ""},
		{"/reviews", "Reviews", "v", "review.read"},
		{"/policies", "Policies", "y", "policy.read"},
		{"/people", "People", "p", "user.read"},
		{"/integrations", "Integrations", "n", "integration.read"},
		{"/settings", "Settings", "o", "system.read"},
		{"/away", "Away", "w", ""},
		{"/me/links", "Linked accounts", "l", ""},
	}
}
