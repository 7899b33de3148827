package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/ui"
)

// awayPage shows who votes for the caller and for whom the caller votes.
func (s *Server) awayPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showAway(w, r, by, nil, nil)
}

// showAway shows the page, with what was typed into a form that was refused.
func (s *Server) showAway(w http.ResponseWriter, r *http.Request, by access.Caller, typed *ui.Handover, wrong error) {
	list, err := s.c.Broker.Delegations(r.Context(), by, false)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	a := ui.Away{Given: each(slices.DeleteFunc(slices.Clone(list), func(d access.Delegation) bool { return d.UserID == by.User.ID }), apiDelegation)}
	if i := slices.IndexFunc(list, func(d access.Delegation) bool { return d.UserID == by.User.ID }); i >= 0 {
		d := apiDelegation(list[i])
		a.Own = &d
		a.Typed = ui.Handover{To: d.Delegate, Until: d.Until.Format(minuteLayout), Reason: d.Reason}
		if d.From.After(s.now()) {
			a.Typed.From = d.From.Format(minuteLayout)
		}
	}
	if typed != nil {
		a.Typed = *typed
	}
	p := s.page(by, "Away", "/away")
	s.show(w, r, s.with(&p, r, wrong), ui.AwayPage(p, a))
}

// awayForm hands the caller's votes over, or takes them back.
func (s *Server) awayForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	typed := ui.Handover{To: r.PostFormValue("to"), From: r.PostFormValue("from"), Until: r.PostFormValue("until"), Reason: r.PostFormValue("reason")}
	var err error
	switch r.PostFormValue("action") {
	case "delegate":
		err = handOver(r, s.c.Broker, by, typed)
	case "end":
		err = s.c.Broker.EndDelegation(r.Context(), by, "")
	default:
		err = access.Invalid("the form does not say what to do")
	}
	if err != nil {
		s.showAway(w, r, by, &typed, err)
		return
	}
	http.Redirect(w, r, "/away", http.StatusSeeOther)
}

func handOver(r *http.Request, b *broker.Broker, by access.Caller, h ui.Handover) error {
	from, err := parseMinute(h.From)
	if err != nil {
		return err
	}
	until, err := parseMinute(h.Until)
	if err != nil {
		return err
	}
	if until.IsZero() {
		return access.Invalid("say until when somebody votes for you")
	}
	_, err = b.Delegate(r.Context(), by, "", h.To, from, until, h.Reason)
	return err
}

// minuteLayout is how the field of a form for a date and a time of day is written
// (HTML, "local date and time string"); here it is in UTC.
const minuteLayout = "2006-01-02T15:04"

// parseMinute reads such a field; an empty one is the zero time.
func parseMinute(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(minuteLayout, text)
	if err != nil {
		return at, access.Invalid("the time %q is not one: write it like 2026-03-01T09:00", clipped(text))
	}
	return at, nil
}
