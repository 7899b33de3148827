package cast

import (
	"unicode/utf8"
)

// A scanner takes a terminal's input apart, as ECMA-48 and xterm do, one byte at
// a time with bounded state: how the input is cut into chunks changes nothing.
// It says only what it found; what is not reported here is swallowed.
type scanner struct {
	to    scanned
	state byte
	size  int    // bytes in the current string
	seq   []byte // parameter and intermediate bytes, at most maxSeq
	long  bool   // seq would have been longer
	part  [utf8.UTFMax]byte
	parts int // bytes in part
}

// scanned is what a scanner found.
type scanned interface {
	text(r rune)    // a character; utf8.RuneError for bytes that are none
	control(c byte) // a C0 control or DEL
	escape(c byte)  // ESC and one byte
	csi(seq []byte, final byte)
}

const (
	stateText     = iota
	stateEscape   // after ESC
	stateBetween  // after ESC and an intermediate byte
	stateCSI      // after ESC [
	stateString   // in OSC, DCS, SOS, PM or APC
	stateStringSt // after ESC in a string

	maxSeq = 64
	// A string that is longer is shown as text from there on: a string that
	// never ends must not hide the rest of a recording.
	maxString = 4 << 10
)

func (s *scanner) write(p []byte) {
	for _, c := range p {
		s.byte(c)
	}
}

// end reports a character that was cut off and forgets an open sequence.
func (s *scanner) end() {
	for range s.parts {
		s.to.text(utf8.RuneError)
	}
	s.parts, s.state = 0, stateText
}

func (s *scanner) byte(c byte) {
	if s.parts > 0 || s.state == stateText && c >= utf8.RuneSelf {
		s.utf8(c)
		return
	}
	switch s.state {
	case stateString:
		s.size++
		switch {
		case c == 0x1b:
			s.state = stateStringSt
		case c == 0x07 || c == 0x18 || c == 0x1a || s.size >= maxString:
			s.state = stateText
		}
		return
	case stateStringSt:
		if s.state = stateEscape; c == '\\' {
			s.state = stateText
			return
		}
	}
	// Controls act inside a sequence as well as between sequences.
	switch {
	case c == 0x1b:
		s.state = stateEscape
		return
	case c == 0x18 || c == 0x1a: // CAN, SUB
		s.state = stateText
		return
	case c < ' ' || c == 0x7f:
		s.to.control(c)
		return
	case c >= utf8.RuneSelf: // no byte of a sequence
		s.state = stateText
		s.utf8(c)
		return
	}
	switch s.state {
	case stateText:
		s.to.text(rune(c))
	case stateEscape:
		switch {
		case c == '[':
			s.state, s.seq, s.long = stateCSI, s.seq[:0], false
		case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_':
			s.state, s.size = stateString, 0
		case c < '0':
			s.state = stateBetween
		default:
			s.state = stateText
			s.to.escape(c)
		}
	case stateBetween:
		if c >= '0' {
			s.state = stateText
		}
	case stateCSI:
		switch {
		case c >= '@':
			s.state = stateText
			if !s.long {
				s.to.csi(s.seq, c)
			}
		case len(s.seq) < maxSeq:
			s.seq = append(s.seq, c)
		default:
			s.long = true
		}
	}
}

// utf8 adds a byte to a character that is not whole.
func (s *scanner) utf8(c byte) {
	s.part[s.parts] = c
	s.parts++
	part := s.part[:s.parts]
	if !utf8.FullRune(part) {
		return
	}
	r, n := utf8.DecodeRune(part)
	var rest [utf8.UTFMax]byte
	k := copy(rest[:], part[n:])
	s.parts = 0
	s.to.text(r)
	s.write(rest[:k])
}
