package bastion

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"
	"path"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
)

// maxKept bounds a file that is kept by a rule without a max, in bytes.
const maxKept = 1 << 30

// AuthorizeFile says whether a file may be carried, besides SFTP or Transfer
// being allowed, and by which rule: of those that speak of it the one that
// allows most. The path is absolute and clean, with no link in it.
func AuthorizeFile(rules access.SessionRules, d access.Direction, file string) (access.FileRule, error) {
	best, found := access.FileRule{}, false
	for _, text := range rules.Files {
		rule, err := access.ParseFileRule(text)
		if err != nil || !rule.Matches(d, file) {
			continue
		}
		if rule.Keep {
			rule.MaxBytes = limitKept(rule.MaxBytes)
		}
		if !found || rule.MaxBytes > best.MaxBytes || rule.MaxBytes == best.MaxBytes && rule.Keep {
			best, found = rule, true
		}
	}
	if !found {
		return best, refuseFile(fmt.Sprintf("the role does not allow to %s this file", d))
	}
	return best, nil
}

func limitKept(size int64) int64 {
	if size == math.MaxInt64 {
		return maxKept
	}
	return size
}

// somewhere is a path below a folder that no rule names: a rule that matches it
// matches everything that lies there.
const somewhere = "\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01/\x01"

// AuthorizeTree says whether everything below a folder may be carried by somebody
// who does not say which files it is, nor how large they are: so only by rules
// without max and keep.
func AuthorizeTree(rules access.SessionRules, d access.Direction, folder string) error {
	return authorizeBlind(rules, d, path.Join(folder, somewhere))
}

// AuthorizeBlind is AuthorizeTree for one file.
func AuthorizeBlind(rules access.SessionRules, d access.Direction, file string) error {
	return authorizeBlind(rules, d, file)
}

// AuthorizeAny is AuthorizeTree for any file directly in a folder.
func AuthorizeAny(rules access.SessionRules, d access.Direction, folder string) error {
	return authorizeBlind(rules, d, path.Join(folder, "\x01"))
}

// AuthorizeBelow says whether anything below a folder may be changed, by rules
// with or without a limit: for a program that removes what it does not name.
func AuthorizeBelow(rules access.SessionRules, d access.Direction, folder string) error {
	_, err := AuthorizeFile(rules, d, path.Join(folder, somewhere))
	return err
}

func authorizeBlind(rules access.SessionRules, d access.Direction, file string) error {
	rule, err := AuthorizeFile(rules, d, file)
	if err == nil && (rule.Keep || rule.MaxBytes != math.MaxInt64) {
		return refuseFile("the role allows this only with a limit or a copy, to which the program cannot be held")
	}
	return err
}

// AuthorizeMove says whether a file, or a folder with all that is in it, may get
// another name: both must be allowed to be uploaded, and nothing may come to
// where it can be downloaded that could not be before. No limit is looked at:
// no byte passes.
func AuthorizeMove(rules access.SessionRules, from, to string, folder bool) error {
	may := func(d access.Direction, file string) bool {
		_, err := AuthorizeFile(rules, d, file)
		return err == nil
	}
	up := may(access.Upload, from) && may(access.Upload, to)
	down := may(access.Download, from) || !may(access.Download, to)
	if folder {
		from, to = path.Join(from, somewhere), path.Clean(to)
		up = up && may(access.Upload, from) && may(access.Upload, path.Join(to, somewhere))
		down = down && (may(access.Download, from) || !downloadsBelow(rules, to))
	}
	switch {
	case !up:
		return refuseFile("the role does not allow to upload to both paths")
	case !down:
		return refuseFile("it would come to where the role allows to download it")
	}
	return nil
}

// AuthorizeMovesBelow is AuthorizeMove for whatever is below a folder, to another
// name there.
func AuthorizeMovesBelow(rules access.SessionRules, folder string) error {
	if err := AuthorizeBelow(rules, access.Upload, folder); err != nil {
		return err
	}
	if AuthorizeBelow(rules, access.Download, folder) != nil && downloadsBelow(rules, folder) {
		return refuseFile("it would come to where the role allows to download it")
	}
	return nil
}

// downloadsBelow reports whether a rule may match something below a folder.
func downloadsBelow(rules access.SessionRules, folder string) bool {
	folder = strings.TrimSuffix(folder, "/") + "/"
	for _, text := range rules.Files {
		rule, err := access.ParseFileRule(text)
		if err != nil || rule.Direction != access.Download {
			continue
		}
		literal, _, _ := strings.Cut(rule.Path, "*")
		if strings.HasPrefix(literal, folder) || strings.HasPrefix(folder, literal) {
			return true
		}
	}
	return false
}

func refuseFile(text string) error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2441", Text: text, Rule: "session.files"}
}

