package sshproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/rsyncwire"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/sftpwire"
	"github.com/drawbolt/drawbolt/recorder"
)

// An rsync stands between the two ends of rsync. Both are told that the other one
// speaks no newer version of the protocol than is read here, and nothing passes but
// what was understood.
// The end that gets files asks for each by its number in a list; what it says of
// blocks that it has already is kept from the other end, so that files pass whole.
//
// Of what is uploaded the list is decided on before it is complete, because the
// target makes folders and links, and removes, by the list alone. Which file may
// be carried is decided when it is asked for: a question that is not passed on is
// a file that does not come, and the others go on.
type rsync struct {
	c *channel
	s *bastion.Session
	b *back
	a *admitted

	up, down     *flow
	user, target speaker

	mu     sync.Mutex         // guards what follows
	list   []*rsyncwire.Entry // empty until it has passed whole
	asked  map[int]asked
	wanted map[int]bool // entries of which extended attributes were asked for

	paths   sync.Mutex // guards what follows; held while the target is asked
	base    string     // true path of the folder in which the list begins
	single  string     // true path of the only entry, when the command names it
	folders map[string]placed
}

// A speaker is what one end has said of itself.
type speaker struct {
	said    chan struct{} // closed when it has said it, or never will
	version int           // 0: it did not
	traits  rsyncwire.Traits
}

// An asked is a file that one end has asked the other one for.
type asked struct {
	path string
	rule access.FileRule
}

// A placed is where a folder of the list is.
type placed struct {
	path    string
	missing bool // it is not there yet, nor is anything below it
}

// maxFolders bounds the folders of a list.
const maxFolders = 1 << 18

func newRsync(c *channel, s *bastion.Session, b *back) *rsync {
	return &rsync{c: c, s: s, b: b, a: b.carried, asked: map[int]asked{}, wanted: map[int]bool{}, folders: map[string]placed{},
		user: speaker{said: make(chan struct{})}, target: speaker{said: make(chan struct{})},
		up:   &flow{s: s, to: b.ch, stream: recorder.Input},
		down: &flow{s: s, to: c.ch, stream: recorder.Output, framed: true}}
}

// A flow carries one direction.
type flow struct {
	s      *bastion.Session
	to     io.Writer
	stream recorder.Stream
	framed bool // the data stands in messages
	r      *rsyncwire.Reader

	mu  sync.Mutex // guards out and serializes what is written
	out []byte     // what may pass and has not been written, behind room for a header
}

// enough is after how many bytes that may pass they are written.
const enough = 32 << 10

// room is for the header of a message.
var room [rsyncwire.HeaderLength]byte

// keep lets bytes pass.
func (f *flow) keep(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(p) > 0 {
		if f.framed && len(f.out) == 0 {
			f.out = append(f.out, room[:]...)
		}
		n := min(len(p), enough)
		f.out = append(f.out, p[:n]...)
		if p = p[n:]; len(f.out) < enough {
			continue
		}
		if err := f.write(); err != nil {
			return err
		}
	}
	return nil
}

// pass lets pass what was read last.
func (f *flow) pass() error {
	err := f.keep(f.r.Taken())
	f.r.Reset()
	return err
}

func (f *flow) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write()
}

func (f *flow) write() error {
	if len(f.out) == 0 {
		return nil
	}
	if f.framed {
		rsyncwire.PutDataHeader(f.out, len(f.out)-len(room))
	}
	err := f.s.Carry(f.stream, f.to, f.out)
	f.out = f.out[:0]
	return err
}

// say writes a message between the data.
func (f *flow) say(k rsyncwire.Kind, text []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.write(); err != nil {
		return err
	}
	b := make([]byte, len(room), len(room)+len(text))
	rsyncwire.PutHeader(b, k, len(text))
	return f.s.Carry(f.stream, f.to, append(b, text...))
}

