package sshproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/sftpwire"
	"github.com/drawbolt/drawbolt/recorder"
)

// A where finds out what paths mean at a target, by asking its SFTP server. The
// answers are true for a moment: who can change links at the target otherwise can
// change what a path means after it was asked.
type where struct {
	// ask sends a request of our own and returns its reply.
	ask  func(sftpwire.Request) (sftpwire.Reply, error)
	home string // of the account; relative paths begin there
}

// A statusError is what the target says about a path, which the user may hear.
type statusError struct {
	code    sftpwire.Code
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s (%d)", clean(e.message), e.code)
}

// isMissing reports whether the target says that there is no such file.
func isMissing(err error) bool {
	status, ok := errors.AsType[*statusError](err)
	return ok && status.code == sftpwire.NoSuchFile
}

// start learns where the account's home is.
func (w *where) start() (err error) {
	w.home, err = w.real(".")
	return err
}

// real asks for the true name of a path: absolute, clean, and without links.
func (w *where) real(name string) (string, error) {
	if len(name) > sftpwire.MaxPath {
		return "", &statusError{sftpwire.Failure, "the path is too long"}
	}
	reply, err := w.ask(sftpwire.Request{Type: sftpwire.RealPath, Path: name})
	if err != nil {
		return "", err
	}
	if reply.Type == sftpwire.Status && reply.Code != sftpwire.OK {
		return "", &statusError{reply.Code, reply.Message}
	}
	if reply.Type != sftpwire.Name || len(reply.Names) != 1 || !strings.HasPrefix(reply.Names[0], "/") || path.Clean(reply.Names[0]) != reply.Names[0] {
		return "", fmt.Errorf("%w: the true name of a path is none", sftpwire.ErrPacket)
	}
	return reply.Names[0], nil
}

func (w *where) absolute(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return strings.TrimSuffix(w.home, "/") + "/" + name
}

// file returns the true path of a file that is to be opened or made, links
// followed to their end.
func (w *where) file(name string) (string, error) {
	found, err := w.real(w.absolute(name))
	if !isMissing(err) {
		return found, err
	}
	// The last name need not be there. OpenSSH has told it then; others want it
	// to be, and a link to what is not there must not be taken for nothing.
	entry, err := w.entry(name)
	if err != nil {
		return "", err
	}
	if _, err := w.attrs(sftpwire.LStat, entry); !isMissing(err) {
		return "", &statusError{sftpwire.NoSuchFile, "it is a link to nothing"}
	}
	return entry, nil
}

// entry returns the true path of an entry of a folder that is to be changed
// itself: links are followed but for the last name.
func (w *where) entry(name string) (string, error) {
	folder, last := path.Split(strings.TrimRight(w.absolute(name), "/"))
	if last == "" || last == "." || last == ".." {
		return "", &statusError{sftpwire.Failure, "the path does not end with a name"}
	}
	parent, err := w.real(folder)
	if err != nil {
		return "", err
	}
	return path.Join(parent, last), nil
}

// attrs asks with Stat or LStat.
func (w *where) attrs(t sftpwire.Type, name string) (sftpwire.Reply, error) {
	reply, err := w.ask(sftpwire.Request{Type: t, Path: name})
	switch {
	case err != nil:
		return reply, err
	case reply.Type == sftpwire.Status && reply.Code != sftpwire.OK:
		return reply, &statusError{reply.Code, reply.Message}
	case reply.Type != sftpwire.Attrs:
		return reply, fmt.Errorf("%w: attributes that are none", sftpwire.ErrPacket)
	}
	return reply, nil
}

// folder reports whether there is a folder at a true path.
func (w *where) folder(name string) (bool, error) {
	reply, err := w.attrs(sftpwire.Stat, name)
	if isMissing(err) {
		return false, nil
	}
	return err == nil && reply.IsDir(), err
}

// An aside is an SFTP session of our own at a target, beside the program that
// runs there, to ask what paths mean. It is safe for concurrent use.
type aside struct {
	mu   sync.Mutex
	ch   gossh.Channel
	r    *sftpwire.Reader
	next uint32
}

var errNoAside = errors.New("the target has no SFTP")

// openAside starts SFTP on a channel of its own. The error is errNoAside when the
// target does not have it.
func (c *channel) openAside(ctx context.Context, b *back) (*aside, error) {
	ch, reqs, err := openChannel(ctx, b.client, "session", nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAside, err)
	}
	stop := context.AfterFunc(ctx, func() { ch.Close() })
	defer stop()
	c.link.spawn("refuse requests of the target's SFTP", func() { gossh.DiscardRequests(reqs) })
	c.link.spawn("drop what the target's SFTP complains of", func() { io.Copy(io.Discard, ch.Stderr()) })
	if err := demand(ch, "subsystem", gossh.Marshal(subsystem{"sftp"})); err != nil {
		ch.Close()
		return nil, fmt.Errorf("%w: %w", errNoAside, err)
	}
	a := &aside{ch: ch, r: sftpwire.NewReader(ch)}
	if err := a.hello(); err != nil {
		ch.Close()
		return nil, fmt.Errorf("%w: %w", errNoAside, err)
	}
	return a, nil
}

