package access

import (
	"net"
	"slices"
	"strconv"
	"time"
)

// Labels describe a target to the policy.
type Labels struct {
	Environment string // "prod", "staging", "dev", ...
	Tier        string // "0" (holds the keys of others), "1", "2"
	Criticality string // "low", "medium", "high", "critical"
	Owner       string
}

// A Target is a machine that is reached through the bastion, or another system that
// has accounts.
type Target struct {
	ID           string
	Name         string
	Kind         string // "": a Unix machine with SSH; otherwise one of Kinds, or that of a program
	Address      string // host:port
	Labels       Labels
	Applications []string
	Accounts     []Account
	// HostKeys are the pinned keys, in authorized_keys form without comment. A
	// target that shows another key, or no host certificate of our own host CA
	// when there is none pinned, is refused before any secret is used. Of targets without
	// SSH they are the certificates, in base64 of DER, of which one has to have signed
	// that of the target's TLS; none: those that this server's system trusts.
	HostKeys []string
	// Via names the targets through which this one is reached, in order: the
	// bastion dials the first, each dials the next, and the last dials Address,
	// which it resolves. It is the whole way: what a hop is itself reached via
	// does not count. Empty: the bastion dials Address.
	Via []string
	// HopAccount is the account in which the bastion passes through this target
	// to others, or empty when nobody is reached via it. No role grants it, and
	// it need not be one of Accounts: it should be able to forward and nothing
	// else.
	HopAccount string
	// Provisioner is the account in which the broker makes and removes the
	// accounts that exist only while a grant does: root, or one that may become
	// root with sudo without a password. Nobody can ask for it.
	Provisioner string
	// PrincipalsFolder is where the target's sshd looks for the principals of an
	// account, each in a file of its name (AuthorizedPrincipalsFile FOLDER/%u);
	// empty when it finds them otherwise.
	PrincipalsFolder string
	// ScanAccount is the account as which the target is scanned, one of Accounts; empty:
	// the provisioner, or the account that sets the passwords of others.
	ScanAccount string
	// Facts are what was found out about the machine, by name: "patched", ...
	// They are recorded by themselves, and not with the target.
	Facts map[string]Fact

	Locked     bool
	LockReason string
	CreatedAt  time.Time
	Version    int64
}

// A Fact is one thing that was found out about a target.
type Fact struct {
	Value string
	At    time.Time // when it was gathered
	By    string    // name of who recorded it
}

// CheckFacts checks names and values of facts.
func CheckFacts(facts map[string]string) error {
	if len(facts) == 0 || len(facts) > maxWanted {
		return Invalid("1 to %d facts are recorded at once", maxWanted)
	}
	for name, value := range facts {
		if err := CheckGroupName(name); err != nil {
			return err
		}
		if err := CheckText("the fact "+name, value, MaxLabel); err != nil {
			return err
		}
	}
	return nil
}

// An Account is a privileged account on a target.
type Account struct {
	Name string
	// Credential says how the bastion logs in: with a certificate of our user
	// CA that lives for minutes, or with a password or a key that is sealed in the
	// vault. What that is does not stand here.
	Credential string
	// Made says how the account is made for each grant; nil: it is always there.
	Made *AccountTemplate `json:",omitempty"`
	// KnownAs is what the account is called in its system, where that is not Name: the
	// DN of its entry in a directory, user@host of MySQL, a role of PostgreSQL.
	KnownAs string `json:",omitempty"`
	// Managed says how the password or key is changed that is ours; nil: it is not.
	Managed *Managed `json:",omitempty"`
}

// What the bastion logs in with.
const (
	CredentialCertificate = "certificate" // for one account on one target, and minutes
	CredentialPassword    = "password"
	CredentialKey         = "key" // a private key, whose public half the target knows
)

// Lent reports whether the bastion logs in with a secret that the vault keeps.
func (a Account) Lent() bool {
	return a.Credential == CredentialPassword || a.Credential == CredentialKey
}

// MaxHops is how many targets may stand between the bastion and a target.
const MaxHops = 4

// Account returns the account of that name, if the target has it.
func (t *Target) Account(name string) (Account, bool) {
	i := slices.IndexFunc(t.Accounts, func(a Account) bool { return a.Name == name })
	if i < 0 {
		return Account{}, false
	}
	return t.Accounts[i], true
}

