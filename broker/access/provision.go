package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An AccountTemplate says how an account is made on a target that exists there
// only while a grant does. Whoever writes it decides what the account may do on
// the target: it is for administrators, and approvers are shown it.
type AccountTemplate struct {
	// Prefix stands before the person's name in the login name on the target.
	// Login is a login name for everybody, one holder at a time. One of both is
	// set.
	Prefix string `json:",omitempty"`
	Login  string `json:",omitempty"`
	// Groups of the target that the account joins. They must exist there.
	Groups []string `json:",omitempty"`
	// Sudo is what the account may do with sudo, each in the form of sudoers(5)
	// without the user: "ALL=(ALL) NOPASSWD: /usr/bin/systemctl".
	Sudo []string `json:",omitempty"`
	// Shell is the login shell; empty stands for /bin/sh.
	Shell string `json:",omitempty"`
	// KeepHome: the home folder is put aside at the end, where only root of the
	// target reads it, and not removed.
	KeepHome bool `json:",omitempty"`
}

// Bounds of a template.
const (
	maxTemplateGroups = 16
	maxTemplateSudo   = 16
	maxLogin          = 32 // bytes; what useradd(8) takes
)

// None of these holds a quote, a backslash, a control character or anything
// else that a shell, passwd(5) or sudoers(5) could read as a border. The first
// word of a sudoers line is the account, and the second has to be "ALL=", so
// that no further user, alias or include can be named.
var (
	loginPrefix = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,15}$`)
	unixGroup   = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	shellPath   = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9_.+-]*){1,8}$`)
	folderPath  = shellPath
	sudoLine    = regexp.MustCompile(`^ALL ?= ?[A-Za-z0-9_.,:=()!/*?% +@-]{1,240}$`)
)

// Validate checks every field of the template.
func (a *AccountTemplate) Validate() error {
	switch {
	case (a.Prefix == "") == (a.Login == ""):
		return Invalid("an account that is made for a grant needs either a prefix or a login name")
	case a.Prefix != "" && !loginPrefix.MatchString(a.Prefix):
		return check(loginPrefix, a.Prefix, "prefix", "a-z, 0-9, underscore and hyphen, not beginning with a digit, at most 16")
	case a.Login != "" && CheckAccountName(a.Login) != nil:
		return CheckAccountName(a.Login)
	case len(a.Groups) > maxTemplateGroups || len(a.Sudo) > maxTemplateSudo:
		return Invalid("an account that is made for a grant has at most %d groups and %d lines of sudo", maxTemplateGroups, maxTemplateSudo)
	case a.Shell != "" && (len(a.Shell) > 128 || !shellPath.MatchString(a.Shell)):
		return Invalid("the shell %s is not an absolute path of letters, digits, and _.+-", strconv.QuoteToASCII(clip(a.Shell)))
	}
	for i, g := range a.Groups {
		if err := check(unixGroup, g, "group", "a-z, 0-9, underscore and hyphen, not beginning with a digit, at most 32"); err != nil {
			return err
		}
		if slices.Contains(a.Groups[:i], g) {
			return Invalid("the group %s is named twice", g)
		}
	}
	for _, line := range a.Sudo {
		if !sudoLine.MatchString(line) || strings.HasSuffix(line, " ") {
			return Invalid(`the line %s is none of sudoers without its user: write it like "ALL=(ALL) NOPASSWD: /usr/bin/systemctl"`, strconv.QuoteToASCII(clip(line)))
		}
	}
	return nil
}

// LoginFor is the name that the account of this person has on the target. It
// is at most 32 bytes of [a-z0-9_-] and begins with a letter or an underscore.
// A person's name that has other characters, or is too long, gets a part of its
// SHA-256 at the end instead, so that two persons do not have one name.
func (a *AccountTemplate) LoginFor(userName string) (string, error) {
	if a.Login != "" {
		return a.Login, nil
	}
	if err := CheckUserName(userName); err != nil {
		return "", err
	}
	name := a.Prefix + strings.ReplaceAll(userName, ".", "_")
	if len(name) > maxLogin || strings.Contains(userName, ".") {
		sum := sha256.Sum256([]byte(userName))
		name = name[:min(len(name), maxLogin-9)] + "-" + hex.EncodeToString(sum[:4])
	}
	return name, CheckAccountName(name)
}

// ShellPath is the login shell.
func (a *AccountTemplate) ShellPath() string {
	if a.Shell == "" {
		return "/bin/sh"
	}
	return a.Shell
}

// Same reports whether b makes the same account; nil stands for an account that
// is there already.
func (a *AccountTemplate) Same(b *AccountTemplate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Prefix == b.Prefix && a.Login == b.Login && a.Shell == b.Shell && a.KeepHome == b.KeepHome &&
		slices.Equal(a.Groups, b.Groups) && slices.Equal(a.Sudo, b.Sudo)
}

