package access

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of targets, besides Unix machines with SSH.
const (
	KindPostgres        = "postgres"
	KindMySQL           = "mysql" // and MariaDB
	KindLDAP            = "ldap"
	KindActiveDirectory = "ad"
	KindWindows         = "windows" // a machine with OpenSSH for Windows
	// KindProgram begins the kinds of which a program of the operator's changes the
	// passwords. Its name follows, by which the server's configuration knows it.
	KindProgram = "plugin:"
)

// Kinds lists them. Those of programs are not known here.
func Kinds() []string {
	return []string{KindPostgres, KindMySQL, KindLDAP, KindActiveDirectory, KindWindows}
}

var programName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// ProgramOf returns the name of the program that changes the passwords of targets of a
// kind; "": it is no such kind.
func ProgramOf(kind string) string {
	name, ok := strings.CutPrefix(kind, KindProgram)
	if !ok || !programName.MatchString(name) {
		return ""
	}
	return name
}

// SSH reports whether the target is a machine with SSH, where people log in through the
// bastion.
func (t *Target) SSH() bool { return t.Kind == "" || t.Kind == KindWindows }

// KindName is how people call a target of that kind.
func KindName(kind string) string {
	switch kind {
	case KindPostgres:
		return "PostgreSQL server"
	case KindMySQL:
		return "MySQL or MariaDB server"
	case KindLDAP:
		return "directory"
	case KindActiveDirectory:
		return "domain of Active Directory"
	case KindWindows:
		return "machine with Windows"
	case "":
		return "machine with SSH"
	default:
		return "system of the kind " + kind
	}
}

// Managed says how the password of an account is kept that is ours, or its key: we
// change it, and prove each day that it is in force.
type Managed struct {
	// Every is how old it becomes before it is changed; 0: any age.
	Every time.Duration `json:",omitempty"`
	// AfterUse: it is changed after each session, too.
	AfterUse bool `json:",omitempty"`
	// Length and Classes are what passwords are like, Never what is not in them; as in
	// package rotate, with its defaults. A key has none of these.
	Length  int      `json:",omitempty"`
	Classes []string `json:",omitempty"`
	Never   string   `json:",omitempty"`
	// Reset is the account of the same target that sets it. "": the
	// provisioner, where there is one, or the account itself.
	Reset string `json:",omitempty"`
	// Failures of logins within Window, after which nothing more is tried, so that the
	// system does not lock the account; 0: 2 in 30 minutes.
	Failures int           `json:",omitempty"`
	Window   time.Duration `json:",omitempty"`
}

// Bounds of Managed.
const (
	minEvery   = time.Hour
	maxEvery   = 10 * 366 * 24 * time.Hour
	maxFailing = 7 * 24 * time.Hour
	maxKnownAs = 512 // bytes
)

// validateManaged checks how the password of an account is kept.
func (t *Target) validateManaged(a Account) error {
	m := a.Managed
	if m == nil {
		return nil
	}
	bytes := len(m.Never)
	for _, c := range m.Classes {
		bytes += len(c)
	}
	switch {
	case !a.Lent():
		return Invalid("only the password or the key of an account is changed by drawbolt, and %s logs in with a %s", a.Name, a.Credential)
	case a.Credential == CredentialKey && t.Kind != "":
		return &Error{Kind: ErrInvalid, Code: "DB-6501", Text: "keys are changed at Unix machines only, and " + t.Name + " is a " + KindName(t.Kind), Next: "drawbolt account manage " + a.Name + "@" + t.Name + " --password-stdin"}
	case a.Credential == CredentialKey && (m.Length != 0 || bytes > 0):
		return Invalid("a key has no length and no characters that could be chosen")
	case m.Every != 0 && (m.Every < minEvery || m.Every > maxEvery):
		return Invalid("a password or key is changed every hour at most, and every ten years at least")
	case m.Failures < 0 || m.Failures > 100 || m.Window < 0 || m.Window > maxFailing:
		return Invalid("1 to 100 logins may fail, within at most 7 days")
	case len(m.Classes) > 8 || bytes > 512:
		return Invalid("there are at most 8 classes of characters, of 512 bytes in all")
	case m.Reset == a.Name:
		return Invalid("%s cannot reset its own password", a.Name)
	case m.Reset != "" && ProgramOf(t.Kind) != "":
		return Invalid("at a %s the program alone sets passwords, and no other account", KindName(t.Kind))
	case t.Kind == KindLDAP || t.Kind == KindActiveDirectory:
		if a.KnownAs == "" {
			return needsKnownAs(t, a.Name)
		}
	}
	if m.Reset == "" {
		return nil
	}
	by, ok := t.Account(m.Reset)
	switch {
	case !ok:
		return Invalid("%s has no account %s that could reset passwords", t.Name, strconv.QuoteToASCII(clip(m.Reset)))
	case by.Made != nil:
		return Invalid("%s is made for grants, and is not there to reset passwords", m.Reset)
	case !t.SSH() && by.Credential != CredentialPassword:
		return &Error{Kind: ErrInvalid, Code: "DB-6405", Text: "the password of " + m.Reset + "@" + t.Name + " is not kept, so it cannot reset others", Next: "drawbolt account set " + m.Reset + "@" + t.Name + " --password-stdin"}
	case (t.Kind == KindLDAP || t.Kind == KindActiveDirectory) && by.KnownAs == "":
		return needsKnownAs(t, m.Reset)
	}
	return nil
}

func needsKnownAs(t *Target, account string) error {
	return &Error{Kind: ErrInvalid, Code: "DB-6406", Text: account + "@" + t.Name + " needs the name of its entry in the directory", Next: "drawbolt account add " + account + "@" + t.Name + " --known-as DN"}
}

// validateKind checks what a target has that is no Unix machine with SSH.
func (t *Target) validateKind() error {
	switch {
	case t.SSH() && slices.ContainsFunc(t.Accounts, func(a Account) bool { return a.KnownAs != "" }):
		return Invalid("an account of a machine with SSH has one name, by which sessions log in")
	case t.Kind == "":
		return nil
	case !slices.Contains(Kinds(), t.Kind) && ProgramOf(t.Kind) == "":
		return Invalid("the kind %s of a target is none of %s and %sNAME", strconv.QuoteToASCII(clip(t.Kind)), strings.Join(Kinds(), ", "), KindProgram)
	case t.SSH() && (t.HopAccount != "" || t.Provisioner != "" || t.PrincipalsFolder != "" || slices.ContainsFunc(t.Accounts, func(a Account) bool { return a.Made != nil })):
		return Invalid("%s is a %s: nobody is reached through it, and no accounts are made on it", t.Name, KindName(t.Kind))
	case t.SSH():
		return nil
	case len(t.Via) > 0 || t.HopAccount != "" || t.Provisioner != "" || t.PrincipalsFolder != "":
		return Invalid("%s is a %s: nobody is reached through it, it is not reached through others, and no accounts are made on it", t.Name, KindName(t.Kind))
	}
	for _, a := range t.Accounts {
		if a.Made != nil || a.Credential == CredentialKey {
			return Invalid("%s is a %s: its accounts have passwords", t.Name, KindName(t.Kind))
		}
	}
	return nil
}

// checkKnownAs checks what an account is called in its system.
func checkKnownAs(a Account) error {
	if a.KnownAs == "" {
		return nil
	}
	return CheckText("what "+a.Name+" is called in its system", a.KnownAs, maxKnownAs)
}
