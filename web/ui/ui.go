// Package ui is how drawbolt looks in a browser: templates over the wire types
// of web/api, and the static files they use. Every page works as plain HTML
// with forms; the script only keeps what is shown fresh, counts down, and copies.
//
// Templates escape whatever they are given and contain neither script nor style
// of their own, so that the content policy can forbid both. They show what they
// are handed and ask nobody; what may be shown has been decided before.
//
// The *_templ.go files are generated from the *.templ files and static/ from
// assets/, both by assets/build.sh, and are committed.
package ui

import (
	"embed"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/drawbolt/drawbolt/web/api"
)

// Static are the files under /static/.
//
//go:embed static
var Static embed.FS

// A Page is what every page shows around its own content.
type Page struct {
	Title  string
	User   string // name of who is signed in; "" for nobody
	Path   string // of the page among the navigation's
	Static string // where the static files are: /static/VERSION/
	Now    time.Time
	Error  *api.Problem // what went wrong with the form that was sent
	Again  string       // where to sign in again, when that is what it needs
	Wide   bool         // the content needs the whole width

	Entries []Entry // of the navigation, that are shown
}

// A Request is a request as one person looks at it.
type Request struct {
	api.Request
	Key     string // changes when what is shown does
	Mine    bool
	Viewer  string   // name of who looks at it
	Bots    bool     // a bot of theirs asks
	Source  string   // the address the request came from
	Command string   // what to type to use the grant, with any client
	Plain   string   // the same for who has run drawbolt ssh-config
	Typed   Decision // what was typed into a form that was refused
	Edit    *Edit    // the same of the form that changes it; nil: none was
	Reached Reached  // for others than the requester
	Story   Story    // of one request, not in lists
	Passkey bool     // the person has one, and can confirm a vote by it
	Terms   []string // what bounds its sessions besides, in words; not in lists
}

// Reached is where a grant leads: what an approver vouches for.
type Reached struct {
	Address  string
	Via      []string // the targets on the way
	HostKeys []string // fingerprints
}

// A Story is what has happened to a request.
type Story struct {
	Steps    []Step
	Sessions []api.Session
	More     bool // there is more than this
}

// A Step is one thing that was done.
type Step struct {
	At   time.Time
	Who  string
	What string // a sentence without its beginning
	Said string // the reason or note
	Seq  int64  // of the event in the audit log
}

func (r Request) version() string { return strconv.FormatInt(r.Version, 10) + r.State }

// A Decision is what an approver typed.
type Decision struct {
	Seconds  int64
	Note     string
	Without  []string
	FourEyes bool
	Each     map[string]int64 // of several requests: the seconds of some of them, by id
}

// Rights are those of the role that an approver may take away.
func (r Request) Rights() []string {
	var list []string
	for _, right := range []struct {
		name string
		has  bool
	}{
		{"shell", r.Session.Shell}, {"exec", r.Session.Exec}, {"files", len(r.Session.Files) > 0},
		{"uploads", slices.ContainsFunc(r.Session.Files, func(rule string) bool { return strings.HasPrefix(rule, "upload ") })}, {"forwards", len(r.Session.Forwards) > 0},
		{"agent", r.Session.Agent}, {"x11", r.Session.X11}, {"checkout", r.Session.Checkout != ""},
	} {
		if right.has {
			list = append(list, right.name)
		}
	}
	return list
}

// Choices are the durations an approver may choose from: the one asked for,
// and up to three shorter ones.
func (r Request) Choices() []int64 {
	var list []int64
	for _, s := range []int64{900, 1800, 3600, 7200, 4 * 3600, 8 * 3600, 24 * 3600, 7 * 86400} {
		if s < r.DurationSeconds {
			list = append(list, s)
		}
	}
	if len(list) > 3 {
		list = list[len(list)-3:]
	}
	return append(list, r.DurationSeconds)
}

// Chosen is the duration that is chosen when the form appears.
func (r Request) Chosen() int64 {
	if slices.Contains(r.Choices(), r.Typed.Seconds) {
		return r.Typed.Seconds
	}
	return r.DurationSeconds
}