func (a *aside) hello() error {
	if _, err := a.ch.Write(sftpwire.Hello{Type: sftpwire.Init, Version: sftpwire.Version}.Append(nil)); err != nil {
		return err
	}
	packet, err := a.r.Next()
	if err != nil {
		return err
	}
	h, err := sftpwire.ParseHello(packet, sftpwire.VersionIs)
	if err == nil && h.Version != sftpwire.Version {
		err = fmt.Errorf("%w: version %d", sftpwire.ErrPacket, h.Version)
	}
	return err
}

// ask sends one request and waits for its reply.
func (a *aside) ask(r sftpwire.Request) (sftpwire.Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	r.ID = a.next
	if _, err := a.ch.Write(r.Append(nil)); err != nil {
		return sftpwire.Reply{}, err
	}
	packet, err := a.r.Next()
	if err != nil {
		return sftpwire.Reply{}, err
	}
	reply, err := sftpwire.ParseReply(packet)
	if err == nil && reply.ID != r.ID {
		err = fmt.Errorf("%w: a reply to nothing that was asked", sftpwire.ErrPacket)
	}
	reply.Data, reply.Rest = nil, nil // of the reader's buffer
	return reply, err
}

// An admitted is a transfer whose paths were looked at.
type admitted struct {
	transfer
	where *where          // nil: the target has no SFTP to ask, and the rules allow every path
	roots []string        // the true paths
	files []*bastion.File // of what is not looked into
	git   *git            // reads which references are meant; nil: it is not git
}

// isRead reports whether the files are looked at one by one.
func (a *admitted) isRead() bool {
	return a.program == "scp" || a.program == "rsync" && a.rsync.unread == ""
}

// admit decides about a command that carries files before it is started.
func (c *channel) admit(ctx context.Context, s *bastion.Session, b *back, st start) error {
	b.sftp = st.action == bastion.SFTP
	if st.action != bastion.Transfer {
		return nil
	}
	t, ok := parseTransfer(st.command)
	if !ok {
		return errPayload
	}
	a := &admitted{transfer: t}
	err := c.look(ctx, b, a)
	if err == nil {
		err = a.decide(s)
	}
	if refused, ok := errors.AsType[*access.Error](err); ok {
		if err := s.RefusedFile(t.program, t.program, t.direction, strings.Join(t.paths, " "), "", refused); err != nil {
			return err
		}
		return refused
	}
	if err != nil {
		return err
	}
	b.carried = a
	return nil
}

// look finds the true paths of a transfer.
func (c *channel) look(ctx context.Context, b *back, a *admitted) error {
	beside, err := c.openAside(ctx, b)
	if errors.Is(err, errNoAside) && ctx.Err() == nil {
		c.link.log.WarnContext(ctx, "the paths of a transfer cannot be looked up", "error", err)
		for _, name := range a.paths {
			a.roots = append(a.roots, absolute("/", name))
		}
		return nil
	}
	if err != nil {
		return err
	}
	w := &where{ask: beside.ask}
	if err := w.start(); err != nil {
		return targetFault(err)
	}
	a.where = w
	for _, name := range a.paths {
		root, err := w.file(name)
		if status, ok := errors.AsType[*statusError](err); ok {
			return access.Invalid("%s: %v", clean(name), status)
		}
		if err != nil {
			return targetFault(err)
		}
		a.roots = append(a.roots, root)
	}
	return nil
}

// decide asks the rules about a transfer, as far as the command says what it is.
// Files that are looked at one by one are asked about when they come.
func (a *admitted) decide(s *bastion.Session) error {
	rules := *s.Live.Allowed()
	if a.where == nil {
		if err := bastion.AuthorizeTree(rules, a.direction, "/"); err != nil {
			return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5433", Text: "the target has no SFTP with which the path could be looked up, and the role does not allow every path"}
		}
	}
	if a.isRead() {
		if a.program != "rsync" {
			return nil
		}
		return a.decideRsync(s, rules)
	}
	for i, root := range a.roots {
		if err := a.decideRoot(rules, root, strings.HasSuffix(a.paths[i], "/")); err != nil {
			if a.rsync.unread != "" {
				err = &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Rule: "session.files",
					Text: a.rsync.unread + " of rsync is carried only where the role allows everything below the path, without limit or copy"}
			}
			return err
		}
	}
	for _, root := range a.roots {
		f, err := s.OpenFile(a.program, a.direction, root, access.FileRule{Direction: a.direction, Path: "*", MaxBytes: 1<<63 - 1})
		if err != nil {
			return err
		}
		a.files = append(a.files, f)
	}
	return nil
}

