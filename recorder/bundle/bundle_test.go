package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

const origin = "gw.example.com/audit"

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A world is a server's log and recordings.
type world struct {
	log, recorder       note.Signer
	logKey, recorderKey string
	leaves              [][]byte
	hashes              []tlog.Hash
	request             []byte
	casts               map[string][]byte
	early               []byte // the first checkpoint that covers the end
	events              []int64
}

func (w *world) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		out = append(out, w.hashes[i])
	}
	return out, nil
}

func (w *world) add(e audit.Event) int64 {
	e.Seq = int64(len(w.leaves))
	e.Time = noon.Add(time.Duration(e.Seq) * time.Second)
	if e.Outcome == "" {
		e.Outcome = audit.Done
	}
	if e.Actor == "" {
		e.Actor = "system"
	}
	leaf := must(e.Marshal())
	w.hashes = append(w.hashes, must(audit.Append(e.Seq, leaf, w))...)
	w.leaves = append(w.leaves, leaf)
	return e.Seq
}

func (w *world) checkpoint() []byte {
	n := int64(len(w.leaves))
	return must(audit.Checkpoint{Origin: w.log.Name(), Size: n, Root: must(audit.TreeRoot(n, w)), Time: noon.Add(time.Hour + time.Duration(n)*time.Second)}.Sign(w.log))
}

// record seals a recording of a session.
func (w *world) record(id, journal string, lines int) []byte {
	var b bytes.Buffer
	c := must(cast.NewWriter(&b, cast.Header{ID: id, Kind: "shell", Started: noon, Width: 100, Height: 30, Terminal: "xterm"}, w.recorder))
	put := func(at time.Duration, s cast.Stream, text string) {
		if err := c.Write(cast.Event{At: at, Stream: s, Data: []byte(text)}); err != nil {
			panic(err)
		}
	}
	put(0, cast.Output, "\x1b]0;a title\x07\x1b]52;c;ZXZpbA==\x07root@db01:~# ")
	put(time.Second, cast.Input, "uptime\r")
	put(time.Second, cast.Output, "uptime\r\n 12:00:00 up 41 days, \x1b[32mload average: 0.00\x1b[0m\r\n")
	put(2*time.Second, cast.Resize, "90x25")
	put(2*time.Second, cast.Mark, "connection 1 opened")
	put(2*time.Second, cast.Hidden, "12 keys hidden, echo off")
	put(2*time.Second, cast.Stderr, "<img src=x onerror=alert(1)> \xff\xfe warnung\r\n")
	for i := range lines {
		put(3*time.Second+time.Duration(i)*time.Millisecond, cast.Output, fmt.Sprintf("line %d of a long listing %x\r\n", i, i*7919))
	}
	put(3*time.Second+time.Duration(lines)*time.Millisecond, cast.Exit, "0")
	head := sha256.Sum256([]byte(journal))
	must(c.Seal(cast.End{At: 4*time.Second + time.Duration(lines)*time.Millisecond, Reason: "exited", Journal: head}))
	return b.Bytes()
}

