package sshproxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A channel is the user's end of one session: what it asked for, and how it is
// answered. Requests come in one goroutine after the other: prepare until the
// start, follow after it.
type channel struct {
	leg
	user gossh.Conn // the connection that the channel is part of
	ch   gossh.Channel
	reqs <-chan *gossh.Request

	term  *ptyRequest // nil: no terminal
	env   []envRequest
	agent bool        // the user's agent is offered
	x11   *x11Request // nil: the user's display is not
	x11s  atomic.Int64
	extra *passages // of agent and display

	ready chan struct{} // closed when the start was answered, with back set
	over  chan struct{} // closed when there is no session any more
	gone  chan struct{} // closed when the user has closed the channel

	mu      sync.Mutex          // guards what changes after the start
	rules   access.SessionRules // those at the login, until live is set
	live    *broker.Live
	size    windowChange
	session *bastion.Session
	back    *back

	errMu sync.Mutex // serializes what is written to the user's stderr
}

// A start is the request that a session begins with; there is one a channel.
type start struct {
	req       *gossh.Request
	action    bastion.Action
	kind      string // of the session: "shell" or "exec"
	command   string
	subsystem string
}

// Bounds on what may come before the start, and while it is being answered.
const (
	maxEnv    = 32 // variables
	maxBefore = 64 // requests before the start
	maxQueued = 16 // requests between the start and its answer
)

var (
	errTwice    = &access.Error{Kind: access.ErrDenied, Code: "DB-2421", Text: "a session has one terminal and one command", Rule: "session.once"}
	errTooMany  = &access.Error{Kind: access.ErrDenied, Code: "DB-2422", Text: "too many requests", Rule: "session.requests"}
	errTerminal = &access.Error{Kind: access.ErrDenied, Code: "DB-2444", Text: "files are not carried over a terminal, which would change what is sent", Rule: "session.terminal"}
	errTooEarly = &access.Error{Kind: access.ErrDenied, Code: "DB-2423", Text: "nothing runs yet", Rule: "session.order"}
)

// session carries a session channel from its opening to its end.
func (l *link) session(user gossh.Conn, who login, nc gossh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	c := &channel{
		leg: leg{l, who}, user: user, ch: ch, reqs: reqs, rules: who.rules,
		ready: make(chan struct{}), over: make(chan struct{}), gone: make(chan struct{}),
	}
	st, open := c.prepare()
	ctx, cancel := context.WithCancelCause(l.conn.ctx)
	defer cancel(bastion.ErrGone)
	if open {
		l.spawn("follow the requests of a session", func() {
			defer close(c.gone)
			defer cancel(bastion.ErrGone)
			c.follow()
		})
	} else {
		close(c.gone)
	}
	if st != nil {
		c.run(ctx, *st)
	}
	close(c.over)
	l.closeWithin(l.limits.Grace, ch, c.gone)
}

// prepare takes the requests before the start. It returns the start, if there
// was one, and whether the user's channel is still open.
func (c *channel) prepare() (st *start, open bool) {
	timer := time.NewTimer(c.link.limits.Start)
	defer timer.Stop()
	for range maxBefore {
		select {
		case req, ok := <-c.reqs:
			if !ok {
				return nil, false
			}
			st, err := c.before(req)
			if err != nil {
				c.link.refused(c.who, nil, "channel request "+req.Type, err)
				if isStart(req.Type) {
					c.decline(c.link.conn.ctx, err)
					return nil, true // a refused start is the end of its channel
				}
				req.Reply(false, nil)
				continue
			}
			if st != nil {
				return st, true
			}
			req.Reply(true, nil)
		case <-timer.C:
			return nil, true
		case <-c.link.conn.ctx.Done():
			return nil, true
		}
	}
	c.link.refused(c.who, nil, "channel requests", errTooMany)
	return nil, true
}

func isStart(name string) bool { return name == "shell" || name == "exec" || name == "subsystem" }

// decline tells the user why there is no session. The start is not answered but
// followed by the end of the channel: stock clients exit at a refusal without
// showing what they were told before.
func (c *channel) decline(ctx context.Context, err error) {
	c.say("%s", c.link.explain(ctx, forPeople(err)))
}

// forPeople gives errors of parsing a kind that explain can show.
func forPeople(err error) error {
	if errors.Is(err, errPayload) || errors.Is(err, errEnvName) {
		return access.Invalid("%v", err)
	}
	return err
}

