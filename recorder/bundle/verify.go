package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A Report is what Verify found. Its zero value is not verified.
type Report struct {
	Verified bool // every check holds
	// Trusted says that the key that signed is one that the caller brought. A
	// report that is verified and not trusted says only that the bundle agrees
	// with itself.
	Trusted bool
	Key     string // name of the key that signed; of one that is known
	Checks  []Check
	Facts   Facts // as far as they are proven
}

// Problem is the first thing that does not hold; "" when all do.
func (r *Report) Problem() string {
	for _, c := range r.Checks {
		if c.Problem != "" {
			return c.Problem
		}
	}
	return ""
}

// A Check is one thing that must hold.
type Check struct {
	Name    string // archive, key, manifest, page, checkpoint, events, request, approvals, session, recording
	Says    string // what it proves, when it holds
	Problem string // what is wrong; "" when it holds
}

// Facts are what the proven leaves say. Nothing in it comes from elsewhere, but
// for what Needs says, which the request's digest covers.
type Facts struct {
	Session, Request, Grant string
	Person, Target, Account string
	Kind, Command, Source   string
	Opened, Closed          time.Time
	EndReason, ExitStatus   string

	Reason          string // of the request
	Requested       time.Time
	Needs           int // people that had to approve
	BreakGlass      bool
	Approvals       []Approval
	Rule            string // that let the request in
	PolicyDigest    string
	Decision        string
	Certificates    []Certificate
	RecordingSHA256 string // of the sealed file, which is not in the bundle

	Events     int
	Log        string // its origin
	Size       int64  // of the log that the checkpoint covers
	Checkpoint time.Time
	ClosedBy   time.Time // when the end of the session was first signed; zero: not known
	Made       time.Time // when the server says that the bundle was made
	Recorded   time.Duration
	Chunks     int
}

// An Approval is one person's yes.
type Approval struct {
	Name    string
	At      time.Time
	Comment string
	Seq     int64 // of the event
}

// A Certificate is one that was issued for the session.
type Certificate struct {
	Serial, Key, KeyID, Principal, Target string
	At                                    time.Time
}

// Verify checks a bundle of size bytes. trusted are the keys that the caller
// knows from elsewhere; with none, those in the bundle are taken, and Trusted
// stays false. All checks are made, also after one has failed. The error is a
// failure to read; whatever is wrong with the bundle is told in the Report.
func Verify(r io.ReaderAt, size int64, trusted []note.Verifier) (Report, error) {
	v := &verifier{trusted: trusted}
	err := v.run(r, size)
	if err != nil {
		v.report.Verified = false
		return v.report, fmt.Errorf("verify evidence: %w", err)
	}
	v.report.Verified = v.report.Problem() == ""
	return v.report, nil
}

type verifier struct {
	trusted []note.Verifier
	p       *packed
	report  Report

	manifest Manifest
	keys     []note.Verifier // of the bundle; the log's first
	log      note.Verifier   // whose signatures count
	point    audit.Checkpoint
	earlier  audit.Checkpoint

	// Of the events that are proven.
	create, asked, grant, open, close *audit.Event
	sealed                            *audit.Event // the one that names the recording
	votes                             []audit.Event
	shown                             shown // what the approvers were shown
}

// maxKept bounds how many votes and certificates are told of.
const maxKept = 256