// newWorld has alice ask for root on db01, bob approve it, and two sessions run.
func newWorld(log, recorder note.Signer, logKey, recorderKey string) *world {
	w := &world{log: log, recorder: recorder, logKey: logKey, recorderKey: recorderKey, casts: map[string][]byte{}}
	w.request = []byte(`{"Format":"drawbolt request 1","ID":"REQ-1","Requester":"USR-alice","Target":"TGT-1","Account":"root","Reason":"INC-42 <b>replication</b> lag","Seconds":3600,"BreakGlass":false,"Needs":[{"Count":1,"Groups":["approvers"]}]}`)
	sum := sha256.Sum256(w.request)
	digest := hex.EncodeToString(sum[:])
	alice := audit.Event{Actor: "USR-alice", ActorName: "alice", Source: "192.0.2.7", Target: "db01", Account: "root", Request: "REQ-1"}
	event := func(of audit.Event, action, object string, details ...string) audit.Event {
		of.Action, of.Object, of.Details = action, object, map[string]string{}
		for i := 0; i < len(details); i += 2 {
			of.Details[details[i]] = details[i+1]
		}
		return of
	}
	w.add(audit.Event{Action: "server.start"})
	w.add(audit.Event{Action: "user.add", Object: "USR-bob"})
	ask := event(alice, "request.create", "REQ-1", "digest", digest, "policy", strings.Repeat("a", 64), "decision", "DEC-1")
	ask.Target = "TGT-1" // as it was named in the request, which may be by id
	ask.Rule, ask.Reason = "with-approval", "INC-42 <b>replication</b> lag"
	w.keep(w.add(ask))
	yes := event(alice, "request.approve", "REQ-1", "digest", digest)
	yes.Actor, yes.ActorName, yes.Reason = "USR-bob", "bob", "go ahead"
	vote := audit.Vote{At: noon, Digest: digest, Person: "USR-bob", Request: "REQ-1", Seconds: 3600, Via: "cli", Yes: true}
	yes.Details["statement"], yes.Details["signature"] = audit.SplitVote(must(vote.Sign(w.log)))
	w.keep(w.add(yes))
	granted := event(alice, "grant.open", "GRA-1", "digest", digest)
	granted.Actor, granted.ActorName, granted.Grant = "USR-bob", "bob", "GRA-1"
	w.keep(w.add(granted))
	alice.Grant = "GRA-1"
	w.add(audit.Event{Action: "role.set", Object: "engineer"})
	for _, id := range []string{"SES-1", "SES-2"} {
		of := alice
		of.Session = id
		keep := func(seq int64) {
			if id == "SES-1" {
				w.keep(seq)
			}
		}
		keep(w.add(event(of, "session.open", id, "kind", "shell")))
		keep(w.add(event(of, "certificate.issue", "drawbolt alice GRA-1 "+id, "serial", "77", "key", "SHA256:abc")))
		w.casts[id] = w.record(id, "journal of "+id, 600)
		head := sha256.Sum256([]byte("journal of " + id))
		keep(w.add(event(of, "session.close", id, "end", "exited", "exit_status", "0", "recording_sha256", strings.Repeat("c", 64), "recording_head", hex.EncodeToString(head[:]))))
		if id == "SES-1" {
			w.early = w.checkpoint()
		}
	}
	seen := event(alice, "session.replay", "SES-1", "how", "evidence")
	seen.Actor, seen.ActorName, seen.Session = "USR-carol", "carol", "SES-1"
	w.keep(w.add(seen))
	return w
}

func (w *world) keep(seq int64) { w.events = append(w.events, seq) }

func (w *world) evidence() Evidence {
	n := int64(len(w.leaves))
	e := Evidence{
		Session: "SES-1", Made: noon.Add(2 * time.Hour), Checkpoint: w.checkpoint(), Earlier: w.early, Keys: []string{w.logKey, w.recorderKey},
		Request: w.request, Told: []byte(`{"note":"told","session":{"client":"SSH-2.0-OpenSSH_9.9"}}` + "\n"), Signer: w.log,
		Recording: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(w.casts["SES-1"])), nil },
	}
	early := must(audit.OpenCheckpoint(w.early, must(note.NewVerifier(w.logKey))))
	e.Consistency = must(audit.ProveConsistency(early.Size, n, w))
	for _, seq := range w.events {
		e.Events = append(e.Events, w.proven(seq))
	}
	return e
}

func (w *world) proven(seq int64) Event {
	return Event{w.leaves[seq], must(audit.ProveInclusion(int64(len(w.leaves)), seq, w))}
}

func newServer() *world {
	log, logKey := newKey(origin)
	recorder, recorderKey := newKey("gw.example.com/recordings")
	return newWorld(log, recorder, logKey, recorderKey)
}

var smallPage = []byte("<!doctype html><title>x</title>" + pageMark + "</script><p>end</p>\n")

