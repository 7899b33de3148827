package slack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// A message is what stands in Slack. The text is what notifications and screen
// readers have of it.
type message struct {
	Text   string      `json:"text"`
	Blocks []sdk.Block `json:"blocks"`
}

// shown is another text when the message is another.
func (m message) shown() string {
	b, err := json.Marshal(m)
	if err != nil {
		return "" // it will be sent again
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (m message) options() []sdk.MsgOption {
	return []sdk.MsgOption{
		sdk.MsgOptionText(cut(m.Text, maxFallback), false), sdk.MsgOptionBlocks(m.Blocks...),
		sdk.MsgOptionDisableLinkUnfurl(), sdk.MsgOptionDisableMediaUnfurl(),
	}
}

// A view is a request as the card of it shows it.
type view struct {
	broker.Case
	environment string            // of the target
	accounts    map[string]string // user id -> account in Slack, of those who have linked one
	button      bool              // a vote from Slack would count
	glass       *access.GlassReview
	use         access.GrantUse   // of the grant
	nobody      broker.Unanswered // who was asked, when nobody has decided
	now         time.Time
	pages       string // the address of all pages
	url         string // of the request's page
}

// who names a user: as Slack does, if they are known there.
func (v *view) who(id, name string) string {
	if a := v.accounts[id]; a != "" {
		return "<@" + a + ">"
	}
	return word(name)
}

func (v *view) requester() string { return v.who(v.Request.RequesterID, v.Request.RequesterName) }

// what is asked for: `root` on `db01`.
func (v *view) what() string { return code(v.Request.Account) + " on " + code(v.Request.TargetName) }

func (v *view) where() string {
	if v.environment == "" {
		return ""
	}
	return " · " + word(v.environment)
}

// line is the same for who reads no blocks.
func (v *view) line(format string) string {
	r := &v.Request
	return escape(fmt.Sprintf(format, r.RequesterName, r.Account+"@"+r.TargetName))
}

// card is the message about a request: what it asks for and how it stands.
func card(v view) message {
	r := &v.Request
	switch state := r.StateAt(v.now); {
	case r.BreakGlass && v.Grant.StateAt(v.now) != access.Ended:
		return breakGlass(v)
	case state == access.Pending:
		return pending(v)
	case state == access.Denied:
		return over(v, ":x: *Denied by "+word(r.DecidedBy)+"*", "Denied by "+r.DecidedBy+": ", r.Note, "decided "+clock(r.DecidedAt))
	case state == access.Cancelled:
		return over(v, ":leftwards_arrow_with_hook: *Taken back*", "Taken back: ", "", "closed "+clock(r.DecidedAt))
	case state == access.Expired:
		return over(v, ":hourglass: *No decision in "+length(r.ExpiresAt.Sub(r.CreatedAt))+"*", "Expired without a decision: ", "", v.asked(), v.escalated(), "closed "+clock(r.ExpiresAt))
	case v.Grant == nil:
		return over(v, ":white_check_mark: *Approved*", "Approved: ", "")
	case v.Grant.StateAt(v.now) != access.Ended:
		return granted(v)
	default:
		return ended(v)
	}
}

func pending(v view) message {
	r := &v.Request
	head := sdk.NewSectionBlock(marked("*"+v.requester()+" asks for "+v.what()+"*"+v.where()+" · *"+length(r.Duration)+"*"), nil, nil)
	vote := r.ID + " " + r.Digest()
	if v.button {
		head.Accessory = sdk.NewAccessory(sdk.NewOverflowBlockElement(actionMore, narrower(&v, vote)...))
	}
	blocks := append([]sdk.Block{head, quote(r.Reason)}, talk(&v)...)
	if f := facts(&v); len(f) > 0 {
		blocks = append(blocks, sdk.NewSectionBlock(nil, f, nil))
	}
	var buttons []sdk.BlockElement
	if v.button {
		yes := button(actionApprove, vote, "Approve "+length(r.Duration), sdk.StylePrimary)
		yes.AccessibilityLabel = cut("Approve the request of "+r.RequesterName+" for "+r.Account+" on "+r.TargetName+" for "+length(r.Duration), maxLabel)
		buttons = append(buttons, yes)
	} else {
		// The policy wants more for a vote than Slack can prove.
		yes := button(actionOpen, "", "Review & approve", sdk.StylePrimary)
		yes.URL = v.url
		buttons = append(buttons, yes)
	}
	no := button(actionDeny, vote, "Deny…", sdk.StyleDanger)
	no.AccessibilityLabel = cut("Deny the request of "+r.RequesterName+"; you will be asked for a reason", maxLabel)
	buttons = append(buttons, no)
	if v.button {
		buttons = append(buttons, details(v.url))
	}
	buttons = append(buttons, sdk.NewOverflowBlockElement(actionTalk, // one menu takes five items
		sdk.NewOptionBlockObject(menuQuestion+" "+r.ID, label("Ask "+r.RequesterName+" a question…"), nil),
		sdk.NewOptionBlockObject(menuHandOver+" "+r.ID, label("Hand to someone else…"), nil)))
	parts := []string{":hourglass_flowing_sand: waiting"}
	if n := len(r.Approvals); n > 0 {
		parts = []string{":white_check_mark: " + strings.Join(v.approvers(), ", ") + ", more are needed"}
	}
	parts = append(parts, "needs "+wanted(r.Needs))
	for _, h := range r.HandOvers {
		parts = append(parts, ":point_right: handed to "+v.who(h.ToID, h.ToName)+" by "+word(h.ByName))
	}
	if !v.button {
		parts = append(parts, ":key: needs your second factor")
	}
	parts = append(parts, "rule "+word(r.Policy.Rule), "answer by "+clock(r.ExpiresAt), r.ID)
	blocks = append(blocks, sdk.NewActionBlock("decide", buttons...), footer(parts...))
	return message{v.line("%s asks for %s") + " for " + length(r.Duration) + ": " + escape(cut(r.Reason, maxQuote)), blocks}
}

// onCall says in which schedules somebody is now.
func onCall(groups []string) string {
	if len(groups) == 0 {
		return "no"
	}
	var names []string
	for _, g := range groups {
		names = append(names, strings.TrimPrefix(g, access.OnCallPrefix))
	}
	return "yes, " + word(strings.Join(names, ", "))
}

// narrower are the ways to say yes to less than was asked for. What would take
// nothing away, or leave nothing, is not among them.
func narrower(v *view, vote string) (list []*sdk.OptionBlockObject) {
	r := &v.Request
	add := func(menu, says string) {
		list = append(list, sdk.NewOptionBlockObject(menu+" "+vote, label(says), nil))
	}
	if r.Duration > short {
		add(menuShort, "Approve for "+length(short))
	}
	if r.MayBeReadOnly() {
		add(menuReadOnly, "Approve fetching files only")
	}
	if !r.Permitted().FourEyes {
		add(menuWatched, "Approve while somebody watches")
	}
	add(menuNote, "Approve with a note…")
	return list
}

// less says what approvers have taken away; "": nothing.
func (v *view) less() string {
	var without []string
	only, watched := false, false
	for _, a := range v.Request.Approvals {
		watched = watched || a.Narrowing.FourEyes
		if slices.Equal(a.Narrowing.Without, access.ReadOnly().Without) {
			only = true
			continue
		}
		for _, right := range a.Narrowing.Without {
			if !slices.Contains(without, right) {
				without = append(without, right)
			}
		}
	}
	var parts []string
	if only {
		parts = append(parts, "only to fetch files")
	}
	if n := (access.Narrowing{Without: without, FourEyes: watched}); !n.IsZero() {
		parts = append(parts, n.String())
	}
	return word(strings.Join(parts, ", "))
}

// short is the shorter time that the menu of a card offers.
const short = 30 * time.Minute

func facts(v *view) (list []*sdk.TextBlockObject) {
	r := &v.Request
	add := func(name, value string) {
		if value != "" {
			list = append(list, sdk.NewTextBlockObject(sdk.MarkdownType, cut("*"+name+"*\n"+value, maxField), false, false))
		}
	}
	if r.Ticket != "" { // others wrote of it what they liked
		list = append(list, plain("Ticket\n"+ticket(r)))
	}
	from := word(r.Source)
	if a := v.Asker; a != nil {
		if a.NewNetwork {
			from += " :warning: new for " + word(r.RequesterName)
		}
		if a.Schedules {
			add("On call", onCall(a.OnCall))
		}
	}
	add("From", from)
	if v.Last != nil {
		reason, ended, _ := v.Last.EndAt(v.now)
		last := at(ended, "{date_short}") + ", " + length(ended.Sub(v.Last.Start))
		if reason == access.EndRevoked {
			last += ", revoked by " + word(v.Last.EndedBy)
		}
		add("Last time", last)
	}
	if !r.Start.IsZero() {
		add("Starts", at(r.Start, "{date_short} {time}"))
	}
	if r.Made != nil {
		add("Account", "made for this grant")
	}
	return list
}

// ticket is the ticket of a request with what its system said of it, in one line.
func ticket(r *access.Request) string {
	parts := []string{r.Ticket}
	for _, said := range []string{r.TicketCheck.State, r.TicketCheck.Assignee, r.TicketCheck.Title, r.TicketCheck.Why} {
		if said != "" {
			parts = append(parts, said)
		}
	}
	return cut(strings.Join(strings.Fields(strings.Join(parts, ", ")), " "), maxQuote)
}

// wanted says whose approval the policy wants.
func wanted(needs []access.Need) string {
	var parts []string
	for _, n := range needs {
		parts = append(parts, fmt.Sprintf("%d of %s", n.Count, word(strings.Join(n.Groups, ", "))))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, " and ")
}

func (v *view) approvers() (list []string) {
	for _, a := range v.Request.Approvals {
		list = append(list, v.who(a.UserID, a.UserName))
	}
	return list
}

func granted(v view) message {
	r, g := &v.Request, v.Grant
	by, plainly := "the policy", "the policy"
	if len(r.Approvals) > 0 {
		by = strings.Join(v.approvers(), ", ")
		var names []string
		for _, a := range r.Approvals {
			names = append(names, a.UserName)
		}
		plainly = strings.Join(names, ", ")
	}
	head := "~" + v.requester() + " asks for " + v.what() + "~" + v.where() + "\n:white_check_mark: *Approved by " + by + "* after " + length(r.DecidedAt.Sub(r.CreatedAt)) + " · " + length(g.Duration)
	parts := []string{use(&v), v.running()}
	if less := v.less(); less != "" {
		head += " · " + less
	}
	blocks := []sdk.Block{section(head), quote(r.Reason), sdk.NewActionBlock("running", stopping(&v, "Revoke…")...), footer(append(parts, r.ID)...)}
	return message{escape("Approved by "+plainly+": ") + v.line("%s, %s") + ", " + length(g.Duration), blocks}
}

func stopping(v *view, text string) []sdk.BlockElement {
	stop := button(actionRevoke, v.Request.ID, text, sdk.StyleDanger)
	stop.AccessibilityLabel = cut("Take the access of "+v.Request.RequesterName+" away; you will be asked for a reason", maxLabel)
	if v.use.First == "" {
		return []sdk.BlockElement{details(v.url), stop}
	}
	watch := button(actionWatch, "", "Watch live", "")
	watch.URL = v.pages + "/sessions/" + v.use.First
	watch.AccessibilityLabel = cut("Watch the session of "+v.Request.RequesterName+" on "+v.Request.TargetName, maxLabel)
	return []sdk.BlockElement{watch, details(v.url), stop}
}

// running says how many sessions run under an open grant.
func (v *view) running() string {
	switch v.use.Running {
	case 0:
		return ""
	case 1:
		return "a session runs, and is recorded"
	default:
		return "sessions run, and are recorded"
	}
}

// made says what sessions have made of a grant that is over.
func (v *view) made() []string {
	u := v.use
	if u.Sessions == 0 {
		return nil
	}
	parts := []string{count(u.Sessions, "session", "sessions")}
	if u.Commands >= 0 {
		parts = append(parts, count(u.Commands, "command", "commands"))
	}
	return append(parts, "recorded")
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// asked names who could have decided on a request that nobody decided on: those
// who are known in Slack, and others.
func (v *view) asked() string {
	var names []string
	for _, u := range v.nobody.Asked[:min(len(v.nobody.Asked), maxNamed)] {
		names = append(names, v.who(u.ID, u.Name))
	}
	if more := len(v.nobody.Asked) - maxNamed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	if len(names) == 0 {
		return "asked " + wanted(v.Request.Needs)
	}
	return "asked " + strings.Join(names, ", ")
}

func (v *view) escalated() string {
	u := v.nobody
	if len(u.Escalated) == 0 {
		return ""
	}
	return ":arrow_up: asked " + word(strings.Join(u.Escalated, ", ")) + " too after " + length(u.At.Sub(v.Request.CreatedAt))
}

// use says what has become of a grant that is open.
func use(v *view) string {
	g := v.Grant
	switch {
	case g.PausedBy != "":
		return ":double_vertical_bar: paused by " + word(g.PausedBy) + " · ends " + clock(g.End)
	case !g.Start.IsZero():
		return "in use since " + clock(g.Start) + " · ends " + clock(g.End)
	case g.StateAt(v.now) == access.Scheduled:
		return "starts " + at(g.NotBefore, "{date_short} {time}")
	default:
		return "not used yet · lapses " + clock(g.ActivateBy)
	}
}

func ended(v view) message {
	g := v.Grant
	reason, when, _ := g.EndAt(v.now)
	used := "never used"
	if !g.Start.IsZero() {
		used = "used " + length(when.Sub(g.Start)) + " of " + length(g.Duration)
	}
	parts := append([]string{used, "ended " + clock(when)}, v.made()...)
	if v.Request.BreakGlass {
		parts = append(parts, ":rotating_light: break-glass", v.reviewed())
	}
	var m message
	switch reason {
	case access.EndRevoked:
		m = over(v, ":no_entry: *Revoked by "+word(g.EndedBy)+"*", "Revoked by "+g.EndedBy+": ", g.EndNote, parts...)
	case access.EndReleased:
		m = over(v, ":checkered_flag: *Given back*", "Given back: ", "", parts...)
	case access.EndSuperseded:
		m = over(v, ":checkered_flag: *Replaced by another grant*", "Replaced: ", "", parts...)
	default:
		if g.Start.IsZero() {
			m = over(v, ":checkered_flag: *Lapsed, never used*", "Lapsed: ", "", parts[1:]...)
			break
		}
		m = over(v, ":checkered_flag: *Ended by time*", "Ended by time: ", "", parts...)
	}
	if glass := v.glass; glass != nil && glass.Open() {
		review := button(actionReview, "", "Review…", "")
		review.URL = v.reviewPage()
		m.Blocks = append(m.Blocks, sdk.NewActionBlock("review", review))
	}
	return m
}

// over is a request about which nothing is left to do.
func over(v view, head, plainly, note string, parts ...string) message {
	blocks := []sdk.Block{section(head + " · " + v.requester() + ", " + v.what() + v.where())}
	if note != "" {
		blocks = append(blocks, quote(note))
	}
	parts = append(parts, link(v.url, v.Request.ID))
	return message{escape(plainly) + v.line("%s, %s"), append(blocks, footer(parts...))}
}

// reviewPage is where break-glass is reviewed.
func (v *view) reviewPage() string { return v.pages + "/breakglass/" + v.Request.ID }

func breakGlass(v view) message {
	r, g := &v.Request, v.Grant
	review := button(actionReview, "", "Review…", "")
	review.URL = v.reviewPage()
	buttons := append(stopping(&v, "Stop now…"), review)
	proved := "*without a second factor*"
	parts := []string{use(&v), v.running(), v.reviewed()}
	if glass := v.glass; glass != nil {
		if !glass.FactorAt.IsZero() {
			proved = "second factor shown " + length(glass.OpenedAt.Sub(glass.FactorAt)) + " before"
		}
		if glass.AckName == "" {
			on := button(actionOnIt, r.ID, "I am on it", "")
			on.AccessibilityLabel = cut("Say that you look after the break-glass of "+r.RequesterName+"; it closes nothing", maxLabel)
			buttons = append(buttons, on)
		} else {
			parts = append(parts, ":eyes: "+word(glass.AckName)+" is on it")
		}
	}
	blocks := []sdk.Block{
		sdk.NewHeaderBlock(sdk.NewTextBlockObject(sdk.PlainTextType, cut("🚨 Break-glass access", maxHeader), true, false)),
		section("*" + v.requester() + "* took *" + v.what() + "*" + v.where() + " *without approval* at " + at(r.CreatedAt, "{time_secs}") + ", for " + length(g.Duration) + ", " + proved),
		quote(r.Reason),
		sdk.NewActionBlock("breakglass", buttons...),
		footer(append(parts, r.ID)...),
	}
	return message{v.line("BREAK-GLASS: %s took %s without approval") + ": " + escape(cut(r.Reason, maxQuote)), blocks}
}

// reviewed says how the review of break-glass stands.
func (v *view) reviewed() string {
	glass := v.glass
	switch {
	case glass == nil:
		return ""
	case !glass.Open():
		return ":memo: reviewed by " + word(glass.ClosedName) + ": " + strings.ReplaceAll(string(glass.Finding), "_", " ")
	case v.now.After(glass.Due()):
		return ":lock: *review overdue* since " + at(glass.Due(), "{date_short} {time}") + ", by somebody else"
	default:
		return ":lock: review due " + at(glass.Due(), "{date_short} {time}") + ", by somebody else"
	}
}

// answer is what the requester is told, by a message of their own.
func answer(v view) message {
	r := &v.Request
	name := code(r.Account + "@" + r.TargetName)
	tell := func(s, plainly string, blocks ...sdk.Block) message {
		return message{escape(plainly), append(append([]sdk.Block{section(s)}, blocks...), footer(link(v.url, r.ID)))}
	}
	what := r.Account + "@" + r.TargetName
	switch state := r.StateAt(v.now); {
	case state == access.Pending:
		return tell(":hourglass_flowing_sand: "+name+" waits for "+wanted(r.Needs), what+" waits for a decision")
	case state == access.Denied:
		return tell(":x: *"+word(r.DecidedBy)+"* denied "+name, r.DecidedBy+" denied "+what, quote(r.Note))
	case state == access.Cancelled:
		return tell("You have taken "+name+" back", "You have taken "+what+" back")
	case state == access.Expired:
		return tell(":hourglass: nobody decided on "+name+" in time. You can ask again.", "Nobody decided on "+what+" in time")
	case v.Grant.StateAt(v.now) == access.Ended:
		reason, when, _ := v.Grant.EndAt(v.now)
		if reason == access.EndRevoked {
			return tell(":no_entry: *"+word(v.Grant.EndedBy)+"* has taken "+name+" away", v.Grant.EndedBy+" has taken "+what+" away", quote(v.Grant.EndNote))
		}
		return tell(":checkered_flag: "+name+" has ended "+clock(when)+": "+word(string(reason)), what+" has ended")
	default:
		by, plainly := "the policy", "the policy"
		if n := len(r.Approvals); n > 0 {
			by, plainly = strings.Join(v.approvers(), ", "), r.Approvals[n-1].UserName
		}
		blocks := []sdk.Block{}
		if n := len(r.Approvals); n > 0 && r.Approvals[n-1].Comment != "" {
			blocks = append(blocks, quote(r.Approvals[n-1].Comment))
		}
		give := button(actionEnd, r.ID, "Give it back", "")
		blocks = append(blocks, sdk.NewActionBlock("mine", give, details(v.url)))
		begin := "the clock starts when you connect"
		if !v.Grant.Start.IsZero() {
			begin = use(&v)
		}
		howLong := length(v.Grant.Duration)
		if less := v.less(); less != "" {
			howLong += ", " + less
		}
		return tell(":white_check_mark: "+by+" approved "+name+" for "+howLong+". "+code("ssh "+what)+" – "+begin+".", plainly+" approved "+what, blocks...)
	}
}

func button(action, value, text string, style sdk.Style) *sdk.ButtonBlockElement {
	b := sdk.NewButtonBlockElement(action, value, label(text))
	b.Style = style
	return b
}

func details(url string) *sdk.ButtonBlockElement {
	b := button(actionOpen, "", "Details", "")
	b.URL = url
	return b
}
