package cast

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The comment lines, each with its trailing space.
const (
	lineMark      = "# drawbolt "
	lineRecording = lineMark + "recording 1 "
	lineEvent     = lineMark + "event "
	lineChain     = lineMark + "chain "
	lineSeal      = lineMark + "seal "
)

// LineDamage begins a line that stands in the place of a part of a recording
// which whoever handed it over could not read; then it says why. No recording has
// such a line by itself, and one that has does not verify.
const LineDamage = lineMark + "damage "

// b64 refuses spare bits, newlines and other second spellings of the same bytes.
var b64 = base64.StdEncoding.Strict()

// stockHeader is the first line, for stock players.
type stockHeader struct {
	Version int `json:"version"`
	Term    struct {
		Cols int    `json:"cols"`
		Rows int    `json:"rows"`
		Type string `json:"type,omitempty"`
	} `json:"term"`
	Timestamp int64  `json:"timestamp"`
	Command   string `json:"command,omitempty"`
}

// ownHeader is the second line. Raw values keep what is not UTF-8.
type ownHeader struct {
	ID      string            `json:"id"`
	Kind    string            `json:"kind,omitempty"`
	Started string            `json:"started"`
	Command []byte            `json:"command,omitempty"`
	Fields  map[string]string `json:"fields,omitempty"`
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

// MarshalText returns the two lines that begin a file. Text that is not UTF-8 is
// repaired with U+FFFD, but for the command, which is kept exactly.
func (h Header) MarshalText() ([]byte, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	var s stockHeader
	s.Version = 3
	s.Term.Cols, s.Term.Rows, s.Term.Type = h.Width, h.Height, h.Terminal
	if s.Term.Cols == 0 {
		s.Term.Cols = 80
	}
	if s.Term.Rows == 0 {
		s.Term.Rows = 24
	}
	s.Timestamp = h.Started.Unix()
	s.Command = strings.ToValidUTF8(h.Command, "\ufffd")
	o := ownHeader{ID: h.ID, Kind: h.Kind, Started: h.Started.UTC().Format(timeLayout), Fields: h.Fields}
	if s.Command != h.Command {
		o.Command = []byte(h.Command)
	}
	a, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s\n%s%s\n", a, lineRecording, b), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *Header) UnmarshalText(text []byte) (err error) {
	first, second, _ := bytes.Cut(text, []byte("\n"))
	*h, err = parseHeader(first, bytes.TrimSuffix(second, []byte("\n")))
	return err
}

func parseHeader(first, second []byte) (Header, error) {
	var s stockHeader
	var o ownHeader
	if err := json.Unmarshal(first, &s); err != nil {
		return Header{}, err
	}
	if s.Version != 3 {
		return Header{}, fmt.Errorf("asciicast version %d is not 3", s.Version)
	}
	rest, ok := strings.CutPrefix(string(second), lineRecording)
	if !ok {
		return Header{}, errors.New("the second line is not a drawbolt header")
	}
	if err := json.Unmarshal([]byte(rest), &o); err != nil {
		return Header{}, err
	}
	started, err := time.Parse(timeLayout, o.Started)
	if err != nil {
		return Header{}, err
	}
	h := Header{ID: o.ID, Kind: o.Kind, Started: started, Width: s.Term.Cols, Height: s.Term.Rows,
		Terminal: s.Term.Type, Command: s.Command, Fields: o.Fields}
	if o.Command != nil {
		h.Command = string(o.Command)
	}
	return h, h.Check()
}

// appendEvent writes the lines of one event whose bytes are complete.
func appendEvent(dst []byte, interval time.Duration, s Stream, data []byte) []byte {
	valid, bin := classify(data)
	raw := !valid || bin
	if s != s.stock() || raw {
		dst = append(dst, lineEvent...)
		dst = append(dst, codes[s])
		if raw {
			dst = append(dst, ' ')
			dst = b64.AppendEncode(dst, data)
		}
		dst = append(dst, '\n')
	}
	us := interval.Microseconds()
	dst = fmt.Appendf(dst, `[%d.%06d, "%c", `, us/1e6, us%1e6, codes[s.stock()])
	if bin {
		data = nil
	}
	dst = appendString(dst, data)
	return append(dst, ']', '\n')
}

// Data of at least minBinary bytes is binary when more than one byte in
// binaryPart is binary.
const (
	minBinary  = 256
	binaryPart = 8
)

// classify reports whether data is UTF-8, and whether it is binary: so long, and
// with so many bytes that no text has, that its text would show nothing to a
// person and be up to six times its size. Such bytes are those that are not
// UTF-8, and the controls but for BEL to SI (among them tab and the line ends)
// and ESC, of which the output of a program that draws may well have many.
func classify(data []byte) (valid, bin bool) {
	const ones = 0x0101010101010101
	valid = true
	n, limit := 0, len(data)/binaryPart
	long := len(data) >= minBinary
	for i := 0; i < len(data); {
		if len(data)-i >= 8 {
			// Nearly all text is ASCII without controls; eight bytes are seen at once.
			w := binary.LittleEndian.Uint64(data[i:])
			if (w|(w-' '*ones))&(0x80*ones) == 0 {
				i += 8
				continue
			}
		}
		c := data[i]
		size := 1
		if c < utf8.RuneSelf {
			if c < 0x07 || c > 0x0f && c < ' ' && c != 0x1b {
				n++
			}
		} else if _, size = utf8.DecodeRune(data[i:]); size == 1 {
			valid = false
			n++
		}
		i += size
		switch {
		case long && n > limit:
			return valid, true
		case !long && !valid:
			return false, false
		}
	}
	return valid, false
}

const hexDigits = "0123456789abcdef"

// plain are the bytes that stand in a JSON string as they are.
var plain = func() (set [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// appendString appends data as a JSON string. What is not UTF-8 becomes U+FFFD.
// Controls and invisible format characters are written as escapes, so that a
// file printed by mistake does not act on a terminal.
func appendString(dst, data []byte) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(data); {
		from := i
		for i < len(data) && plain[data[i]] {
			i++
		}
		if dst = append(dst, data[from:i]...); i == len(data) {
			break
		}
		c := data[i]
		if c < utf8.RuneSelf {
			i++
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, "\ufffd"...)
		case r <= 0xffff && (r < 0xa0 || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r)):
			dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		default:
			dst = append(dst, data[i:i+n]...)
		}
		i += n
	}
	return append(dst, '"')
}

