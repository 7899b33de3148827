package access

import (
	"regexp"
	"time"
)

// LinkTTL is how long the code of a link may be confirmed.
const LinkTTL = 10 * time.Minute

// MaxLinks is how many accounts in other systems one user may have.
const MaxLinks = 8

// An ExternalAccount is somebody in a system that is not ours, as that system
// names them: whom it says that is, and not who it is.
type ExternalAccount struct {
	Kind string // of the system: "slack"
	Team string // its name for the workspace
	ID   string // its name for the account, which no other one in the workspace ever has
	Name string // how people know the account there; it may change and is only shown
}

var (
	externalKind = regexp.MustCompile(`^[a-z]{1,16}$`)
	externalID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Validate checks every field that comes from outside.
func (a ExternalAccount) Validate() error {
	if !externalKind.MatchString(a.Kind) || !externalID.MatchString(a.Team) || !externalID.MatchString(a.ID) {
		return Invalid("the account is not one of a known system")
	}
	return CheckText("the name of the account", a.Name, MaxLabel)
}

// A Link says whose an external account is. The user has confirmed it in a
// login of their own, with a code that only the holder of the account had.
type Link struct {
	ExternalAccount
	UserID    string
	CreatedAt time.Time
}

// A LinkCode waits for a user who says that the account is theirs.
type LinkCode struct {
	Hash string // SHA-256 of the code, hex
	ExternalAccount
	ExpiresAt time.Time
}

// A Post is a message that a channel has sent about something, by which it finds
// the message again.
type Post struct {
	Channel  string // the name of the channel
	Subject  string // what it is about: a request, a session
	Part     string // which of the messages about it
	Place    string // where it was sent to
	Room     string // where it stands, in the words of the channel's service
	Message  string // its name in the room
	Shown    string // what it shows; another text when that is something else
	PostedAt time.Time
}
