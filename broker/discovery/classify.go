package discovery

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Class says what kind an account is. Each account has one: the first in this order
// that fits.
type Class string

// The classes.
const (
	Managed   Class = "managed"   // people get in through the bastion, under a grant
	Emergency Class = "emergency" // kept for the day on which nothing else works
	Orphaned  Class = "orphaned"  // its owner has left
	Dormant   Class = "dormant"   // it opens, and nobody has used it for long
	Shared    Class = "shared"    // several people get in with it
	Service   Class = "service"   // programs use it
	Unmanaged Class = "unmanaged" // none of these
)

// Classes are all classes, in their order.
func Classes() []Class {
	return []Class{Managed, Emergency, Orphaned, Dormant, Shared, Service, Unmanaged}
}

// A Risk says how grave it is that an account is as it is. 1 is the gravest.
type Risk int

// The risks.
const (
	Critical Risk = 1 + iota
	High
	Medium
	Low
)

// String returns the word of a risk.
func (r Risk) String() string {
	switch r {
	case Critical:
		return "critical"
	case High:
		return "high"
	case Medium:
		return "medium"
	default:
		return "low"
	}
}

// ParseRisk reads the word of a risk.
func ParseRisk(s string) (Risk, bool) {
	i := slices.Index([]string{"critical", "high", "medium", "low"}, s)
	return Risk(i + 1), i >= 0
}

// A Way leads past the bastion: who takes it asks nobody, and nothing records it.
type Way struct {
	Kind    string // "key", "password", "root", "sudo", "authority", "hosts", "open", "right"
	Account string // "": the system itself
	Text    string
	Risk    Risk
	Command string // closes it, to be typed at the system as an administrator
}

// A Finding is an account with what it means.
type Finding struct {
	Account
	Class   Class
	Owner   string // a person's name, where one is known
	Risk    Risk
	Reasons []string // in words, why it has its class and its risk
}

// A Person is one whom the bastion knows.
type Person struct {
	Name string
	Left bool // locked
}

// Known is what there is to compare a scan with.
type Known struct {
	Now        time.Time
	Production bool
	// Managed are the accounts through which the bastion lets people in, or itself.
	Managed map[string]bool
	// Made reports whether an account is one that exists for a grant now.
	Made map[string]bool
	// Owners are the people to whom accounts were given, by the accounts' names, and
	// Declared what somebody said that an account is: service, shared or emergency.
	Owners   map[string]Person
	Declared map[string]Class
	// People are by their names, and Keys whose a key is, by its fingerprint.
	People map[string]Person
	Keys   map[string]Person
	// Authorities are the fingerprints of the bastion's own, and OwnKeys of keys with
	// which it logs in itself, by the account to which each leads. One that a person has
	// registered is that person's.
	Authorities []string
	OwnKeys     map[string][]string
	// DormantAfter is how long an account is unused when it is called dormant.
	// Default: 90 days.
	DormantAfter time.Duration
}

// Classify says what the accounts of a scan are, those that matter, and which ways
// lead past the bastion. Both are in the order of the system.
func Classify(s *Scan, k Known) (findings []Finding, ways []Way) {
	if k.DormantAfter <= 0 {
		k.DormantAfter = 90 * 24 * time.Hour
	}
	ways = systemWays(s, &k)
	for i := range s.Accounts {
		a := &s.Accounts[i]
		if !a.Matters() && !k.Managed[a.Name] && k.Declared[a.Name] == "" {
			continue
		}
		past := accountWays(s, &k, a)
		ways = append(ways, past...)
		f := Finding{Account: *a}
		f.class(s, &k)
		f.weigh(&k, past)
		findings = append(findings, f)
	}
	return findings, ways
}

// own reports whether a key leads through the bastion alone: it is the bastion's for that
// account, or one with which the bastion certifies others.
func (k *Known) own(account string, key Key) bool {
	if key.Authority {
		return slices.Contains(k.Authorities, key.Fingerprint)
	}
	return slices.Contains(k.OwnKeys[account], key.Fingerprint)
}

func (f *Finding) because(format string, args ...any) {
	f.Reasons = append(f.Reasons, clean(fmt.Sprintf(format, args...)))
}

// emergencyNames begin or end names of accounts that are kept for emergencies.
var emergencyNames = []string{"breakglass", "break-glass", "break_glass", "emergency", "firecall"}