func (v *verifier) run(r io.ReaderAt, size int64) error {
	var err error
	// Each check says what it proves, or fails with what is wrong.
	for _, c := range []struct {
		name string
		do   func() (string, error)
	}{
		{"archive", func() (string, error) {
			v.p, err = readArchive(r, size)
			return fmt.Sprintf("an archive of %d files, as drawbolt packs it", len(files())), err
		}},
		{"key", v.checkKey},
		{"manifest", v.checkManifest},
		{"page", v.checkPage},
		{"checkpoint", v.checkCheckpoint},
		{"events", v.checkEvents},
		{"request", v.checkRequest},
		{"approvals", v.checkApprovals},
		{"session", v.checkSession},
		{"recording", v.checkRecording},
	} {
		says, err := c.do()
		v.report.Facts.Session = v.manifest.Session
		wrong, isShape := errors.AsType[*shapeError](err)
		switch {
		case err == nil:
			v.report.Checks = append(v.report.Checks, Check{Name: c.name, Says: says})
		case isShape:
			v.report.Checks = append(v.report.Checks, Check{Name: c.name, Problem: wrong.text})
			if c.name == "archive" {
				return nil // there is nothing to look at
			}
		default:
			return err
		}
	}
	return nil
}

// read returns a small file.
func (v *verifier) read(name string) ([]byte, error) { return io.ReadAll(v.p.open(name)) }

// checkKey finds whose signatures count. The manifest is what says.
func (v *verifier) checkKey() (string, error) {
	text, err := v.read(fileKeys)
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 || len(lines) > maxKeys || lines[len(lines)-1] != "" {
		return "", shape("%s does not hold one key a line", fileKeys)
	}
	for _, line := range lines[:len(lines)-1] {
		k, err := note.NewVerifier(line)
		if err != nil {
			v.keys = nil
			return "", shape("%s holds something that is no key", fileKeys)
		}
		v.keys = append(v.keys, k)
	}
	own := v.keys[0]
	v.log = own
	v.report.Key = own.Name()
	if len(v.trusted) == 0 {
		return fmt.Sprintf("checked with the key %s, which lies in the evidence itself", own.Name()), nil
	}
	manifest, err := v.read(fileManifest)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(v.trusted, func(k note.Verifier) bool {
		_, err := openNote(manifest, k)
		return err == nil
	})
	if at < 0 { // the other checks tell whether it agrees with itself at least
		return "", shape("the evidence is signed with another key than the ones that are trusted")
	}
	v.log = v.trusted[at]
	if v.log.Name() != own.Name() || v.log.KeyHash() != own.KeyHash() {
		return "", shape("%s names another key of the log than the one that signed", fileKeys)
	}
	v.report.Trusted = true
	return fmt.Sprintf("signed with the trusted key %s", v.log.Name()), nil
}

func (v *verifier) checkManifest() (string, error) {
	if v.log == nil {
		return "", shape("the manifest cannot be checked without a key")
	}
	msg, err := v.read(fileManifest)
	if err != nil {
		return "", err
	}
	text, err := openNote(msg, v.log)
	if err != nil {
		return "", shape("the manifest is not signed with the key %s: %v", v.log.Name(), err)
	}
	if v.manifest, err = parseManifest(text); err != nil {
		return "", shape("%v", err)
	}
	v.report.Facts.Made = v.manifest.Made
	var wrong []string
	listed := files()[:len(files())-2]
	for i, f := range listed {
		if i >= len(v.manifest.Files) || v.manifest.Files[i].Name != f.name {
			return "", shape("the manifest does not list the file %s", f.name)
		}
		want := v.manifest.Files[i]
		h := sha256.New()
		n, err := io.Copy(h, v.p.open(f.name))
		if s, ok := errors.AsType[*shapeError](err); ok {
			wrong = append(wrong, s.text)
		} else if err != nil {
			return "", err
		} else if n != want.Size || [32]byte(h.Sum(nil)) != want.SHA256 {
			wrong = append(wrong, fmt.Sprintf("%s is not the file that was signed: its SHA-256 is %x, the manifest says %x", f.name, h.Sum(nil), want.SHA256))
		}
	}
	if len(v.manifest.Files) != len(listed) {
		wrong = append(wrong, "the manifest lists a file that does not belong to evidence")
	}
	if len(wrong) > 0 {
		return "", shape("%s", strings.Join(wrong, "; "))
	}
	return fmt.Sprintf("%d files unchanged since they were signed at %s", len(listed), v.manifest.Made.Format(time.RFC3339)), nil
}

