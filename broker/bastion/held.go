package bastion

import (
	"io"

	"github.com/drawbolt/drawbolt/broker/access"
)

// ErrHeld: what the user sends does not pass now.
var ErrHeld = &access.Error{Kind: access.ErrDenied, Code: "DB-6089", Text: "input is held: it passes again when the pause ends, or when somebody watches", Rule: "session.held"}

// Held reports whether what the user sends is held back now.
func (s *Session) Held() bool { return s.Live.Held() != nil }

// Await returns nil when what the user sends may pass, and otherwise waits for that,
// or returns why the session ends.
func (s *Session) Await() error {
	for {
		held := s.Live.Held()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-s.ctx.Done():
			return s.Check()
		}
	}
}

// Hold returns a reader of what the user sends. While that is held back, nothing
// comes out of it, nor its end: what was read waits in it, what comes behind waits on
// the way, and nothing is lost.
func (s *Session) Hold(r io.Reader) io.Reader { return heldReader{s, r} }

type heldReader struct {
	session *Session
	reader  io.Reader
}

func (h heldReader) Read(p []byte) (int, error) {
	n, err := h.reader.Read(p)
	if why := h.session.Await(); why != nil {
		return 0, why
	}
	return n, err
}

// Notices puts on record what happens to the session from outside, and has it shown
// to the user, until done is closed or the session ends. show must not wait for the
// user to read.
func (s *Session) Notices(done <-chan struct{}, show func(text string)) {
	for {
		select {
		case n := <-s.Live.Notices():
			if n.Mark != "" {
				s.touch() // the user has time to answer
				if s.Mark("%s", n.Mark) != nil {
					return
				}
			}
			if n.Show != "" {
				show(n.Show)
			}
		case <-s.ctx.Done():
			return
		case <-done:
			return
		}
	}
}
