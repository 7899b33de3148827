package sshproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/sftpwire"
	"github.com/drawbolt/drawbolt/recorder"
)

// An scp stands between the two ends of scp's own protocol, of which there is no
// document but OpenSSH's scp.c (functions source and sink). The one end sends
// lines that name files and folders, and the bytes of the files; the other
// answers each of them. Nothing passes but in this order. What the rules do not
// allow is answered here as the other end would, and the files after it go on.
type scp struct {
	c *channel
	s *bastion.Session
	a *admitted

	from, to             io.Writer // to the end that sends files, and to the one that gets them
	fromStream, toStream recorder.Stream
	source               *bufio.Reader // of the end that sends files
	sink                 *bufio.Reader // of the end that gets them

	answers chan answer   // of the end that gets files, one each
	over    chan struct{} // closed when that end is at its end
	folders []string      // true paths of the folders that were entered
}

// An answer is what the end that gets files says: 0 well, 1 not this one, 2 no
// more.
type answer struct {
	code byte
	text string
}

// maxSCPLine bounds a line, in bytes with its newline.
const maxSCPLine = 8 << 10

func newSCP(c *channel, s *bastion.Session, b *back) *scp {
	p := &scp{c: c, s: s, a: b.carried, answers: make(chan answer), over: make(chan struct{})}
	user, target := bufio.NewReaderSize(c.in, maxSCPLine), bufio.NewReaderSize(b.ch, maxSCPLine)
	if p.a.direction == access.Upload {
		p.source, p.sink, p.from, p.to = user, target, c.ch, b.ch
		p.toStream, p.fromStream = recorder.Input, recorder.Output
	} else {
		p.source, p.sink, p.from, p.to = target, user, b.ch, c.ch
		p.toStream, p.fromStream = recorder.Output, recorder.Input
	}
	return p
}

// streams gives what carries the user's input, and what carries the output.
func (p *scp) streams() (in, out func() error) {
	if p.a.direction == access.Upload {
		return p.files, p.replies
	}
	return p.replies, p.files
}

var errSCP = errors.New("malformed scp protocol")

func (p *scp) fault(err error) error {
	if !errors.Is(err, errSCP) {
		return err
	}
	err = &access.Error{Kind: access.ErrDenied, Code: "DB-2443", Rule: "session.scp", Text: "one side does not keep to scp's protocol: " + clean(err.Error())}
	p.c.link.refused(p.c.who, p.s, "scp", err)
	p.s.End(err)
	return err
}

// replies reads the answers of the end that gets files, until its end (nil).
func (p *scp) replies() error {
	defer close(p.over)
	for {
		a, err := p.answer()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return p.fault(err)
		}
		select {
		case p.answers <- a:
		case <-p.s.Context().Done():
			return context.Cause(p.s.Context())
		}
	}
}

func (p *scp) answer() (answer, error) {
	code, err := p.sink.ReadByte()
	if err != nil {
		return answer{}, err
	}
	switch code {
	case 0:
		return answer{}, nil
	case 1, 2:
		text, err := restOfLine(p.sink)
		return answer{code, text}, err
	default:
		return answer{}, fmt.Errorf("%w: an answer of %d", errSCP, code)
	}
}

// restOfLine reads the rest of a line, without its newline.
func restOfLine(r *bufio.Reader) (string, error) {
	b, err := r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return "", fmt.Errorf("%w: a line of more than %d bytes", errSCP, maxSCPLine)
	case err == io.EOF:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return string(b[:len(b)-1]), nil
}

// errOverSCP: the end that gets files is at its end.
var errOverSCP = errors.New("nobody takes more files")

// await waits for the next answer and passes it on.
func (p *scp) await() (answer, error) {
	a, err := p.next()
	if err == nil {
		err = p.pass(a)
	}
	return a, err
}

func (p *scp) next() (answer, error) {
	select {
	case a := <-p.answers:
		return a, nil
	case <-p.over:
		return answer{}, errOverSCP
	case <-p.s.Context().Done():
		return answer{}, context.Cause(p.s.Context())
	}
}

func (p *scp) pass(a answer) error {
	b := []byte{a.code}
	if a.code != 0 {
		b = append(append(b, a.text...), '\n')
	}
	return p.s.Carry(p.fromStream, p.from, b)
}

// files carries what the end that sends files says, until its end (nil).
func (p *scp) files() error {
	_, err := p.await() // the other one is ready
	for err == nil {
		err = p.line()
	}
	switch {
	case err == io.EOF:
		return nil
	case errors.Is(err, errOverSCP):
		// What still comes is for nobody; the end of the program follows.
		_, err = io.Copy(io.Discard, p.source)
		return err
	}
	return p.fault(err)
}

// line takes one line and what belongs to it.
func (p *scp) line() error {
	kind, err := p.source.ReadByte()
	if err != nil {
		return err
	}
	text, err := restOfLine(p.source)
	if err != nil {
		return err
	}
	switch kind {
	case 1, 2: // it could not read something; no answer follows
		return p.say(kind, text)
	case 'T':
		if !isTimes(text) {
			return fmt.Errorf("%w: times that are none", errSCP)
		}
	case 'E':
		if text != "" || len(p.folders) == 0 {
			return fmt.Errorf("%w: the end of no folder", errSCP)
		}
		p.folders = p.folders[:len(p.folders)-1]
	case 'C', 'D':
		return p.entry(kind, text)
	default:
		return fmt.Errorf("%w: a line of the kind %q", errSCP, kind)
	}
	if err := p.say(kind, text); err != nil {
		return err
	}
	_, err = p.await()
	return err
}

func (p *scp) say(kind byte, text string) error {
	return p.s.Carry(p.toStream, p.to, append(append([]byte{kind}, text...), '\n'))
}

