package access

import (
	"fmt"
	"strings"
	"time"
)

// Limits of what is said about a request besides votes.
const (
	MaxQuestion  = 500 // bytes of a question, of an answer and of the note of a hand-over
	maxQuestions = 10  // of one request
	maxHandOvers = 10  // of one request
)

// A Question is what somebody who may decide on a request wants to know of its
// requester before that. It is no part of [Request.Digest], which is of what a
// vote gives and a grant carries: a conversation changes nothing of that, and
// whoever asks must not be able to void the votes of others by it. An answer
// that makes the request another one is an [Edit].
type Question struct {
	ByID       string
	ByName     string
	Text       string
	At         time.Time
	Answer     string
	AnsweredAt time.Time // zero: it waits for its answer
}

// Open reports whether nobody has answered yet.
func (q *Question) Open() bool { return q.AnsweredAt.IsZero() }

// Ask adds a question to a pending request. One person has one question open at
// a time, so that nobody floods the requester or uses up the others' share.
func (r *Request) Ask(by User, text string, t time.Time) error {
	switch {
	case by.ID == r.RequesterID || by.ID == r.OwnerID:
		return &Error{Kind: ErrDenied, Code: "DB-6320", Rule: "ask.self", Text: "nobody asks themselves; who asked for it says more by editing the request", Next: "drawbolt edit " + r.ID + " --reason TEXT"}
	case r.StateAt(t) != Pending:
		return r.decided(t)
	case len(r.Questions) >= maxQuestions:
		return &Error{Kind: ErrConflict, Code: "DB-6321", Text: fmt.Sprintf("%s has %d questions already: decide, or speak with %s", r.ID, len(r.Questions), r.RequesterName), Next: "drawbolt deny " + r.ID + " --reason TEXT"}
	}
	for i := range r.Questions {
		if q := &r.Questions[i]; q.ByID == by.ID && q.Open() {
			return &Error{Kind: ErrConflict, Code: "DB-6322", Text: fmt.Sprintf("you have asked %s already, and wait for the answer to your question %d", r.RequesterName, i+1), Next: "drawbolt status " + r.ID}
		}
	}
	if err := checkSaid("the question", text); err != nil {
		return err
	}
	r.Questions = append(r.Questions, Question{ByID: by.ID, ByName: by.Name, Text: text, At: t})
	return nil
}

// Answer answers the question of that number, counted from 1, or with 0 the only
// one that is open, and returns it. Only the requester answers, and once.
func (r *Request) Answer(by User, number int, text string, t time.Time) (Question, error) {
	switch {
	case by.ID != r.RequesterID:
		return Question{}, &Error{Kind: ErrDenied, Code: "DB-6323", Rule: "answer.own", Text: "only the requester answers questions about a request"}
	case r.StateAt(t) != Pending:
		return Question{}, r.decided(t)
	}
	open := r.OpenQuestions()
	switch {
	case number == 0 && len(open) == 1:
		number = open[0]
	case number == 0 && len(open) > 1:
		return Question{}, &Error{Kind: ErrInvalid, Code: "DB-6324", Text: fmt.Sprintf("%d questions about %s are open: say which you answer", len(open), r.ID), Next: fmt.Sprintf("drawbolt answer %s TEXT --question %d", r.ID, open[0])}
	case number < 1 || number > len(r.Questions):
		return Question{}, &Error{Kind: ErrConflict, Code: "DB-6324", Text: "there is no such question about " + r.ID + " that waits for an answer", Next: "drawbolt status " + r.ID}
	}
	q := &r.Questions[number-1]
	if !q.Open() {
		return Question{}, &Error{Kind: ErrConflict, Code: "DB-6325", Text: fmt.Sprintf("you have answered question %d already; nothing changed", number), Next: "drawbolt status " + r.ID}
	}
	if err := checkSaid("the answer", text); err != nil {
		return Question{}, err
	}
	q.Answer, q.AnsweredAt = text, t
	return *q, nil
}

// OpenQuestions are the numbers of those that nobody has answered, from 1.
func (r *Request) OpenQuestions() (numbers []int) {
	for i := range r.Questions {
		if r.Questions[i].Open() {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// checkSaid checks a text that must not be empty.
func checkSaid(what, s string) error {
	if strings.TrimSpace(s) == "" {
		return Invalid("%s is empty", what)
	}
	return CheckText(what, s, MaxQuestion)
}

// A HandOver calls somebody by name to decide on a request in somebody else's
// stead. It gives no right: whom it calls could decide before, and everybody
// who could still can.
type HandOver struct {
	ByID   string
	ByName string
	ToID   string
	ToName string
	Note   string
	At     time.Time
}

// HandOver notes that by leaves the decision to another, of whom the caller
// knows that they could decide now.
func (r *Request) HandOver(by, to User, note string, t time.Time) error {
	switch {
	case r.StateAt(t) != Pending:
		return r.decided(t)
	case by.ID == to.ID:
		return Invalid("you cannot hand %s to yourself", r.ID)
	case len(r.HandOvers) >= maxHandOvers:
		return &Error{Kind: ErrConflict, Code: "DB-6329", Text: fmt.Sprintf("%s was handed over %d times already: decide, or leave it to those who are asked", r.ID, len(r.HandOvers)), Next: "drawbolt status " + r.ID}
	}
	for _, h := range r.HandOvers {
		if h.ToID == to.ID {
			return &Error{Kind: ErrConflict, Code: "DB-6328", Text: fmt.Sprintf("%s was handed to %s already, by %s; nothing changed", r.ID, h.ToName, h.ByName), Next: "drawbolt status " + r.ID}
		}
	}
	if err := CheckText("the note", note, MaxQuestion); err != nil {
		return err
	}
	r.HandOvers = append(r.HandOvers, HandOver{ByID: by.ID, ByName: by.Name, ToID: to.ID, ToName: to.Name, Note: note, At: t})
	return nil
}

// HandedTo returns the hand-over that calls the user of that id; nil: none does.
func (r *Request) HandedTo(id string) *HandOver {
	for i := range r.HandOvers {
		if r.HandOvers[i].ToID == id {
			return &r.HandOvers[i]
		}
	}
	return nil
}