// input carries what the user's program says, until its end (nil).
func (p *rsync) input() error {
	from := bufio.NewReader(p.c.in)
	version, err := p.greetTarget(from)
	if err == nil {
		var data io.Reader = from
		if p.up.framed = version >= 30; p.up.framed {
			data = rsyncwire.NewDemux(from, version, p.userMessage)
		}
		p.up.r = rsyncwire.NewReader(data, version, p.up.flush)
		if p.a.direction == access.Upload {
			err = p.sends(p.up)
		} else {
			err = p.receives(p.up)
		}
	}
	if err = p.over(p.up, err); !errors.Is(err, rsyncwire.ErrStream) {
		return err
	}
	err = &access.Error{Kind: access.ErrDenied, Code: "DB-2445", Rule: "session.rsync", Text: "the client does not keep to rsync's protocol, or speaks a part of it that is not carried: " + clean(err.Error())}
	p.c.link.refused(p.c.who, p.s, "rsync", err)
	p.s.End(err)
	return err
}

// output carries what the target's program says, until its end (nil).
func (p *rsync) output() error {
	from := bufio.NewReaderSize(p.b.ch, enough)
	version, err := p.greetUser(from)
	if err == nil {
		p.down.r = rsyncwire.NewReader(rsyncwire.NewDemux(from, version, p.message), version, p.down.flush)
		if p.a.direction == access.Upload {
			err = p.receives(p.down)
		} else {
			err = p.sends(p.down)
		}
	}
	if err = p.over(p.down, err); errors.Is(err, rsyncwire.ErrStream) {
		err = targetFault(err)
		p.s.End(err)
	}
	return err
}

// over writes what may still pass of a flow that has ended. A program that ends in
// the middle says by its exit status what that was.
func (p *rsync) over(f *flow, err error) error {
	if isEnd(err) {
		return f.flush()
	}
	if refused, ok := errors.AsType[*access.Error](err); ok {
		p.s.End(refused)
	}
	return err
}

// greetTarget passes on the version with which the user's program begins, and
// returns the one that both ends speak. The target gets it first, because there are
// programs that say nothing before.
func (p *rsync) greetTarget(from io.Reader) (int, error) {
	err := p.user.begin(from)
	close(p.user.said)
	if err == nil {
		err = p.s.Carry(p.up.stream, p.b.ch, rsyncwire.AppendVersion(nil, p.user.version))
	}
	if err != nil {
		return 0, err
	}
	return p.agree(&p.target)
}

// greetUser passes on what the target's program begins with: its version, what
// both can do, and the seed of the checksums.
func (p *rsync) greetUser(from io.Reader) (version int, err error) {
	err = p.target.begin(from)
	if err == nil {
		version, err = p.agree(&p.user)
	}
	var rest [5]byte
	more := rest[1:]
	if err == nil && version >= 30 {
		more = rest[:]
	}
	if err == nil {
		_, err = io.ReadFull(from, more)
	}
	if err == nil && version >= 30 {
		p.target.traits, err = rsyncwire.ParseTraits(more[0])
	}
	if err != nil {
		p.target.version = 0
	}
	close(p.target.said)
	if err != nil {
		return 0, err
	}
	return version, p.s.Carry(p.down.stream, p.c.ch, append(rsyncwire.AppendVersion(nil, p.target.version), more...))
}

// begin reads the version of a side.
func (s *speaker) begin(from io.Reader) (err error) {
	var version [4]byte
	if _, err := io.ReadFull(from, version[:]); err != nil {
		return err
	}
	s.version, err = rsyncwire.ParseVersion(version)
	return err
}

// agree waits for the other side, and returns the version that both speak.
func (p *rsync) agree(other *speaker) (int, error) {
	<-other.said
	if other.version == 0 {
		return 0, io.EOF
	}
	version := min(p.user.version, p.target.version)
	if version < 30 && (p.a.rsync.ACLs || p.a.rsync.Xattrs) {
		return 0, fmt.Errorf("%w: access control lists and extended attributes need version 30, which rsync 3.0 has, on both sides", rsyncwire.ErrStream)
	}
	return version, nil
}

// attributes reports whether extended attributes stand behind an item.
func (p *rsync) attributes(it rsyncwire.Item, version int) bool {
	return p.a.rsync.Xattrs && !p.a.rsync.dry && it.About() && it.Attributes(p.target.traits.Whole(version))
}

// userMessage takes what the user's program says between the data.
func (p *rsync) userMessage(k rsyncwire.Kind, text []byte) error {
	if k.IsText() || k == rsyncwire.Deleted {
		return fmt.Errorf("%w: a message of kind %d", rsyncwire.ErrStream, k)
	}
	return p.up.say(k, text)
}

