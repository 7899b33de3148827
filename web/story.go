package web

import (
	"strings"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/ui"
)

// step tells an event of a request or its grant in words. Of the event it shows who
// did what and why, and not from where: that is for those who read the log.
func step(e audit.Event) ui.Step {
	what, known := map[string]string{
		"request.create": "asked", "request.join": "asked again", "request.approve": "approved", "request.deny": "denied", "request.cancel": "took the request back",
		"request.edit":     "asked for something else",
		"request.question": "asked a question", "request.answer": "answered", "request.handover": "called somebody to decide", "breakglass.acknowledge": "is on it", "breakglass.review": "reviewed it",
		"breakglass": "used break-glass", "grant.extend": "lengthened the grant", "grant.release": "gave the grant back",
		"grant.revoke": "revoked the grant", "secret.checkout": "was shown the secret", "secret.checkin": "ended the check-out of the secret", "session.open": "opened a session", "session.pause": "held back the input", "session.resume": "let the input pass again",
	}[e.Action]
	switch {
	case e.Action == "grant.open": // by a vote, or by the policy at once
		e.ActorName, e.Details, what = "The grant", map[string]string{"duration": e.Details["duration"]}, "opened"
	case !known:
		what = strings.ReplaceAll(e.Action, ".", " ") // of another part
	}
	if to := e.Details["to"]; to != "" && e.Action == "request.handover" {
		what = "called " + to + " to decide"
	}
	if d := e.Details["duration"]; d != "" {
		what += ", for " + d
	}
	if e.Details["still"] != "" {
		what += "; more approvals are needed"
	}
	if via := e.Details["via"]; via != "" && e.Actor != "" {
		what += " (" + via + ")"
	}
	who := e.ActorName
	if who == "" {
		who = e.Actor
	}
	return ui.Step{At: e.Time.UTC(), Who: who, What: what, Said: e.Reason, Seq: e.Seq}
}