// parseEvent reads an event line without its newline. The returned text is as
// the line says; the caller compares it with the comment before it.
func parseEvent(line []byte) (interval time.Duration, code byte, text []byte, err error) {
	bad := errors.New("not an event line")
	if len(line) < 2 || line[0] != '[' {
		return 0, 0, nil, bad
	}
	rest := line[1:]
	i, us := 0, int64(0)
	for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
		if us = us*10 + int64(rest[i]-'0'); us > int64(maxTime/time.Second) {
			return 0, 0, nil, bad
		}
	}
	if i == 0 || i > 1 && rest[0] == '0' || len(rest) < i+7 || rest[i] != '.' {
		return 0, 0, nil, bad
	}
	for _, c := range rest[i+1 : i+7] {
		if c < '0' || c > '9' {
			return 0, 0, nil, bad
		}
		us = us*10 + int64(c-'0')
	}
	rest = rest[i+7:]
	const between = `, "o", `
	if len(rest) < len(between)+3 || string(rest[:3]) != between[:3] || string(rest[4:7]) != between[4:7] || rest[len(rest)-1] != ']' {
		return 0, 0, nil, bad
	}
	var s string
	if err := json.Unmarshal(rest[7:len(rest)-1], &s); err != nil || rest[7] != '"' {
		return 0, 0, nil, bad
	}
	return time.Duration(us) * time.Microsecond, rest[3], []byte(s), nil
}

// lossy returns what a stock player is given for data.
func lossy(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			out = append(out, "\ufffd"...)
		} else {
			out = append(out, data[i:i+n]...)
		}
		i += n
	}
	return out
}

// cutTail returns how many bytes at the end of data begin a character that is
// not complete yet.
func cutTail(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if b := data[len(data)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
