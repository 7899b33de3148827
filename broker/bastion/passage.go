package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
)

// A Passage is one connection that is carried within a session besides its own
// data: through a tunnel, to the user's key agent, to the user's display. Its
// beginning, its peers, its bytes each way and its end are on record as marks;
// what it carries is not kept. Its methods are safe for concurrent use.
type Passage struct {
	session *Session
	number  int64
	allowed func(access.SessionRules) error
	rules   atomic.Pointer[access.SessionRules] // under which it was last allowed
	bytes   [2]atomic.Int64                     // to the target, to the user
	over    sync.Once
}

// Passage puts a connection on record; only then may it be opened. what says in
// words of ours what it is and who the peers are. allowed is asked now, and again
// before each chunk once the session's rules have changed.
func (s *Session) Passage(what string, allowed func(access.SessionRules) error) (*Passage, error) {
	p := &Passage{session: s, number: s.passages.Add(1), allowed: allowed}
	if err := p.check(); err != nil {
		return nil, err
	}
	if err := s.Mark("connection %d opened: %s", p.number, what); err != nil {
		return nil, err
	}
	s.touch()
	return p, nil
}

// check returns nil while the connection may go on.
func (p *Passage) check() error {
	if err := p.session.Check(); err != nil {
		return err
	}
	// What is carried is not written to the recording, which must be whole all
	// the same.
	if err := p.session.recorded(p.session.recording.Err()); err != nil {
		return err
	}
	rules := p.session.Live.Allowed()
	if rules == p.rules.Load() {
		return nil
	}
	if err := p.allowed(*rules); err != nil {
		return err
	}
	p.rules.Store(rules)
	return nil
}

// Pump carries src to dst until src ends (nil) or something fails: the grant is
// checked before each chunk. stream is recorder.Input for what goes to the
// target, and recorder.Output for what goes to the user.
func (p *Passage) Pump(stream recorder.Stream, dst io.Writer, src io.Reader) error {
	count := &p.bytes[0]
	if stream != recorder.Input {
		count = &p.bytes[1]
	}
	if stream == recorder.Input {
		src = p.session.Hold(src)
	}
	return pump(src, func(chunk []byte) error {
		if err := p.check(); err != nil {
			return err
		}
		p.session.touch()
		n, err := dst.Write(chunk)
		count.Add(int64(n))
		p.session.bytes[stream].Add(int64(n))
		return err
	})
}

// End puts on record how the connection ended, once. It works after the session's
// right to go on is gone, as long as its recording is open.
func (p *Passage) End(err error) {
	p.over.Do(func() {
		how := "closed"
		switch cause := context.Cause(p.session.ctx); {
		case cause != nil && !errors.Is(cause, errOver):
			how = "cut, " + string(reasonOf(cause))
		case errors.Is(err, access.ErrDenied):
			how = "cut, no longer allowed"
		case err != nil && !errors.Is(err, io.EOF):
			how = "failed"
		}
		text := fmt.Sprintf("connection %d ended: %s, %d bytes to the target, %d bytes to the user", p.number, how, p.bytes[0].Load(), p.bytes[1].Load())
		p.session.recorded(p.session.recording.Mark(text)) // an error ends the session by itself
	})
}
