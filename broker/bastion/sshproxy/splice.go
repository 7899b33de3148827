package sshproxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/recorder"
)

// passages are the connections that one session carries besides its own data,
// each over a channel at either side. They end with the session.
type passages struct {
	leg
	session *bastion.Session
	user    gossh.Conn
	ctx     context.Context
	cancel  context.CancelCauseFunc

	mu     sync.Mutex // guards closed, and Add of open against Wait
	closed bool
	open   sync.WaitGroup
}

func newPassages(g leg, s *bastion.Session, user gossh.Conn) *passages {
	ctx, cancel := context.WithCancelCause(s.Context())
	return &passages{leg: g, session: s, user: user, ctx: ctx, cancel: cancel}
}

// finish ends all that is carried and returns when its end is on record.
func (x *passages) finish() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel(io.EOF)
	x.open.Wait()
}

func (x *passages) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.open.Add(1)
	return true
}

// An opening is what is to be opened at the far side of a channel.
type opening struct {
	far     gossh.Conn // of the user, or of the target
	kind    string     // of the channel
	payload []byte
	what    string // for the record
	allowed func(access.SessionRules) error
}

// A side is a channel to one of the two.
type side struct {
	gossh.Channel
	reqs <-chan *gossh.Request
}

// join opens the far side of nc, accepts nc, and carries it until it is over. It
// is on record before anything is opened. When it is an error, nc has not been
// answered.
func (x *passages) join(nc gossh.NewChannel, o opening) error {
	if !x.begin() {
		return errGoneBefore
	}
	recorded := sync.OnceFunc(x.open.Done)
	defer recorded()
	p, err := x.session.Passage(o.what, o.allowed)
	if err != nil {
		return err
	}
	ch, reqs, err := openChannel(x.ctx, o.far, o.kind, o.payload)
	if err != nil {
		p.End(err)
		return err
	}
	far := side{ch, reqs}
	if ch, reqs, err = nc.Accept(); err != nil {
		p.End(err)
		far.Close()
		gossh.DiscardRequests(far.reqs)
		return nil // nobody is there to be told
	}
	near := side{ch, reqs}
	if o.far == x.user {
		x.splice(p, far, near, recorded)
	} else {
		x.splice(p, near, far, recorded)
	}
	return nil
}

var errGoneBefore = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5424", Text: "the session has just ended"}

// splice carries what comes from either side to the other. The end of one
// direction is half an end; when a side has closed, what it said is carried to
// its end before the other side is closed. recorded is called when nothing passes
// any more and the end is on record. splice returns when both peers have closed:
// one that does not keeps its place in the connection's limit.
func (x *passages) splice(p *bastion.Passage, user, target side, recorded func()) {
	ctx, cut := context.WithCancelCause(x.ctx)
	// Apart, as one of them may have to wait for a peer that does not read.
	context.AfterFunc(ctx, func() { target.Close() })
	context.AfterFunc(ctx, func() { user.Close() })
	up, down := make(chan struct{}), make(chan struct{})
	carry := func(done chan struct{}, stream recorder.Stream, dst, src side) {
		defer close(done)
		err := p.Pump(stream, dst, src)
		if err == nil {
			err = dst.CloseWrite()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			cut(err)
		}
	}
	var all sync.WaitGroup
	x.session.Go(&all, func() { carry(up, recorder.Input, target, user) })
	x.session.Go(&all, func() { carry(down, recorder.Output, user, target) })
	x.session.Go(&all, func() { x.drain("channel request ", user.reqs); <-up; target.Close() })
	x.session.Go(&all, func() { x.drain("target's channel request ", target.reqs); <-down; user.Close() })
	pumped := make(chan struct{})
	x.session.Go(&all, func() { <-up; <-down; close(pumped) })
	select {
	case <-pumped:
	case <-ctx.Done():
		timer := time.NewTimer(x.link.limits.Grace)
		defer timer.Stop()
		select {
		case <-pumped:
		case <-timer.C: // a peer does not read; what is written to it goes nowhere
		}
	}
	p.End(context.Cause(ctx))
	recorded()
	cut(io.EOF)
	all.Wait()
}

// drain answers the requests on a channel until its peer has closed it. None has
// a meaning, but OpenSSH asks on any channel if the other side is there.
func (x *passages) drain(what string, reqs <-chan *gossh.Request) {
	for req := range reqs {
		alive := req.Type == "keepalive@openssh.com"
		if !alive {
			x.link.refused(x.who, x.session, what+req.Type, bastion.Authorize(access.SessionRules{}, ""))
		}
		req.Reply(alive, nil)
	}
}
