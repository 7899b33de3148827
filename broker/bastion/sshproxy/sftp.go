package sshproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/sftpwire"
	"github.com/drawbolt/drawbolt/recorder"
)

// An sftp stands between a user's SFTP client and a target's SFTP server. Both
// sides' packets are parsed, and nothing passes but what was understood: each
// request of the user is decided on before the target sees it, and each reply
// must be one to a request that is open. Ids are given anew towards the target,
// so that our own questions and the user's never meet.
type sftp struct {
	c     *channel
	s     *bastion.Session
	b     *back
	where where

	version chan sftpwire.Hello // what the target began with
	gone    chan struct{}       // closed when the target's output has ended

	toUser sync.Mutex // serializes packets to the user
	toBack sync.Mutex // serializes packets to the target

	mu      sync.Mutex // guards all below
	next    uint32
	open    map[uint32]*pending // by the id at the target
	theirs  map[uint32]bool     // ids of the user's open requests
	handles map[string]*handle
	told    int // refusals that the user was told in words
}

// A pending is a request to which the target has not replied yet.
type pending struct {
	req    sftpwire.Request    // with the user's id; without data
	answer chan sftpwire.Reply // of a question of ours
	handle *handle             // that it is about, or that Open makes
	change bool                // it changes paths, and its result is recorded
	probe  bool                // a read only to see whether the file ends here
}

// A handle is an open file or folder.
type handle struct {
	path     string
	up, down *bastion.File // as far as it was opened for it
}

// Bounds on what a client may have open.
const (
	maxQuestions = 1 << 12
	maxHandles   = 1 << 10
	maxTold      = 8
)

func newSFTP(c *channel, s *bastion.Session, b *back) *sftp {
	p := &sftp{c: c, s: s, b: b, version: make(chan sftpwire.Hello, 1), gone: make(chan struct{}),
		open: map[uint32]*pending{}, theirs: map[uint32]bool{}, handles: map[string]*handle{}}
	p.where.ask = p.ask
	return p
}

// userFault ends the session of a client that does not keep to the protocol.
func (p *sftp) userFault(err error) error {
	if errors.Is(err, sftpwire.ErrPacket) {
		err = &access.Error{Kind: access.ErrDenied, Code: "DB-2442", Rule: "session.sftp", Text: "the client does not speak SFTP version 3 as it is written: " + clean(err.Error())}
		p.c.link.refused(p.c.who, p.s, "sftp packet", err)
		p.s.End(err)
	}
	return err
}

// backFault ends the session of a target that does not keep to the protocol.
func (p *sftp) backFault(err error) error {
	if errors.Is(err, sftpwire.ErrPacket) {
		err = targetFault(err)
		p.s.End(err)
	}
	return err
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", sftpwire.ErrPacket, fmt.Sprintf(format, args...))
}

// input carries the user's requests until the user's end (nil).
func (p *sftp) input() error {
	r := sftpwire.NewReader(p.c.in)
	err := p.greet(r)
	for err == nil {
		var packet []byte
		if packet, err = r.Next(); err == nil {
			err = p.take(packet)
		}
	}
	if err == io.EOF {
		return nil
	}
	return p.userFault(err)
}

// greet lets both sides begin: with version 3, and with the extensions of the
// target that are known here.
func (p *sftp) greet(r *sftpwire.Reader) error {
	packet, err := r.Next()
	if err != nil {
		return err
	}
	h, err := sftpwire.ParseHello(packet, sftpwire.Init)
	if err != nil {
		return err
	}
	if h.Version < sftpwire.Version {
		return violation("version %d", h.Version)
	}
	if err := p.send(sftpwire.Hello{Type: sftpwire.Init, Version: sftpwire.Version}.Append(nil)); err != nil {
		return err
	}
	var back sftpwire.Hello
	select {
	case back = <-p.version:
	case <-p.gone:
		return io.EOF
	case <-p.s.Context().Done():
		return context.Cause(p.s.Context())
	}
	if err := p.where.start(); err != nil {
		return p.backFault(err)
	}
	answer := sftpwire.Hello{Type: sftpwire.VersionIs, Version: sftpwire.Version}
	for _, e := range back.Extensions {
		if (sftpwire.Request{Type: sftpwire.Extended, Extension: e.Name}).Known() {
			answer.Extensions = append(answer.Extensions, e)
		}
	}
	return p.tell(answer.Append(nil))
}