// Open reports whether there is a grant that has not ended.
func (r Request) Open() bool { return r.Grant != nil && r.Grant.State != api.Ended }

// NeedsText says whose approval the policy wants.
func NeedsText(needs []api.Need) string {
	if len(needs) == 0 {
		return "no approval"
	}
	text := ""
	for i, n := range needs {
		switch {
		case i == 0:
		case n.Step != needs[i-1].Step:
			text += ", then "
		default:
			text += " and "
		}
		text += fmt.Sprintf("%d of @%s", n.Count, strings.Join(n.Groups, ", @"))
		if len(n.EscalateTo) > 0 {
			text += fmt.Sprintf(" (or @%s after %s)", strings.Join(n.EscalateTo, ", @"), Span(n.EscalateAfterSeconds))
		}
	}
	return text
}

// Span writes a number of seconds for people: 1 h 30 min.
func Span(seconds int64) string {
	if seconds < 60 {
		return fmt.Sprintf("%d s", max(0, seconds))
	}
	var parts []string
	for _, u := range []struct {
		length int64
		name   string
	}{{86400, "d"}, {3600, "h"}, {60, "min"}} {
		if n := seconds / u.length; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			seconds -= n * u.length
		}
	}
	return strings.Join(parts[:min(2, len(parts))], " ")
}

// From is how long it is from a to b, for people.
func From(a, b time.Time) string { return Span(int64(b.Sub(a) / time.Second)) }

// Stamp writes a time whole, in UTC.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Size writes a number of bytes.
func Size(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	default:
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
}

// Durations are what the ask form offers, in seconds.
func Durations() []int64 { return []int64{900, 1800, 3600, 7200, 4 * 3600, 8 * 3600} }

// An Ask is the ask form as it was filled in.
type Ask struct {
	Target, Account, Reason string
	Seconds                 int64
	BreakGlass              bool
	Targets                 []api.Target // that may be asked for
}

// Accounts are the names of accounts to offer: of the chosen target, or of all.
func (a Ask) Accounts() []string {
	var names []string
	for _, t := range a.Targets {
		if a.Target != "" && a.Target != t.Name {
			continue
		}
		for _, x := range t.Accounts {
			if !slices.Contains(names, x.Name) {
				names = append(names, x.Name)
			}
		}
	}
	return names
}

// A Home is what the first page shows of one person.
type Home struct {
	Key     string // changes when what is shown does
	Open    []Request
	Pending []Request
	Recent  []Request
	Again   []Request // of each account on a target that was used lately, the newest
	Inbox   int       // requests that wait for this person, up to InboxCount
}

// InboxCount is how many waiting requests the first page counts.
const InboxCount = 50

func (h Home) inbox() string {
	if h.Inbox >= InboxCount {
		return strconv.Itoa(InboxCount) + " or more"
	}
	return strconv.Itoa(h.Inbox)
}

// soon is how long before its end a grant is said to end soon.
const soon = 5 * time.Minute

// An Inbox is what waits for one person's decision.
type Inbox struct {
	Key    string
	Items  []Request
	Picked []string // the votes that were picked in a form that was refused
	Typed  Decision // what was typed there
	More   bool     // there are more than these
}

// A Session is a session with the request that led to it, where the person may
// see that.
type Session struct {
	api.Session
	Of            *api.Request
	MayEnd        bool
	VerifyCommand string
	Key           string   // changes when what is shown does
	Films         bool     // this server makes films
	HostKeys      []string // fingerprints of those that the target was pinned to
}

// A SessionList is a page of sessions.
type SessionList struct {
	Key   string
	Items []api.Session
	Live  bool   // those that run
	First bool   // it is the first page
	Older string // the address of the next one; "": there is none
}

// A Play is a session whose recording is played.
type Play struct {
	Session
	Playback *api.Playback // nil: what the player needs is not there yet
	Screen   api.PlayScreen
	T        float64 // the moment to begin with, in seconds
	Segment  int     // in which it lies
	Q        string  // what to look for
	Check    api.RecordingCheck
}

// data is the address of what the script fetches of the recording.
func (v Play) data(path string) templ.SafeURL {
	return templ.SafeURL("/v1/sessions/" + v.ID + "/play" + path)
}

