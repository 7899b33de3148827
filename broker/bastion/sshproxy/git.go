package sshproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/recorder"
)

// A git stands between the two ends of git and reads in what they say before and
// after the objects which references are meant (gitprotocol-pack(5), version 0; a
// client that asks for another version is not heard by the target). It decides
// nothing. All bytes pass and are recorded as those of any command.
type git struct {
	c *channel
	s *bastion.Session
	b *back
	a *admitted

	mu        sync.Mutex
	named     map[string]string // references by what the target says they are
	meant     []reference
	index     map[string]int // of what is meant, by its name, or of a fetch by its object
	sidebands bool           // the target's report comes in bands
}

// A reference is one that the user wants or changes.
type reference struct {
	name     string
	old, new string // object ids; of a fetch only new
	told     bool   // its end is on record
}

func (r reference) String() string {
	return strings.Join(strings.Fields(r.name+" "+r.old+" "+r.new), " ")
}

// Bounds on what is read.
const (
	maxGitLine    = 65520    // bytes of a line with its length; gitprotocol-common(5)
	maxReferences = 1 << 17  // lines with one each
	maxNamed      = 32 << 20 // bytes of all these lines
	maxReport     = 4 << 20
)

var errGit = errors.New("malformed git protocol")

func newGit(c *channel, s *bastion.Session, b *back) *git {
	return &git{c: c, s: s, b: b, a: b.carried, named: map[string]string{}, index: map[string]int{}}
}

// nextLine reads a line with its length before it. It is nil where lines end. All
// bytes that were read are raw.
func nextLine(r io.Reader) (line, raw []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil, n > 0 && n < 4, n > maxGitLine:
		return nil, nil, fmt.Errorf("%w: a line of %q bytes", errGit, head[:])
	case n == 0:
		return nil, head[:], nil
	}
	raw = make([]byte, n)
	copy(raw, head[:])
	_, err = io.ReadFull(r, raw[4:])
	return raw[4:], raw, err
}

// git takes hexadecimal of either case, and any name up to a zero byte.
var (
	update = regexp.MustCompile(`(?s)\A([0-9a-fA-F]{40}|[0-9a-fA-F]{64}) ([0-9a-fA-F]{40}|[0-9a-fA-F]{64}) (.+)\z`)
	want   = regexp.MustCompile(`(?s)\Awant ([0-9a-fA-F]{40}|[0-9a-fA-F]{64})(?:[^0-9a-fA-F].*)?\z`)
	offer  = regexp.MustCompile(`(?s)\A([0-9a-f]{40}|[0-9a-f]{64}) (.+)\z`)
)

// cutLine splits a line into what it says and what the side can do.
func cutLine(line []byte) (text, can string) {
	text, can, _ = strings.Cut(strings.TrimSuffix(string(line), "\n"), "\x00")
	return text, can
}