// send writes a packet to the target, and tell to the user. What they are is on
// record before.
func (p *sftp) send(packet []byte) error {
	p.toBack.Lock()
	defer p.toBack.Unlock()
	return p.s.Carry(recorder.Input, p.b.ch, packet)
}

func (p *sftp) tell(packet []byte) error {
	p.toUser.Lock()
	defer p.toUser.Unlock()
	return p.s.Carry(recorder.Output, p.c.ch, packet)
}

// status answers a request of the user ourselves.
func (p *sftp) status(id uint32, code sftpwire.Code, text string) error {
	return p.tell(sftpwire.Reply{Type: sftpwire.Status, ID: id, Code: code, Message: "drawbolt: " + text}.Append(nil))
}

// ask sends a question of ours and waits for the reply.
func (p *sftp) ask(r sftpwire.Request) (sftpwire.Reply, error) {
	q := &pending{req: r, answer: make(chan sftpwire.Reply, 1)}
	if err := p.pass(q, nil); err != nil {
		return sftpwire.Reply{}, err
	}
	select {
	case reply := <-q.answer:
		return reply, nil
	case <-p.gone:
		return sftpwire.Reply{}, io.EOF
	case <-p.s.Context().Done():
		return sftpwire.Reply{}, context.Cause(p.s.Context())
	}
}

// pass sends a question to the target: as the packet that it came in, or when
// that is nil as it says.
func (p *sftp) pass(q *pending, packet []byte) error {
	r := q.req
	q.req.Data, q.req.Attrs, q.req.Users, q.req.Groups = nil, nil, nil, nil // of the reader's buffer
	p.mu.Lock()
	for p.next++; p.open[p.next] != nil; p.next++ {
	}
	id := p.next
	p.open[id] = q
	if q.answer == nil {
		p.theirs[q.req.ID] = true
	}
	p.mu.Unlock()
	if packet == nil {
		r.ID = id
		packet = r.Append(nil)
	} else {
		sftpwire.PutID(packet, id)
	}
	return p.send(packet)
}

// take takes one packet of the user.
func (p *sftp) take(packet []byte) error {
	r, err := sftpwire.ParseRequest(packet)
	if err != nil {
		return err
	}
	p.mu.Lock()
	twice, many := p.theirs[r.ID], len(p.open) >= maxQuestions
	p.mu.Unlock()
	switch {
	case twice:
		return violation("the id %d is in use", r.ID)
	case many:
		return violation("%d requests at once", maxQuestions)
	case !r.Known():
		if err := p.s.RefusedFile("sftp", clean(r.Extension), "", "", "", errExtension); err != nil {
			return err
		}
		return p.status(r.ID, sftpwire.OpUnsupported, errExtension.Error())
	}
	err = p.decide(r, packet)
	if status, ok := errors.AsType[*statusError](err); ok {
		if err := p.s.Answered(r.String(), p.where.absolute(r.Path), "", status.Error()); err != nil {
			return err
		}
		return p.status(r.ID, status.code, clean(status.message))
	}
	if refused, ok := errors.AsType[*denied](err); ok {
		return p.refuse(r, refused)
	}
	return err
}

var errExtension = errors.New("the extension is not known")

// A denied is a request that the rules do not allow; the session goes on.
type denied struct {
	direction access.Direction
	path, to  string
	why       error
	counted   bool // the file has it on record
}

func (d *denied) Error() string { return d.why.Error() }