// maxListed is how many entries the page itself lists. The script lists all.
const maxListed = 500

// Listed are the entries that the page lists: not what was typed, where it is
// known what was run.
func (v Play) Listed() []api.PlayText {
	run := slices.ContainsFunc(v.Playback.Texts, func(t api.PlayText) bool { return t.In == "command" })
	var list []api.PlayText
	for _, t := range v.Playback.Texts {
		if (t.In != "keys" || !run) && len(list) < maxListed {
			list = append(list, t)
		}
	}
	return list
}

// moment is the address of a moment of the recording.
func moment(v Play, at float64) templ.SafeURL {
	q := url.Values{"t": {seconds(at)}}
	if v.Q != "" {
		q.Set("q", v.Q)
	}
	return templ.SafeURL("/sessions/" + url.PathEscape(v.ID) + "/play?" + q.Encode())
}

// seconds writes a moment for addresses.
func seconds(at float64) string { return strconv.FormatFloat(at, 'f', -1, 64) }

// clock writes a moment for people: 1:04:07.
func clock(at float64) string {
	s := int64(at)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// kind names where a text of a recording is from.
func kind(in string) string {
	switch in {
	case "command":
		return "run"
	case "keys":
		return "typed"
	default:
		return in
	}
}

func total(list []int64) (sum int64) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// A Device is a client that waits to be let in.
type Device struct {
	Code, Client, Source string
	ExpiresAt            time.Time
	Done                 string // what became of it; "" while it waits
}

func targetURL(target, account string) templ.SafeURL {
	to := "/targets/" + url.PathEscape(target)
	if account != "" {
		to += "?" + url.Values{"account": {account}}.Encode() + "#ask"
	}
	return templ.SafeURL(to)
}

// The sentences of the pages that are put together of several parts.

func wants(r Request) string {
	who := ""
	if r.Mine {
		who = "(you) "
	}
	if r.State == api.Pending {
		return who + "wants"
	}
	return who + "asked for"
}

func eligible(r Request) string {
	switch {
	case r.InPlaceOf != "":
		return " · you may, for " + r.InPlaceOf
	case r.MayDecide:
		return " · you may"
	}
	return ""
}

// terms are what bounds a session besides, behind what it may do.
func terms(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "; " + strings.Join(list, "; ")
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return ": “" + s + "”"
}

func approval(r Request, a api.Approval) string {
	text := ""
	if a.DurationSeconds < r.DurationSeconds {
		text += ", for " + Span(a.DurationSeconds)
	}
	if len(a.Without) > 0 {
		text += ", without " + strings.Join(a.Without, " and ")
	}
	if a.FourEyes {
		text += ", with four eyes"
	}
	if a.InPlace {
		text += ", in the place of somebody who is away"
	}
	return text + quoted(a.Comment)
}

func waiting(r Request) string {
	text := ""
	if len(r.Waiting) > 0 {
		text = ": " + names(r.Waiting)
	}
	if r.EscalatesAt != nil {
		text += "; @" + strings.Join(r.EscalateTo, ", @") + " from " + r.EscalatesAt.UTC().Format("15:04 UTC")
	}
	return text
}

func ending(g *api.Grant) string {
	s := "Ended " + Stamp(g.End) + ": " + g.EndReason
	if g.EndedBy != "" {
		s += " by " + g.EndedBy
	}
	return s + quoted(g.EndNote)
}

// deletion says how a recording came to be gone.
func deletion(d api.Deletion) string {
	text := Stamp(d.At)
	if d.Rule != "" {
		text += ", by the rule of retention " + d.Rule
	} else {
		text += ", by " + strings.Join(d.By, " and ") + ": " + d.Reason
	}
	if d.Event != nil {
		text += fmt.Sprintf("; event %d of the audit log", *d.Event)
	}
	return text
}

func closing(s api.Session) string {
	text := Stamp(*s.ClosedAt) + ", after " + From(s.OpenedAt, *s.ClosedAt) + ": " + s.EndReason
	if s.ExitStatus != nil {
		text += fmt.Sprintf(", exit status %d", *s.ExitStatus)
	}
	return text
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