func pack1(t testing.TB, e Evidence, page []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, e, page, maxInline); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func verify(t testing.TB, b []byte, keys ...string) Report {
	t.Helper()
	var trusted []note.Verifier
	for _, k := range keys {
		trusted = append(trusted, must(note.NewVerifier(k)))
	}
	rep, err := Verify(bytes.NewReader(b), int64(len(b)), trusted)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestBundle(t *testing.T) {
	w := newServer()
	b := pack1(t, w.evidence(), page)
	if again := pack1(t, w.evidence(), page); !bytes.Equal(b, again) {
		t.Error("the same evidence gives another bundle")
	}
	rep := verify(t, b, w.logKey)
	if !rep.Verified || !rep.Trusted {
		t.Fatalf("not verified: %+v", rep.Checks)
	}
	f := rep.Facts
	if f.Session != "SES-1" || f.Request != "REQ-1" || f.Grant != "GRA-1" || f.Person != "alice" || f.Target != "db01" || f.Account != "root" || f.Needs != 1 ||
		len(f.Approvals) != 1 || f.Approvals[0].Name != "bob" || f.Approvals[0].Comment != "go ahead" || f.Reason != "INC-42 <b>replication</b> lag" ||
		f.Rule != "with-approval" || len(f.Certificates) != 1 || f.Certificates[0].Serial != "77" || f.ExitStatus != "0" || f.ClosedBy.IsZero() || f.Events != 7 {
		t.Errorf("the facts are %+v", f)
	}
	if rep := verify(t, b); !rep.Verified || rep.Trusted {
		t.Errorf("without a key: verified %t, trusted %t", rep.Verified, rep.Trusted)
	}
	// Any unzip reads it, and its recording verifies by itself.
	z := must(zip.NewReader(bytes.NewReader(b), int64(len(b))))
	if len(z.File) != len(files()) {
		t.Fatalf("%d files", len(z.File))
	}
	for _, file := range z.File {
		r := must(file.Open())
		got := must(io.ReadAll(r))
		r.Close()
		switch file.Name {
		case fileCast:
			if !bytes.Equal(got, w.casts["SES-1"]) {
				t.Error("the recording is not the one that was sealed")
			}
		case fileText:
			if !strings.Contains(string(got), "load average") || strings.ContainsAny(string(got), "\x1b\x07") {
				t.Errorf("the transcript is %.200q", got)
			}
		case fileReadme:
			for _, f := range files()[1:] {
				if !strings.Contains(string(got), f.name) {
					t.Errorf("README.txt does not tell what %s is", f.name)
				}
			}
		}
	}
}

// TestBundleWithoutRoom: a recording that is too large for the page is in the
// archive all the same.
func TestBundleWithoutRoom(t *testing.T) {
	w := newServer()
	var whole bytes.Buffer
	if err := write(&whole, w.evidence(), smallPage, 10_000); err != nil {
		t.Fatal(err)
	}
	rep := verify(t, whole.Bytes(), w.logKey)
	if !rep.Verified || !strings.Contains(rep.Checks[3].Says, "too large") {
		t.Errorf("%+v", rep.Checks)
	}
}

// A forgery is a bundle that somebody has taken apart to put it together anew.
type forgery struct {
	w     *world
	files map[string][]byte
	order []string
	page  []byte
	// The manifest is signed anew by this signer: of an insider, or a stranger.
	signer note.Signer
	bytes  func([]byte) []byte // changes the whole at last
}

func (f *forgery) lines(change func([]string) []string) {
	lines := strings.Split(strings.TrimSuffix(string(f.files[fileEvents]), "\n"), "\n")
	f.files[fileEvents] = []byte(strings.Join(change(lines), "\n") + "\n")
}

func (f *forgery) replace(name, old, text string) {
	if !bytes.Contains(f.files[name], []byte(old)) {
		panic(name + " does not hold " + old)
	}
	f.files[name] = bytes.Replace(f.files[name], []byte(old), []byte(text), 1)
}

// pack puts it together as drawbolt does, with a page that carries what is beside it.
func (f *forgery) pack() []byte {
	var b bytes.Buffer
	a := newArchive(&b)
	m := Manifest{Session: "SES-1", Made: noon.Add(2 * time.Hour), Page: sum(smallPage)}
	for _, name := range f.order {
		content := f.files[name]
		switch {
		case name == fileManifest && f.signer != nil:
			content = must(note.Sign(&note.Note{Text: m.text()}, f.signer))
		case name == filePage && f.page == nil:
			before, after, _ := bytes.Cut(smallPage, []byte(pageMark))
			var p bytes.Buffer
			if err := writePage(&p, before, bytes.Clone(b.Bytes()), after); err != nil {
				panic(err)
			}
			content = p.Bytes()
		case name == filePage:
			content = f.page
		}
		made := must(a.add(limit{name, 1 << 30}, whole(content)))
		if name != fileManifest && name != filePage {
			m.Files = append(m.Files, made)
		}
	}
	if err := a.close(); err != nil {
		panic(err)
	}
	if f.bytes != nil {
		return f.bytes(b.Bytes())
	}
	return b.Bytes()
}

func unzip(b []byte) (map[string][]byte, []string) {
	files, order := map[string][]byte{}, []string{}
	z := must(zip.NewReader(bytes.NewReader(b), int64(len(b))))
	for _, file := range z.File {
		r := must(file.Open())
		files[file.Name] = must(io.ReadAll(r))
		r.Close()
		order = append(order, file.Name)
	}
	return files, order
}

// tampering is every kind that is known. check is the one that must find it, and
// says a part of what it must say.
var tampering = []struct {
	name, check, says string
	do                func(*forgery)
}{
	{"flipped bit in the recording", "manifest", "session.cast is not the file that was signed", func(f *forgery) { f.files[fileCast][5000] ^= 1 }},
	{"flipped bit in the recording, list signed anew", "recording", "recording is altered: chunk 1", func(f *forgery) { f.files[fileCast][5000] ^= 1; f.signer = f.w.log }},
	{"recording cut short", "recording", "recording is cut short", func(f *forgery) {
		f.files[fileCast] = f.files[fileCast][:9000]
		f.signer = f.w.log
	}},
	{"recording stripped of its seal", "recording", "recording is", func(f *forgery) {
		f.files[fileCast] = bytes.Join(slices.DeleteFunc(bytes.SplitAfter(f.files[fileCast], []byte("\n")), func(l []byte) bool { return bytes.HasPrefix(l, []byte("#")) }), nil)
		f.signer = f.w.log
	}},
	{"recording of another session", "recording", "the recording is that of SES-2", func(f *forgery) { f.files[fileCast] = f.w.casts["SES-2"]; f.signer = f.w.log }},
	{"recording of another journal", "recording", "was made from the journal", func(f *forgery) {
		f.files[fileCast] = f.w.record("SES-1", "another journal", 10)
		f.signer = f.w.log
	}},
	{"recording sealed by a stranger", "recording", "key", func(f *forgery) {
		other := *f.w
		other.recorder, _ = newKey("gw.example.com/recordings")
		f.files[fileCast] = other.record("SES-1", "journal of SES-1", 10)
		f.signer = f.w.log
	}},
	{"transcript changed", "manifest", "session.txt is not the file that was signed", func(f *forgery) { f.replace(fileText, "load average", "nothing at all") }},
	{"replaced event", "events", "event 3 (request.approve) does not stand in the signed log", func(f *forgery) {
		f.replace(fileEvents, `"actor":"USR-bob","actor_name":"bob"`, `"actor":"USR-eve","actor_name":"eve"`)
	}},
	{"replaced event, list signed anew", "approvals", "1 people had to approve, and there are proven approvals of 0", func(f *forgery) {
		f.replace(fileEvents, `"actor":"USR-bob","actor_name":"bob"`, `"actor":"USR-eve","actor_name":"eve"`)
		f.signer = f.w.log
	}},
	{"removed approval", "approvals", "proven approvals of 0", func(f *forgery) { f.lines(without("request.approve")) }},
	{"removed approval, list signed anew", "approvals", "proven approvals of 0", func(f *forgery) { f.lines(without("request.approve")); f.signer = f.w.log }},
	{"removed end of the session", "session", "no proven event tells how SES-1 ended", func(f *forgery) { f.lines(without("session.close")); f.signer = f.w.log }},
	{"removed request", "request", "asked for and granted", func(f *forgery) { f.lines(without("request.create")); f.signer = f.w.log }},
	{"proof of another event", "events", "does not stand in the signed log", func(f *forgery) {
		f.lines(func(l []string) []string {
			a, _, _ := strings.Cut(l[0], `],"leaf"`)
			_, b, _ := strings.Cut(l[1], `],"leaf"`)
			l[1] = a + `],"leaf"` + b
			return l
		})
		f.signer = f.w.log
	}},
	{"events in another order", "events", "stands behind event", func(f *forgery) {
		f.lines(func(l []string) []string { l[1], l[2] = l[2], l[1]; return l })
		f.signer = f.w.log
	}},
	{"event of another session", "events", "concerns neither the session nor its request", func(f *forgery) {
		f.lines(func(l []string) []string {
			return slices.Insert(l, len(l)-1, strings.TrimSuffix(string(f.w.proven(10).line()), "\n"))
		})
		f.signer = f.w.log
	}},
	{"event spelled in another way", "events", "is not an event with its proof", func(f *forgery) {
		f.lines(func(l []string) []string { l[0] = strings.Replace(l[0], `"leaf":`, `"leaf": `, 1); return l })
		f.signer = f.w.log
	}},
	{"changed request", "request", "request.json is not the request that event 2 (request.create) names", func(f *forgery) {
		f.replace(fileRequest, "INC-42", "INC-43")
		f.signer = f.w.log
	}},
	{"fewer approvals wanted", "request", "request.json is not the request", func(f *forgery) { f.replace(fileRequest, `"Count":1`, `"Count":0`); f.signer = f.w.log }},
	{"older checkpoint", "events", "does not stand in the signed log", func(f *forgery) {
		f.files[fileCheckpoint] = f.w.early
		f.signer = f.w.log
	}},
	{"checkpoint of a stranger", "checkpoint", "the checkpoint", func(f *forgery) {
		other := *f.w
		other.log, _ = newKey(origin)
		f.files[fileCheckpoint] = other.checkpoint()
		f.signer = f.w.log
	}},
	{"earlier checkpoint of another history", "checkpoint", "the earlier checkpoint belongs to another log", func(f *forgery) {
		fork := must(audit.Checkpoint{Origin: origin, Size: 9, Root: sum([]byte("fork")), Time: noon}.Sign(f.w.log))
		f.replace(fileEarlier, strings.ReplaceAll(string(f.w.early), "\n", `\n`), strings.ReplaceAll(string(fork), "\n", `\n`))
		f.signer = f.w.log
	}},
	{"changed manifest", "manifest", "the manifest", func(f *forgery) { f.replace(fileManifest, "made 2026", "made 2025") }},
	{"manifest of another session", "session", "was opened", func(f *forgery) {
		m := must(parseManifest(must(openNote(f.files[fileManifest], must(note.NewVerifier(f.w.logKey))))))
		m.Session = "SES-2"
		f.files[fileManifest] = must(note.Sign(&note.Note{Text: m.text()}, f.w.log))
	}},
	{"what is told changed", "manifest", "told.json is not the file that was signed", func(f *forgery) { f.replace(fileTold, "OpenSSH", "PuTTY") }},
	{"other keys beside", "key", "keys.txt names another key of the log", func(f *forgery) {
		_, k := newKey(origin)
		f.replace(fileKeys, f.w.logKey, k)
	}},
	{"all of it by a stranger", "key", "signed with another key than the ones that are trusted", func(f *forgery) {
		log, logKey := newKey(origin)
		recorder, recorderKey := newKey("gw.example.com/recordings")
		other := newWorld(log, recorder, logKey, recorderKey)
		var b bytes.Buffer
		if err := write(&b, other.evidence(), smallPage, maxInline); err != nil {
			panic(err)
		}
		f.bytes = func([]byte) []byte { return b.Bytes() }
	}},
	{"swapped page", "page", "is not the page that was made with this evidence", func(f *forgery) {
		f.page = []byte("<!doctype html><h1>Verified</h1>" + pageMark + "</script>")
	}},
	{"page that carries other files", "page", "verify.html carries other files than those beside it", func(f *forgery) {
		before, after, _ := bytes.Cut(smallPage, []byte(pageMark))
		f.page = slices.Concat(before, []byte(pageMark+base64.StdEncoding.EncodeToString([]byte("others"))), after)
	}},
	{"added file", "archive", "a file follows verify.html that does not belong to the evidence", func(f *forgery) {
		f.files["notes.txt"], f.order = []byte("x"), append(f.order, "notes.txt")
	}},
	{"added file in the middle", "archive", `stands where`, func(f *forgery) {
		f.files["notes.txt"], f.order = []byte("x"), slices.Insert(f.order, 3, "notes.txt")
	}},
	{"added file with a path", "archive", `stands where`, func(f *forgery) {
		f.files["../../etc/passwd"], f.order = []byte("x"), slices.Insert(f.order, 0, "../../etc/passwd")
	}},
	{"file twice", "archive", `stands where`, func(f *forgery) { f.order = slices.Insert(f.order, 3, f.order[2]) }},
	{"missing file", "archive", "stands where", func(f *forgery) { f.order = slices.Delete(f.order, 2, 3) }},
	{"missing page", "archive", "verify.html is missing", func(f *forgery) { f.order = f.order[:len(f.order)-1] }},
	{"something behind", "archive", "bytes follow the archive", func(f *forgery) { f.bytes = func(b []byte) []byte { return append(b, "PK"...) } }},
	{"something before", "archive", "no file begins", func(f *forgery) { f.bytes = func(b []byte) []byte { return append([]byte("PK"), b...) } }},
	{"cut", "archive", "cut off", func(f *forgery) { f.bytes = func(b []byte) []byte { return b[:len(b)/2] } }},
	{"directory with another name", "archive", "the directory of the archive does not say what is in it", func(f *forgery) {
		f.bytes = func(b []byte) []byte {
			at := bytes.LastIndex(b, []byte("request.json"))
			copy(b[at:], "reqvest.json")
			return b
		}
	}},
	{"packed anew by another program", "archive", "packed", func(f *forgery) {
		f.bytes = func(old []byte) []byte {
			files, order := unzip(old)
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			for _, name := range order {
				must(must(z.Create(name)).Write(files[name]))
			}
			if err := z.Close(); err != nil {
				panic(err)
			}
			return b.Bytes()
		}
	}},
	{"bomb", "manifest", "holds more than its", func(f *forgery) {
		f.files[fileTold] = make([]byte, 1<<20)
		f.bytes = func(b []byte) []byte { return patchSize(b, fileTold, 1000) }
	}},
	{"flipped bit in packed bytes", "manifest", "told.json", func(f *forgery) {
		f.bytes = func(b []byte) []byte {
			b[bytes.Index(b, []byte(fileTold))+len(fileTold)+4] ^= 1
			return b
		}
	}},
}

func newKey(name string) (note.Signer, string) {
	secret, public, err := audit.NewKey(name)
	if err != nil {
		panic(err)
	}
	return must(note.NewSigner(secret)), public
}

func without(action string) func([]string) []string {
	return func(lines []string) []string {
		return slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `"action":"`+action+`"`) })
	}
}

