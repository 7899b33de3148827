package sshproxy

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// Bounds on what a client may put into a request.
const (
	maxPayload  = 64 << 10 // bytes of any request
	maxCommand  = 32 << 10 // bytes of a command
	maxModes    = 1 << 10  // bytes of the encoded terminal modes
	maxTerm     = 64       // bytes of TERM
	maxEnvValue = 256      // bytes of a variable's value
	maxSide     = 1 << 14  // columns, rows
	maxHost     = 253      // bytes of a host's name; RFC 1035, section 2.3.4
	maxSocket   = 107      // bytes of a unix socket's path; unix(7)
	maxCookie   = 256      // bytes of an X11 cookie in hexadecimal
	maxScreen   = 255      // number of an X11 screen
)

var errPayload = errors.New("malformed request")

// The messages of RFC 4254. ssh.Unmarshal refuses what is cut short and what
// has bytes left over.
type (
	ptyRequest struct { // section 6.2
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	windowChange struct { // section 6.7
		Columns, Rows, Width, Height uint32
	}
	envRequest  struct{ Name, Value string } // section 6.4
	execRequest struct{ Command string }     // section 6.5
	subsystem   struct{ Name string }        // section 6.5
	signal      struct{ Name string }        // section 6.9
	exitStatus  struct{ Status uint32 }      // section 6.10
	exitSignal  struct {                     // section 6.10
		Name              string
		Dumped            bool
		Message, Language string
	}
	tcpipForward struct { // section 7.1
		Host string
		Port uint32
	}
	directTCPIP struct { // section 7.2, for both directions
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	x11Request struct { // section 6.3.1
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}
	x11Opening struct { // section 6.3.2
		Origin     string
		OriginPort uint32
	}
)

// The messages of OpenSSH's PROTOCOL, section 2.4. What is reserved is sent as
// nothing.
type (
	streamLocalForward struct{ Path string }
	directStreamLocal  struct {
		Path, Reserved string
		Port           uint32
	}
	forwardedStreamLocal struct{ Path, Reserved string }
)

func unmarshal(payload []byte, into any) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("%w: %d bytes", errPayload, len(payload))
	}
	if err := ssh.Unmarshal(payload, into); err != nil {
		return errPayload
	}
	return nil
}

