// Package bundle is the evidence of one session as a file that proves itself
// without the server it came from: the recording, the events of the audit log
// that concern it, the proof that each of them stands in the signed log, the
// request that was approved, and a page that verifies and plays all of it in a
// browser that has no network. docs/formats/bundle.md is enough to write another
// reader.
//
// Write makes it and Verify checks it. Verify trusts the keys that it is given
// and nothing in the file: it works out what it tells of the session from leaves
// that are proven, and says which facts are only told. Without a key it can only
// find that the file agrees with the key that lies in it.
//
// Whoever can change a bundle, and has not the key, can at most make Verify fail.
// Whoever made it chose which events are in it: a proof shows that an event is in
// the log, and none shows that there is no other.
//
// The package asks nobody whether somebody may have the evidence, and looks
// nothing up: the caller brings all that is in it.
package bundle

import (
	"bytes"
	_ "embed" // the page
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// The files of a bundle, in the order in which they stand in it.
const (
	fileReadme     = "README.txt"
	fileEvents     = "events.jsonl"
	fileCheckpoint = "checkpoint"
	fileEarlier    = "earlier.json"
	fileKeys       = "keys.txt"
	fileRequest    = "request.json"
	fileTold       = "told.json"
	fileCast       = "session.cast"
	fileText       = "session.txt"
	fileManifest   = "manifest"
	filePage       = "verify.html"
)

// A limit is a file of the bundle and how many bytes it may have unpacked.
type limit struct {
	name string
	most int64
}

// files lists the files in their order; there are no others.
func files() []limit {
	return []limit{
		{fileReadme, 64 << 10}, {fileEvents, 512 << 20}, {fileCheckpoint, 4 << 10}, {fileEarlier, 64 << 10}, {fileKeys, 16 << 10},
		{fileRequest, 1 << 20}, {fileTold, 16 << 20}, {fileCast, MaxRecording}, {fileText, MaxRecording}, {fileManifest, 16 << 10}, {filePage, 64 << 20},
	}
}

const (
	// MaxEvents is how many events a bundle may have.
	MaxEvents = 20_000
	// MaxRecording bounds the recording, and its transcript, in bytes.
	MaxRecording = 1 << 30

	maxInclusion = 64       // hashes: a log of 2^63 events has no more
	maxEventLine = 48 << 10 // a leaf and its proof
	maxInline    = 16 << 20 // bytes of the packed files that the page carries in itself
	maxUnpacked  = 256 << 20
	maxKeys      = 16
)

// An Event is a leaf of the audit log with the proof that it stands in the log
// of the bundle's checkpoint.
type Event struct {
	Leaf      []byte
	Inclusion tlog.RecordProof
}

// Evidence is what goes into a bundle.
type Evidence struct {
	Session string
	Made    time.Time
	Events  []Event // in the order of the log

	Checkpoint []byte // signed note to which every event is proven
	// Earlier is the first checkpoint that covered the end of the session, which
	// tells how soon that was signed; Consistency proves that its log is the
	// beginning of Checkpoint's.
	Earlier     []byte
	Consistency tlog.TreeProof

	// Keys are the verifier keys: the log's first, then those of recordings.
	Keys []string
	// Request is the text whose SHA-256 the approvals name.
	Request []byte
	// Told is JSON with what the server knows besides and no leaf proves.
	Told []byte
	// Recording opens the sealed cast. It is called up to four times, and must
	// give the same bytes each time.
	Recording func() (io.ReadCloser, error)
	Signer    note.Signer // of the log
}

// page is verify.html without the evidence.
//
//go:embed page.html
var page []byte

// pageMark is where the evidence goes in the page: it stands there once.
const pageMark = `<script type="application/octet-stream" id="evidence">`

// Write writes the bundle to w, and holds at most some 100 MiB. What it writes
// depends only on e. The evidence of a damaged recording is written as well, and
// does not verify. After an error w holds a part of a bundle that does not
// verify.
func Write(w io.Writer, e Evidence) error {
	if err := write(w, e, page, maxInline); err != nil {
		return fmt.Errorf("write evidence of %s: %w", e.Session, err)
	}
	return nil
}

func write(w io.Writer, e Evidence, page []byte, most int) error {
	if len(e.Events) > MaxEvents {
		return fmt.Errorf("%d events, at most %d", len(e.Events), MaxEvents)
	}
	before, after, ok := bytes.Cut(page, []byte(pageMark))
	if !ok {
		return errors.New("the page has no place for the evidence")
	}
	inline := &capped{most: most} // the archive so far
	a := newArchive(io.MultiWriter(w, inline))
	m := Manifest{Session: e.Session, Made: e.Made.UTC().Truncate(time.Microsecond), Page: sum(page)}
	earlier, err := json.Marshal(earlierFile{string(e.Earlier), hashTexts(e.Consistency)})
	if err != nil {
		return err
	}
	contents := map[string]func() (io.ReadCloser, error){
		fileReadme:     whole([]byte(readme)),
		fileEvents:     func() (io.ReadCloser, error) { return piped(e.writeEvents), nil },
		fileCheckpoint: whole(e.Checkpoint),
		fileEarlier:    whole(append(earlier, '\n')),
		fileKeys:       whole([]byte(strings.Join(e.Keys, "\n") + "\n")),
		fileRequest:    whole(e.Request),
		fileTold:       whole(e.Told),
		fileCast:       e.Recording,
		fileText: func() (io.ReadCloser, error) {
			r, err := e.Recording()
			if err != nil {
				return nil, err
			}
			return piped(func(w io.Writer) error {
				defer r.Close()
				err := cast.Text(w, r)
				if _, damaged := errors.AsType[*cast.DamageError](err); damaged {
					return nil // the text says where, and so does Verify
				}
				return err
			}), nil
		},
	}
	var unpacked int64
	for _, f := range files() {
		switch f.name {
		case fileManifest:
			signed, err := m.sign(e.Signer)
			if err != nil {
				return err
			}
			if _, err := a.add(f, whole(signed)); err != nil {
				return err
			}
		case filePage:
			data := inline.bytes()
			if unpacked > maxUnpacked {
				data = nil // the page asks for the file
			}
			open := func() (io.ReadCloser, error) {
				return piped(func(w io.Writer) error { return writePage(w, before, data, after) }), nil
			}
			if _, err := a.add(f, open); err != nil {
				return err
			}
		default:
			made, err := a.add(f, contents[f.name])
			if err != nil {
				return err
			}
			unpacked += made.Size
			m.Files = append(m.Files, made)
		}
	}
	return a.close()
}

func writePage(w io.Writer, before, data, after []byte) error {
	if _, err := w.Write(append(bytes.Clone(before), pageMark...)); err != nil {
		return err
	}
	b := base64.NewEncoder(base64.StdEncoding, w)
	if _, err := b.Write(data); err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	_, err := w.Write(after)
	return err
}

func (e *Evidence) writeEvents(w io.Writer) error {
	for _, x := range e.Events {
		if _, err := w.Write(x.line()); err != nil {
			return err
		}
	}
	return nil
}

// line is the event as it stands in events.jsonl: JSON for people and tools, and
// the leaf in it byte for byte.
func (e Event) line() []byte {
	b := []byte(`{"inclusion":[`)
	for i, h := range e.Inclusion {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, h.String()...)
		b = append(b, '"')
	}
	b = append(b, `],"leaf":`...)
	b = append(b, e.Leaf...)
	return append(b, "}\n"...)
}