// authorize gives the action of a request, or why it is refused.
func (c *channel) authorize(req *gossh.Request) (bastion.Action, error) {
	if !c.link.paced() {
		c.link.conn.shut(errTooMany)
		return "", errTooMany
	}
	action := sessionRequests[req.Type]
	if req.Type == "subsystem" {
		s, err := parseSubsystem(req.Payload)
		if err != nil {
			return "", err
		}
		action = subsystems[s.Name]
	}
	if req.Type == "exec" && len(c.now().Files) > 0 {
		if e, err := parseExec(req.Payload); err == nil {
			if _, ok := parseTransfer(e.Command); ok {
				action = bastion.Transfer
			}
		}
	}
	return action, c.allows(action)
}

// allows asks whether the grant allows an action: with its rules as they were
// at the login until the session is open, and then with those of the session.
func (c *channel) allows(action bastion.Action) error {
	return bastion.Authorize(c.now(), action)
}

// allowsStart is allows for a start, whose command counts too.
func (c *channel) allowsStart(st start) error {
	err := c.allows(st.action)
	if err == nil && st.action == bastion.Exec {
		err = bastion.AuthorizeCommand(c.now(), st.command)
	}
	return err
}

// now are the rules of this moment.
func (c *channel) now() access.SessionRules {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil {
		return *c.live.Allowed()
	}
	return c.rules
}

// opened takes over the session's rules, which may have become narrower since
// the login, and asks for what was asked for before once more.
func (c *channel) opened(s *bastion.Session, st start) error {
	c.mu.Lock()
	c.live = s.Live
	c.mu.Unlock()
	err := c.allowsStart(st)
	if err == nil && c.term != nil {
		err = c.allows(bastion.Terminal)
	}
	if err == nil && c.agent {
		err = c.allows(bastion.Agent)
	}
	if err == nil && c.x11 != nil {
		err = c.allows(bastion.X11)
	}
	if err != nil {
		c.link.refused(c.who, s, "channel request "+st.req.Type, err)
	}
	return err
}

// before takes one request before the start. It returns the start when this is
// it, and an error when the request is refused.
func (c *channel) before(req *gossh.Request) (*start, error) {
	action, err := c.authorize(req)
	if err != nil {
		return nil, err
	}
	switch action {
	case bastion.Terminal:
		if c.term != nil {
			return nil, errTwice
		}
		p, err := parsePTY(req.Payload)
		if err != nil {
			return nil, err
		}
		c.term, c.size = &p, p.size()
		return nil, nil
	case bastion.Env:
		if len(c.env) >= maxEnv {
			return nil, errTooMany
		}
		e, err := parseEnv(req.Payload)
		if err == nil {
			c.env = append(c.env, e)
		}
		return nil, err
	case bastion.Resize:
		return nil, c.resize(req.Payload)
	case bastion.KeepAlive:
		return nil, nil
	case bastion.Agent:
		if len(req.Payload) > 0 {
			return nil, errPayload
		}
		c.agent = true
		return nil, nil
	case bastion.X11:
		if c.x11 != nil {
			return nil, errTwice
		}
		x, err := parseX11Request(req.Payload)
		if err == nil {
			c.x11 = &x
		}
		return nil, err
	case bastion.Shell:
		if len(req.Payload) > 0 {
			return nil, errPayload
		}
		return &start{req: req, action: action, kind: "shell"}, nil
	case bastion.Exec, bastion.Transfer:
		e, err := parseExec(req.Payload)
		if err == nil && action == bastion.Transfer && c.term != nil {
			err = errTerminal
		}
		st := &start{req: req, action: action, kind: "exec", command: e.Command}
		if err == nil {
			err = c.allowsStart(*st)
		}
		return st, err
	case bastion.SFTP:
		if c.term != nil {
			return nil, errTerminal
		}
		return &start{req: req, action: action, kind: "exec", command: "subsystem sftp", subsystem: "sftp"}, nil
	default:
		return nil, errTooEarly
	}
}

// follow takes the requests after the start until the user closes the channel.
// While the start is being answered they wait, so that answers keep their
// order; a new size of the terminal wants no answer and does not.
func (c *channel) follow() {
	var queue []*gossh.Request
	ready := c.ready
	for {
		select {
		case req, ok := <-c.reqs:
			switch {
			case !ok:
				return
			case c.isOver():
				req.Reply(false, nil)
			case ready == nil || !req.WantReply && req.Type == "window-change":
				c.after(req)
			case len(queue) < maxQueued:
				queue = append(queue, req)
			default:
				c.link.conn.shut(errTooMany)
			}
		case <-ready:
			ready = nil
			for _, req := range queue {
				c.after(req)
			}
			queue = nil
		}
	}
}