func (p *sftp) refuse(r sftpwire.Request, d *denied) error {
	if p.s.Context().Err() != nil {
		return context.Cause(p.s.Context())
	}
	if !d.counted {
		if err := p.s.RefusedFile("sftp", r.String(), d.direction, d.path, d.to, d.why); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.told++
	say := p.told <= maxTold && !d.counted
	p.mu.Unlock()
	if say {
		p.c.say("%s: %s: %s", r, clean(d.path), p.c.link.explain(p.s.Context(), d.why))
	}
	return p.status(r.ID, sftpwire.PermissionDenied, clean(d.why.Error()))
}

// decide lets one request of the user pass, changed where it must be, or says why
// not: with a *statusError or a *denied, after which the session goes on.
func (p *sftp) decide(r sftpwire.Request, packet []byte) error {
	switch r.String() {
	case sftpwire.Open.String():
		return p.decideOpen(r)
	case sftpwire.Read.String(), sftpwire.Write.String(), sftpwire.Close.String(), sftpwire.FStat.String(), sftpwire.FSetStat.String(),
		sftpwire.ReadDir.String(), sftpwire.FStatVFS, sftpwire.FSync:
		return p.decideHandle(r, packet)
	case sftpwire.Stat.String(), sftpwire.LStat.String(), sftpwire.RealPath.String(), sftpwire.ReadLink.String(), sftpwire.OpenDir.String(),
		sftpwire.StatVFS, sftpwire.ExpandPath, sftpwire.HomeDirectory:
		q := &pending{req: r}
		if r.Type == sftpwire.OpenDir {
			q.handle = &handle{path: p.where.absolute(r.Path)}
		}
		if err := p.s.Asked(r.String(), p.where.absolute(r.Path), ""); err != nil {
			return err
		}
		return p.pass(q, packet)
	case sftpwire.LimitsOf, sftpwire.UsersGroups:
		return p.pass(&pending{req: r}, packet)
	case sftpwire.SetStat.String(), sftpwire.LSetStat, sftpwire.MkDir.String(), sftpwire.RmDir.String(), sftpwire.Remove.String():
		return p.decideChange(r)
	case sftpwire.Rename.String(), sftpwire.PosixRename, sftpwire.HardLink:
		return p.decideMove(r)
	case sftpwire.SymLink.String():
		return p.decideLink(r)
	default:
		return violation("%v has no rule", r)
	}
}

// rules are those of this moment.
func (p *sftp) rules() access.SessionRules { return *p.s.Live.Allowed() }

// change passes a request that changes paths.
func (p *sftp) change(r sftpwire.Request) error {
	if err := p.s.Asked(r.String(), r.Path, r.To); err != nil {
		return err
	}
	return p.pass(&pending{req: r, change: true}, nil)
}

// decideChange is about requests that change one path.
func (p *sftp) decideChange(r sftpwire.Request) (err error) {
	find := p.where.entry
	if r.Type == sftpwire.SetStat {
		find = p.where.file // it follows links
	}
	if r.Path, err = find(r.Path); err != nil {
		return p.unfound(err)
	}
	rule, err := bastion.AuthorizeFile(p.rules(), access.Upload, r.Path)
	if err == nil {
		err = fits(rule, r)
	}
	if err != nil {
		return &denied{direction: access.Upload, path: r.Path, why: err}
	}
	return p.change(r)
}

// unfound is the error for a path that could not be looked up.
func (p *sftp) unfound(err error) error {
	if _, ok := errors.AsType[*statusError](err); ok {
		return err
	}
	return p.backFault(err)
}

var errSize = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "the role does not allow files of this size here", Rule: "session.files"}

// fits looks at the size that attributes would give a file.
func fits(rule access.FileRule, r sftpwire.Request) error {
	if r.Sized && r.Size > uint64(rule.MaxBytes) {
		return errSize
	}
	return nil
}

// decideMove is about requests that give a file another name.
func (p *sftp) decideMove(r sftpwire.Request) (err error) {
	if r.Path, err = p.where.entry(r.Path); err != nil {
		return p.unfound(err)
	}
	if r.To, err = p.where.entry(r.To); err != nil {
		return p.unfound(err)
	}
	reply, err := p.where.attrs(sftpwire.LStat, r.Path)
	if err != nil {
		return p.unfound(err)
	}
	if err := bastion.AuthorizeMove(p.rules(), r.Path, r.To, reply.IsDir()); err != nil {
		return &denied{direction: access.Upload, path: r.Path, to: r.To, why: err}
	}
	return p.change(r)
}

// decideLink is about SymLink, whose paths OpenSSH has the other way round than
// the draft: first the content of the link, then where it lies. Where it leads
// does not matter here, because it is looked up at each opening; it matters to
// the programs of the target.
func (p *sftp) decideLink(r sftpwire.Request) (err error) {
	if r.To, err = p.where.entry(r.To); err != nil {
		return p.unfound(err)
	}
	content := r.Path
	if !strings.HasPrefix(content, "/") {
		content = path.Dir(r.To) + "/" + content
	}
	for _, file := range []string{path.Clean(content), r.To} {
		if _, err := bastion.AuthorizeFile(p.rules(), access.Upload, file); err != nil {
			return &denied{direction: access.Upload, path: path.Clean(content), to: r.To, why: err}
		}
	}
	return p.change(r)
}