// patchSize has the header and the directory say that a file has fewer bytes.
func patchSize(b []byte, name string, size uint32) []byte {
	p := must(readArchive(bytes.NewReader(b), int64(len(b))))
	e := p.find(name)
	e.size = size
	copy(b[e.offset:], e.header())
	last := p.find(filePage)
	end := last.offset + localSize + uint32(len(filePage)) + last.packed
	return append(b[:end:end], directory(p.entries, end)...)
}

func newForgery(w *world, whole []byte) *forgery {
	files, order := unzip(whole)
	return &forgery{w: w, files: files, order: order}
}

// TestTampering: each kind is found, by the check that is for it, and named.
func TestTampering(t *testing.T) {
	w := newServer()
	whole := pack1(t, w.evidence(), smallPage)
	if rep := verify(t, newForgery(w, whole).pack(), w.logKey); !rep.Verified {
		t.Fatalf("what was put together anew and not changed does not verify: %s", rep.Problem())
	}
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			f := newForgery(w, whole)
			tt.do(f)
			rep := verify(t, f.pack(), w.logKey)
			at := slices.IndexFunc(rep.Checks, func(c Check) bool { return c.Name == tt.check })
			if rep.Verified || at < 0 || rep.Checks[at].Problem == "" || !strings.Contains(rep.Checks[at].Problem, tt.says) {
				t.Errorf("verified %t: %+v", rep.Verified, rep.Checks)
			}
		})
	}
}