// The results of a file.
const (
	resultOK      = "ok"
	resultRefused = "refused"
	resultFailed  = "failed"
	resultCut     = "cut"
)

// partEvery is after how many bytes a file is mentioned again in the recording,
// so that a crash leaves a hash of nearly all that passed.
const partEvery = 4 << 20

// A File is one file that is carried within a session. Its opening, its size and
// hash, and what became of it are on record; its content is not. Its methods are
// safe for concurrent use.
type File struct {
	session *Session
	via     string
	rule    access.FileRule

	mu    sync.Mutex
	event recorder.FileEvent
	rules *access.SessionRules // under which it was last allowed
	sum   hash.Hash            // nil once a byte came out of its order
	next  int64                // where the next byte is expected
	told  int64                // size at the last event
	copy  *recorder.Copy       // nil: none is kept
	over  bool
}

// OpenFile puts on record that a file is about to be carried, by a rule that
// AuthorizeFile gave for it. Only then may it be opened. via is the protocol.
func (s *Session) OpenFile(via string, d access.Direction, file string, rule access.FileRule) (*File, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	f := &File{session: s, via: via, rule: rule, rules: s.Live.Allowed(), sum: sha256.New(), event: recorder.FileEvent{
		What: "open", Number: int(s.files.number.Add(1)), Direction: string(d), Path: file}}
	if err := s.recorded(s.recording.File(f.event)); err != nil {
		return nil, err
	}
	if rule.Keep {
		c, err := s.recording.Keep(s.ctx)
		if err != nil {
			return nil, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5431", Text: "the copy that the role asks for cannot be kept: " + err.Error()}
		}
		f.copy = c
	}
	s.files.add(f)
	s.touch()
	return f, nil
}

// Limit is how many bytes the file may have.
func (f *File) Limit() int64 { return f.rule.MaxBytes }

// InOrder reports whether bytes of the file may only pass one after the other.
func (f *File) InOrder() bool { return f.rule.Keep }

// Unordered says that where the bytes come to lie is not known, so that they
// have no hash.
func (f *File) Unordered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum = nil
}

// Count notes bytes that pass of a file whose protocol is not looked into.
func (f *File) Count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum = nil
	f.event.Size += int64(n)
}

// Passed is how many bytes have passed.
func (f *File) Passed() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.event.Size
}

// Forget gives up a file of which nothing passed; its opening stays on record.
func (f *File) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over = true; f.copy != nil {
		f.copy.Abort()
	}
	f.session.files.remove(f)
}

// Take puts bytes of the file on record that lie at an offset. Only then may
// they pass; on an error they may not, and unless the session has ended, the file
// goes on without them.
func (f *File) Take(offset int64, p []byte) error {
	if err := f.session.Check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return refuseFile("the file is closed")
	}
	if err := f.allowed(); err != nil {
		return f.deny(err)
	}
	end := offset + int64(len(p))
	if offset < 0 || end < offset || end > f.rule.MaxBytes {
		return f.deny(refuseFile(fmt.Sprintf("the role does not allow files of more than %d bytes here", f.rule.MaxBytes)))
	}
	if f.copy != nil {
		if offset != f.next || f.sum == nil {
			return f.deny(refuseFile("a file of which a copy is kept passes in one piece, from its beginning on"))
		}
		if _, err := f.copy.Write(p); err != nil {
			return f.deny(&access.Error{Kind: access.ErrUnavailable, Code: "DB-5431", Text: err.Error()})
		}
	}
	if offset != f.next {
		f.sum = nil
	}
	f.next = end
	f.event.Size += int64(len(p))
	if f.sum != nil {
		f.sum.Write(p)
	}
	if f.event.Size-f.told >= partEvery {
		f.told = f.event.Size
		e := f.event
		e.What, e.SHA256 = "part", f.hash()
		return f.session.recorded(f.session.recording.File(e))
	}
	return nil
}

// allowed asks again when the session's rules have changed.
func (f *File) allowed() error {
	rules := f.session.Live.Allowed()
	if rules == f.rules {
		return nil
	}
	rule, err := AuthorizeFile(*rules, access.Direction(f.event.Direction), f.event.Path)
	if err != nil {
		return err
	}
	f.rules, f.rule.MaxBytes = rules, min(f.rule.MaxBytes, rule.MaxBytes)
	return nil
}

func (f *File) hash() string {
	if f.sum == nil {
		return ""
	}
	return hex.EncodeToString(f.sum.Sum(nil))
}

// deny notes what the file was refused; the first word counts.
func (f *File) deny(err error) error {
	if f.event.Result == "" {
		f.event.Result, f.event.Why = resultRefused, err.Error()
	}
	return err
}

