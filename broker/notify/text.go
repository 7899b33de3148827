package notify

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Message is a notice in words, for channels that send text. It holds no control
// characters, and nothing that was typed by people but in Title, in the values of
// Facts and in Quotes: whoever writes it in a markup escapes these.
type Message struct {
	Title  string // one line that says it
	Facts  []Fact // in order
	Quotes []Fact // what people wrote
	URL    string // the page about it
	Action string // what one does there
	Loud   bool   // somebody should look now
}

// A Fact is a name with its value.
type Fact struct{ Name, Value string }

// maxQuote bounds what people wrote, in bytes.
const maxQuote = 1000

// Say puts a notice into words. base is the address of the server's pages, without
// a slash at its end.
func Say(n Notice, base string) Message {
	m := Message{URL: base + "/", Action: "Open drawbolt", Loud: loud(n.Kind)}
	add := func(list *[]Fact, name, value string) {
		if value = strings.TrimSpace(audit.Clean(value, maxQuote)); value != "" {
			*list = append(*list, Fact{name, value})
		}
	}
	by := n.Actor
	if by == "" {
		by = "drawbolt"
	}
	who, what := "somebody", "an account"
	if n.Session != nil {
		who, what = n.Session.UserName, n.Session.Account+"@"+n.Session.TargetName
		m.URL, m.Action = base+"/sessions/"+n.Session.ID, "Look at the session"
	}
	if n.Case != nil {
		r := &n.Case.Request
		who, what = r.RequesterName, r.Account+"@"+r.TargetName
		if n.Session == nil || n.Kind != Unusual && n.Kind != Acknowledged && n.Kind != Expected {
			m.URL, m.Action = base+"/r/"+r.ID, "Open the request"
		}
	}
	m.Title = title(n, who, what, by)
	if len(n.Deciders) > 0 && n.Case != nil {
		m.Action = "Look at it and decide"
	}

	if n.Case != nil || n.Session != nil {
		add(&m.Facts, "Who", who)
		add(&m.Facts, "Where", what)
	}
	if n.Target != nil {
		add(&m.Facts, "Target is", strings.Join(nonEmpty(n.Target.Labels.Environment, prefixed("tier ", n.Target.Labels.Tier), n.Target.Labels.Criticality, prefixed("owned by ", n.Target.Labels.Owner)), ", "))
	}
	if n.Case != nil {
		r := &n.Case.Request
		add(&m.Facts, "For", access.FormatDuration(r.Duration))
		if g := n.Case.Grant; g != nil && !g.Start.IsZero() {
			add(&m.Facts, "Until", stamp(g.End))
		} else if !r.Start.IsZero() {
			add(&m.Facts, "From", stamp(r.Start))
		}
		if n.Kind == Asked || n.Kind == Edited || n.Kind == Escalated || n.Kind == Voted {
			var needs []string
			for _, need := range r.Needs {
				needs = append(needs, fmt.Sprintf("%d of %s", need.Count, strings.Join(need.Groups, ", ")))
			}
			add(&m.Facts, "Needs", strings.Join(needs, " and "))
			add(&m.Facts, "Decide by", stamp(r.ExpiresAt))
			from := r.Source
			if a := n.Case.Asker; a != nil {
				if a.NewNetwork {
					from += " (new for " + r.RequesterName + ")"
				}
				if a.Schedules {
					add(&m.Facts, "On call", cmp.Or(strings.Join(a.OnCall, ", "), "no"))
				}
			}
			add(&m.Facts, "Asked from", from)
			if r.State != access.Pending { // it was held, or failed, for some time
				add(&m.Facts, "Meanwhile", string(r.State))
			}
		}
		add(&m.Quotes, "Reason", r.Reason)
		add(&m.Facts, "Request", r.ID)
	}
	if n.Session != nil {
		add(&m.Facts, "Session", n.Session.ID)
	}
	if n.Kind == BreakGlass && n.Case == nil {
		add(&m.Quotes, "Reason", n.Text)
	}
	if n.Kind == AccountFound {
		m.URL, m.Action = base+"/targets/"+strings.TrimPrefix(n.Account, "@"), "Look at the target"
	}
	if n.Kind == PasswordTrouble {
		_, target, _ := strings.Cut(n.Account, "@")
		m.URL, m.Action = base+"/targets/"+target, "Look at the target"
		add(&m.Facts, "Where", n.Account)
	}
	if n.Kind == Digest {
		m.URL, m.Action = base+"/requests", "Look at the requests"
	}
	if n.Way != "" {
		m.URL, m.Action = base+"/me/factors", "How you sign in"
		add(&m.Facts, "When", stamp(n.At))
		add(&m.Facts, "By", n.Actor)
		add(&m.Facts, "If it was not you", "have an administrator lock the user at once: drawbolt user lock")
	}
	if n.Kind == CampaignDue {
		m.URL, m.Action = base+"/reviews", "Look at the reviews"
	}
	switch n.Kind {
	case Asked, Edited, Cancelled, Expired, Ended, BreakGlass, Started, Used, Test: // the reason was of the request, or is in the title
	case Unusual:
		add(&m.Quotes, "Command", n.Text)
		add(&m.Quotes, "Looked for", n.Rule)
	case Questioned:
		add(&m.Quotes, "Question", n.Text)
		m.Action = "Answer"
	case Replied:
		add(&m.Quotes, "Answer", n.Text)
	default:
		add(&m.Quotes, "Note", n.Text)
	}
	return m
}