var termName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._+-]*\z`)

func parsePTY(payload []byte) (p ptyRequest, err error) {
	if err := unmarshal(payload, &p); err != nil {
		return p, err
	}
	if p.Term == "" {
		p.Term = "dumb"
	}
	if len(p.Term) > maxTerm || !termName.MatchString(p.Term) || len(p.Modes) > maxModes {
		return p, errPayload
	}
	return p, p.size().check()
}

func (p ptyRequest) size() windowChange {
	return windowChange{p.Columns, p.Rows, p.Width, p.Height}
}

func (w windowChange) check() error {
	if w.Columns > maxSide || w.Rows > maxSide || w.Width > 1<<20 || w.Height > 1<<20 {
		return errPayload
	}
	return nil
}

func parseWindowChange(payload []byte) (w windowChange, err error) {
	if err := unmarshal(payload, &w); err != nil {
		return w, err
	}
	return w, w.check()
}

// envName is the allow-list: what a terminal and its language need. A variable
// such as LD_PRELOAD could change what a program does.
var envName = regexp.MustCompile(`\A(?:TERM|LANG|LC_[A-Z]{1,24})\z`)

var errEnvName = errors.New("the variable is not TERM, LANG or LC_*")

func parseEnv(payload []byte) (e envRequest, err error) {
	if err := unmarshal(payload, &e); err != nil {
		return e, err
	}
	if !envName.MatchString(e.Name) {
		return e, errEnvName
	}
	if len(e.Value) > maxEnvValue || !plain(e.Value) {
		return e, errPayload
	}
	return e, nil
}

// plain reports whether s is printable ASCII.
func plain(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < ' ' || c > '~' })
}

// parseExec refuses commands that a recording could not hold exactly: it keeps
// them as text.
func parseExec(payload []byte) (e execRequest, err error) {
	if err := unmarshal(payload, &e); err != nil {
		return e, err
	}
	if e.Command == "" || len(e.Command) > maxCommand || !utf8.ValidString(e.Command) || slices.Contains([]byte(e.Command), 0) {
		return e, errPayload
	}
	return e, nil
}

func parseSubsystem(payload []byte) (s subsystem, err error) {
	if err := unmarshal(payload, &s); err != nil {
		return s, err
	}
	if s.Name == "" || len(s.Name) > maxTerm || !plain(s.Name) {
		return s, errPayload
	}
	return s, nil
}

// signals are those of RFC 4254, section 6.10.
var signals = []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}

func parseSignal(payload []byte) (s signal, err error) {
	if err := unmarshal(payload, &s); err != nil {
		return s, err
	}
	if !slices.Contains(signals, s.Name) {
		return s, errPayload
	}
	return s, nil
}

func parseExitStatus(payload []byte) (e exitStatus, err error) {
	return e, unmarshal(payload, &e)
}

// parseExitSignal keeps of the target's message only what can be shown.
func parseExitSignal(payload []byte) (e exitSignal, err error) {
	if err := unmarshal(payload, &e); err != nil {
		return e, err
	}
	if len(e.Name) > maxTerm || !plain(e.Name) {
		return e, errPayload
	}
	e.Message, e.Language = clean(e.Message), ""
	return e, nil
}

func parseDirectTCPIP(payload []byte) (d directTCPIP, err error) {
	if err := unmarshal(payload, &d); err != nil {
		return d, err
	}
	if len(d.Host) > maxHost || !plain(d.Host) || d.Port > math.MaxUint16 || len(d.Origin) > maxHost || !plain(d.Origin) || d.OriginPort > math.MaxUint16 {
		return d, errPayload
	}
	return d, nil
}

func parseTCPIPForward(payload []byte) (f tcpipForward, err error) {
	if err := unmarshal(payload, &f); err != nil {
		return f, err
	}
	if len(f.Host) > maxHost || !plain(f.Host) || f.Port > math.MaxUint16 {
		return f, errPayload
	}
	return f, nil
}

func parseStreamLocalForward(payload []byte) (f streamLocalForward, err error) {
	if err := unmarshal(payload, &f); err != nil {
		return f, err
	}
	return f, checkSocket(f.Path)
}

func parseDirectStreamLocal(payload []byte) (d directStreamLocal, err error) {
	if err := unmarshal(payload, &d); err != nil {
		return d, err
	}
	return directStreamLocal{Path: d.Path}, checkSocket(d.Path)
}

func parseForwardedStreamLocal(payload []byte) (f forwardedStreamLocal, err error) {
	if err := unmarshal(payload, &f); err != nil {
		return f, err
	}
	return forwardedStreamLocal{Path: f.Path}, checkSocket(f.Path)
}

// checkSocket takes only paths that have one spelling: absolute and clean.
func checkSocket(p string) error {
	if len(p) > maxSocket || !strings.HasPrefix(p, "/") || path.Clean(p) != p || !plain(p) {
		return errPayload
	}
	return nil
}

// parseX11Request takes a cookie as xauth writes it, in hexadecimal.
func parseX11Request(payload []byte) (x x11Request, err error) {
	if err := unmarshal(payload, &x); err != nil {
		return x, err
	}
	if !termName.MatchString(x.Protocol) || len(x.Protocol) > maxTerm || len(x.Cookie) > maxCookie || !hexadecimal.MatchString(x.Cookie) || x.Screen > maxScreen {
		return x, errPayload
	}
	return x, nil
}

var hexadecimal = regexp.MustCompile(`\A(?:[0-9a-fA-F]{2})*\z`)

func parseX11Opening(payload []byte) (x x11Opening, err error) {
	if err := unmarshal(payload, &x); err != nil {
		return x, err
	}
	if len(x.Origin) > maxHost || !plain(x.Origin) || x.OriginPort > math.MaxUint16 {
		return x, errPayload
	}
	return x, nil
}
