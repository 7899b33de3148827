// Package api is what drawbolt speaks over HTTP: the JSON of API v1 as Go types,
// and a client with one method a route. Servers and clients share the types, so
// neither can drift from the other.
//
// The client trusts the server for what it says about requests and sessions,
// and proves that it is the right server by TLS: with the roots of the system, or
// with the SHA-256 of the one certificate it was told to expect. It follows no
// redirect, because that would carry the token elsewhere, and limits what it
// reads. It does not make text from the server fit for a terminal; who prints
// it does.
//
// Times are RFC 3339 in UTC, durations are whole seconds. The package needs the
// standard library only.
package api

// A List is one page of things. Next, when it is not empty, is the value of the
// query's "before" (or "after", for audit events) that gives the page behind
// this one.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// The largest Limit that a filter may have; the server refuses more.
const (
	MaxPage   = 200  // of requests and sessions
	MaxEvents = 1000 // of audit events
)

// Reason is the body of the verbs that only need to be told why.
type Reason struct {
	Reason string `json:"reason"`
}

// Empty is an answer that says nothing but done.
type Empty struct{}