// message takes what the target says between the data.
func (p *rsync) message(k rsyncwire.Kind, text []byte) error {
	switch {
	case k.IsText():
		if err := p.s.Mark("rsync at the target says: %s", clean(strings.TrimSpace(string(text)))); err != nil {
			return err
		}
	case k != rsyncwire.Deleted:
	case p.a.direction == access.Download:
		return fmt.Errorf("%w: something was removed", rsyncwire.ErrStream)
	case !p.a.rsync.dry:
		p.paths.Lock()
		file := path.Join(p.base, strings.TrimRight(string(text), "/\x00"))
		p.paths.Unlock()
		if err := p.s.Answered("delete", file, "", ""); err != nil {
			return err
		}
	}
	return p.down.say(k, text)
}

// filters carries the rules that say which files are left out.
func (p *rsync) filters(f *flow) error {
	for range rsyncwire.MaxRules {
		rule, err := f.r.Rule()
		if err != nil {
			return err
		}
		if rule == nil {
			return f.pass()
		}
		if rsyncwire.ReadsFiles(rule) {
			if err := bastion.AuthorizeTree(p.rules(), access.Download, "/"); err != nil {
				return p.turnDown("filter", clean(string(rule)), errFilter)
			}
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d filter rules", rsyncwire.ErrStream, rsyncwire.MaxRules)
}

var errFilter = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "a filter rule that may read files of the target needs a role that may download every file", Rule: "session.files"}

// rules are those of this moment.
func (p *rsync) rules() access.SessionRules { return *p.s.Live.Allowed() }

// turnDown puts a refusal on record and returns the error that ends the session.
func (p *rsync) turnDown(what, file string, why error) error {
	if err := p.s.RefusedFile("rsync", what, p.a.direction, file, "", why); err != nil {
		return err
	}
	refused := &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Rule: "session.files", Text: why.Error()}
	if e, ok := errors.AsType[*access.Error](why); ok {
		refused.Kind, refused.Code, refused.Rule, refused.Text = e.Kind, e.Code, e.Rule, e.Text
	}
	refused.Text = clean(file) + ": " + refused.Text
	return refused
}