// TestStrangersKey: without a key from elsewhere a forgery agrees with itself,
// and that is what the report says.
func TestStrangersKey(t *testing.T) {
	w, other := newServer(), newServer()
	b := pack1(t, other.evidence(), smallPage)
	if rep := verify(t, b); !rep.Verified || rep.Trusted || !strings.Contains(rep.Checks[1].Says, "lies in the evidence itself") {
		t.Errorf("%+v", rep)
	}
	if rep := verify(t, b, w.logKey, other.logKey); !rep.Verified || !rep.Trusted {
		t.Errorf("%s", rep.Problem())
	}
	if rep := verify(t, b, w.logKey, w.recorderKey); rep.Verified || rep.Trusted {
		t.Error("signed by a stranger, and verified")
	}
}

// TestMutations changes bundles at random: what still verifies unpacks to the
// same files.
func TestMutations(t *testing.T) {
	w := newServer()
	w.casts["SES-1"] = w.record("SES-1", "journal of SES-1", 20)
	b := pack1(t, w.evidence(), smallPage)
	want, _ := unzip(b)
	rnd := newRand(1)
	for i := range 1000 {
		m := bytes.Clone(b)
		at := rnd.IntN(len(m))
		switch i % 5 {
		case 0, 1:
			m[at] ^= 1 << rnd.IntN(8)
		case 2:
			m = append(m[:at:at], m[min(len(m), at+1+rnd.IntN(2000)):]...)
		case 3:
			m = slices.Insert(m, at, m[at:min(len(m), at+1+rnd.IntN(2000))]...)
		case 4:
			copy(m[at:], m[rnd.IntN(len(m)):][:min(len(m)-at, 16)%len(m)])
		}
		if bytes.Equal(m, b) {
			continue
		}
		if rep := verify(t, m, w.logKey); rep.Verified {
			if got, _ := unzip(m); !maps.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("mutation %d at byte %d verifies", i, at)
			}
		}
	}
}