// title says a notice in one line.
func title(n Notice, who, what, by string) string {
	duration, approvers := "", []string{}
	if n.Case != nil {
		duration = access.FormatDuration(n.Case.Request.Duration)
		for _, a := range n.Case.Request.Approvals {
			approvers = append(approvers, a.UserName)
		}
	}
	switch n.Kind {
	case Asked:
		return fmt.Sprintf("%s asks for %s for %s", who, what, duration)
	case Edited:
		return fmt.Sprintf("%s asks differently: for %s for %s", who, what, duration)
	case Voted:
		return fmt.Sprintf("%s has voted on %s for %s; more votes are needed", by, what, who)
	case Escalated:
		return fmt.Sprintf("Nobody has decided yet: %s asks for %s for %s", who, what, duration)
	case Approved:
		if len(approvers) == 0 {
			return fmt.Sprintf("%s for %s is approved by the policy", what, who)
		}
		return fmt.Sprintf("%s for %s is approved by %s", what, who, strings.Join(approvers, ", "))
	case Denied:
		return fmt.Sprintf("%s for %s is denied by %s", what, who, by)
	case Questioned:
		return fmt.Sprintf("%s asks %s about %s", by, who, what)
	case Replied:
		return fmt.Sprintf("%s answers about %s", by, what)
	case HandedOver:
		called := "somebody"
		if n.For != nil {
			called = n.For.Name
		}
		return fmt.Sprintf("%s calls %s to decide: %s asks for %s for %s", by, called, who, what, duration)
	case Cancelled:
		return fmt.Sprintf("%s takes back the request for %s", who, what)
	case Expired:
		return fmt.Sprintf("Nobody decided in time: %s for %s", what, who)
	case Started:
		return fmt.Sprintf("%s uses %s", who, what)
	case Used:
		return fmt.Sprintf("The sessions of %s at %s are others now", who, what)
	case Digest:
		return fmt.Sprintf("The policy approved %d by itself", n.Number)
	case Extended:
		return fmt.Sprintf("%s of %s lasts longer", what, who)
	case Ended:
		return fmt.Sprintf("%s of %s has ended", what, who)
	case Revoked:
		return fmt.Sprintf("%s of %s is revoked by %s", what, who, by)
	case BreakGlass:
		if n.Case == nil {
			return fmt.Sprintf("BREAK-GLASS: sealed codes opened a login of %s", by)
		}
		return fmt.Sprintf("BREAK-GLASS: %s took %s without approval", who, what)
	case ReviewReminder:
		return fmt.Sprintf("The break-glass of %s at %s waits for its review", who, what)
	case Reviewed:
		return fmt.Sprintf("%s has reviewed the break-glass of %s at %s", by, who, what)
	case Unusual:
		return fmt.Sprintf("Unusual: look at the session of %s at %s", who, what)
	case Tampered:
		return "ALARM: a secret in the vault is not what was written there"
	case AccountFound:
		return "Accounts on " + strings.TrimPrefix(n.Account, "@") + " that somebody should look at"
	case PasswordTrouble:
		return "The password of " + n.Account + " is not as it should be"
	case Acknowledged:
		if n.Session == nil {
			return fmt.Sprintf("%s is on it: the break-glass of %s at %s", by, who, what)
		}
		return fmt.Sprintf("%s is on it: what is unusual in the session of %s at %s", by, who, what)
	case Expected:
		return fmt.Sprintf("%s expected what was unusual in the session of %s at %s", by, who, what)
	case SignInChanged, SignInReset, PasskeyCopied:
		person, way := "somebody", audit.Clean(n.Way, maxQuote)
		if n.For != nil {
			person = n.For.Name
		}
		if n.Kind == SignInReset {
			return fmt.Sprintf("How %s signs in was changed by %s: %s", person, by, way)
		}
		return fmt.Sprintf("How %s signs in: %s", person, way)
	case CampaignDue:
		return "An access review waits for its owner"
	case Test:
		return fmt.Sprintf("This is a test by %s; nobody asks for anything", by)
	default:
		return string(n.Kind)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
