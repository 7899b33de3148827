package api

import (
	"context"
	"net/http"
	"time"
)

// A Question is what somebody who may decide wants to know of the requester. They
// are numbered from 1, in the order of Request.Questions.
type Question struct {
	By         string     `json:"by"`
	Text       string     `json:"text"`
	At         time.Time  `json:"at"`
	Answer     string     `json:"answer,omitempty"`
	AnsweredAt *time.Time `json:"answered_at,omitempty"` // absent: it waits for its answer
}

// Open reports whether nobody has answered yet.
func (q *Question) Open() bool { return q.AnsweredAt == nil }

// A HandOver calls somebody to decide in somebody else's stead. It gives no right.
type HandOver struct {
	By   string    `json:"by"`
	To   string    `json:"to"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// QuestionInput is a question.
type QuestionInput struct {
	Text string `json:"text"`
}

// Ask asks the requester a question. The request waits on, with its votes.
func (c *Client) Ask(ctx context.Context, id, text string) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "ask"), nil, QuestionInput{text})
}

// AnswerInput is the answer to a question.
type AnswerInput struct {
	Question int    `json:"question,omitempty"` // 0: the only one that is open
	Text     string `json:"text"`
}

// Answer answers a question about the caller's request.
func (c *Client) Answer(ctx context.Context, id string, in AnswerInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "answer"), nil, in)
}

// HandOverInput says whom to call.
type HandOverInput struct {
	To   string `json:"to"` // name of a user
	Note string `json:"note,omitempty"`
}

// HandOver calls somebody who could decide on the request to do so.
func (c *Client) HandOver(ctx context.Context, id string, in HandOverInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "handover"), nil, in)
}
