package provision

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// script does both steps at a target.
//
//go:embed account.sh
var script string

// MaxOutput is how much a target may answer, in bytes.
const MaxOutput = 16 << 10

// argument is what a value may be made of. There is no quote in it, nothing
// that ends a word in single quotes, and no control character.
var argument = regexp.MustCompile(`^[A-Za-z0-9_.,:=()!/*?% +@-]{1,256}$`)

// nothing stands for an argument that is empty.
const nothing = "-"

// command is what the target's shell is to run with the script on its standard
// input. The values were checked where they came in; they are checked again
// here, and stand in single quotes.
func command(s broker.Step) (string, error) {
	p := s.Provision
	args := []string{"remove", p.Login, p.GrantID, orNothing(s.Machine.PrincipalsFolder)}
	if s.Creates() {
		args[0] = "create"
		args = append(args, p.Template.ShellPath(), orNothing(strings.Join(p.Template.Groups, ",")), p.Login+"@"+s.Machine.Name)
		args = append(args, p.Template.Sudo...)
	} else if p.Template.KeepHome {
		args = append(args, "keep")
	} else {
		args = append(args, "remove")
	}
	return quote(s.Machine.Provisioner, args)
}

func quote(provisioner string, args []string) (string, error) {
	line := "sh -s --"
	if provisioner != "root" {
		line = "sudo -n -- sh -s --"
	}
	for _, a := range args {
		if !argument.MatchString(a) {
			return "", access.Invalid("%.40q cannot be told to a target", a)
		}
		line += " '" + a + "'"
	}
	return line, nil
}

func orNothing(s string) string {
	if s == "" {
		return nothing
	}
	return s
}

// A report is what the script answered.
type report struct {
	outcome string // present, gone, foreign, failed
	details map[string]string
}

// The keys that a report may have. The target is not trusted: it tells nothing
// else, and what it tells is shown as its word.
var keys = map[string]*regexp.Regexp{
	"outcome": regexp.MustCompile(`^(present|gone|foreign|failed)$`),
	"problem": regexp.MustCompile(`^[ -~]{1,200}$`),
	"uid":     regexp.MustCompile(`^[0-9]{1,10}$`),
	"kept":    regexp.MustCompile(`^/[A-Za-z0-9_./-]{1,120}$`),
}

var errNoReport = errors.New("the target did not say how the step ended")

// parse reads the report out of what the target sent, which may have other lines
// around it, such as those of a login script.
func parse(output []byte) (report, error) {
	if len(output) > MaxOutput {
		return report{}, errNoReport
	}
	r := report{details: map[string]string{}}
	for line := range bytes.Lines(output) {
		text, ours := strings.CutPrefix(strings.TrimRight(string(line), "\r\n"), "drawbolt: ")
		key, value, pair := strings.Cut(text, "=")
		if !ours {
			continue
		}
		if !pair || keys[key] == nil || !keys[key].MatchString(value) || r.outcome != "" || r.details[key] != "" {
			return report{}, fmt.Errorf("%w: it sent %.80q", errNoReport, text)
		}
		if key == "outcome" {
			r.outcome = value
		} else {
			r.details[key] = value
		}
	}
	if r.outcome == "" {
		return report{}, errNoReport
	}
	return r, nil
}

// done says whether the report ends the step well, and otherwise why not. An
// account that is not ours refuses a creation. It ends a removal when the account
// was never made; one that we made and cannot recognise any more is a finding.
func (r report) done(s broker.Step) error {
	p := s.Provision
	switch {
	case r.outcome == "present" && s.Creates(), r.outcome == "gone" && !s.Creates():
		return nil
	case r.outcome == "foreign" && !s.Creates() && p.CreatedAt.IsZero():
		return nil
	case r.outcome == "foreign" && s.Creates():
		return &access.Error{Kind: access.ErrConflict, Code: "DB-3025", Text: fmt.Sprintf("%s has an account or a group %s that drawbolt did not make; it was not touched", s.Machine.Name, p.Login)}
	case r.outcome == "foreign":
		return fmt.Errorf("the account %s is not recognised as the one that was made; it was not touched", p.Login)
	case r.outcome == "failed":
		return fmt.Errorf("the target says: %s", orNothing(r.details["problem"]))
	default:
		return fmt.Errorf("the target says %s, which is not the end of this step", r.outcome)
	}
}