func isTimes(text string) bool {
	words := strings.Split(text, " ")
	for _, w := range words {
		if _, err := strconv.ParseUint(w, 10, 63); err != nil {
			return false
		}
	}
	return len(words) == 4
}

// parseEntry reads what follows C or D: mode, size, name.
func parseEntry(text string) (size int64, name string, err error) {
	mode, rest, _ := strings.Cut(text, " ")
	digits, name, _ := strings.Cut(rest, " ")
	size, err = strconv.ParseInt(digits, 10, 64)
	if _, octal := strconv.ParseUint(mode, 8, 32); err != nil || octal != nil || len(mode) != 4 || size < 0 || strconv.FormatInt(size, 10) != digits ||
		name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return 0, "", fmt.Errorf("%w: a file that is none", errSCP)
	}
	return size, name, nil
}

// entry takes a file or a folder.
func (p *scp) entry(kind byte, text string) error {
	size, name, err := parseEntry(text)
	if err != nil {
		return err
	}
	file, err := p.place(name, kind == 'D')
	if err != nil {
		return p.turnDown(kind, name, err)
	}
	if kind == 'D' {
		return p.folder(file, text)
	}
	f, err := p.open(file, size)
	if err != nil {
		if p.s.Context().Err() != nil {
			return err
		}
		return p.turnDown(kind, file, err)
	}
	if err := p.say(kind, text); err != nil {
		return err
	}
	a, err := p.await()
	if err != nil {
		return err
	}
	if a.code != 0 {
		f.Fail(a.text)
		return f.Close()
	}
	return p.content(f, size)
}

func (p *scp) open(file string, size int64) (*bastion.File, error) {
	rule, err := bastion.AuthorizeFile(*p.s.Live.Allowed(), p.a.direction, file)
	if err == nil && size > rule.MaxBytes {
		err = errSize
	}
	if err != nil {
		return nil, err
	}
	return p.s.OpenFile("scp", p.a.direction, file, rule)
}

// folder enters a folder. It needs a rule of its own only where it is made: what
// is in it is asked about file by file.
func (p *scp) folder(file, text string) error {
	rules := *p.s.Live.Allowed()
	if !p.a.tree {
		return p.turnDown('D', file, fmt.Errorf("%w: a folder that was not asked for", errSCP))
	}
	_, err := bastion.AuthorizeFile(rules, p.a.direction, file)
	if err != nil && bastion.AuthorizeTree(rules, p.a.direction, file) != nil {
		if _, below := bastion.AuthorizeFile(rules, p.a.direction, path.Join(file, "\x01")); below != nil {
			return p.turnDown('D', file, err)
		}
	}
	if err := p.s.Asked("folder", file, ""); err != nil {
		return err
	}
	if err := p.say('D', text); err != nil {
		return err
	}
	a, err := p.await()
	if err == nil && a.code == 0 {
		p.folders = append(p.folders, file)
		if len(p.folders) > 256 {
			return fmt.Errorf("%w: folders in folders without end", errSCP)
		}
	}
	return err
}

// place returns the true path of a file or folder that is named now.
func (p *scp) place(name string, folder bool) (string, error) {
	root := p.a.roots[0]
	w := p.a.where
	switch {
	case len(p.folders) > 0:
		root = path.Join(p.folders[len(p.folders)-1], name)
	case p.a.direction == access.Upload && w != nil:
		is, err := w.folder(root)
		if err != nil {
			return "", err
		}
		if is || strings.HasSuffix(p.a.paths[0], "/") {
			root = path.Join(root, name)
		}
	}
	if w == nil {
		return root, nil
	}
	return w.file(root)
}

// turnDown answers the end that sends files that this one is not taken, and has
// the user hear why.
func (p *scp) turnDown(kind byte, file string, why error) error {
	if errors.Is(why, errSCP) || p.s.Context().Err() != nil {
		return why
	}
	if errors.Is(why, sftpwire.ErrPacket) || errors.Is(why, io.EOF) {
		err := targetFault(why)
		p.s.End(err)
		return err
	}
	what := map[byte]string{'C': "file", 'D': "folder"}[kind]
	if err := p.s.RefusedFile("scp", what, p.a.direction, file, "", why); err != nil {
		return err
	}
	text := "drawbolt: " + clean(file) + ": " + clean(why.Error())
	if p.a.direction == access.Download {
		if err := p.say(1, text); err != nil {
			return err
		}
	}
	return p.pass(answer{1, text})
}

// content carries the bytes of a file, and what both ends say of it.
func (p *scp) content(f *bastion.File, size int64) error {
	buf := make([]byte, min(size, 32<<10))
	for offset := int64(0); offset < size; {
		n, err := p.source.Read(buf[:min(int64(len(buf)), size-offset)])
		if n > 0 {
			if err := f.Take(offset, buf[:n]); err != nil {
				return err // there is no way back into the protocol
			}
			if err := p.s.Carry(p.toStream, p.to, buf[:n]); err != nil {
				return err
			}
			offset += int64(n)
		}
		if err != nil {
			return err
		}
	}
	code, err := p.source.ReadByte()
	if err != nil {
		return err
	}
	last := []byte{code}
	switch code {
	case 0:
	case 1, 2:
		text, err := restOfLine(p.source)
		if err != nil {
			return err
		}
		f.Fail(text)
		last = append(append(last, text...), '\n')
	default:
		return fmt.Errorf("%w: a file ends with %d", errSCP, code)
	}
	if err := p.s.Carry(p.toStream, p.to, last); err != nil {
		return err
	}
	a, err := p.next()
	if err != nil {
		return err
	}
	if a.code != 0 {
		f.Fail(a.text)
	}
	if err := f.Close(); err != nil {
		return err
	}
	return p.pass(a)
}
