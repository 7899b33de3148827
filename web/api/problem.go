package api

import (
	"errors"
	"fmt"
)

// ProblemType is the media type of a Problem (RFC 9457).
const ProblemType = "application/problem+json"

// A Problem is a refusal or a failure as the server words it. It is an error.
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"` // one sentence for a person: what and why
	Code   string `json:"code,omitempty"`   // DB-NNNN, of the message catalogue
	Rule   string `json:"rule,omitempty"`   // of the policy, where one decided
	Next   string `json:"next,omitempty"`   // the command to type next
	ID     string `json:"id,omitempty"`     // finds the server's log line
}

// Error returns the sentence, without rule and code.
func (p *Problem) Error() string {
	switch {
	case p.Detail != "":
		return p.Detail
	case p.Title != "":
		return p.Title
	default:
		return fmt.Sprintf("the server answered %d", p.Status)
	}
}

// AsProblem returns the Problem in err's chain, or nil.
func AsProblem(err error) *Problem {
	p, _ := errors.AsType[*Problem](err)
	return p
}