// TestDamagedRecording: what is damaged already can be handed over, and is named.
func TestDamagedRecording(t *testing.T) {
	w := newServer()
	w.casts["SES-1"][5000] ^= 1
	rep := verify(t, pack1(t, w.evidence(), smallPage), w.logKey)
	if rep.Verified || !strings.Contains(rep.Problem(), "recording is altered: chunk 1") {
		t.Errorf("%+v", rep.Checks)
	}
}

func TestRecordingThatChanges(t *testing.T) {
	e := newServer().evidence()
	n := 0
	e.Recording = func() (io.ReadCloser, error) { // of noise, which is not packed and so read twice
		n++
		noise := make([]byte, 40<<10)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		return io.NopCloser(bytes.NewReader(noise)), nil
	}
	if err := write(io.Discard, e, smallPage, maxInline); err == nil || n != 2 || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("err %v", err)
	}
	e.Recording = func() (io.ReadCloser, error) { return nil, os.ErrNotExist }
	if err := write(io.Discard, e, smallPage, maxInline); err == nil {
		t.Error("no recording, no error")
	}
}

// golden is a bundle as the first version made it.
func golden(t testing.TB) (b []byte, key string) {
	t.Helper()
	b, err := os.ReadFile("testdata/evidence.zip")
	if err != nil {
		t.Fatal(err)
	}
	k, err := os.ReadFile("testdata/evidence.pub")
	if err != nil {
		t.Fatal(err)
	}
	return b, strings.TrimSpace(string(k))
}

