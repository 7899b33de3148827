package sshproxy

import (
	"errors"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A login is what a connection has proven, and what it is for. It travels in
// the Permissions of the callback that succeeded, and nowhere else.
type login struct {
	by      access.Caller
	hop     bool // leads to targets, and to nothing else
	to      destination
	grantID string
	rules   access.SessionRules
}

type loginKey struct{}

func (who login) permissions() *gossh.Permissions {
	return &gossh.Permissions{ExtraData: map[any]any{loginKey{}: who}}
}

// loginOf reads the login of an authenticated connection.
func loginOf(sc *gossh.ServerConn) (login, error) {
	if sc == nil || sc.Permissions == nil {
		return login{}, errRefused
	}
	who, ok := sc.Permissions.ExtraData[loginKey{}].(login)
	if !ok || who.by.User.ID == "" {
		return login{}, errRefused
	}
	return who, nil
}

var errRefused = errors.New("refused")

// refuseNone answers the method "none": nobody comes in without a proof.
func refuseNone(gossh.ConnMetadata) (*gossh.Permissions, error) { return nil, errRefused }

// An attempt is the user authentication of one connection. x/crypto calls its
// callbacks one after the other. It keeps no identity: what one callback learns
// is returned, or captured by the callback that it hands on to.
type attempt struct {
	link *link
	pre  gossh.ServerPreAuthConn
	// over is set when the user has had a final answer: a client that then
	// offers its next key must not ask anew.
	over bool
}

// config adds the callbacks to a configuration that is this connection's own.
func (a *attempt) config(c *gossh.ServerConfig) *gossh.ServerConfig {
	c.ServerVersion = serverVersion
	c.MaxAuthTries = a.link.limits.AuthTries
	c.PublicKeyAuthAlgorithms = userKeys
	c.NoClientAuthCallback = refuseNone
	c.PreAuthConnCallback = func(pre gossh.ServerPreAuthConn) { a.pre = pre }
	c.PublicKeyCallback = func(meta gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
		return bastion.Apart(func() (*gossh.Permissions, error) { return a.offered(meta, key) })
	}
	c.VerifiedPublicKeyCallback = func(meta gossh.ConnMetadata, key gossh.PublicKey, p *gossh.Permissions, algorithm string) (*gossh.Permissions, error) {
		return bastion.Apart(func() (*gossh.Permissions, error) { return a.proven(meta, key, p, algorithm) })
	}
	c.AuthLogCallback = func(_ gossh.ConnMetadata, method string, err error) {
		if method != "none" && err != nil {
			a.link.noProof()
		}
	}
	return c
}

// offered is called with a key that the client says it has. It proves nothing
// and must leave no trace.
func (a *attempt) offered(_ gossh.ConnMetadata, key gossh.PublicKey) (_ *gossh.Permissions, err error) {
	defer a.recovered(&err)
	if a.over || !a.link.broker.KnowsKey(a.link.conn.ctx, a.link.source(), key) {
		return nil, errRefused
	}
	return nil, nil
}

// proven is called with a key for which the client has made a signature: here,
// and only here, a person is recognized.
func (a *attempt) proven(meta gossh.ConnMetadata, key gossh.PublicKey, _ *gossh.Permissions, _ string) (_ *gossh.Permissions, err error) {
	defer a.recovered(&err)
	if a.over {
		return nil, errRefused
	}
	l := a.link
	by, err := l.broker.Recognize(l.conn.ctx, l.source(), key)
	if err != nil {
		return nil, a.refuse(err)
	}
	if l.hop != nil && by.User.ID != l.hop.person.User.ID {
		err := &access.Error{Kind: access.ErrDenied, Code: "DB-2414", Text: "the two hops were proven by different people", Rule: "ssh.one-person"}
		l.refused(login{by: by, hop: true}, nil, "login", err)
		return nil, a.refuse(err)
	}
	l.proven(l.limits.Hold + time.Minute)
	to, direct, err := a.destination(meta.User())
	switch {
	case err != nil:
		return nil, a.refuse(err)
	case !direct:
		return a.admit(login{by: by, hop: true})
	}
	return a.reach(by, to)
}

// destination reads the login string, which says where to and nothing about
// who.
func (a *attempt) destination(user string) (to destination, direct bool, err error) {
	if a.link.hop == nil {
		return parseLogin(user)
	}
	to, err = parseAccount(user, a.link.hop.target.Name)
	return to, true, err
}

// reach lets the person in who has a grant, lets wait who has asked, and asks
// for a reason who has not.
func (a *attempt) reach(by access.Caller, to destination) (*gossh.Permissions, error) {
	l := a.link
	r, err := l.broker.Reach(l.conn.ctx, by, to.target, to.account)
	switch {
	case err != nil:
		return nil, a.refuse(err)
	case r.Grant != nil:
		return a.admit(login{by: by, to: to, grantID: r.Grant.ID, rules: r.Grant.Rules})
	case r.Request != nil:
		return a.join(by, to, r.Request.ID)
	case to.ticket != "":
		return a.ask(by, to, to.ticket)
	}
	a.say("no grant is open for %s: a reason is needed (or: ssh %s+INC-1234@%s)", to, to.account, to.target)
	l.conn.limit(l.limits.Answer)
	return nil, &gossh.PartialSuccessError{Next: gossh.ServerAuthCallbacks{
		KeyboardInteractiveCallback: func(_ gossh.ConnMetadata, challenge gossh.KeyboardInteractiveChallenge) (_ *gossh.Permissions, err error) {
			defer a.recovered(&err)
			if a.over {
				return nil, errRefused
			}
			reason, err := question(challenge)
			if err != nil {
				return nil, a.refuse(err)
			}
			l.conn.limit(l.limits.Hold + time.Minute)
			return a.ask(by, to, reason)
		},
	}}
}

// question asks for the reason. A client without a terminal answers nothing.
func question(challenge gossh.KeyboardInteractiveChallenge) (string, error) {
	answers, err := challenge("", "", []string{"Reason or ticket: "}, []bool{true})
	if err != nil || len(answers) != 1 {
		return "", errRefused
	}
	reason := strings.TrimSpace(answers[0])
	return reason, access.CheckReason(reason)
}

// admit is the end of every login that succeeds.
func (a *attempt) admit(who login) (*gossh.Permissions, error) {
	if err := a.link.conn.ctx.Err(); err != nil {
		return nil, errRefused
	}
	a.link.loggedIn()
	return who.permissions(), nil
}

// refuse is the end of every login that was understood and does not succeed:
// one line for the user, and nothing more in this connection.
func (a *attempt) refuse(err error) error {
	a.over = true
	// The client has time to read why and to go; another try is another
	// connection.
	a.link.conn.limit(a.link.limits.Login)
	if !errors.Is(err, errRefused) {
		a.say("%s", a.link.explain(a.link.conn.ctx, err))
	}
	return errRefused
}

// say sends the user one line. When it cannot be sent, the peer is gone, which
// the connection notices by itself.
func (a *attempt) say(format string, args ...any) {
	if a.pre != nil {
		a.pre.SendAuthBanner(line(format, args...))
	}
}

// recovered turns a panic in a callback into a refusal; the connection ends,
// and no other.
func (a *attempt) recovered(err *error) {
	if r := recover(); r != nil {
		a.link.report("authenticate", r)
		a.over = true
		*err = errRefused
		a.link.conn.shut(bastion.ErrFault)
	}
}
