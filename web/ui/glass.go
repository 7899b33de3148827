package ui

import (
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// A Glass is a list of access that was taken without approval.
type Glass struct {
	Open  bool // only those whose review is open
	Items []api.BreakGlass
	Next  string // id of the last one, when there may be more
}

func (g Glass) more() string {
	link := "/breakglass?before=" + g.Next
	if g.Open {
		link += "&open=true"
	}
	return link
}

// findingText is what a review came to, in a word.
func findingText(b api.BreakGlass) string {
	switch b.Finding {
	case api.Justified:
		return "justified"
	case api.NotJustified:
		return "not justified"
	default:
		return "to be reviewed"
	}
}

// Holdings is who has which role, as it was asked for.
type Holdings struct {
	Role, User string
	Unused     bool
	Items      []api.Holding
	Next       string // address of the next page; "": there is none
}

// usedText says when a right was used last.
func usedText(h api.Holding, now time.Time) string {
	switch {
	case !h.Measured:
		return "not counted"
	case h.LastUsed == nil:
		return "never used"
	}
	days := int(now.Sub(*h.LastUsed) / (24 * time.Hour))
	text := "today"
	if days > 0 {
		text = strconv.Itoa(days) + " " + plural(days, "day", "days") + " ago"
	}
	return "used " + text + ", " + strconv.Itoa(h.Uses) + " in 90 days"
}

func howText(h api.Holding) string { return strings.Join(h.How, ", ") }

// Reviews is a list of access reviews, with the form for a new one.
type Reviews struct {
	Items []api.Review
	Next  string
	Typed ReviewForm
}

// A ReviewForm is the form for a new review as it was filled in.
type ReviewForm struct {
	Role, Owner, Due string
	Unused           bool
}

// A Review is an access review with a page of its items.
type Review struct {
	api.Review
	List   []api.ReviewItem
	All    bool // those that are decided, too
	Next   string
	Reason string // what was typed into a form that was refused
}

// decidable reports whether the person may decide on any item that is shown.
func (r Review) decidable() bool {
	for _, i := range r.List {
		if i.MayDecide {
			return true
		}
	}
	return false
}

func rolesText(r api.Review) string {
	if len(r.Roles) == 0 {
		return "every role"
	}
	return strings.Join(r.Roles, ", ")
}