// after takes one request after the start and answers it.
func (c *channel) after(req *gossh.Request) {
	action, err := c.authorize(req)
	if err == nil {
		err = c.act(action, req)
	}
	if err != nil && !c.isOver() {
		c.mu.Lock()
		s := c.session
		c.mu.Unlock()
		c.link.refused(c.who, s, "channel request "+req.Type, err)
	}
	req.Reply(err == nil, nil)
}

func (c *channel) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

func (c *channel) act(action bastion.Action, req *gossh.Request) error {
	switch action {
	case bastion.Resize:
		return c.resize(req.Payload)
	case bastion.Signal:
		s, err := parseSignal(req.Payload)
		if err != nil {
			return err
		}
		return c.tell("signal", gossh.Marshal(s), "signal "+s.Name)
	case bastion.EndOutput:
		return c.tell(req.Type, nil, "the client reads no more output")
	case bastion.KeepAlive:
		return nil
	default:
		return errTwice
	}
}

// resize notes the terminal's new size and, where a program runs, has it
// recorded and forwards it.
func (c *channel) resize(payload []byte) error {
	w, err := parseWindowChange(payload)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = w
	if c.back == nil {
		return nil
	}
	return c.sendSize()
}

// sendSize tells the target the terminal's size; c.mu is held.
func (c *channel) sendSize() error {
	if err := c.session.Resize(int(c.size.Columns), int(c.size.Rows)); err != nil {
		return err
	}
	_, err := c.back.ch.SendRequest("window-change", false, gossh.Marshal(c.size))
	return gone(err)
}

// tell forwards a request that is no data, with a remark in the recording.
func (c *channel) tell(name string, payload []byte, mark string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back == nil {
		return errTooEarly
	}
	if err := c.session.Mark("%s", mark); err != nil {
		return err
	}
	_, err := c.back.ch.SendRequest(name, false, payload)
	return gone(err)
}

// gone forgives a send to a side that has just ended.
func gone(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// started lets requests through to the target.
func (c *channel) started(s *bastion.Session, b *back, sent windowChange) {
	c.mu.Lock()
	c.session, c.back = s, b
	if c.size != sent {
		c.sendSize() // an error ends the session by itself
	}
	c.mu.Unlock()
	close(c.ready)
}

// run opens the session and carries it.
func (c *channel) run(ctx context.Context, st start) {
	l := c.link
	o := bastion.Order{
		By: c.who.by, GrantID: c.who.grantID,
		Opening: broker.Opening{Kind: st.kind, Command: st.command, Client: clean(l.version)},
	}
	if c.term != nil {
		c.mu.Lock()
		// A terminal without a name is one all the same, which its recording must tell.
		o.Terminal, o.Width, o.Height = cmp.Or(c.term.Term, "unknown"), int(c.size.Columns), int(c.size.Rows)
		c.mu.Unlock()
	}
	ending, err := l.cfg.Bastion.Run(ctx, o, func(s *bastion.Session) (*int, error) { return c.carry(s, st) })
	if errors.Is(err, bastion.ErrFull) {
		l.refused(c.who, nil, "session", err)
	} else if err != nil {
		l.countRefusal() // the broker has it on record
	}
	if err != nil {
		l.log.WarnContext(ctx, "no session", "user", c.who.by.User.Name, "target", c.who.to.target, "error", err)
		c.decline(ctx, err)
		return
	}
	l.log.InfoContext(ctx, "session ended", "user", c.who.by.User.Name, "target", c.who.to.target, "reason", string(ending.Reason))
}

// say writes one line to the user's stderr.
func (c *channel) say(format string, args ...any) {
	text := line(format, args...)
	if c.term != nil {
		text = "\r\n" + strings.TrimSuffix(text, "\n") + "\r\n"
	}
	c.errMu.Lock()
	defer c.errMu.Unlock()
	io.WriteString(c.ch.Stderr(), text)
}

// stderr is the user's stderr for the target's output.
type stderr struct{ *channel }

func (w stderr) Write(p []byte) (int, error) {
	w.errMu.Lock()
	defer w.errMu.Unlock()
	return w.ch.Stderr().Write(p)
}