// checkPage checks that the page is the one that was made, and that it carries
// the files beside it or none.
func (v *verifier) checkPage() (string, error) {
	if v.manifest.Session == "" {
		return "", shape("%s cannot be checked without a manifest", filePage)
	}
	r, h := bufio.NewReaderSize(v.p.open(filePage), 64<<10), sha256.New()
	found, err := upTo(r, pageMark, h)
	if err != nil {
		return "", err
	}
	data := &pageData{r: r}
	beside := io.NewSectionReader(v.p.r, 0, int64(v.p.find(filePage).offset))
	same, err := equal(base64.NewDecoder(base64.StdEncoding.Strict(), data), beside)
	same = same && err == nil
	// What is left of it is read all the same: which page it is counts first.
	if _, err := io.Copy(io.Discard, data); err != nil {
		return "", err
	}
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	switch {
	case !found || [32]byte(h.Sum(nil)) != v.manifest.Page:
		return "", shape("%s is not the page that was made with this evidence: do not trust what it shows", filePage)
	case data.n == 0:
		return "verify.html is the page that was made; the files are too large for it to carry", nil
	case !same || data.broken:
		return "", shape("%s carries other files than those beside it", filePage)
	}
	return "verify.html is the page that was made, and carries these files", nil
}

// upTo copies r to w up to the end of the first mark, and reports whether there
// is one.
func upTo(r *bufio.Reader, mark string, w io.Writer) (bool, error) {
	for matched := 0; matched < len(mark); {
		c, err := r.ReadByte()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		w.Write([]byte{c}) // a hash takes all
		switch c {
		case mark[matched]:
			matched++
		case mark[0]: // which the mark has at its beginning only
			matched = 1
		default:
			matched = 0
		}
	}
	return true, nil
}

// pageData is what stands from here to the next tag.
type pageData struct {
	r      *bufio.Reader
	n      int64
	broken bool // it has line ends, which a decoder of base64 would pass over
}

// Read implements io.Reader.
func (d *pageData) Read(b []byte) (int, error) {
	next, err := d.r.Peek(1)
	if err != nil {
		return 0, err
	}
	next, _ = d.r.Peek(min(len(b), max(d.r.Buffered(), len(next))))
	if i := bytes.IndexByte(next, '<'); i >= 0 {
		next = next[:i]
	}
	if len(next) == 0 {
		return 0, io.EOF
	}
	d.broken = d.broken || bytes.ContainsAny(next, "\r\n")
	n := copy(b, next)
	d.n += int64(n)
	_, err = d.r.Discard(n)
	return n, err
}

func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, berr := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		over := err == io.EOF || err == io.ErrUnexpectedEOF
		if over || err != nil || berr != nil {
			if over && (berr == io.EOF || berr == io.ErrUnexpectedEOF) {
				return true, nil
			}
			return false, errors.Join(err, berr)
		}
	}
}

func (v *verifier) checkCheckpoint() (string, error) {
	if v.log == nil {
		return "", shape("the checkpoint cannot be checked without a key")
	}
	msg, err := v.read(fileCheckpoint)
	if err != nil {
		return "", err
	}
	point, err := audit.OpenCheckpoint(msg, v.log)
	if err != nil {
		return "", shape("the checkpoint is not one that %s signed: %v", v.log.Name(), err)
	}
	v.point = point
	f := &v.report.Facts
	f.Log, f.Size, f.Checkpoint = point.Origin, point.Size, point.Time
	var e earlierFile
	b, err := v.read(fileEarlier)
	if err != nil {
		return "", err
	}
	if json.Unmarshal(b, &e) != nil || len(e.Consistency) > 2*maxInclusion {
		return "", shape("%s cannot be read", fileEarlier)
	}
	early, err := audit.OpenCheckpoint([]byte(e.Checkpoint), v.log)
	if err != nil {
		return "", shape("the earlier checkpoint is not one that %s signed: %v", v.log.Name(), err)
	}
	var proof tlog.TreeProof
	for _, text := range e.Consistency {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return "", shape("%s cannot be read", fileEarlier)
		}
		proof = append(proof, h)
	}
	if err := audit.CheckConsistency(early, point, proof); err != nil {
		return "", shape("the earlier checkpoint belongs to another log: %v", err)
	}
	v.earlier = early
	return fmt.Sprintf("the log %s had %d events at %s, signed", point.Origin, point.Size, point.Time.Format(time.RFC3339)), nil
}

