package ui

// A Link is an account in another system that somebody says is theirs.
type Link struct {
	Code                      string
	Kind, Team, Account, Name string
	Done                      string // what has become of it
}

// SystemName is how people call the other system.
func SystemName(kind string) string {
	if kind == "slack" {
		return "Slack"
	}
	return kind
}