func (f *Finding) class(s *Scan, k *Known) {
	a := &f.Account
	owner, owned := k.Owners[a.Name]
	if !owned {
		owner, owned = k.People[a.Name]
	}
	holders := map[string]Person{} // people whose keys open it
	strangers := 0
	for _, key := range a.Keys {
		if p, ok := k.Keys[key.Fingerprint]; ok {
			holders[p.Name] = p
		} else if !k.own(a.Name, key) {
			strangers++
		}
	}
	if !owned && len(holders) == 1 && strangers == 0 {
		for _, p := range holders {
			owner, owned = p, true
		}
	}
	f.Owner = owner.Name
	gone := owner
	for _, p := range holders {
		if p.Left {
			gone = p
		}
	}
	unused := k.Now.Sub(a.LastLogin)
	days := func(d time.Duration) int { return int(d.Hours() / 24) }
	declared := k.Declared[a.Name]
	word := strings.ToLower(a.Name)
	emergency := slices.ContainsFunc(emergencyNames, func(n string) bool { return strings.Contains(word, n) })
	switch {
	case k.Made[a.Name]:
		f.Class = Managed
		f.because("the bastion has made it for a grant, and removes it")
	case k.Managed[a.Name]:
		f.Class = Managed
		f.because("the bastion lets people in with it, or logs in with it itself")
	case declared == Emergency:
		f.Class = Emergency
		f.because("somebody said that it is for emergencies")
	case emergency:
		f.Class = Emergency
		f.because("its name says that it is for emergencies")
	case owned && owner.Left:
		f.Class = Orphaned
		f.because("its owner %s is locked, or has left", owner.Name)
	case gone.Left:
		f.Class = Orphaned
		f.because("a key of %s opens it, who is locked, or has left", gone.Name)
	case a.Opens() && s.LastLogins && !a.LastLogin.IsZero() && unused-s.LoginSlack > k.DormantAfter:
		f.Class = Dormant
		if s.LoginSlack > 0 { // the system notes logins late
			f.because("nobody has logged in with it for %d to %d days", days(unused-s.LoginSlack), days(unused))
		} else {
			f.because("nobody has logged in with it for %d days", days(unused))
		}
	case a.Opens() && s.LastLogins && a.LastLogin.IsZero() && a.Service == "" && declared == "" && !a.Changed.IsZero() && k.Now.Sub(a.Changed) > k.DormantAfter:
		f.Class = Dormant
		f.because("nobody has ever logged in with it, and its password is %d days old", days(k.Now.Sub(a.Changed)))
	case declared == Shared || declared == Service:
		f.Class = declared
		f.because("somebody said that it is %s", map[Class]string{Shared: "shared", Service: "a service's"}[declared])
	case len(holders)+strangers > 1:
		f.Class = Shared
		f.because("%d different keys open it", len(holders)+strangers)
	case a.UID == 0 && s.Kind == Linux && a.Opens():
		f.Class = Shared
		f.because("root is nobody's own")
	case a.Service != "":
		f.Class = Service
		f.because("%s", a.Service)
	default:
		f.Class = Unmanaged
		f.because("the bastion does not know it")
	}
	if f.Owner == "" {
		f.because("it has no owner")
	}
}

// oldPassword is from when on it is said how old a password is, with which more can be
// done than usual.
const oldPassword = 365 * 24 * time.Hour

// weigh says how grave it is.
func (f *Finding) weigh(k *Known, past []Way) {
	f.Risk = Low
	worse := func(r Risk) { f.Risk = min(f.Risk, r) }
	full, opens := f.Full(), f.Opens()
	for _, r := range f.Rights {
		if len(f.Reasons) < 12 {
			f.because("%s (%s)", r.Text, r.Source)
		}
	}
	switch {
	case opens && full && len(past) > 0:
		worse(High)
	case opens && len(f.Rights) > 0 || full && f.Class != Managed:
		worse(Medium)
	}
	if opens && f.Password == PasswordNone {
		f.because("no password is asked for")
		worse(High)
		if full {
			worse(Critical)
		}
	}
	if full && opens && (f.Class == Orphaned || f.Class == Dormant) {
		worse(Critical)
	} else if opens && (f.Class == Orphaned || f.Class == Dormant) {
		worse(High)
	}
	if f.NeverExpires && opens && f.Password == PasswordSet {
		f.because("its password never expires")
		worse(Medium)
	}
	if age := k.Now.Sub(f.Changed); opens && f.Password == PasswordSet && !f.Changed.IsZero() && age > oldPassword && (len(f.Rights) > 0 || len(f.Weak) > 0) {
		f.because("its password is %d days old", int(age.Hours()/24))
		worse(Medium)
	}
	if opens && f.Class != Managed {
		for _, text := range f.Weak {
			f.because("%s", text)
			worse(Medium)
			if len(f.Rights) > 0 {
				worse(High)
			}
		}
	}
	for _, w := range past {
		worse(w.Risk)
	}
	if k.Production && opens && f.Risk == High && full && f.Class != Managed {
		f.because("the target is one of production")
		worse(Critical)
	}
}

// quoted is a text as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

const fragment = "/etc/ssh/sshd_config.d/00-bastion.conf"