// Refused is why something of the file was refused, or nil.
func (f *File) Refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.event.Result != resultRefused {
		return nil
	}
	return refuseFile(f.event.Why)
}

// Deny notes that something of the file was refused.
func (f *File) Deny(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deny(err)
}

// Fail notes that the target could not do what was asked.
func (f *File) Fail(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.event.Result == "" {
		f.event.Result, f.event.Why = resultFailed, why
	}
}

// Close puts on record what became of the file, in the recording and in the audit
// log. Only then may its end be told. Closing again does nothing.
func (f *File) Close() error { return f.close("") }

// close with a word closes what was never closed.
func (f *File) close(cut string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return nil
	}
	f.over = true
	f.session.files.remove(f)
	e := &f.event
	if e.What = "close"; e.Result == "" {
		e.Result = resultOK
		if cut != "" {
			e.Result, e.Why = resultCut, cut
		}
	}
	e.SHA256 = f.hash()
	if f.copy != nil {
		f.keep()
	}
	return f.session.account(f.via, *e)
}

// keep makes the copy durable: also of what was cut, which has passed as well.
func (f *File) keep() {
	if f.event.Size == 0 && f.event.Result != resultOK {
		f.copy.Abort()
		return
	}
	if err := f.copy.Commit(); err != nil {
		f.event.Result, f.event.Why = resultFailed, err.Error()
		f.session.cancel(fmt.Errorf("%w: %w", ErrNoRecording, err))
		return
	}
	f.event.Kept, f.event.KeptSHA256 = f.copy.Name, hex.EncodeToString(f.copy.SHA256[:])
}

// Asked puts on record what is asked about paths besides the content of files.
// Only then may it be asked.
func (s *Session) Asked(what, file, to string) error {
	if err := s.Check(); err != nil {
		return err
	}
	s.touch()
	return s.recorded(s.recording.File(recorder.FileEvent{What: what, Path: file, To: to}))
}

// Answered puts on record what became of something that changed a path.
func (s *Session) Answered(what, file, to string, why string) error {
	e := recorder.FileEvent{What: what, Path: file, To: to, Result: resultOK}
	if why != "" {
		e.Result, e.Why = resultFailed, why
	}
	return s.recorded(s.recording.File(e))
}

// RefusedFile puts a refusal on record, in the recording and in the audit log.
func (s *Session) RefusedFile(via, what string, d access.Direction, file, to string, why error) error {
	return s.account(via, recorder.FileEvent{What: "refuse " + what, Direction: string(d), Path: file, To: to, Result: resultRefused, Why: why.Error()})
}

// Reference puts on record, in the recording and in the audit log, what became of
// a reference of a repository that was wanted or changed.
func (s *Session) Reference(via, what string, d access.Direction, repository, reference, why string) error {
	e := recorder.FileEvent{What: what, Direction: string(d), Path: repository, To: reference, Result: resultOK}
	if why != "" {
		e.Result, e.Why = resultFailed, why
	}
	return s.account(via, e)
}

// account records the end of a file and has it audited.
func (s *Session) account(via string, e recorder.FileEvent) error {
	if err := s.recorded(s.recording.File(e)); err != nil {
		return err
	}
	t := broker.Transfer{Via: via, Direction: e.Direction, Path: e.Path, To: e.To, Bytes: e.Size, SHA256: e.SHA256,
		Result: e.Result, Why: e.Why, Kept: e.Kept, KeptHash: e.KeptSHA256}
	if what := strings.TrimPrefix(e.What, "refuse "); what != "close" {
		t.What = what
	}
	if !s.files.single(t) {
		return nil
	}
	return s.transferred(t)
}

// transferred has a transfer audited. What cannot be audited does not go on.
func (s *Session) transferred(t broker.Transfer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), closeWait)
	defer cancel()
	if err := s.bastion.cfg.Broker.Transferred(ctx, s.Live, t); err != nil {
		err = fmt.Errorf("%w: audit a file: %w", ErrFault, err)
		s.bastion.cfg.Log.ErrorContext(ctx, "audit a file", "session", s.Live.Session.ID, "error", err)
		s.cancel(err)
		return err
	}
	return nil
}

// Carry passes p on to dst like Forward, but leaves it to the caller to have
// recorded what it is.
func (s *Session) Carry(stream recorder.Stream, dst io.Writer, p []byte) error {
	if err := s.Check(); err != nil {
		return err
	}
	s.touch()
	n, err := dst.Write(p)
	s.bytes[stream].Add(int64(n))
	return err
}

// settleFiles accounts for the files that are still open when the session is over,
// and sums up those without an event of their own.
func (s *Session) settleFiles() {
	for _, f := range s.files.rest() {
		f.close("the session ended before the file was closed") // an error was logged
	}
	for _, t := range s.files.sums() {
		s.transferred(t)
	}
}