// decideOpen is about the opening of a file: for reading it is a download, and
// for anything else an upload.
func (p *sftp) decideOpen(r sftpwire.Request) (err error) {
	if r.Path, err = p.where.file(r.Path); err != nil {
		return p.unfound(err)
	}
	p.mu.Lock()
	full := len(p.handles) >= maxHandles
	p.mu.Unlock()
	if full {
		return &statusError{sftpwire.Failure, "too many open files"}
	}
	reads := r.Flags&sftpwire.FlagRead != 0 || r.Flags&(sftpwire.FlagWrite|sftpwire.FlagAppend) == 0 // neither: servers take it for reading
	writes := r.Flags&^sftpwire.FlagRead != 0
	var down, up access.FileRule
	if reads {
		if down, err = bastion.AuthorizeFile(p.rules(), access.Download, r.Path); err != nil {
			return &denied{direction: access.Download, path: r.Path, why: err}
		}
	}
	if writes {
		up, err = bastion.AuthorizeFile(p.rules(), access.Upload, r.Path)
		if err == nil {
			err = fits(up, r)
		}
		if err == nil && r.Flags&sftpwire.FlagAppend != 0 && (up.Keep || up.MaxBytes != math.MaxInt64) {
			err = errAppend
		}
		if err != nil {
			return &denied{direction: access.Upload, path: r.Path, why: err}
		}
	}
	h := &handle{path: r.Path}
	if reads {
		if h.down, err = p.s.OpenFile("sftp", access.Download, r.Path, down); err != nil {
			return p.unopened(err, h)
		}
	}
	if writes {
		if h.up, err = p.s.OpenFile("sftp", access.Upload, r.Path, up); err != nil {
			return p.unopened(err, h)
		}
		if r.Flags&sftpwire.FlagAppend != 0 {
			h.up.Unordered()
		}
	}
	return p.pass(&pending{req: r, handle: h}, nil)
}

var errAppend = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "where the role limits or keeps files, nothing is appended to them", Rule: "session.files"}

// unopened gives up a file that could not be put on record.
func (p *sftp) unopened(err error, h *handle) error {
	p.closed(h, err.Error())
	if p.s.Context().Err() != nil {
		return err
	}
	return &denied{path: h.path, why: err}
}

