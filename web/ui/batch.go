package ui

import (
	"fmt"
	"slices"
	"strings"
)

// A Batch is what somebody asks for at once, in the order of the targets.
type Batch struct {
	ID    string
	Key   string    // changes when what is shown does
	Items []Request // at least one
	Typed Decision  // what was typed into a form that was refused
}

// Decidable are the requests that the person may decide now.
func (b Batch) Decidable() []Request {
	var list []Request
	for _, r := range b.Items {
		if r.MayDecide {
			list = append(list, r)
		}
	}
	return list
}

// choices are the durations that all of the requests allow.
func (b Batch) choices(open []Request) []int64 { return least(open).Choices() }

func (b Batch) chosen(open []Request) int64 {
	r := least(open)
	r.Typed = b.Typed
	return r.Chosen()
}

// rights are what can be taken away from any of the requests, in the order of the
// first that has it.
func rights(list []Request) []string {
	var out []string
	for _, r := range list {
		for _, right := range r.Rights() {
			if !slices.Contains(out, right) {
				out = append(out, right)
			}
		}
	}
	return out
}

// mosts are the durations that several requests can be cut to at once, in seconds.
func mosts() []int64 { return []int64{900, 1800, 3600, 7200, 4 * 3600} }

// shorter are the durations that one of several requests can be cut to by itself.
func (r Request) shorter() []int64 { return r.Choices()[:len(r.Choices())-1] }

// secondsOf names the field of the duration of one of several requests.
func secondsOf(r Request) string { return SecondsField + r.ID }

// SecondsField stands before the id of a request in the name of the field that cuts
// its duration alone.
const SecondsField = "seconds-"

// least is the request for the shortest time.
func least(list []Request) Request {
	out := list[0]
	for _, r := range list {
		if r.DurationSeconds < out.DurationSeconds {
			out = r
		}
	}
	return out
}

func shortest(list []Request) int64 { return least(list).DurationSeconds }

func targets(list []Request) string {
	var names []string
	for _, r := range list {
		names = append(names, r.Target)
	}
	return strings.Join(names, ", ")
}

func all(n int) string {
	if n == 1 {
		return "one"
	}
	return fmt.Sprintf("all %d", n)
}

// Groups puts what one person asks for at once side by side, in the order of the
// first of each.
func (in Inbox) Groups() [][]Request {
	type key struct{ batch, requester string }
	var out [][]Request
	at := map[key]int{}
	for _, r := range in.Items {
		k := key{r.Batch, r.Requester}
		if i, ok := at[k]; ok && r.Batch != "" {
			out[i] = append(out[i], r)
			continue
		}
		at[k] = len(out)
		out = append(out, []Request{r})
	}
	return out
}

// single are the requests that are picked one by one: not those of a batch, which
// have a page of their own.
func (in Inbox) single() []Request {
	var list []Request
	for _, g := range in.Groups() {
		if len(g) == 1 {
			list = append(list, g[0])
		}
	}
	return list
}

// vote names a request and what is shown of it.
func vote(r Request) string { return r.ID + " " + r.Digest }

// more marks a number that is one of more.
func (in Inbox) more() string {
	if in.More {
		return " or more"
	}
	return ""
}