// parseLine reads a line without its newline. It takes only what line writes.
func parseLine(line []byte) (Event, error) {
	bad := errors.New("not an event with its proof")
	rest, ok := bytes.CutPrefix(line, []byte(`{"inclusion":[`))
	proof, leaf, found := bytes.Cut(rest, []byte(`],"leaf":`))
	if !ok || !found || len(leaf) == 0 {
		return Event{}, bad
	}
	e := Event{Leaf: leaf[:len(leaf)-1]}
	if len(proof) > 0 {
		for text := range strings.SplitSeq(string(proof), ",") {
			h, err := tlog.ParseHash(strings.Trim(text, `"`))
			if err != nil || len(e.Inclusion) == maxInclusion {
				return Event{}, bad
			}
			e.Inclusion = append(e.Inclusion, h)
		}
	}
	if made := e.line(); !bytes.Equal(made[:len(made)-1], line) {
		return Event{}, bad
	}
	return e, nil
}

// earlierFile is earlier.json.
type earlierFile struct {
	Checkpoint  string   `json:"checkpoint"`
	Consistency []string `json:"consistency"`
}

func hashTexts(list []tlog.Hash) []string {
	out := make([]string, 0, len(list))
	for _, h := range list {
		out = append(out, h.String())
	}
	return out
}