// each gives every event of the bundle to fn, with its line.
func (v *verifier) each(fn func(line int, e Event) error) error {
	lines := bufio.NewScanner(v.p.open(fileEvents))
	lines.Buffer(make([]byte, 0, 4<<10), maxEventLine)
	n := 0
	for lines.Scan() {
		if n++; n > MaxEvents {
			return shape("%s holds more than %d events", fileEvents, MaxEvents)
		}
		e, err := parseLine(lines.Bytes())
		if err != nil {
			return shape("line %d of %s is %v", n, fileEvents, err)
		}
		if err := fn(n, e); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return shape("line %d of %s is too long", n+1, fileEvents)
	}
	return lines.Err()
}

// checkEvents checks that each event stands in the log, and keeps what the
// other checks need of those that do.
func (v *verifier) checkEvents() (string, error) {
	if v.point.Size == 0 {
		return "", shape("the events cannot be checked without a checkpoint")
	}
	id := v.manifest.Session
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	last, n := int64(-1), 0
	err := v.each(func(line int, x Event) error {
		n++
		e, err := audit.Parse(x.Leaf)
		if err != nil {
			bad("line %d of %s is not an event with its proof: %v", line, fileEvents, err)
			return nil
		}
		if err := audit.CheckInclusion(v.point, x.Leaf, x.Inclusion); err != nil {
			bad("event %d (%s) does not stand in the signed log: it was changed, or its proof was", e.Seq, e.Action)
			return nil
		}
		if e.Seq <= last {
			bad("event %d stands behind event %d", e.Seq, last)
			return nil
		}
		last = e.Seq
		v.keep(e, id)
		return nil
	})
	if err != nil {
		return "", err
	}
	f := &v.report.Facts
	f.Events = n
	if v.open != nil {
		err = v.each(func(_ int, x Event) error {
			e, err := audit.Parse(x.Leaf)
			if err == nil && e.Session != id && e.Object != id && e.Object != v.open.Request && e.Object != v.open.Grant {
				bad("event %d (%s) concerns neither the session nor its request", e.Seq, e.Action)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	if len(wrong) > 3 {
		wrong = append(wrong[:3], fmt.Sprintf("and %d more", len(wrong)-3))
	}
	if len(wrong) > 0 {
		return "", shape("%s", strings.Join(wrong, "; "))
	}
	return fmt.Sprintf("%d events, each proven to stand in the signed log", n), nil
}

func (v *verifier) keep(e audit.Event, session string) {
	if e.Outcome != audit.Done {
		return
	}
	own := e.Session == session && e.Object == session
	switch {
	case e.Action == "request.create" && e.Object == e.Request:
		v.create, v.asked = &e, &e
	case e.Action == "request.edit" && e.Object == e.Request: // something else is asked for
		v.asked = &e
	case e.Action == "request.approve" && len(v.votes) < maxKept:
		v.votes = append(v.votes, e)
	case e.Action == "request.object": // a yes that became a no
		v.votes = slices.DeleteFunc(v.votes, func(vote audit.Event) bool { return vote.Actor == e.Actor })
	case e.Action == "grant.open":
		v.grant = &e
	case e.Action == "session.open" && own:
		v.open = &e
	case e.Action == "session.close" && own:
		v.close = &e
		if e.Details["recording_sha256"] != "" {
			v.sealed = &e
		}
	case e.Action == "session.seal" && own: // it was sealed later
		v.sealed = &e
	case e.Action == "certificate.issue" && e.Session == session && len(v.report.Facts.Certificates) < maxKept:
		v.report.Facts.Certificates = append(v.report.Facts.Certificates, Certificate{
			Serial: e.Details["serial"], Key: e.Details["key"], KeyID: e.Object, Principal: e.Account, Target: e.Target, At: e.Time,
		})
	}
}

// shown is what request.json says, as far as it is looked at.
type shown struct {
	ID, Requester, Account, Reason string
	BreakGlass                     bool
	Needs                          []struct{ Count int }
}

func (v *verifier) checkRequest() (string, error) {
	text, err := v.read(fileRequest)
	if err != nil {
		return "", err
	}
	h := sum(text)
	digest := hex.EncodeToString(h[:])
	if v.create == nil || v.grant == nil {
		return "", shape("no proven event tells that the access was asked for and granted")
	}
	for _, e := range []*audit.Event{v.asked, v.grant} {
		if e.Details["digest"] != digest {
			return "", shape("%s is not the request that event %d (%s) names: its SHA-256 is %s", fileRequest, e.Seq, e.Action, digest)
		}
	}
	if err := json.Unmarshal(text, &v.shown); err != nil || v.shown.ID != v.create.Object || v.grant.Request != v.shown.ID || v.shown.Requester != v.create.Actor {
		return "", shape("%s is not the request of the events", fileRequest)
	}
	f := &v.report.Facts
	f.Request, f.Reason, f.Requested, f.BreakGlass = v.shown.ID, v.shown.Reason, v.create.Time, v.shown.BreakGlass
	f.Rule, f.PolicyDigest, f.Decision = v.asked.Rule, v.asked.Details["policy"], v.asked.Details["decision"]
	return fmt.Sprintf("%s is what was asked for and shown to the approvers, by its digest", v.shown.ID), nil
}

func (v *verifier) checkApprovals() (string, error) {
	if v.shown.ID == "" {
		return "", shape("the approvals cannot be counted without the request")
	}
	f := &v.report.Facts
	for _, n := range v.shown.Needs {
		if n.Count > 0 && n.Count <= maxKept {
			f.Needs += n.Count
		}
	}
	people := map[string]bool{}
	for _, e := range v.votes {
		if e.Object != v.shown.ID || e.Details["digest"] != v.grant.Details["digest"] || e.Actor == v.shown.Requester || people[e.Actor] || e.Time.After(v.grant.Time) {
			continue
		}
		people[e.Actor] = true
		if err := v.checkStatement(e); err != nil {
			return "", err
		}
		f.Approvals = append(f.Approvals, Approval{Name: e.ActorName, At: e.Time, Comment: e.Reason, Seq: e.Seq})
	}
	switch {
	case v.shown.BreakGlass:
		return "break-glass: it was opened without waiting for approval", nil
	case len(people) < f.Needs:
		return "", shape("%d people had to approve, and there are proven approvals of %d", f.Needs, len(people))
	case f.Needs == 0:
		return "the policy asked for nobody's approval", nil
	}
	return fmt.Sprintf("approved by %d of %d people who had to, before the access was opened", len(people), f.Needs), nil
}

// checkStatement checks that a vote which bears a statement bears its own.
func (v *verifier) checkStatement(e audit.Event) error {
	line, signature := e.Details["statement"], e.Details["signature"]
	if line == "" && signature == "" {
		return nil // from before there were any
	}
	s, err := audit.OpenVote(audit.JoinVote(line, signature, v.log.Name()), v.log)
	if err != nil {
		return shape("the statement of event %d (%s): %v", e.Seq, e.Action, err)
	}
	if !s.Yes || s.Person != e.Actor || s.Request != e.Object || s.Digest != e.Details["digest"] {
		return shape("the statement of event %d (%s) is of another vote", e.Seq, e.Action)
	}
	return nil
}

func (v *verifier) checkSession() (string, error) {
	id := v.manifest.Session
	if v.open == nil {
		return "", shape("no proven event tells that %s was opened", id)
	}
	f := &v.report.Facts
	e := v.open
	f.Grant, f.Person, f.Target, f.Account, f.Source = e.Grant, e.ActorName, e.Target, e.Account, e.Source
	f.Kind, f.Command, f.Opened = e.Details["kind"], e.Details["command"], e.Time
	switch {
	case v.shown.ID == "" || e.Request != v.shown.ID || e.Grant != v.grant.Object || e.Actor != v.shown.Requester || e.Account != v.shown.Account || e.Target != v.grant.Target:
		return "", shape("%s was not opened under the request that is shown here", id)
	case v.close == nil:
		return "", shape("no proven event tells how %s ended", id)
	case v.close.Request != e.Request || v.close.Grant != e.Grant:
		return "", shape("the events of %s contradict each other", id)
	}
	f.Closed, f.EndReason, f.ExitStatus = v.close.Time, v.close.Details["end"], v.close.Details["exit_status"]
	says := fmt.Sprintf("%s: %s as %s on %s, from %s to %s", id, f.Person, f.Account, f.Target, f.Opened.Format(time.RFC3339), f.Closed.Format(time.RFC3339))
	if v.close.Seq < v.earlier.Size {
		f.ClosedBy = v.earlier.Time
		says += "; its end was signed by " + f.ClosedBy.Format(time.RFC3339)
	}
	return says, nil
}

func (v *verifier) checkRecording() (string, error) {
	keys := slices.Clone(v.keys)
	if v.log != nil && !slices.ContainsFunc(keys, func(k note.Verifier) bool { return k.Name() == v.log.Name() && k.KeyHash() == v.log.KeyHash() }) {
		keys = append(keys, v.log)
	}
	rep, err := cast.Verify(v.p.open(fileCast), note.VerifierList(keys...))
	if d, ok := errors.AsType[*cast.DamageError](err); ok {
		return "", shape("%v", d)
	}
	if err != nil {
		return "", err
	}
	f := &v.report.Facts
	f.Recorded, f.Chunks = rep.Seal.Duration, rep.Chunks
	head := hex.EncodeToString(rep.Seal.Journal[:])
	switch {
	case rep.Seal.ID != v.manifest.Session:
		return "", shape("the recording is that of %s and not of %s", rep.Seal.ID, v.manifest.Session)
	case v.sealed == nil:
		return "", shape("no proven event names the recording")
	case v.sealed.Details["recording_head"] != "" && v.sealed.Details["recording_head"] != head:
		return "", shape("the recording was made from the journal %s, event %d says %s", head, v.sealed.Seq, v.sealed.Details["recording_head"])
	}
	f.RecordingSHA256 = v.sealed.Details["recording_sha256"]
	says := fmt.Sprintf("%d chunks, %d events, sealed by %s", rep.Chunks, rep.Seal.Events, rep.Key)
	if v.sealed.Details["recording_head"] == "" {
		says += "; the log does not name its journal, so it is bound to the session by its seal alone"
	}
	if rep.Seal.Aborted {
		says += "; the server died before the session ended, and what was recorded until then is whole"
	}
	return says, nil
}

// openNote checks that msg bears k's signature and no other, in the one way to
// spell it, and returns the text.
func openNote(msg []byte, k note.Verifier) (string, error) {
	n, err := note.Open(msg, note.VerifierList(k))
	if err != nil {
		return "", err
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return "", errors.New("it must bear one signature")
	}
	sig := n.Sigs[0]
	if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil || string(msg) != fmt.Sprintf("%s\n\u2014 %s %s\n", n.Text, sig.Name, sig.Base64) {
		return "", errors.New("the signature is spelled in another way")
	}
	return n.Text, nil
}