// lines carries lines up to where they end. Each is given to take before it passes.
func (g *git) lines(r *bufio.Reader, stream recorder.Stream, to io.Writer, take func(text, can string) error) error {
	var pass []byte
	named := 0
	for range maxReferences {
		line, raw, err := nextLine(r)
		if named += len(raw); named > maxNamed {
			break
		}
		if err == nil && line != nil {
			err = take(cutLine(line))
		}
		if err != nil {
			return err
		}
		pass = append(pass, raw...)
		if line != nil && r.Buffered() > 0 && len(pass) < enough {
			continue
		}
		if err := g.s.Forward(stream, to, pass); err != nil {
			return err
		}
		if pass = pass[:0]; line == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: more than %d references, or %d bytes of them", errGit, maxReferences, maxNamed)
}

// input carries what the user's program says, until its end (nil).
func (g *git) input() error {
	r := bufio.NewReader(g.c.in)
	to := g.counted(access.Upload, g.b.ch)
	if err := g.lines(r, recorder.Input, to, g.take); err != nil {
		return g.userFault(err)
	}
	return g.s.Pump(recorder.Input, to, r)
}

// counted is a writer that counts what goes the way of the transfer.
func (g *git) counted(d access.Direction, to io.Writer) io.Writer {
	if d != g.a.direction {
		return to
	}
	return tally{to, g.a.files}
}

func (g *git) userFault(err error) error {
	if isEnd(err) {
		return nil
	}
	if !errors.Is(err, errGit) {
		return err
	}
	err = &access.Error{Kind: access.ErrDenied, Code: "DB-2446", Rule: "session.git", Text: "the client does not keep to git's protocol: " + clean(err.Error())}
	g.c.link.refused(g.c.who, g.s, "git", err)
	g.s.End(err)
	return err
}

// isEnd reports whether a side has only ended.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// take notes what a line of the user's program wants or changes. It is on record
// before the target sees it.
func (g *git) take(text, can string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var r reference
	if g.a.direction == access.Upload {
		m := update.FindStringSubmatch(text)
		if m == nil {
			return nil
		}
		r = reference{name: m[3], old: m[1], new: m[2]}
		if strings.Contains(" "+can+" ", " side-band-64k ") || strings.Contains(" "+can+" ", " side-band ") {
			g.sidebands = true
		}
	} else {
		m := want.FindStringSubmatch(text)
		if m == nil {
			return nil
		}
		r = reference{name: g.named[m[1]], new: m[1]}
		if _, twice := g.index[r.new]; twice {
			return nil // HEAD, and the branch that it is
		}
	}
	if g.a.direction == access.Upload {
		g.index[r.name] = len(g.meant)
	} else {
		g.index[r.new] = len(g.meant)
	}
	g.meant = append(g.meant, r)
	return g.s.Asked(g.what(), g.a.roots[0], r.String())
}

func (g *git) what() string {
	if g.a.direction == access.Upload {
		return "push"
	}
	return "fetch"
}

// output carries what the target's program says, until its end (nil).
func (g *git) output() error {
	r := bufio.NewReader(g.b.ch)
	to := g.counted(access.Download, g.c.ch)
	if err := g.lines(r, recorder.Output, to, g.note); err != nil {
		return g.backFault(err)
	}
	if g.a.direction == access.Download {
		return g.s.Pump(recorder.Output, to, r)
	}
	return g.backFault(g.report(r, to))
}

func (g *git) backFault(err error) error {
	if isEnd(err) {
		return nil
	}
	if errors.Is(err, errGit) {
		err = targetFault(err)
		g.s.End(err)
	}
	return err
}

// note remembers a reference that the target offers. What is offered twice has the
// name that comes last, which is more than HEAD.
func (g *git) note(text, _ string) error {
	if m := offer.FindStringSubmatch(text); m != nil && !strings.HasSuffix(m[2], "^{}") {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.named[m[1]] = m[2]
	}
	return nil
}

// report carries what the target says of a push. What it says became of a
// reference is on record before the user sees the end of the report.
func (g *git) report(r io.Reader, to io.Writer) error {
	var report []byte
	for {
		line, raw, err := nextLine(r)
		if err != nil {
			return err
		}
		g.mu.Lock()
		bands := g.sidebands
		g.mu.Unlock()
		switch {
		case !bands:
			report = append(report, raw...)
		case len(line) > 0 && line[0] == 1:
			report = append(report, line[1:]...)
		}
		if len(report) > maxReport {
			return fmt.Errorf("%w: a report of more than %d bytes", errGit, maxReport)
		}
		if report, err = g.results(report); err != nil {
			return err
		}
		if err := g.s.Forward(recorder.Output, to, raw); err != nil {
			return err
		}
	}
}

// results puts on record what whole lines of a report say, and returns the rest.
func (g *git) results(report []byte) ([]byte, error) {
	for len(report) > 0 {
		r := bytes.NewReader(report)
		line, _, err := nextLine(r)
		if isEnd(err) {
			return report, nil // more comes
		}
		if err != nil {
			return nil, err
		}
		report = report[len(report)-r.Len():]
		text, _ := cutLine(line)
		word, rest, _ := strings.Cut(text, " ")
		name, why, _ := strings.Cut(rest, " ")
		switch word {
		case "ok":
			err = g.became(name, "")
		case "ng":
			err = g.became(name, "the target did not take it: "+clean(why))
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// became puts on record what became of a reference that was changed.
func (g *git) became(name, why string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, ok := g.index[name]
	if !ok {
		return nil
	}
	return g.tell(i, why)
}

// over puts on record what became of everything of which nothing was said.
func (g *git) over(why string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.meant {
		if err := g.tell(i, why); err != nil {
			return err
		}
	}
	return nil
}

func (g *git) tell(i int, why string) error {
	r := &g.meant[i]
	if r.told {
		return nil
	}
	r.told = true
	return g.s.Reference("git", g.what(), g.a.direction, g.a.roots[0], r.String(), why)
}
