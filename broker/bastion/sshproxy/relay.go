package sshproxy

import (
	"context"
	"errors"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/recorder"
)

// carry logs in at the target, answers the start and relays until the end. It
// is the one that closes both sides, in this order: the answer to the start,
// data, the exit status, the end of data, the end of the channel.
func (c *channel) carry(s *bastion.Session, st start) (*int, error) {
	var b *back
	var size windowChange
	done := make(chan struct{})
	defer close(done)
	s.Go(&c.link.working, func() { s.Notices(done, c.tellLater) })
	err := c.opened(s, st)
	c.extra = newPassages(c.leg, s, c.user)
	defer c.extra.finish()
	c.in = s.Hold(c.ch)
	if err == nil {
		err = s.Await() // a command is input, too
	}
	if err == nil {
		b, size, err = c.connect(s, st)
	}
	if err == nil {
		defer b.Close()
		err = s.Started(s.Context())
	}
	if err != nil {
		if cause := context.Cause(s.Context()); cause != nil {
			err = cause
		}
		s.End(err) // before the user is told, who then goes away
		c.link.log.WarnContext(s.Context(), "target", "target", s.Live.Target.Name, "error", err)
		c.decline(s.Context(), err)
		return nil, err
	}
	st.req.Reply(true, nil)
	c.started(s, b, size)
	return c.relay(s, b)
}

// relay moves data both ways until the program ends or something ends it.
func (c *channel) relay(s *bastion.Session, b *back) (*int, error) {
	cut := make(chan struct{})
	stop := context.AfterFunc(s.Context(), func() {
		defer close(cut)
		defer c.link.recovered("end a session", func() { c.link.conn.shut(bastion.ErrFault) })
		c.cut(s, b)
	})
	input, output := c.streams(s, b)
	s.Go(&c.link.working, func() {
		// The end of the user's input is half an end: the program may still
		// have much to say.
		if err := input(); err == nil {
			b.ch.CloseWrite()
		}
	})
	var outputs sync.WaitGroup
	s.Go(&outputs, func() { c.output(s, output()) })
	s.Go(&outputs, func() { c.output(s, s.Pump(recorder.Stderr, stderr{c}, b.ch.Stderr())) })
	outputs.Wait()
	exit := <-b.exit
	if b.carried != nil {
		b.carried.ended(s, exit)
	}
	switch {
	case !stop():
		<-cut
	case s.Context().Err() == nil:
		return exit.status, c.finish(s, exit)
	default: // it ends at this very moment
		c.cut(s, b)
	}
	return exit.status, context.Cause(s.Context())
}

// output notes how one stream of output ended. When the user cannot be written
// to any more, the session is over.
func (c *channel) output(s *bastion.Session, err error) {
	if err != nil {
		s.End(errors.Join(bastion.ErrGone, err))
	}
}

// finish tells the user how the program ended, and closes.
func (c *channel) finish(s *bastion.Session, exit exit) error {
	if exit.name == "" {
		err := &access.Error{Kind: access.ErrUnavailable, Code: "DB-5421", Text: s.Live.Target.Name + " closed the connection"}
		c.say("%s", c.link.explain(s.Context(), err))
		c.ch.Close()
		return err
	}
	c.ch.SendRequest(exit.name, false, exit.payload)
	c.errMu.Lock() // a notice may be on its way
	defer c.errMu.Unlock()
	c.ch.CloseWrite()
	c.ch.Close()
	return nil
}

// farewellWait is how long a client may take to read why its session ends.
const farewellWait = time.Second

// cut ends both sides because the session must end. The target's side goes
// first; the user is told why.
func (c *channel) cut(s *bastion.Session, b *back) {
	b.Close()
	cause := context.Cause(s.Context())
	if !errors.Is(cause, bastion.ErrGone) && !errors.Is(cause, context.Canceled) {
		said := make(chan struct{})
		c.link.spawn("say why a session ends", func() {
			defer close(said)
			c.say("session ended: %s", c.link.explain(s.Context(), cause))
		})
		timer := time.NewTimer(farewellWait)
		defer timer.Stop()
		select {
		case <-said:
		case <-timer.C: // it does not read; closing frees the writer
		}
	}
	c.link.closeWithin(c.link.limits.Grace, c.ch, c.gone)
}

// exit is how a program ended, as the target said.
type exit struct {
	name    string // of the request; empty: it said nothing
	payload []byte
	status  *int // of one that ended by itself
}

// exits takes what the target asks for within the session until it closes the
// channel, and returns how the program ended. The first word counts.
func (c *channel) exits(s *bastion.Session, reqs <-chan *gossh.Request) (e exit) {
	for req := range reqs {
		action := targetRequests[req.Type]
		err := c.allows(action)
		if err == nil && action == bastion.Exit && e.name == "" {
			e, err = parseExit(req)
		}
		if err != nil {
			c.link.refused(c.who, s, "target's channel request "+req.Type, err)
		}
		req.Reply(err == nil && action == bastion.KeepAlive, nil)
	}
	return e
}

func parseExit(req *gossh.Request) (exit, error) {
	if req.Type == "exit-signal" {
		sig, err := parseExitSignal(req.Payload)
		if err != nil {
			return exit{}, err
		}
		return exit{name: req.Type, payload: gossh.Marshal(sig)}, nil
	}
	status, err := parseExitStatus(req.Payload)
	if err != nil {
		return exit{}, err
	}
	n := int(status.Status)
	return exit{name: req.Type, payload: gossh.Marshal(status), status: &n}, nil
}
