package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// VoteFormat names the statement of a vote. A signed text begins with it, so that
// it is none that a checkpoint, a seal or a list of evidence can be, which the
// same key may sign.
const VoteFormat = "drawbolt vote 1"

// A Vote says who voted how, on what: the statement that is signed with the log's
// key when a vote is taken. The members stand in the order of their keys.
type Vote struct {
	At       time.Time // UTC, cut to microseconds
	Digest   string    // SHA-256, hex, of what the person was shown
	FourEyes bool      // nothing is to be done while nobody else watches
	// Login names the login session in which the person voted, and SecondFactor is
	// how long ago they had proved a second factor in it, in whole seconds; nil: they
	// had not.
	Login        string
	SecondFactor *int64
	Person       string // user id
	Request      string
	Seconds      int64  // how long at most
	StandsFor    string // user id of the person in whose place the vote was given; "": nobody's
	Via          string // through what
	Without      []string
	Yes          bool
}

// voteJSON is the text. Its members are in the order of their keys.
type voteJSON struct {
	Format       string   `json:"_format"`
	At           string   `json:"at"`
	Digest       string   `json:"digest"`
	FourEyes     bool     `json:"four_eyes"`
	Login        string   `json:"login"`
	Person       string   `json:"person"`
	Request      string   `json:"request"`
	SecondFactor *int64   `json:"second_factor_seconds"`
	Seconds      int64    `json:"seconds"`
	StandsFor    string   `json:"stands_for"`
	Via          string   `json:"via"`
	Vote         string   `json:"vote"`
	Without      []string `json:"without"`
}

// text is what is signed: one line of JSON.
func (v *Vote) text() (string, error) {
	j := voteJSON{
		VoteFormat, v.At.UTC().Format(timeLayout), v.Digest, v.FourEyes, v.Login, v.Person, v.Request, v.SecondFactor, v.Seconds,
		v.StandsFor, v.Via, "no", v.Without,
	}
	if v.Yes {
		j.Vote = "yes"
	}
	if j.Without == nil {
		j.Without = []string{}
	}
	b, err := json.Marshal(j)
	return string(b) + "\n", err
}

// Sign returns the signed statement: a note as in golang.org/x/mod/sumdb/note.
// The statement without its signature has at most MaxDetailValue bytes.
func (v *Vote) Sign(s note.Signer) ([]byte, error) {
	text, err := v.text()
	if err != nil {
		return nil, fmt.Errorf("sign a vote: %w", err)
	}
	if len(text) > MaxDetailValue {
		return nil, errors.New("sign a vote: the statement is too long")
	}
	return note.Sign(&note.Note{Text: text}, s)
}

// SplitVote takes a signed statement apart, so that both parts can be details of
// an event: the line, and the signature in base64.
func SplitVote(msg []byte) (line, signature string) {
	line, rest, _ := strings.Cut(string(msg), "\n\n")
	if i := strings.LastIndexByte(rest, ' '); i >= 0 {
		signature = strings.TrimSuffix(rest[i+1:], "\n")
	}
	return line, signature
}

// JoinVote puts together what SplitVote took apart, of a log of that origin.
func JoinVote(line, signature, origin string) []byte {
	return fmt.Appendf(nil, "%s\n\n— %s %s\n", line, origin, signature)
}

// OpenVote checks the signature of a statement and returns what it says. It takes
// only what Sign writes.
func OpenVote(msg []byte, k note.Verifier) (Vote, error) {
	var v Vote
	n, err := note.Open(msg, note.VerifierList(k))
	if err != nil {
		return v, fmt.Errorf("open a vote: %w", err)
	}
	var j voteJSON
	if err := json.Unmarshal([]byte(n.Text), &j); err != nil || j.Format != VoteFormat || len(n.Text) > MaxDetailValue {
		return v, errors.New("open a vote: it is no statement of a vote")
	}
	at, err := time.Parse(timeLayout, j.At)
	if err != nil {
		return v, errors.New("open a vote: it has no time")
	}
	v = Vote{
		At: at, Digest: j.Digest, FourEyes: j.FourEyes, Login: j.Login, SecondFactor: j.SecondFactor, Person: j.Person, Request: j.Request,
		Seconds: j.Seconds, StandsFor: j.StandsFor, Via: j.Via, Without: j.Without, Yes: j.Vote == "yes",
	}
	if text, err := v.text(); err != nil || text != n.Text {
		return Vote{}, errors.New("open a vote: it is spelled in another way")
	}
	return v, nil
}
