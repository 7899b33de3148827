package ui

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/drawbolt/drawbolt/web/api"
)

// Policies is what the page of the policy shows.
type Policies struct {
	Ask     api.ExplainInput
	For, At string            // as they were typed
	Answer  *api.Decision     // nil: nothing was asked
	Who     *api.WhoCan       // beside an answer, for who may read the policy
	Policy  *api.PolicyView   // nil: the reader may not
	JSON    map[string]string // of a role
	Roles   string            // of a candidate, as they were typed
	Diff    *api.PolicyDiff
	Bundle  *Bundle // that was sent; nil: none was
}

// question says what was asked, in words.
func (s Policies) question() string {
	who := s.Ask.User
	if who == "" {
		who = "you"
	}
	return fmt.Sprintf("%s: %s %s on %s", who, s.Ask.Action, s.Ask.Account, s.Ask.Target)
}

func wayText(w api.PolicyWay) string {
	var texts []string
	for _, c := range w.Changes {
		texts = append(texts, c.Text)
	}
	return strings.Join(texts, ", and ")
}

// named are the people of a way, as far as a line has room.
func named(w api.AccessWay) string {
	const most = 12
	out := strings.Join(w.People[:min(len(w.People), most)], ", ")
	if more := w.Count - min(len(w.People), most); more > 0 {
		out += " and " + strconv.Itoa(more) + " more"
	}
	return out
}

func wayPath(w api.AccessWay) string {
	return strings.Join(append(w.Path[:len(w.Path):len(w.Path)], "rule "+w.Rule), " → ")
}

func wayTerms(w api.AccessWay) string {
	out := w.RuleText
	switch {
	case w.BreakGlass:
		out += " ▲ nobody approves this: everybody is told"
	case w.Standing:
		out += " ▲ nobody else is asked"
	}
	if len(w.Missing) > 0 {
		out += " · only if " + strings.Join(w.Missing, ", and ")
	}
	return out
}

func bundleName(s api.PolicyServer) string {
	out := "the bundle in the program"
	if s.Source != "" {
		out = s.Source
	}
	out += ", digest " + s.Digest[:min(len(s.Digest), 12)]
	if s.Commit != "" {
		out += ", commit " + s.Commit[:min(len(s.Commit), 12)]
	}
	if s.Signer != "" {
		out += ", signed by " + s.Signer
	}
	return out
}