// String says in one line what is made, for who approves it.
func (a *AccountTemplate) String() string {
	if a == nil {
		return ""
	}
	s := "made for the grant"
	if len(a.Groups) > 0 {
		s += ", in " + strings.Join(a.Groups, ", ")
	}
	if len(a.Sudo) > 0 {
		s += ", sudo " + strings.Join(a.Sudo, "; ")
	}
	if a.KeepHome {
		return s + "; removed at its end, its home is kept"
	}
	return s + "; removed at its end with its home"
}

// CheckFolder checks the path of a folder on a target: absolute, clean, of
// letters, digits, and _.+-
func CheckFolder(what, folder string) error {
	if len(folder) > 128 || !folderPath.MatchString(folder) || path.Clean(folder) != folder {
		return Invalid("%s %s is not an absolute path of letters, digits, and _.+-", what, strconv.QuoteToASCII(clip(folder)))
	}
	return nil
}

// validateProvisioning checks what the target says of accounts that are made
// for a grant.
func (t *Target) validateProvisioning() error {
	if t.Provisioner != "" {
		if err := CheckAccountName(t.Provisioner); err != nil {
			return err
		}
		if _, asked := t.Account(t.Provisioner); asked {
			return Invalid("%s makes the accounts on %s: it is for nobody to ask for", t.Provisioner, t.Name)
		}
	}
	if t.PrincipalsFolder != "" {
		if err := CheckFolder("the folder of principals", t.PrincipalsFolder); err != nil {
			return err
		}
	}
	for _, a := range t.Accounts {
		if a.Made == nil {
			continue
		}
		if err := a.Made.Validate(); err != nil {
			return err
		}
		if t.Provisioner == "" {
			return Invalid("the account %s is made for a grant: %s needs a provisioner, the account that makes it", a.Name, t.Name)
		}
		if a.Made.Login != "" {
			if err := t.freeLogin(a.Made.Login, a.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// freeLogin refuses a login name that somebody else has on the target as we
// know it: the provisioner, the hop account, or an account that is always there.
func (t *Target) freeLogin(login, account string) error {
	taken := login == t.Provisioner || login == t.HopAccount
	for _, a := range t.Accounts {
		taken = taken || a.Name != account && a.Made == nil && a.Name == login
	}
	if taken {
		return &Error{Kind: ErrConflict, Code: "DB-3020", Text: fmt.Sprintf("the account %s cannot be made on %s: there is one of that name", login, t.Name)}
	}
	return nil
}

// A ProvisionState is where an account stands that is made for a grant.
type ProvisionState string

// The states of a provision.
const (
	Planned  ProvisionState = "planned"  // nothing was done at the target
	Creating ProvisionState = "creating" // it may be there, or a part of it
	Present  ProvisionState = "present"
	Removing ProvisionState = "removing" // it may be there, or a part of it
	Gone     ProvisionState = "gone"
	Failed   ProvisionState = "failed" // could not be made; a part may be there
)

// provisionMoves is every move of a provision. Creating follows itself when the
// server that began it is gone, and Removing follows itself until it is done.
// Gone is followed by Removing when a creation that had been given up comes to
// its end after all.
var provisionMoves = map[ProvisionState][]ProvisionState{
	Planned:  {Creating, Gone},
	Creating: {Creating, Present, Failed, Removing},
	Failed:   {Creating, Removing},
	Present:  {Removing},
	Removing: {Removing, Gone},
	Gone:     {Removing},
}

// A Provision is an account on a target that exists only while a grant does,
// from the plan to the removal. Machine is the target as it was when the account
// was made: the removal goes there whatever has become of the register since.
type Provision struct {
	ID         string
	GrantID    string
	RequestID  string
	UserID     string
	UserName   string
	TargetID   string
	TargetName string
	Account    string // as people ask for it
	Login      string // its name on the target
	Machine    Target
	Template   AccountTemplate

	State     ProvisionState
	PlannedAt time.Time
	CreatedAt time.Time // it was present from then on; zero: never yet
	GoneAt    time.Time

	// Of the step that is being done, or is to be done next.
	Tries   int64     // that failed, one after the other
	Since   time.Time // of the first of them; zero: none failed
	Problem string    // of the last of them
	NextAt  time.Time // no further try before
	Node    string    // the server that is at it
	Until   time.Time // no other server begins before
	Version int64
}

// ProvisionPrefix is that of the identifiers of provisions.
const ProvisionPrefix = "ACC"

// StepLease is how long a server has for one step at a target. What it began
// has ended by then, one way or the other.
const StepLease = 2 * time.Minute

// Of the waits between two tries of a removal.
const (
	firstWait   = 5 * time.Second
	longestWait = 10 * time.Minute
)

// NewProvision plans the account of a grant on a target.
func NewProvision(g *Grant, t *Target, made AccountTemplate, at time.Time) (*Provision, error) {
	login, err := made.LoginFor(g.UserName)
	if err != nil {
		return nil, err
	}
	if err := t.freeLogin(login, g.Account); err != nil {
		return nil, err
	}
	return &Provision{
		ID: NewID(ProvisionPrefix), GrantID: g.ID, RequestID: g.RequestID, UserID: g.UserID, UserName: g.UserName,
		TargetID: t.ID, TargetName: t.Name, Account: g.Account, Login: login, Machine: *t, Template: made,
		State: Planned, PlannedAt: at, Version: 1,
	}, nil
}

func (p *Provision) move(to ProvisionState) error {
	if !slices.Contains(provisionMoves[p.State], to) {
		return &Error{Kind: ErrConflict, Code: "DB-3021", Text: fmt.Sprintf("the account %s@%s is %s and cannot become %s", p.Login, p.TargetName, p.State, to)}
	}
	if p.State != to {
		p.Tries, p.Since, p.Problem = 0, time.Time{}, ""
	}
	p.State = to
	return nil
}

// Begin takes the step to Creating or Removing for a server until the lease is
// over. It refuses while another server, or another step, is at it.
func (p *Provision) Begin(to ProvisionState, node string, t time.Time) error {
	if t.Before(p.Until) {
		return &Error{Kind: ErrConflict, Code: "DB-3022", Text: fmt.Sprintf("the account %s@%s is being worked on", p.Login, p.TargetName), Next: "try again in a minute"}
	}
	if to == Removing && t.Before(p.NextAt) {
		return &Error{Kind: ErrConflict, Code: "DB-3022", Text: fmt.Sprintf("the removal of %s@%s is tried again at %s", p.Login, p.TargetName, p.NextAt.UTC().Format(time.RFC3339))}
	}
	if err := p.move(to); err != nil {
		return err
	}
	p.Node, p.Until = node, t.Add(StepLease)
	return nil
}

// Did ends the step that was begun: the account is present, or gone.
func (p *Provision) Did(t time.Time) error {
	switch p.State {
	case Creating:
		p.CreatedAt = t
		return p.end(Present)
	case Removing:
		p.GoneAt = t
		return p.end(Gone)
	default:
		return p.move("") // there is no such move
	}
}

// Skip ends a plan that was never begun.
func (p *Provision) Skip(t time.Time) error {
	if p.State != Planned {
		return p.move("")
	}
	p.GoneAt = t
	return p.end(Gone)
}

// GiveUp ends the removal because a person says that the account is gone.
func (p *Provision) GiveUp(t time.Time) error {
	if p.State != Removing || p.Tries == 0 {
		return &Error{Kind: ErrConflict, Code: "DB-3023", Text: fmt.Sprintf("%s@%s is %s: only a removal that has failed is given up", p.Login, p.TargetName, p.State)}
	}
	p.GoneAt = t
	return p.end(Gone)
}

func (p *Provision) end(to ProvisionState) error {
	if err := p.move(to); err != nil {
		return err
	}
	p.Node, p.Until, p.NextAt = "", time.Time{}, time.Time{}
	return nil
}

// Fail ends the step that was begun without success. A creation is tried again
// at the next use of the grant, a removal by itself, later each time.
func (p *Provision) Fail(problem string, t time.Time) error {
	tries, since := p.Tries+1, p.Since
	if since.IsZero() {
		since = t
	}
	switch p.State {
	case Creating:
		if err := p.end(Failed); err != nil {
			return err
		}
	case Removing:
		p.Node, p.Until = "", time.Time{}
		p.NextAt = t.Add(min(firstWait<<min(tries-1, 10), longestWait))
	default:
		return p.move("")
	}
	p.Tries, p.Since, p.Problem = tries, since, problem
	return nil
}

// Abandon ends the lease of a step whose server is gone. How far the step came is
// not known, so it is done again.
func (p *Provision) Abandon() { p.Node, p.Until = "", time.Time{} }

// Late notes that a creation has come to its end after the account had been
// removed, so that it is removed once more.
func (p *Provision) Late() error {
	p.GoneAt = time.Time{}
	return p.end(Removing)
}

// Stuck reports whether the removal has failed for at least d at t.
func (p *Provision) Stuck(d time.Duration, t time.Time) bool {
	return p.State == Removing && !p.Since.IsZero() && t.Sub(p.Since) >= d
}
