package access

import (
	"net/netip"
	"slices"
	"time"
)

// A User is a person (or a bot, which may never approve). Its ID is immutable
// and never used again; its name may be shown and typed.
type User struct {
	ID         string
	Name       string
	Display    string
	Groups     []string // sorted
	Attributes map[string]string
	Bot        bool
	Locked     bool // denied now, and every session is cut
	LockReason string
	CreatedAt  time.Time
	Version    int64
}

// Validate checks every field that comes from outside.
func (u *User) Validate() error {
	if err := CheckUserName(u.Name); err != nil {
		return err
	}
	if err := CheckText("the display name", u.Display, MaxLabel); err != nil {
		return err
	}
	if len(u.Groups) > MaxItems || len(u.Attributes) > MaxItems {
		return Invalid("a user may have at most %d groups and attributes", MaxItems)
	}
	for _, g := range u.Groups {
		if err := CheckGroupName(g); err != nil {
			return err
		}
	}
	for k, v := range u.Attributes {
		if err := CheckGroupName(k); err != nil {
			return err
		}
		if err := CheckText("the attribute "+k, v, MaxLabel); err != nil {
			return err
		}
	}
	if address := u.Email(); address != "" {
		if err := CheckEmail(address); err != nil {
			return err
		}
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return CheckText("the lock reason", u.LockReason, MaxComment)
}

// AttributeEmail is where a person gets mail. Administrators set it, and sources of
// identity; nobody sets their own, so that no one has the notices of another sent to
// them.
const AttributeEmail = "email"

// Email is the address of the user, which Validate has checked; "": they have none.
func (u *User) Email() string { return u.Attributes[AttributeEmail] }

// In reports whether the user is a member of the group.
func (u *User) In(group string) bool { return slices.Contains(u.Groups, group) }

// A Caller is who acts, as it was proven: the person, where from, how, and
// how fresh the second factor is. Every verb takes one as a parameter; none
// is ever read from a context.
type Caller struct {
	User   User
	Source netip.Addr // the peer's address; invalid inside the process
	Via    string     // "cli", "web", "ssh", "system"
	Login  string     // the login session's id, where there is one
	MFAAt  time.Time  // zero: no second factor in this login
	// Key and Serial say what was proven in ssh: the fingerprint of a registered
	// key, or the serial of an identity certificate.
	Key    string
	Serial uint64
}

// System is the caller for what the broker does by itself (expiry, recovery).
// No policy grants it anything: verbs never take it from outside.
func System() Caller { return Caller{User: User{ID: "system", Name: "system"}, Via: "system"} }

// A PublicKey is an SSH public key that a user has registered.
type PublicKey struct {
	UserID      string
	Fingerprint string // SHA256:..., RFC 4716 form of OpenSSH
	Key         string // authorized_keys form without comment
	Comment     string
	CreatedAt   time.Time
}