func sshdCommand(line string) string {
	return "echo " + quoted(line) + " >>" + fragment + " && sshd -t && systemctl reload ssh"
}

// systemWays are the ways of a system as such.
func systemWays(s *Scan, k *Known) (ways []Way) {
	if s.Kind != Linux {
		return nil
	}
	add := func(kind string, risk Risk, command, format string, args ...any) {
		ways = append(ways, Way{Kind: kind, Text: clean(fmt.Sprintf(format, args...)), Risk: risk, Command: command})
	}
	for _, a := range s.Authorities {
		if !slices.Contains(k.Authorities, a) {
			add("authority", Critical, "ssh-keygen -lf "+quoted(first(s.Settings["sshd.trustedusercakeys"], "/etc/ssh/user_ca.pub"))+" # and delete the line of "+a,
				"sshd trusts the user authority %s, which is not the bastion's: it lets in whomever that certifies", a)
		}
	}
	if s.Settings["sshd.permitemptypasswords"] == "yes" {
		add("password", Critical, sshdCommand("PermitEmptyPasswords no"), "sshd lets in accounts without a password")
	}
	if s.Settings["sshd.hostbasedauthentication"] == "yes" {
		add("hosts", High, sshdCommand("HostbasedAuthentication no"), "sshd believes other machines who somebody is (HostbasedAuthentication)")
	}
	if s.Settings["sshd.gssapiauthentication"] == "yes" {
		add("hosts", Medium, sshdCommand("GSSAPIAuthentication no"), "sshd lets in with tickets of Kerberos (GSSAPIAuthentication)")
	}
	if c := s.Settings["sshd.authorizedkeyscommand"]; c != "" && c != "none" {
		add("key", Medium, sshdCommand("AuthorizedKeysCommand none"), "sshd asks the program %s for further keys", c)
	}
	return ways
}

// passwordLogin reports whether sshd lets the account in with a password.
func passwordLogin(s *Scan, a *Account) bool {
	of := func(name string) string {
		return first(s.Settings["sshd-user."+a.Name+"."+name], s.Settings["sshd."+name])
	}
	if of("passwordauthentication") != "yes" && of("kbdinteractiveauthentication") != "yes" {
		return false
	}
	return a.UID != 0 || of("permitrootlogin") == "yes"
}

// accountWays are those through one account.
func accountWays(s *Scan, k *Known, a *Account) (ways []Way) {
	if a.Disabled || k.Made[a.Name] {
		return nil
	}
	add := func(kind string, risk Risk, command, format string, args ...any) {
		ways = append(ways, Way{Kind: kind, Account: a.Name, Text: clean(fmt.Sprintf(format, args...)), Risk: risk, Command: command})
	}
	grave := Medium
	if a.Full() {
		grave = High
	}
	if s.Kind != Linux {
		if a.Opens() && !k.Managed[a.Name] && len(a.Rights) > 0 {
			add("right", grave, closing(s.Kind, a), "%s logs in by itself, and %s", a.Name, a.Rights[0].Text)
		}
		return ways
	}
	for _, key := range a.Keys {
		whose := "nobody's that is known"
		if p, ok := k.Keys[key.Fingerprint]; ok {
			whose = p.Name + "'s"
		} else if k.own(a.Name, key) {
			continue
		}
		if key.Authority {
			add("authority", Critical, removeKey(s, a, key), "whomever the authority %s certifies gets in as %s", key.Fingerprint, a.Name)
			continue
		}
		add("key", grave, removeKey(s, a, key), "the key %s (%s, %s) gets in as %s", key.Fingerprint, first(key.Comment, "no comment"), whose, a.Name)
	}
	if a.Password == PasswordSet && passwordLogin(s, a) {
		command := sshdCommand("PasswordAuthentication no")
		if a.UID == 0 {
			command = sshdCommand("PermitRootLogin prohibit-password")
		}
		add("password", grave, command, "%s gets in with a password", a.Name)
	}
	if a.Password == PasswordNone {
		add("open", grave, "passwd -l "+quoted(a.Name), "%s has no password, and none is asked for", a.Name)
	}
	if a.UID == 0 && a.Name != "root" {
		add("root", Critical, "userdel "+quoted(a.Name)+" # it is root under another name: look first what uses it", "%s is root under another name", a.Name)
	}
	if a.Opens() && !k.Managed[a.Name] {
		for _, r := range a.Rights {
			if r.Full && a.UID != 0 {
				add("sudo", grave, closeRight(a, r), "%s, who is not under the bastion, becomes root: %s (%s)", a.Name, r.Text, r.Source)
			}
		}
	}
	return ways
}

