package ui

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// Audit is a page of the audit log.
type Audit struct {
	// What it was narrowed to, as it was typed.
	Who, Action, Object, Target, Request, Session, Since, Until string

	Items   []api.Event // the newest first
	First   bool        // it is the first page
	Older   string      // the address of the next one; "": there is none
	Reached int64       // with Older: the page has looked at nothing before this event

	Doubtful []int64 // numbers of events that are not what was signed, or are gone

	Events    int64   // in the log
	Signed    *Signed // nil: nothing was ever signed
	Problem   string  // why the log is not what was signed; "": it is
	Outside   bool    // it was compared with what is kept outside the database, too
	MayExport bool
}

// Signed is the newest checkpoint of the log.
type Signed struct {
	Events       int64 // that it covers
	At           time.Time
	Root, Origin string
}

// narrowed reports whether anything was typed into the form.
func (a Audit) narrowed() bool {
	return a.Who+a.Action+a.Object+a.Target+a.Request+a.Session+a.Since+a.Until != ""
}

// covers says how far the log is signed.
func (a Audit) covers() string {
	text := fmt.Sprintf("%d of %d events are signed, the last time on %s", a.Signed.Events, a.Events, Stamp(a.Signed.At))
	if a.Outside {
		text += ", and they are what is kept outside the database, too"
	}
	return text + "."
}

// doubts names the events that are not what was signed.
func (a Audit) doubts() string {
	list := make([]string, 0, len(a.Doubtful))
	for _, seq := range a.Doubtful {
		list = append(list, strconv.FormatInt(seq, 10))
	}
	return plural(len(list), "Event ", "Events ") + names(list)
}

// kinds are what to begin a look for actions with.
func kinds() []string {
	return []string{"login", "request.*", "grant.*", "session.*", "breakglass.*", "user.*", "role.*", "policy.*", "target.*", "recording.*", "review.*", "audit.*"}
}

// actor is who has done something, by name where there is one.
func actor(e api.Event) string {
	if e.ActorName != "" {
		return e.ActorName
	}
	return e.Actor
}

// place is where it was done.
func place(e api.Event) string {
	switch {
	case e.Account != "" && e.Target != "":
		return e.Account + " on " + e.Target
	case e.Target != "":
		return e.Target
	}
	return ""
}

// A fact is a member of an event's record. To is where it leads.
type fact struct{ Name, Value, To string }

// record is all that an event says, in the order in which people read it.
func record(e api.Event) []fact {
	list := []fact{{"seq", strconv.FormatInt(e.Seq, 10), ""}, {"time", e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), ""}}
	add := func(name, value, to string) {
		if value != "" {
			list = append(list, fact{name, value, to})
		}
	}
	add("actor", e.Actor, narrow("who", e.Actor))
	add("actor_name", e.ActorName, "")
	add("source", e.Source, "")
	add("action", e.Action, narrow("action", e.Action))
	add("outcome", e.Outcome, "")
	add("object", e.Object, narrow("object", e.Object))
	add("target", e.Target, narrow("target", e.Target))
	add("account", e.Account, "")
	add("request", e.Request, "/r/"+url.PathEscape(e.Request))
	add("grant", e.Grant, "")
	add("session", e.Session, "/sessions/"+url.PathEscape(e.Session))
	add("rule", e.Rule, "")
	add("reason", e.Reason, "")
	for _, key := range slices.Sorted(maps.Keys(e.Details)) {
		add("details."+key, e.Details[key], "")
	}
	return list
}

// narrow is the address of the log narrowed to one thing.
func narrow(name, value string) string { return "/audit?" + url.Values{name: {value}}.Encode() }

// at is the address of the log from one event back.
func at(e api.Event) string { return narrow("before", strconv.FormatInt(e.Seq+1, 10)) }
