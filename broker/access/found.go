package access

import (
	"slices"
	"strconv"
	"time"
)

// FoundPrefix is that of a FoundAccount's id.
const FoundPrefix = "FND"

// Bounds of what is kept of the accounts of one target.
const (
	MaxFound  = 1000                // that are there
	KeepGone  = 30 * 24 * time.Hour // how long one that has gone is kept
	ScanLease = 5 * time.Minute     // within which a scan must be done
)

// A FoundAccount is one that a scan has found on a target, with what that means. Detail
// is what the scan said of it, as JSON; it is no secret, and nobody's to change.
type FoundAccount struct {
	ID         string
	TargetID   string
	TargetName string
	Name       string
	Class      string
	Risk       int64  // 1 is the gravest, 4 the least
	OwnerID    string // the user to whom it was given, or empty
	OwnerName  string // theirs, or of whom the scan takes for its owner
	Declared   string // what somebody said it is: "service", "shared", "emergency"
	Note       string
	Reasons    []string
	Detail     string
	FirstSeen  time.Time
	LastSeen   time.Time
	GoneAt     time.Time // zero: it is there
	Version    int64
}

// Declarations are what somebody may say that an account is, besides nothing.
func Declarations() []string { return []string{"service", "shared", "emergency"} }

// Declare says what an account is, and why.
func (f *FoundAccount) Declare(kind, note string) error {
	if kind != "" && !slices.Contains(Declarations(), kind) {
		return &Error{Kind: ErrInvalid, Code: "DB-6464", Text: "an account can be said to be service, shared or emergency", Next: "drawbolt account adopt --help"}
	}
	if err := CheckText("the note", note, MaxComment); err != nil {
		return err
	}
	f.Declared, f.Note = kind, note
	return nil
}

// A TargetScan is how the last scan of a target went, and when the next one is due.
type TargetScan struct {
	TargetID   string
	TargetName string
	Node       string    // the server that is at it
	Until      time.Time // for how long it may be
	NextAt     time.Time // zero: it was asked for only
	TriedAt    time.Time // the last try
	At         time.Time // the last one that went well; zero: none has
	Problem    string    // of the last try; empty: it went well
	Accounts   int64     // that were found
	Score      int64     // of the posture, in percent; -1: unknown
	Settings   map[string]string
	Faults     string   // JSON: what does not pass, with what mends it
	Ways       string   // JSON: what leads past the bastion
	WayCount   int64    // how many these are
	Drift      []string // of the settings, against the scan before
	Incomplete []string
	Version    int64
}

// ScannedKinds are the kinds of targets, besides machines with SSH, that are scanned.
func ScannedKinds() []string {
	return []string{KindPostgres, KindMySQL, KindLDAP, KindActiveDirectory}
}

// ScansAs is the account as which the target is scanned by itself: the one that is named
// for it, the provisioner, or the one that sets the passwords of others. Empty: none can.
func (t *Target) ScansAs() string {
	switch {
	case t.ScanAccount != "":
		return t.ScanAccount
	case t.Kind == "":
		return t.Provisioner
	}
	for _, a := range t.Accounts {
		if a.Managed != nil && a.Managed.Reset != "" {
			return a.Managed.Reset
		}
	}
	return ""
}

// validateScan checks that a scan can log in with what is named for it.
func (t *Target) validateScan() error {
	if t.ScanAccount == "" {
		return nil
	}
	a, ok := t.Account(t.ScanAccount)
	switch {
	case !ok:
		return &Error{Kind: ErrInvalid, Code: "DB-6520", Text: t.Name + " has no account " + strconv.QuoteToASCII(clip(t.ScanAccount)) + " to be scanned as", Next: "drawbolt target set " + t.Name + " --scan-account ACCOUNT"}
	case t.Kind == "" && (a.Made != nil || a.Lent()), t.Kind != "" && a.Credential != CredentialPassword:
		return &Error{Kind: ErrInvalid, Code: "DB-6521", Text: a.Name + "@" + t.Name + " does not log in for scans: a machine is scanned with a certificate, in an account that is always there, and other systems with a password that is kept",
			Next: "drawbolt account set " + a.Name + "@" + t.Name}
	}
	return nil
}