func removeKey(s *Scan, a *Account, k Key) string {
	file := first(s.Settings["sshd.authorizedkeysfile"], ".ssh/authorized_keys")
	file, _, _ = strings.Cut(file, " ")
	file = strings.NewReplacer("%u", a.Name, "%h", "~"+a.Name).Replace(file)
	if !strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "~") {
		file = "~" + a.Name + "/" + file
	}
	return "ssh-keygen -lf " + file + " # and delete the line of " + k.Fingerprint
}

func closeRight(a *Account, r Right) string {
	if group, ok := strings.CutPrefix(r.Source, "group "); ok {
		return "gpasswd -d " + quoted(a.Name) + " " + quoted(group)
	}
	if strings.HasPrefix(r.Source, "/") {
		return "visudo -f " + quoted(r.Source) + " # and delete the rule for " + a.Name
	}
	return "sudo -l -U " + quoted(a.Name)
}

// closing is the command that takes an account of another system its way.
func closing(kind string, a *Account) string {
	switch kind {
	case PostgreSQL:
		return `ALTER ROLE "` + strings.ReplaceAll(a.Name, `"`, `""`) + `" NOLOGIN;`
	case MySQL:
		user, host, _ := cutLast(a.Name, "@")
		return "ALTER USER " + sqlText(user) + "@" + sqlText(host) + " ACCOUNT LOCK;"
	default:
		return "ldapmodify # and " + inDirectory(a)
	}
}

func inDirectory(a *Account) string {
	source := a.Rights[0].Source
	if group, ok := strings.CutPrefix(source, "group "); ok {
		return "delete " + quoted(a.Comment) + " from the members of " + quoted(group)
	}
	if strings.HasPrefix(source, "its primary group") {
		return "give " + quoted(a.Comment) + " another primaryGroupID than that of " + quoted(a.Groups[0])
	}
	return "change " + strings.Replace(source, "the directory", "adminCount", 1) + " of " + quoted(a.Comment) + ": it " + a.Rights[0].Text
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func sqlText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// A Change is what differs between two scans of one account.
type Change struct {
	Account string
	What    string // "new", "gone", "changed"
	Text    string
	Grave   bool
}

// Diff says how the findings of a scan differ from those of the one before.
func Diff(before, now []Finding) (list []Change) {
	was := map[string]*Finding{}
	for i := range before {
		was[before[i].Name] = &before[i]
	}
	for i := range now {
		is := &now[i]
		old := was[is.Name]
		delete(was, is.Name)
		if old == nil {
			list = append(list, Change{is.Name, "new", clean(fmt.Sprintf("%s, risk %s: %s", is.Class, is.Risk, first(append(is.Reasons, "")...))), is.Risk <= High && is.Class != Managed})
			continue
		}
		if text := differs(old, is); text != "" {
			list = append(list, Change{is.Name, "changed", clean(text), is.Risk < old.Risk && is.Risk <= High && is.Class != Managed || gains(old, is)})
		}
	}
	for i := range before {
		if was[before[i].Name] != nil {
			list = append(list, Change{before[i].Name, "gone", "it is not there, or opens nothing, any more", false})
		}
	}
	return list
}

// gains: somebody new gets in with everything.
func gains(was, is *Finding) bool {
	if !is.Full() {
		return false
	}
	if !was.Full() {
		return is.Opens()
	}
	return slices.ContainsFunc(is.Keys, func(k Key) bool { return !hasKey(was.Keys, k) })
}

func hasKey(keys []Key, k Key) bool {
	return slices.ContainsFunc(keys, func(o Key) bool { return o.Fingerprint == k.Fingerprint })
}

func differs(was, is *Finding) string {
	var parts []string
	note := func(what, a, b string) {
		if a != b {
			parts = append(parts, what+" "+first(a, "none")+" -> "+first(b, "none"))
		}
	}
	note("class", string(was.Class), string(is.Class))
	note("risk", was.Risk.String(), is.Risk.String())
	note("password", was.Password, is.Password)
	note("weakness", strings.Join(was.Weak, ", "), strings.Join(is.Weak, ", "))
	note("owner", was.Owner, is.Owner)
	if was.Disabled != is.Disabled {
		note("state", onOff(was.Disabled), onOff(is.Disabled))
	}
	for _, k := range is.Keys {
		if !hasKey(was.Keys, k) {
			parts = append(parts, "key added "+k.Fingerprint)
		}
	}
	for _, k := range was.Keys {
		if !hasKey(is.Keys, k) {
			parts = append(parts, "key removed "+k.Fingerprint)
		}
	}
	for _, r := range is.Rights {
		if !slices.Contains(was.Rights, r) {
			parts = append(parts, "right added: "+r.Text)
		}
	}
	for _, r := range was.Rights {
		if !slices.Contains(is.Rights, r) {
			parts = append(parts, "right taken: "+r.Text)
		}
	}
	return strings.Join(parts, "; ")
}

func onOff(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}
