package ticket

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// SignatureHeader bears the signature of what a webhook is asked, and of what it
// answers; TimeHeader bears the time of the question, in unix seconds.
const (
	SignatureHeader = "Drawbolt-Signature"
	TimeHeader      = "Drawbolt-Time"
)

// Sign is the signature of a body: HMAC-SHA-256 over what it is bound to, a dot,
// and the body, in hex after "v1=". A question is bound to its time, as it stands
// in TimeHeader, and an answer to the nonce of its question, so that neither can
// be used for another one.
func Sign(secret []byte, bound string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(bound + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// A Question is what a webhook is asked (docs/formats/ticket-webhook.md).
type Question struct {
	Ticket  string `json:"ticket"`
	User    string `json:"user"`
	UserID  string `json:"user_id"`
	Email   string `json:"email"` // the user's attribute; "": none
	Target  string `json:"target"`
	Account string `json:"account"`
	Nonce   string `json:"nonce"`
}

// An Answer is what it says.
type Answer struct {
	Ticket   string `json:"ticket"` // the one that was asked about
	Valid    bool   `json:"valid"`
	State    string `json:"state"`
	Assignee string `json:"assignee"`
	Title    string `json:"title"`
	Why      string `json:"why"` // when it is not valid
}

func (t *Checker) webhook(ctx context.Context, q broker.TicketQuestion) (access.TicketCheck, error) {
	var none access.TicketCheck
	nonce := rand.Text()
	body, err := json.Marshal(Question{
		Ticket: q.Ticket, User: q.User.Name, UserID: q.User.ID, Email: q.User.Attributes["email"], Target: q.Target, Account: q.Account, Nonce: nonce,
	})
	if err != nil {
		return none, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(body))
	if err != nil {
		return none, errors.New("has no such address")
	}
	now := strconv.FormatInt(t.c.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(TimeHeader, now)
	r.Header.Set(SignatureHeader, Sign(t.c.Secret.Expose(), now, body))
	status, header, reply, err := t.do(r)
	if err != nil {
		return none, err
	}
	if status != http.StatusOK {
		return none, errors.New("answers that it is not there; ask the operator to look at it")
	}
	if !hmac.Equal([]byte(header.Get(SignatureHeader)), []byte(Sign(t.c.Secret.Expose(), nonce, reply))) {
		return none, errors.New("did not sign its answer; ask the operator to look at it")
	}
	var a Answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return none, errors.New("does not answer as it should; ask the operator to look at it")
	}
	check := access.TicketCheck{Valid: a.Valid && a.Ticket == q.Ticket, State: a.State, Assignee: a.Assignee, Title: a.Title, Why: a.Why}
	if !check.Valid && check.Why == "" {
		check.Why = q.Ticket + " does not hold for this; name another one"
	}
	if check.Valid {
		check.Why = ""
	}
	return check, nil
}
