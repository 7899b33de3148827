package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxHits is how many hits one page of a search has at most.
const MaxHits = 200

// SearchFilter says what is looked for in recordings, and in which.
type SearchFilter struct {
	// Query: words that must all stand in one line; "several in quotes" as they are.
	Query        string
	In           []string // output, keys, command, file, mark; none: all
	User         string
	Target       string // a name, or a pattern in which * stands for anything
	Account      string
	Since, Until time.Time // when the session was opened
	Of           string    // id of the request or the grant
	Files        bool      // only sessions in which a file was carried
	Limit        int
	Before       string // SearchPage.Next
}

// Fold is a text as searches compare it: A to Z as a to z. It is as long as the
// text, byte by byte.
func Fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// A SearchHit is a line that was shown, typed or run in a session.
type SearchHit struct {
	Session   string    `json:"session"`
	Time      time.Time `json:"time"`
	AtSeconds int64     `json:"at_seconds"` // since the recording began
	User      string    `json:"user"`
	Account   string    `json:"account"`
	Target    string    `json:"target"`
	In        string    `json:"in"`
	Text      string    `json:"text"`
	URL       string    `json:"url"` // of the page that plays it from there, without the server
}

// A SearchPage is what was found, in the newest sessions first.
type SearchPage struct {
	Items    []SearchHit `json:"items"`
	Next     string      `json:"next,omitempty"` // go on with it as Before
	Sessions int64       `json:"sessions"`       // in which was looked, on all pages
	Partial  int64       `json:"partial"`        // of these, how many are longer than what is kept of them
	// Reached is there when the time ran out: older sessions have not been
	// looked at, and Next goes on with them.
	Reached *time.Time `json:"reached,omitempty"`
}

// Search finds what was shown, typed and run, in the sessions whose recordings the
// caller may replay. That it was searched for is an audit event.
func (c *Client) Search(ctx context.Context, f SearchFilter) (SearchPage, error) {
	q := url.Values{}
	set(q, "q", f.Query)
	set(q, "in", strings.Join(f.In, ","))
	set(q, "user", f.User)
	set(q, "target", f.Target)
	set(q, "account", f.Account)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	set(q, "of", f.Of)
	setTrue(q, "files", f.Files)
	setInt(q, "limit", int64(f.Limit))
	set(q, "before", f.Before)
	return call[SearchPage](ctx, c, http.MethodGet, "/v1/search", q, nil)
}
