package discovery

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed profile/*.json
var profiles embed.FS

// A Check wants one setting to be in a certain way.
type Check struct {
	ID     string   `json:"id"`
	Title  string   `json:"title"` // what holds when it passes
	Key    string   `json:"key"`   // name of the setting
	OneOf  []string `json:"one_of,omitempty"`
	AtMost *int64   `json:"at_most,omitempty"`
	// AtLeast is compared as a number, as AtMost is.
	AtLeast *int64 `json:"at_least,omitempty"`
	Weight  int    `json:"weight"` // 1 to 10
	Mend    string `json:"mend"`   // command that mends it
}

// A Profile is a list of checks.
type Profile []Check

// Bounds of a profile.
const (
	maxProfile = 256 << 10 // bytes of one file
	maxChecks  = 200
)

var (
	checkID    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	settingKey = regexp.MustCompile(`^(sshd|sysctl|fact)\.[a-z0-9][a-z0-9._-]{0,70}$`)
)

// DefaultProfile is the one that comes with the program.
func DefaultProfile() (Profile, error) {
	folder, err := fs.Sub(profiles, "profile")
	if err != nil {
		return nil, err
	}
	return ReadProfile(folder)
}

// ReadProfile reads the checks of all files *.json of a folder. A check takes the place
// of one of its id in a file before it; one without a weight takes it away.
func ReadProfile(folder fs.FS) (Profile, error) {
	names, err := fs.Glob(folder, "*.json")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the folder of the profile has no file *.json")
	}
	var all Profile
	for _, name := range names {
		f, err := folder.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		if len(b) > maxProfile {
			return nil, fmt.Errorf("%s has more than %d bytes", name, maxProfile)
		}
		var checks Profile
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.DisallowUnknownFields()
		if err := d.Decode(&checks); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		for _, c := range checks {
			if err := c.validate(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = slices.DeleteFunc(all, func(o Check) bool { return o.ID == c.ID })
			if c.Weight > 0 {
				all = append(all, c)
			}
		}
	}
	if len(all) > maxChecks {
		return nil, fmt.Errorf("a profile has at most %d checks", maxChecks)
	}
	return all, nil
}

func (c *Check) validate() error {
	switch {
	case !checkID.MatchString(c.ID):
		return fmt.Errorf("the id %q is not one", c.ID)
	case c.Weight < 0 || c.Weight > 10:
		return fmt.Errorf("%s: the weight is between 0 and 10", c.ID)
	case c.Weight == 0:
		return nil
	case !settingKey.MatchString(c.Key):
		return fmt.Errorf("%s: the key %q is not sshd.NAME, sysctl.NAME or fact.NAME", c.ID, c.Key)
	case c.OneOf == nil && c.AtMost == nil && c.AtLeast == nil:
		return fmt.Errorf("%s says not what it wants", c.ID)
	case c.Title == "" || c.Mend == "" || c.Title != clean(c.Title) || c.Mend != clean(c.Mend):
		return fmt.Errorf("%s needs a title and a command that mends it, of one line and %d bytes", c.ID, maxText)
	}
	return nil
}

// Kernel are the kernel settings that the profile looks at.
func (p Profile) Kernel() (names []string) {
	for _, c := range p {
		if name, ok := strings.CutPrefix(c.Key, "sysctl."); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// A Fault is a check that does not pass.
type Fault struct {
	ID     string
	Title  string
	Is     string
	Wants  string
	Weight int
	Mend   string
}

// Posture is how a system does by a profile.
type Posture struct {
	// Score is the share of the weights that pass, in percent, of what is known;
	// -1: nothing is.
	Score  int
	Faults []Fault // the gravest first
	// Unknown are the ids of the checks whose setting is not known. They count neither way.
	Unknown []string
}

// Assess holds the settings against the profile.
func (p Profile) Assess(settings map[string]string) (r Posture) {
	passed, known := 0, 0
	for _, c := range p {
		is, there := settings[c.Key]
		if !there {
			r.Unknown = append(r.Unknown, c.ID)
			continue
		}
		if known += c.Weight; c.passes(is) {
			passed += c.Weight
			continue
		}
		r.Faults = append(r.Faults, Fault{c.ID, c.Title, is, c.wants(), c.Weight, c.Mend})
	}
	slices.SortStableFunc(r.Faults, func(a, b Fault) int { return b.Weight - a.Weight })
	if r.Score = -1; known > 0 {
		r.Score = 100 * passed / known
	}
	return r
}

func (c *Check) passes(is string) bool {
	if c.OneOf != nil && !slices.Contains(c.OneOf, is) {
		return false
	}
	if c.AtMost == nil && c.AtLeast == nil {
		return true
	}
	n, err := strconv.ParseInt(is, 10, 64)
	return err == nil && (c.AtMost == nil || n <= *c.AtMost) && (c.AtLeast == nil || n >= *c.AtLeast)
}

func (c *Check) wants() string {
	var parts []string
	if c.OneOf != nil {
		parts = append(parts, first(strings.Join(c.OneOf, " or "), "nothing"))
	}
	if c.AtLeast != nil {
		parts = append(parts, fmt.Sprintf("at least %d", *c.AtLeast))
	}
	if c.AtMost != nil {
		parts = append(parts, fmt.Sprintf("at most %d", *c.AtMost))
	}
	return strings.Join(parts, ", ")
}

// FactPrefix begins the names of the facts that a scan records. What others find out
// about a target has other names, so that no target can say it of itself.
const FactPrefix = "scan."

// Facts are what of a scan policies use, by name. An empty value says that it is not
// known any more.
func Facts(s *Scan, p Posture) map[string]string {
	facts := map[string]string{FactPrefix + "score": ""}
	if p.Score >= 0 {
		facts[FactPrefix+"score"] = strconv.Itoa(p.Score)
		facts[FactPrefix+"hardened"] = yesNo(p.Score >= 80)
	}
	facts[FactPrefix+"patched"] = ""
	if n, known := s.Settings["fact.security-updates"]; known {
		facts[FactPrefix+"patched"] = yesNo(n == "0")
	} else if n, known := s.Settings["fact.pending-updates"]; known {
		facts[FactPrefix+"patched"] = yesNo(n == "0")
	}
	for _, name := range []string{"pending-updates", "reboot-needed", "firewall", "disk-encryption", "failed-logins"} {
		facts[FactPrefix+name] = factText(s.Settings["fact."+name])
	}
	ports, known := s.Settings["fact.listening"]
	if facts[FactPrefix+"listening"] = ""; known {
		facts[FactPrefix+"listening"] = factText(first(ports, "none"))
	}
	return facts
}

func factText(s string) string { return cleanTo(s, 60) }

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