// A Manifest is the signed list of the files.
type Manifest struct {
	Session string
	Made    time.Time
	Page    [32]byte // SHA-256 of verify.html without the evidence in it
	Files   []File   // all but the manifest and the page
}

// A File is one line of the manifest.
type File struct {
	Name   string
	Size   int64
	SHA256 [32]byte
}

// ManifestFirst is the first line of the signed list of the files.
const ManifestFirst = "drawbolt evidence 1"

const timeLayout = "2006-01-02T15:04:05.000000Z"

// text is what is signed. Its first line is none that a checkpoint or the seal
// of a recording can have, which the same key may sign.
func (m *Manifest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nsession %s\nmade %s\npage %x\n", ManifestFirst, m.Session, m.Made.Format(timeLayout), m.Page)
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file %x %d %s\n", f.SHA256, f.Size, f.Name)
	}
	return b.String()
}

func (m *Manifest) sign(s note.Signer) ([]byte, error) {
	if _, err := parseManifest(m.text()); err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: m.text()}, s)
}

// parseManifest reads the signed text. It takes only what text writes.
func parseManifest(text string) (Manifest, error) {
	bad := errors.New("the manifest is not one that this program can read")
	lines := strings.Split(text, "\n")
	if len(lines) < 5 || len(lines) > 5+len(files()) {
		return Manifest{}, bad
	}
	var m Manifest
	// What does not parse leaves a zero, and the comparison at the end refuses it.
	m.Session = strings.TrimPrefix(lines[1], "session ")
	m.Made, _ = time.Parse(timeLayout, strings.TrimPrefix(lines[2], "made "))
	readHex(m.Page[:], strings.TrimPrefix(lines[3], "page "))
	for _, line := range lines[4 : len(lines)-1] {
		var f File
		w := strings.SplitN(line, " ", 4)
		if len(w) != 4 {
			return Manifest{}, bad
		}
		readHex(f.SHA256[:], w[1])
		if _, err := fmt.Sscanf(w[2], "%d", &f.Size); err != nil {
			return Manifest{}, bad
		}
		f.Name = w[3]
		m.Files = append(m.Files, f)
	}
	if m.text() != text || m.Session == "" || len(m.Session) > 128 {
		return Manifest{}, bad
	}
	return m, nil
}

func readHex(to []byte, text string) {
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(to) {
		copy(to, b)
	}
}

func whole(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// piped reads what fn writes. The goroutine ends when the reader is closed.
func piped(fn func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(fn(w)) }()
	return r
}

// A capped buffer takes all, and keeps it unless it is more than most.
type capped struct {
	b    bytes.Buffer
	most int
	full bool
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	if c.full = c.full || c.b.Len()+len(p) > c.most; c.full {
		c.b = bytes.Buffer{}
	} else {
		c.b.Write(p)
	}
	return len(p), nil
}

// bytes returns what was written, or nil when that was too much.
func (c *capped) bytes() []byte {
	if c.full {
		return nil
	}
	return c.b.Bytes()
}

const readme = `This is the evidence of one session that went through a drawbolt server. It proves
itself: neither that server nor a network is needed to check it.

In a browser: unpack the archive and open verify.html. Paste the public key of the
server's audit log, which you were given on another way than this file. Without it the
page can only tell that the files agree with the key that lies beside them.

On a command line:

    drawbolt verify FILE.zip --key audit.pub

The page came in the same archive as what it checks. Who does not trust it uses the
program, or a page from elsewhere, in which this archive can be chosen.

  events.jsonl   events of the audit log that concern the session and the request, each
                 with the proof that it stands in the signed log
  checkpoint     the signed head of the log to which these proofs lead
  earlier.json   the first head that covered the end of the session, and the proof that
                 it belongs to the same log
  keys.txt       public keys: of the log, and of recordings
  request.json   what was asked for, as it was shown to those who approved it; its
                 SHA-256 is in their approvals
  told.json      what the server knows besides; nothing proves it
  session.cast   the recording with its seal; asciinema plays it
  session.txt    the same as text
  manifest       the SHA-256 of each of these files, signed with the log's key
  verify.html    checks all of this in a browser, and plays the recording

The one who was recorded chose what session.cast holds. Do not print it on a terminal:
"drawbolt replay session.cast" and verify.html show only what cannot act there.
`
