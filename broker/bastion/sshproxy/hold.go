package sshproxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// ask files a request, or joins an equal one, and waits.
func (a *attempt) ask(by access.Caller, to destination, reason string) (*gossh.Permissions, error) {
	c, err := a.link.broker.Request(a.link.conn.ctx, by, broker.Ask{Target: to.target, Account: to.account, Reason: reason})
	if err != nil {
		return nil, a.refuse(err)
	}
	return a.hold(by, to, c)
}

// join waits for a request that this person has made already.
func (a *attempt) join(by access.Caller, to destination, id string) (*gossh.Permissions, error) {
	c, err := a.link.broker.FindRequest(a.link.conn.ctx, by, id)
	if err != nil {
		return nil, a.refuse(err)
	}
	return a.hold(by, to, c)
}

// hold waits for the decision, inside user authentication: one line a change,
// one each half a minute, until it is decided, the time is up or the client has
// gone. The request stays open when the client goes.
func (a *attempt) hold(by access.Caller, to destination, c broker.Case) (*gossh.Permissions, error) {
	l := a.link
	if c.Grant == nil {
		release, ok := l.gate.hold(by.User.ID)
		if !ok {
			return nil, a.refuse(&access.Error{Kind: access.ErrUnavailable, Code: "DB-5411", Text: "too many connections wait for an approval; " + c.Request.ID + " stays open"})
		}
		defer release()
		a.say("%s needs approval%s", to, rule(c.Request.Policy.Rule))
		a.say("%s", a.sent(c))
	}
	ctx, cancel := context.WithTimeout(l.conn.ctx, l.limits.Hold)
	defer cancel()
	began, votes, questions := l.now(), len(c.Request.Approvals), 0
	for c.Grant == nil {
		switch state := c.Request.StateAt(l.now()); state {
		case access.Pending:
		default:
			return nil, a.refuse(decided(c, state))
		}
		if n := len(c.Request.Approvals); n > votes {
			votes = n
			a.say("approved by %s; %s", c.Request.Approvals[n-1].UserName, waiting(c))
		}
		for ; questions < len(c.Request.Questions); questions++ {
			if q := &c.Request.Questions[questions]; q.Open() {
				a.say("%s asks: %q", q.ByName, q.Text)
				a.say("answer in another terminal: drawbolt answer %s --question %d TEXT%s", c.Request.ID, questions+1, a.page(c))
			}
		}
		next, err := a.await(ctx, by, c)
		switch {
		case l.conn.ctx.Err() != nil:
			return nil, errRefused // nobody is there to be told
		case err != nil && ctx.Err() == nil:
			return nil, a.refuse(err)
		case ctx.Err() != nil:
			return nil, a.refuse(&access.Error{Kind: access.ErrDenied, Code: "DB-2415",
				Text: "no decision yet; " + c.Request.ID + " stays open: run ssh again after the approval"})
		case next.Version() == c.Version():
			a.say("still waiting %s - cancel with Ctrl-C", clock(l.now().Sub(began)))
		}
		c = next
	}
	if err := c.Grant.Usable(l.now()); err != nil {
		return nil, a.refuse(err)
	}
	a.say("%s", a.approved(c))
	return a.admit(login{by: by, to: to, grantID: c.Grant.ID, rules: c.Grant.Rules})
}

// await waits for the next change, at most until the next reminder is due.
func (a *attempt) await(ctx context.Context, by access.Caller, c broker.Case) (broker.Case, error) {
	ctx, cancel := context.WithTimeout(ctx, a.link.limits.Reminder)
	defer cancel()
	return a.link.broker.Await(ctx, by, c.Request.ID, c.Version())
}

func rule(id string) string {
	if id == "" {
		return ""
	}
	return " (rule " + id + ")"
}

func (a *attempt) sent(c broker.Case) string {
	return c.Request.ID + " " + waiting(c) + a.page(c)
}

// page is the address of the request, if there are pages.
func (a *attempt) page(c broker.Case) string {
	if url := a.link.cfg.RequestURL(c.Request.ID); url != "" {
		return " - " + url
	}
	return ""
}

const maxNames = 8 // of approvers in one line

func waiting(c broker.Case) string {
	names := c.Waiting
	if len(names) == 0 {
		return "waits for a decision"
	}
	more := ""
	if n := len(names) - maxNames; n > 0 {
		names, more = names[:maxNames], fmt.Sprintf(" and %d more", n)
	}
	return "sent to " + strings.Join(names, ", ") + more
}

// approved says who has said yes, with which words, and for how long.
func (a *attempt) approved(c broker.Case) string {
	s := "approved"
	if n := len(c.Request.Approvals); n > 0 {
		last := c.Request.Approvals[n-1]
		s += " by " + last.UserName
		if last.Comment != "" {
			s += fmt.Sprintf(": %q", last.Comment)
		}
	}
	left := c.Grant.Duration
	if !c.Grant.Start.IsZero() {
		left = c.Grant.End.Sub(a.link.now())
	}
	return s + " - " + access.FormatDuration(left.Round(time.Second)) + " from now - this session is recorded"
}

// decided says how a request ended that did not become a grant.
func decided(c broker.Case, state access.RequestState) error {
	r := c.Request
	e := &access.Error{Kind: access.ErrDenied, Code: "DB-2416"}
	switch state {
	case access.Denied:
		e.Text = r.ID + " was denied by " + r.DecidedBy
		if r.Note != "" {
			e.Text += fmt.Sprintf(": %q", r.Note)
		}
	case access.Cancelled:
		e.Text = r.ID + " was cancelled"
	case access.Expired:
		e.Text = r.ID + " expired without a decision"
		e.Next = fmt.Sprintf("ssh %s again, which asks anew", r.Account)
	default:
		e.Text = fmt.Sprintf("%s is %s and gives no access", r.ID, state)
	}
	return e
}