// decideRsync asks about what rsync does without saying which files it is about.
func (a *admitted) decideRsync(s *bastion.Session, rules access.SessionRules) error {
	for _, root := range a.roots {
		if a.rsync.removes && a.direction == access.Upload {
			if err := bastion.AuthorizeBelow(rules, a.direction, root); err != nil {
				return err
			}
			if a.rsync.backups {
				if err := bastion.AuthorizeMovesBelow(rules, root); err != nil {
					return err
				}
			}
			if err := s.Asked("delete below", root, ""); err != nil {
				return err
			}
		}
		if err := s.Asked("rsync "+string(a.direction), root, ""); err != nil {
			return err
		}
	}
	return nil
}

func (a *admitted) decideRoot(rules access.SessionRules, root string, slash bool) error {
	folder := slash
	if a.where != nil {
		is, err := a.where.folder(root)
		if err != nil {
			return targetFault(err)
		}
		folder = folder || is
		if is, err := a.where.folder(root + ".git"); a.program == "git" && (is || err != nil) {
			// git takes this one when the other is no repository.
			if err := bastion.AuthorizeTree(rules, a.direction, root+".git"); err != nil {
				return err
			}
		}
	}
	switch {
	case a.tree && (folder || a.program == "git" || a.direction == access.Upload):
		if err := bastion.AuthorizeTree(rules, a.direction, root); err != nil {
			return err
		}
		if folder {
			return nil
		}
		return bastion.AuthorizeBlind(rules, a.direction, root)
	case folder && a.direction == access.Upload:
		return bastion.AuthorizeAny(rules, a.direction, root)
	default:
		return bastion.AuthorizeBlind(rules, a.direction, root)
	}
}

// ended accounts for a transfer when its program has said how it ended.
func (a *admitted) ended(s *bastion.Session, e exit) {
	if e.status == nil {
		return // cut; the session accounts for it
	}
	why := ""
	if *e.status != 0 {
		why = fmt.Sprintf("%s ended with %d", a.program, *e.status)
	}
	for _, f := range a.files {
		if why != "" {
			f.Fail(why)
		}
		f.Close() // an error has ended the session
	}
	if a.git != nil {
		a.git.over(why) // an error has ended the session
	}
	if a.program == "rsync" && a.isRead() {
		for _, root := range a.roots {
			s.Answered("rsync "+string(a.direction), root, "", why)
		}
	}
}

// A tally counts the bytes of a transfer that is not looked into.
type tally struct {
	io.Writer
	files []*bastion.File
}

func (t tally) Write(p []byte) (int, error) {
	n, err := t.Writer.Write(p)
	for _, f := range t.files {
		f.Count(n)
	}
	return n, err
}

// targetFault is the error for a target that does not speak SFTP as it should.
func targetFault(err error) error {
	if _, ok := errors.AsType[*access.Error](err); ok {
		return err
	}
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5432", Text: "the target does not carry files as the protocol says: " + clean(err.Error())}
}

// streams gives what carries the user's input to the target, and what carries
// the target's output to the user. Each returns nil at the end of what it reads.
func (c *channel) streams(s *bastion.Session, b *back) (input, output func() error) {
	switch {
	case b.sftp:
		p := newSFTP(c, s, b)
		input, output = p.input, p.output
	case b.carried != nil && b.carried.program == "scp":
		input, output = newSCP(c, s, b).streams()
	case b.carried != nil && b.carried.isRead():
		p := newRsync(c, s, b)
		input, output = p.input, p.output
	case b.carried != nil && b.carried.program == "git":
		b.carried.git = newGit(c, s, b)
		input, output = b.carried.git.input, b.carried.git.output
	case b.carried != nil && b.carried.direction == access.Upload:
		to := tally{b.ch, b.carried.files}
		return func() error { return s.Pump(recorder.Input, to, c.in) }, func() error { return s.Pump(recorder.Output, c.ch, b.ch) }
	case b.carried != nil:
		to := tally{c.ch, b.carried.files}
		return func() error { return s.Pump(recorder.Input, b.ch, c.in) }, func() error { return s.Pump(recorder.Output, to, b.ch) }
	case c.term != nil:
		w := c.watch(s)
		return func() error { return w.Input(b.ch, c.in) }, func() error { return w.Output(c.ch, b.ch) }
	default:
		return func() error { return s.Pump(recorder.Input, b.ch, c.in) }, func() error { return s.Pump(recorder.Output, c.ch, b.ch) }
	}
	// What stands between must not leave the session open when it gives up.
	take := input
	return func() error {
		err := take()
		c.output(s, err)
		return err
	}, output
}