// closed accounts for a handle. why says what went wrong; empty: nothing.
func (p *sftp) closed(h *handle, why string) error {
	files := []*bastion.File{h.up, h.down}
	if h.up != nil && h.down != nil && h.down.Passed() == 0 {
		h.down.Forget() // opened for both, used for one
		files = files[:1]
	}
	for _, f := range files {
		if f == nil {
			continue
		}
		if why != "" {
			f.Fail(why)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// decideHandle is about requests on what is open.
func (p *sftp) decideHandle(r sftpwire.Request, packet []byte) error {
	p.mu.Lock()
	h := p.handles[r.Handle]
	if h != nil && r.Type == sftpwire.Close {
		delete(p.handles, r.Handle)
	}
	p.mu.Unlock()
	if h == nil {
		return &statusError{sftpwire.Failure, "there is no such handle"}
	}
	q := &pending{req: r, handle: h}
	switch r.Type {
	case sftpwire.Read:
		if h.down == nil || r.Offset > math.MaxInt64 {
			return &denied{direction: access.Download, path: h.path, why: errNotOpened}
		}
		// A file that ends at the limit must be seen to end there.
		if rest := h.down.Limit() - int64(r.Offset); rest <= 0 {
			q.probe, q.req.Length = true, 1
		} else {
			q.req.Length = uint32(min(int64(r.Length), rest))
		}
		return p.pass(q, nil)
	case sftpwire.Write:
		if h.up == nil || r.Offset > math.MaxInt64 {
			return &denied{direction: access.Upload, path: h.path, why: errNotOpened}
		}
		if err := h.up.Take(int64(r.Offset), r.Data); err != nil {
			return &denied{direction: access.Upload, path: h.path, why: err, counted: true}
		}
	case sftpwire.FSetStat:
		if h.up == nil {
			return &denied{direction: access.Upload, path: h.path, why: errNotOpened}
		}
		if r.Sized && r.Size > uint64(h.up.Limit()) {
			return &denied{direction: access.Upload, path: h.path, why: errSize}
		}
		q.change, q.req.Path = true, h.path
		if err := p.s.Asked(r.String(), h.path, ""); err != nil {
			return err
		}
	}
	return p.pass(q, packet)
}

var errNotOpened = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "the file was not opened for this", Rule: "session.files"}

// output carries the target's replies until the target's end (nil).
func (p *sftp) output() error {
	defer close(p.gone)
	r := sftpwire.NewReader(p.b.ch)
	err := p.answered(r)
	for err == nil {
		var packet []byte
		if packet, err = r.Next(); err == nil {
			err = p.reply(packet)
		}
	}
	if err == io.EOF {
		return nil
	}
	return p.backFault(err)
}

// answered takes the target's first packet.
func (p *sftp) answered(r *sftpwire.Reader) error {
	packet, err := r.Next()
	if err != nil {
		return err
	}
	h, err := sftpwire.ParseHello(packet, sftpwire.VersionIs)
	if err == nil && h.Version != sftpwire.Version {
		err = violation("version %d", h.Version)
	}
	p.version <- h
	return err
}

// reply takes one packet of the target.
func (p *sftp) reply(packet []byte) error {
	r, err := sftpwire.ParseReply(packet)
	if err != nil {
		return err
	}
	p.mu.Lock()
	q := p.open[r.ID]
	delete(p.open, r.ID)
	if q != nil && q.answer == nil {
		delete(p.theirs, q.req.ID)
	}
	p.mu.Unlock()
	if q == nil {
		return violation("a reply to nothing that was asked")
	}
	if !fitting(q.req, r.Type) {
		return violation("a %v in reply to %v", r.Type, q.req)
	}
	if q.answer != nil {
		r.Data, r.Rest = nil, nil // of the reader's buffer
		q.answer <- r
		return nil
	}
	if err := p.note(q, r); err != nil {
		if d, ok := errors.AsType[*denied](err); ok {
			return p.refuse(q.req, d)
		}
		return err
	}
	sftpwire.PutID(packet, q.req.ID)
	return p.tell(packet)
}

// fitting reports whether a reply is of a kind that a request can have.
func fitting(r sftpwire.Request, t sftpwire.Type) bool {
	switch t {
	case sftpwire.Status:
		return true
	case sftpwire.Handle:
		return r.Type == sftpwire.Open || r.Type == sftpwire.OpenDir
	case sftpwire.Data:
		return r.Type == sftpwire.Read
	case sftpwire.Attrs:
		return r.Type == sftpwire.Stat || r.Type == sftpwire.LStat || r.Type == sftpwire.FStat
	case sftpwire.Name:
		return r.Type == sftpwire.ReadDir || r.Type == sftpwire.RealPath || r.Type == sftpwire.ReadLink ||
			r.Extension == sftpwire.ExpandPath || r.Extension == sftpwire.HomeDirectory
	case sftpwire.ExtendedReply:
		return r.Extension == sftpwire.LimitsOf || r.Extension == sftpwire.StatVFS || r.Extension == sftpwire.FStatVFS || r.Extension == sftpwire.UsersGroups
	default:
		return false
	}
}

// note puts on record what a reply means, before the user has it. A *denied
// keeps it from the user.
func (p *sftp) note(q *pending, r sftpwire.Reply) error {
	why := ""
	if r.Type == sftpwire.Status && r.Code != sftpwire.OK {
		why = (&statusError{r.Code, r.Message}).Error()
	}
	if q.change {
		if err := p.s.Answered(q.req.String(), q.req.Path, q.req.To, why); err != nil {
			return err
		}
	}
	switch q.req.Type {
	case sftpwire.Open, sftpwire.OpenDir:
		if r.Type != sftpwire.Handle {
			return p.closed(q.handle, why)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.handles[r.Handle] != nil {
			return violation("a handle that is in use")
		}
		p.handles[r.Handle] = q.handle
	case sftpwire.Read:
		if len(r.Data) > int(q.req.Length) {
			return violation("more bytes than were asked for")
		}
		if r.Type == sftpwire.Data {
			err := error(errSize)
			if q.probe {
				q.handle.down.Deny(err)
			} else {
				err = q.handle.down.Take(int64(q.req.Offset), r.Data)
			}
			if err != nil {
				return &denied{direction: access.Download, path: q.handle.path, why: err, counted: true}
			}
		} else if r.Code != sftpwire.EOF {
			q.handle.down.Fail(why)
		}
	case sftpwire.Write:
		if why != "" {
			q.handle.up.Fail(why)
		}
	case sftpwire.Close:
		if err := p.closed(q.handle, why); err != nil {
			return err
		}
		if up := q.handle.up; up != nil && up.Refused() != nil {
			// Clients look at the last answer, which need not be the refusal.
			return &denied{direction: access.Upload, path: q.handle.path, why: up.Refused(), counted: true}
		}
	}
	return nil
}