// TestOldBundle: what was handed over once can be checked for good.
func TestOldBundle(t *testing.T) {
	b, key := golden(t)
	if rep := verify(t, b, key); !rep.Verified || !rep.Trusted || rep.Facts.Person != "alice" || rep.Facts.Approvals[0].Name != "bob" {
		t.Errorf("%+v", rep)
	}
}

func FuzzVerify(f *testing.F) {
	b, key := golden(f)
	want, _ := unzip(b)
	f.Add(b)
	for _, tt := range tampering { // each kind is something to start from
		forged := &forgery{w: newServer()}
		forged.files, forged.order = unzip(b)
		func() {
			defer func() { recover() }() // what is not in this bundle cannot be changed
			tt.do(forged)
			f.Add(forged.pack())
		}()
	}
	f.Add(b[:len(b)/2])
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rep := verify(t, b, key)
		if !rep.Verified {
			if rep.Problem() == "" {
				t.Error("not verified, and nothing is wrong")
			}
			return
		}
		if got, _ := unzip(b); !maps.EqualFunc(got, want, bytes.Equal) {
			t.Error("other files verify")
		}
	})
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// A vote bears its own statement, and none of another vote or another's key.
func TestStatementOfAnotherVote(t *testing.T) {
	other, _ := newKey("gw.example.com/elsewhere")
	for name, tt := range map[string]struct {
		change func(*audit.Vote)
		signer note.Signer
		says   string
	}{
		"as it is":            {func(*audit.Vote) {}, nil, ""},
		"a no":                {func(v *audit.Vote) { v.Yes = false }, nil, "is of another vote"},
		"of somebody else":    {func(v *audit.Vote) { v.Person = "USR-dave" }, nil, "is of another vote"},
		"of another request":  {func(v *audit.Vote) { v.Request = "REQ-2" }, nil, "is of another vote"},
		"of what it was once": {func(v *audit.Vote) { v.Digest = strings.Repeat("0", 64) }, nil, "is of another vote"},
		"with another key":    {func(*audit.Vote) {}, other, "open a vote"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newServer()
			i := slices.IndexFunc(w.leaves, func(leaf []byte) bool { return bytes.Contains(leaf, []byte(`"request.approve"`)) })
			e := must(audit.Parse(w.leaves[i]))
			vote := must(audit.OpenVote(audit.JoinVote(e.Details["statement"], e.Details["signature"], origin), must(note.NewVerifier(w.logKey))))
			tt.change(&vote)
			signer := tt.signer
			if signer == nil {
				signer = w.log
			}
			e.Details["statement"], e.Details["signature"] = audit.SplitVote(must(vote.Sign(signer)))
			v := verifier{log: must(note.NewVerifier(w.logKey))}
			err := v.checkStatement(e)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v", err)
			}
		})
	}
}

// What was edited is judged by what it was edited to.
func TestEditedRequest(t *testing.T) {
	var v verifier
	event := func(action, actor, digest string) {
		v.keep(audit.Event{Action: action, Actor: actor, Object: "REQ-1", Request: "REQ-1", Outcome: audit.Done, Details: map[string]string{"digest": digest}}, "SES-1")
	}
	event("request.create", "alice", "d1")
	event("request.approve", "bob", "d1")
	event("request.edit", "alice", "d2")
	event("request.approve", "dave", "d2")
	event("request.approve", "erin", "d2")
	event("request.object", "erin", "d2")
	if v.create.Details["digest"] != "d1" || v.asked.Details["digest"] != "d2" || len(v.votes) != 2 || v.votes[1].Actor != "dave" {
		t.Errorf("%+v", v.votes)
	}
}