// Validate checks every field that comes from outside.
func (t *Target) Validate() error {
	if err := CheckTargetName(t.Name); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil || host == "" || len(host) > 253 {
		return Invalid("the address %s is not host:port", strconv.QuoteToASCII(clip(t.Address)))
	}
	if err := CheckText("the address", host, 253); err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return Invalid("the port %s is not one", strconv.QuoteToASCII(clip(port)))
	}
	for name, value := range map[string]string{
		"environment": t.Labels.Environment, "criticality": t.Labels.Criticality, "owner": t.Labels.Owner,
	} {
		if err := CheckLabel(name, value); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"", "0", "1", "2"}, t.Labels.Tier) {
		return Invalid("the tier must be 0, 1 or 2")
	}
	if len(t.Applications) > MaxItems || len(t.Accounts) > MaxItems || len(t.HostKeys) > 16 {
		return Invalid("a target may have at most %d applications and accounts, and 16 host keys", MaxItems)
	}
	for _, a := range t.Applications {
		if err := CheckLabel("application", a); err != nil || a == "" {
			return Invalid("the application name %s is not valid", strconv.QuoteToASCII(clip(a)))
		}
	}
	seen := map[string]bool{}
	for _, a := range t.Accounts {
		if err := CheckAccountName(a.Name); err != nil {
			return err
		}
		if seen[a.Name] {
			return Invalid("the account %s is named twice", a.Name)
		}
		seen[a.Name] = true
		if !a.Lent() && a.Credential != CredentialCertificate {
			return Invalid("the credential of account %s must be certificate, password or key", a.Name)
		}
		if err := checkKnownAs(a); err != nil {
			return err
		}
		if err := t.validateManaged(a); err != nil {
			return err
		}
		if a.Lent() && (a.Made != nil || a.Name == t.HopAccount) {
			return &Error{Kind: ErrInvalid, Code: "DB-1005", Text: a.Name + "@" + t.Name + " logs in with certificates only, because it is made for grants, or leads to other targets",
				Next: "drawbolt account set " + a.Name + "@" + t.Name + " --certificate"}
		}
	}
	if err := t.validateKind(); err != nil {
		return err
	}
	if err := t.validateWay(); err != nil {
		return err
	}
	if err := t.validateProvisioning(); err != nil {
		return err
	}
	if err := t.validateScan(); err != nil {
		return err
	}
	return CheckText("the lock reason", t.LockReason, MaxComment)
}

func (t *Target) validateWay() error {
	if t.HopAccount != "" {
		if err := CheckAccountName(t.HopAccount); err != nil {
			return err
		}
	}
	if len(t.Via) > MaxHops {
		return Invalid("a target may be reached via at most %d others", MaxHops)
	}
	for i, hop := range t.Via {
		if err := CheckTargetName(hop); err != nil {
			return err
		}
		if hop == t.Name {
			return Invalid("%s cannot be reached via itself", t.Name)
		}
		if slices.Contains(t.Via[:i], hop) {
			return Invalid("the way to %s passes through %s twice", t.Name, hop)
		}
	}
	return nil
}

// CheckWay refuses a way through targets that do not exist, that have no hop
// account, or that are themselves reached via t, directly or through others. It
// is to be asked with all targets there are, when t is saved; t need not be
// among them.
func (t *Target) CheckWay(all []Target) error {
	byName := make(map[string]*Target, len(all))
	for i := range all {
		byName[all[i].Name] = &all[i]
	}
	seen := map[string]bool{}
	var reaches func(name string) bool // whether the way to name passes through t
	reaches = func(name string) bool {
		if name == t.Name {
			return true
		}
		hop := byName[name]
		if hop == nil || seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(hop.Via, reaches)
	}
	for _, name := range t.Via {
		switch hop := byName[name]; {
		case hop == nil:
			return Invalid("there is no target %s to go through", name)
		case hop.HopAccount == "":
			return &Error{Kind: ErrInvalid, Code: "DB-1004", Text: name + " has no hop account, so nobody is reached via it", Next: "drawbolt target set " + name + " --hop-account NAME"}
		case reaches(name):
			return Invalid("%s is itself reached via %s", name, t.Name)
		}
	}
	return nil
}