// sends carries what the end that sends files says.
func (p *rsync) sends(f *flow) error {
	if p.a.direction == access.Upload && p.a.rsync.filters {
		if err := p.filters(f); err != nil {
			return err
		}
	}
	if err := p.names(f); err != nil {
		return err
	}
	content := rsyncwire.NewContent(f.r, p.a.rsync.deflated, p.a.rsync.checksum)
	version := min(p.user.version, p.target.version)
	for phase := 0; phase < rsyncwire.Phases; {
		it, err := f.r.Item(p.length)
		if err == nil && p.attributes(it, version) {
			err = p.values(f, it)
		}
		switch {
		case err != nil:
			return err
		case it.Index == rsyncwire.Done:
			phase++
		case !it.Transfers():
		default:
			if err := p.sent(f, it, content); err != nil {
				return err
			}
			continue
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
	if err := p.missed(); err != nil {
		return err
	}
	if p.a.direction == access.Download {
		if err := f.r.Stats(); err != nil {
			return err
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
	for left := rsyncwire.Farewells(version, true); ; {
		it, err := f.r.Item(p.length)
		if err != nil {
			return err
		}
		if it.Index == rsyncwire.Done {
			left--
		}
		if left < 0 || it.About() {
			return fmt.Errorf("%w: more after the end", rsyncwire.ErrStream)
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
}

// values takes the extended attributes that come whole.
func (p *rsync) values(f *flow, it rsyncwire.Item) error {
	size, err := f.r.Values()
	if err != nil || size == 0 {
		return err
	}
	p.mu.Lock()
	wanted := p.wanted[it.Index]
	delete(p.wanted, it.Index)
	p.mu.Unlock()
	if !wanted {
		return fmt.Errorf("%w: extended attributes that were not asked for", rsyncwire.ErrStream)
	}
	e := *p.entry(it.Index)
	e.AttributeBytes = size
	file, err := p.carries(&e)
	if errors.Is(err, access.ErrDenied) {
		return p.turnDown("setxattr", file, err)
	}
	return err
}

// carries returns the true path of an entry, and says whether its extended
// attributes may be carried.
func (p *rsync) carries(e *rsyncwire.Entry) (string, error) {
	file, err := p.find(e)
	if status, ok := errors.AsType[*statusError](err); ok {
		return e.Name, &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Rule: "session.files", Text: status.Error()}
	}
	if err != nil {
		return file, err
	}
	rule, err := bastion.AuthorizeFile(p.rules(), p.a.direction, file)
	if err != nil && e.IsDir() {
		rule, err = bastion.AuthorizeFile(p.rules(), p.a.direction, path.Join(file, "\x01"))
	}
	if err == nil && e.AttributeBytes > rule.MaxBytes {
		err = errAttributes
	}
	return file, err
}

// names carries the list. Its end passes when it was decided on.
func (p *rsync) names(f *flow) error {
	options := p.a.rsync.Options
	options.Hides = p.a.direction == access.Download
	list := rsyncwire.NewList(f.r, options)
	var entries []*rsyncwire.Entry
	for {
		e, err := list.Next()
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		entries = append(entries, e)
		if err := p.hide(list, e); err != nil {
			return err
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
	if err := list.Tail(); err != nil {
		return err
	}
	if err := links(entries); err != nil {
		return err
	}
	if p.a.direction == access.Upload {
		if err := p.decide(entries); err != nil {
			return err
		}
	}
	rsyncwire.Sort(entries)
	p.mu.Lock()
	p.list = entries
	p.mu.Unlock()
	return f.pass()
}

// hide keeps what an entry that is downloaded would tell of what is in a file that
// may not be.
func (p *rsync) hide(list *rsyncwire.List, e *rsyncwire.Entry) error {
	if p.a.direction != access.Download {
		return nil
	}
	if p.a.rsync.Checksums && e.IsRegular() {
		if _, err := p.allowed(e); err != nil {
			list.HideChecksum() // it would tell the content to somebody who has a guess
		}
	}
	if !p.a.rsync.Xattrs {
		return nil
	}
	_, err := p.carries(e)
	if err != nil && !errors.Is(err, access.ErrDenied) {
		return err
	}
	list.ShowAttributes(err == nil)
	return nil
}

// links refuses a list with a link and something below it, which would come to
// where the link leads.
func links(entries []*rsyncwire.Entry) error {
	links, seen := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		if e.IsLink() {
			links[e.Name] = true
		}
	}
	for _, e := range entries {
		if e.IsDir() && links[e.Name] {
			return fmt.Errorf("%w: %q is a link and a folder", rsyncwire.ErrStream, clean(e.Name))
		}
		for dir := path.Dir(e.Name); dir != "." && !seen[dir]; dir = path.Dir(dir) {
			if seen[dir] = true; links[dir] {
				return fmt.Errorf("%w: %q is below a link", rsyncwire.ErrStream, clean(e.Name))
			}
			if len(seen) > maxFolders {
				return fmt.Errorf("%w: more than %d folders", rsyncwire.ErrStream, maxFolders)
			}
		}
	}
	return nil
}

// decide asks about everything that a list would make at the target.
func (p *rsync) decide(entries []*rsyncwire.Entry) error {
	if err := p.settle(entries); err != nil {
		return err
	}
	linked := map[[2]int64]bool{}
	for _, e := range entries {
		file, err := p.find(e)
		if err == nil {
			err = p.makes(e, file)
		}
		if err == nil && p.a.rsync.backups {
			err = p.keeps(file)
		}
		if err == nil {
			err = p.describes(e, file)
		}
		if err == nil && e.Hard {
			id := [2]int64{e.Device, e.Inode}
			_, down := bastion.AuthorizeFile(p.rules(), access.Download, file)
			if first, ok := linked[id]; ok && first != (down == nil) {
				err = errHard
			}
			linked[id] = down == nil
		}
		if err != nil {
			if _, unread := errors.AsType[*statusError](err); !unread && !errors.Is(err, access.ErrDenied) {
				return err
			}
			if file == "" {
				file = e.Name
			}
			return p.turnDown("make", file, err)
		}
	}
	return nil
}

var (
	errHard       = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "it is a hard link of a file that the role allows to download and one that it does not", Rule: "session.files"}
	errFolder     = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "the role does not allow to change this folder, which -r alone leaves as it is", Rule: "session.files"}
	errAttributes = &access.Error{Kind: access.ErrDenied, Code: "DB-6590", Text: "the role does not allow extended attributes of so many bytes together; its limit of a file holds for them too, and rsync without -X leaves them out", Rule: "session.files"}

	errDevice = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: "a device is made only by a role that may upload every file", Rule: "session.files"}
)

// makes says whether the entry of a list may be made at the target.
func (p *rsync) makes(e *rsyncwire.Entry, file string) error {
	rules, o := p.rules(), p.a.rsync
	_, err := bastion.AuthorizeFile(rules, access.Upload, file)
	switch {
	case e.IsDir():
		if err == nil {
			return nil
		}
		// A folder needs a rule of its own only where it is made or changed and
		// nothing in it is allowed: what is in it is asked about file by file.
		there, other, unknown := p.look(file)
		_, below := bastion.AuthorizeFile(rules, access.Upload, path.Join(file, "\x01"))
		switch {
		case unknown != nil:
			return unknown
		case other, below != nil && !there:
			return err
		case below != nil && o.attributes:
			return errFolder
		}
		return nil
	case e.IsLink() && o.Links:
		content := e.Link
		if !strings.HasPrefix(content, "/") {
			content = path.Dir(file) + "/" + content
		}
		if err == nil {
			_, err = bastion.AuthorizeFile(rules, access.Upload, path.Clean(content))
		}
		return err
	case e.IsDevice() && o.Devices:
		if bastion.AuthorizeTree(rules, access.Upload, "/") != nil {
			return errDevice
		}
		return nil
	default:
		return err
	}
}

// keeps says whether what is at a path may stay under another name when something
// takes its place, which a folder does not.
func (p *rsync) keeps(file string) error {
	folder, other, err := p.look(file)
	if err != nil || folder || !other {
		return err
	}
	kept := file + backupSuffix
	if err := bastion.AuthorizeMove(p.rules(), file, kept, false); err != nil || p.a.rsync.dry {
		return err
	}
	return p.s.Asked("backup", file, kept)
}

// describes says whether an entry may have the extended attributes with which it
// comes, and puts on record that it is to have them, or an access control list.
func (p *rsync) describes(e *rsyncwire.Entry, file string) error {
	if e.AttributeBytes > 0 {
		if _, err := p.carries(e); err != nil {
			return err
		}
	}
	if p.a.rsync.dry {
		return nil
	}
	if e.Attributes != "" {
		if err := p.s.Asked("setxattr", file, clean(e.Attributes)); err != nil {
			return err
		}
	}
	if e.ACL {
		return p.s.Asked("setfacl", file, "")
	}
	return nil
}

// look reports whether there is a folder at a path, or something other.
func (p *rsync) look(file string) (folder, other bool, err error) {
	if p.a.where == nil {
		return false, false, nil
	}
	reply, err := p.a.where.attrs(sftpwire.LStat, file)
	if isMissing(err) {
		return false, false, nil
	}
	return reply.IsDir(), !reply.IsDir(), p.lost(err)
}

// sent takes a file that comes.
func (p *rsync) sent(f *flow, it rsyncwire.Item, content *rsyncwire.Content) error {
	p.mu.Lock()
	w, ok := p.asked[it.Index]
	delete(p.asked, it.Index)
	p.mu.Unlock()
	if it.Basis() {
		return fmt.Errorf("%w: another file to begin with", rsyncwire.ErrStream)
	}
	if !ok {
		return fmt.Errorf("%w: a file that was not asked for", rsyncwire.ErrStream)
	}
	if p.a.rsync.dry {
		return f.pass()
	}
	if err := f.r.NoBlocks(); err != nil {
		return err
	}
	file, err := p.s.OpenFile("rsync", p.a.direction, w.path, w.rule)
	if err != nil {
		if p.s.Context().Err() != nil {
			return err
		}
		return p.turnDown("open", w.path, err)
	}
	if err := f.pass(); err != nil {
		return err
	}
	if err := content.Begin(); err != nil {
		return err
	}
	for offset := int64(0); ; {
		data, stream, err := content.Next()
		if len(data) > 0 {
			if err := file.Take(offset, data); err != nil {
				return named(w.path, err) // there is no way back into the protocol
			}
			offset += int64(len(data))
		}
		over := err == io.EOF
		if over {
			err = file.Close()
		}
		if err != nil {
			return err
		}
		if err := f.keep(stream); err != nil {
			return err
		}
		if over {
			f.r.Reset()
			return nil
		}
	}
}

// named says in a refusal which file it is about.
func named(file string, err error) error {
	if e, ok := errors.AsType[*access.Error](err); ok {
		told := *e
		told.Text = clean(file) + ": " + e.Text
		return &told
	}
	return err
}

// missed puts on record what was asked for and not sent.
func (p *rsync) missed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.asked {
		if !p.a.rsync.dry {
			if err := p.s.Answered("send", w.path, "", "it did not come"); err != nil {
				return err
			}
		}
		delete(p.asked, i)
	}
	return nil
}

// receives carries what the end that gets files says.
func (p *rsync) receives(f *flow) error {
	if p.a.direction == access.Download {
		if err := p.filters(f); err != nil {
			return err
		}
	}
	version := min(p.user.version, p.target.version)
	for phase := 0; phase <= rsyncwire.Phases+rsyncwire.Farewells(version, false); {
		it, err := f.r.Item(p.length)
		if err == nil && p.attributes(it, version) {
			err = p.wants(f, it)
		}
		switch {
		case err != nil:
			return err
		case it.Index == rsyncwire.Done:
			phase++
		case it.Transfers():
			if err := p.ask(f, it, phase); err != nil {
				return err
			}
			continue
		case it.About() && p.a.direction == access.Upload && !p.a.rsync.dry:
			if err := p.told(it); err != nil {
				return err
			}
		}
		if err := f.pass(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: phases without end", rsyncwire.ErrStream)
}

// wants takes the wish for extended attributes, which the user's program has only
// of those that it was told.
func (p *rsync) wants(f *flow, it rsyncwire.Item) error {
	some, err := f.r.Wants()
	if err != nil || !some {
		return err
	}
	if file, err := p.carries(p.entry(it.Index)); errors.Is(err, access.ErrDenied) {
		return p.turnDown("getxattr", file, err)
	} else if err != nil {
		return err
	}
	p.mu.Lock()
	p.wanted[it.Index] = true
	p.mu.Unlock()
	return nil
}

// length is that of the list, once it has passed whole.
func (p *rsync) length() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}

func (p *rsync) entry(i int) *rsyncwire.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[i]
}

// told puts on record what the target says that it has made or changed.
func (p *rsync) told(it rsyncwire.Item) error {
	made, changed := it.Changes()
	if !changed {
		return nil
	}
	e := p.entry(it.Index)
	what := "setstat"
	switch {
	case made && e.IsDir():
		what = "mkdir"
	case made && e.IsLink():
		what = "symlink"
	case made && e.IsRegular():
		what = "hardlink"
	case made:
		what = "mknod"
	}
	file, err := p.find(e)
	if err != nil {
		return err
	}
	return p.s.Answered(what, file, e.Link, "")
}

// ask takes the wish for a file. One that the rules do not allow is not passed on,
// and the user is told.
func (p *rsync) ask(f *flow, it rsyncwire.Item, phase int) error {
	e := p.entry(it.Index)
	if !e.IsRegular() {
		return fmt.Errorf("%w: the content of what has none", rsyncwire.ErrStream)
	}
	if !p.a.rsync.dry {
		// What is appended to has no checksums before something went wrong.
		if err := f.r.Blocks(!p.a.rsync.append || phase > 0); err != nil {
			return err
		}
	}
	w, err := p.allowed(e)
	if errors.Is(err, access.ErrDenied) {
		f.r.Drop()
		if err := p.s.RefusedFile("rsync", "open", p.a.direction, w.path, "", err); err != nil {
			return err
		}
		return p.down.say(rsyncwire.Transfer, []byte("drawbolt: "+clean(w.path)+": "+p.c.link.explain(p.s.Context(), err)+"\n"))
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	_, twice := p.asked[it.Index]
	p.asked[it.Index] = w
	p.mu.Unlock()
	if twice {
		return fmt.Errorf("%w: a file is asked for twice", rsyncwire.ErrStream)
	}
	return f.pass()
}

// allowed asks the rules about a file.
func (p *rsync) allowed(e *rsyncwire.Entry) (asked, error) {
	file, err := p.find(e)
	if status, ok := errors.AsType[*statusError](err); ok {
		return asked{path: e.Name}, &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Rule: "session.files", Text: status.Error()}
	}
	if err != nil {
		return asked{}, err
	}
	rule, err := bastion.AuthorizeFile(p.rules(), p.a.direction, file)
	if err == nil && e.Size > rule.MaxBytes {
		err = errSize
	}
	return asked{file, rule}, err
}

// settle finds out where a list begins that is uploaded: in the folder that the
// command names, or when it names none, as what is named.
func (p *rsync) settle(entries []*rsyncwire.Entry) error {
	p.paths.Lock()
	defer p.paths.Unlock()
	root := p.a.roots[0]
	p.base = root
	into := len(entries) != 1 || strings.HasSuffix(p.a.paths[0], "/")
	if into || p.a.where == nil {
		return nil
	}
	is, err := p.a.where.folder(root)
	if err != nil {
		return p.unfound(root, err)
	}
	if is {
		return nil
	}
	if strings.Contains(entries[0].Name, "/") {
		return p.turnDown("make", root, errors.New("one file of a folder goes into a folder that is there"))
	}
	if p.single, err = p.a.where.entry(p.a.paths[0]); err != nil {
		return p.unfound(root, err)
	}
	return nil
}

// unfound is the error for a path that could not be looked up.
func (p *rsync) unfound(file string, err error) error {
	if _, ok := errors.AsType[*statusError](err); ok {
		return p.turnDown("look up", file, err)
	}
	return targetFault(err)
}

// find returns the true path of an entry at the target.
func (p *rsync) find(e *rsyncwire.Entry) (string, error) {
	p.paths.Lock()
	defer p.paths.Unlock()
	if p.single != "" {
		return p.single, nil
	}
	top, _, _ := strings.Cut(e.Name, "/")
	folder, err := p.folder(path.Dir(e.Name), top)
	file := path.Join(folder.path, path.Base(e.Name))
	if err == nil && p.a.rsync.follows && p.a.where != nil && !folder.missing {
		at, err := p.resolve(file)
		return at.path, err
	}
	return file, err
}

// folder returns where a folder of the list is, in which there is something whose
// name begins with top. A link there is followed: what is below it is judged by
// where it leads. p.paths is held.
func (p *rsync) folder(name, top string) (at placed, err error) {
	base := p.a.rsync.base
	if p.a.rsync.bases != nil {
		base = p.a.rsync.bases[top]
	}
	key := name
	if name == "." {
		key = "./" + base
	}
	at, ok := p.folders[key]
	if ok {
		return at, nil
	}
	if len(p.folders) > maxFolders {
		return at, fmt.Errorf("%w: more than %d folders", rsyncwire.ErrStream, maxFolders)
	}
	if name == "." {
		if base == "" && p.a.direction == access.Download {
			return at, fmt.Errorf("%w: %q is not what was asked for", rsyncwire.ErrStream, clean(top))
		}
		at.path, err = p.begin(base)
	} else {
		var parent placed
		if parent, err = p.folder(path.Dir(name), top); err != nil {
			return at, err
		}
		at = placed{path.Join(parent.path, path.Base(name)), parent.missing}
		if !at.missing && p.a.where != nil {
			at, err = p.resolve(at.path)
		}
	}
	if err == nil {
		p.folders[key] = at
	}
	return at, err
}

func (p *rsync) resolve(folder string) (placed, error) {
	reply, err := p.a.where.attrs(sftpwire.LStat, folder)
	switch {
	case isMissing(err):
		return placed{folder, true}, nil
	case err != nil:
		return placed{}, p.lost(err)
	case !reply.IsLink():
		return placed{path: folder}, nil
	}
	found, err := p.a.where.real(folder)
	return placed{path: found}, p.lost(err)
}

// lost makes errors of asking the target such that end the session, but for what
// it says about a path.
func (p *rsync) lost(err error) error {
	if _, ok := errors.AsType[*statusError](err); ok || err == nil {
		return err
	}
	return targetFault(err)
}

// begin returns the true path of the folder in which a list begins.
func (p *rsync) begin(base string) (string, error) {
	if p.a.direction == access.Upload {
		return p.base, nil
	}
	if p.a.where == nil {
		return absolute("/", base), nil
	}
	found, err := p.a.where.real(p.a.where.absolute(base))
	return found, p.lost(err)
}
