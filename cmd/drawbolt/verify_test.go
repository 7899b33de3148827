package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

// evidence is a session as the server keeps it.
type evidence struct {
	signer     note.Signer
	key        string
	cast       []byte
	sealed     []byte
	leaf       []byte
	checkpoint []byte
	export     []byte
}

const origin = "gw.example.com/audit"

func newEvidence(t *testing.T, id string, change func(*audit.Event)) *evidence {
	t.Helper()
	secret, public, err := audit.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	e := &evidence{signer: signer, key: public, sealed: []byte("age-encryption.org/v1\nsealed")}
	var b bytes.Buffer
	w, err := cast.NewWriter(&b, cast.Header{ID: id, Kind: "shell", Started: noon, Terminal: "xterm"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"$ uptime\r\n", "\x1b]0;title\x07 12:00 up\r\n", "\x1b]52;c;ZXZpbA==\x07bye\r\n"} {
		if err := w.Write(cast.Event{At: time.Duration(i) * time.Minute, Stream: cast.Output, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	head := sha256.Sum256([]byte("journal"))
	if _, err := w.Seal(cast.End{At: 3 * time.Minute, Reason: "exited", Journal: head}); err != nil {
		t.Fatal(err)
	}
	e.cast = b.Bytes()
	sum := sha256.Sum256(e.sealed)
	event := audit.Event{Time: noon, Actor: "system", Action: "session.close", Object: id, Session: id, Outcome: audit.Done,
		Details: map[string]string{"recording_sha256": hex.EncodeToString(sum[:]), "recording_head": hex.EncodeToString(head[:])}}
	if change != nil {
		change(&event)
	}
	if e.leaf, err = event.Marshal(); err != nil {
		t.Fatal(err)
	}
	root := audit.LeafHash(e.leaf) // the root of a tree of one leaf
	if e.checkpoint, err = (audit.Checkpoint{Origin: origin, Size: 1, Root: root, Time: noon}).Sign(signer); err != nil {
		t.Fatal(err)
	}
	var x bytes.Buffer
	xw := audit.NewWriter(&x, origin)
	if err := xw.Event(e.leaf, root); err != nil {
		t.Fatal(err)
	}
	if err := xw.Checkpoint(e.checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := xw.Close(); err != nil {
		t.Fatal(err)
	}
	e.export = x.Bytes()
	return e
}

func (e *evidence) answers() map[string]any {
	return map[string]any{
		"GET /v1/audit/key":                            api.AuditKey{Key: e.key, Recordings: []string{e.key}},
		"GET /v1/audit/checkpoint":                     api.Checkpoint{Checkpoint: string(e.checkpoint)},
		"GET /v1/audit/export":                         e.export,
		"GET /v1/sessions/SES-1/proof":                 api.Proof{ProvenEvent: api.ProvenEvent{Leaf: e.leaf, Inclusion: []string{}}, Size: 1, Checkpoint: string(e.checkpoint)},
		"GET /v1/sessions/SES-1/sealed":                e.sealed,
		"GET /v1/sessions/SES-1/recording?format=cast": e.cast,
	}
}

func TestVerifySession(t *testing.T) {
	stranger := newEvidence(t, "SES-1", nil)
	for _, tt := range []struct {
		name   string
		id     string
		event  func(*audit.Event)
		change func(*evidence, map[string]any)
		want   string // "": verified
	}{
		{"whole", "SES-1", nil, nil, ""},
		{"recording altered", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/recording?format=cast"] = bytes.Replace(e.cast, []byte("uptime"), []byte("rm -rf"), 1)
		}, "recording is altered"},
		{"recording cut", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/recording?format=cast"] = e.cast[:len(e.cast)/2]
		}, "recording is "},
		{"recording of another session", "SES-2", func(e *audit.Event) { e.Session, e.Object = "SES-1", "SES-1" }, nil, "the recording is that of SES-2"},
		{"recording sealed by a stranger", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/recording?format=cast"] = stranger.cast
		}, "NOT verified"},
		{"recording of another journal", "SES-1", func(e *audit.Event) { e.Details["recording_head"] = strings.Repeat("0", 64) }, nil, "was made from the journal"},
		{"sealed file altered", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/sealed"] = []byte("something else")
		}, "the sealed file has SHA-256"},
		{"event altered", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/proof"] = api.Proof{ProvenEvent: api.ProvenEvent{Leaf: bytes.Replace(e.leaf, []byte("system"), []byte("nobody"), 1)}, Size: 1, Checkpoint: string(e.checkpoint)}
		}, "check inclusion"},
		{"event of another session", "SES-1", func(e *audit.Event) { e.Session = "SES-2" }, nil, "does not tell the recording of SES-1"},
		{"event of another kind", "SES-1", func(e *audit.Event) { e.Action = "request.create" }, nil, "does not tell the recording"},
		{"refused event", "SES-1", func(e *audit.Event) { e.Outcome = audit.Refused }, nil, "does not tell the recording"},
		{"no recording in the event", "SES-1", func(e *audit.Event) { e.Details = nil }, nil, "does not tell the recording"},
		{"checkpoint by a stranger", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/proof"] = api.Proof{ProvenEvent: api.ProvenEvent{Leaf: stranger.leaf}, Size: 1, Checkpoint: string(stranger.checkpoint)}
		}, "the checkpoint"},
		{"no proof", "SES-1", nil, func(e *evidence, a map[string]any) {
			a["GET /v1/sessions/SES-1/proof"] = api.Proof{ProvenEvent: api.ProvenEvent{Leaf: e.leaf, Inclusion: []string{"x"}}, Checkpoint: string(e.checkpoint)}
		}, "the proof is not one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEvidence(t, tt.id, tt.event)
			a := e.answers()
			if tt.change != nil {
				tt.change(e, a)
			}
			p := newPerson(t).signedIn(newServer(t, a))
			code, out, errs := p.run("verify", "SES-1", "--json", "--key", e.key)
			var j recordingJSON
			if err := json.Unmarshal([]byte(out), &j); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			if ok := tt.want == ""; j.Verified != ok || (code == 0) != ok || !ok && code != exitError || !strings.Contains(errs, tt.want) {
				t.Errorf("exit %d, verified %t: %s", code, j.Verified, errs)
			}
		})
	}
}

// TestVerifyDeleted: of a recording that is deleted the deletion is proven, or
// nothing is.
func TestVerifyDeleted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		event  func(*audit.Event) // of the deletion
		change func(*api.Proof)
		code   int
		want   string
	}{
		{"by a rule", nil, nil, exitNotFound, "the recording was deleted on 2026-03-01T12:00:00Z, by the rule of retention guests; event 1 of the audit log says so"},
		{"by people", func(e *audit.Event) {
			e.Rule, e.ActorName, e.Reason, e.Details["first"] = "", "lee", "erasure request 88", "kim"
		}, nil, exitNotFound, "by kim and lee: erasure request 88; event 1"},
		{"of another session", func(e *audit.Event) { e.Session = "SES-2" }, nil, exitError, "does not tell that the recording of SES-1 was deleted"},
		{"of another recording", func(e *audit.Event) { e.Details["recording_sha256"] = strings.Repeat("0", 64) }, nil, exitError, "does not tell"},
		{"refused", func(e *audit.Event) { e.Outcome = audit.Refused }, nil, exitError, "does not tell"},
		{"another event", func(e *audit.Event) { e.Action = "recording.propose" }, nil, exitError, "does not tell"},
		{"without proof", nil, func(p *api.Proof) { p.Deletion.Inclusion = nil }, exitError, "NOT verified"},
		{"altered", nil, func(p *api.Proof) {
			p.Deletion.Leaf = bytes.Replace(p.Deletion.Leaf, []byte("guests"), []byte("others"), 1)
		}, exitError, "check inclusion"},
		{"of which there is no closing event", nil, func(p *api.Proof) { p.ProvenEvent = *p.Deletion }, exitError, "does not tell the recording of SES-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEvidence(t, "SES-1", nil)
			closing, err := audit.Parse(e.leaf)
			if err != nil {
				t.Fatal(err)
			}
			event := audit.Event{Seq: 1, Time: noon, Actor: "system", Action: "recording.delete", Object: "SES-1", Session: "SES-1", Outcome: audit.Done, Rule: "guests",
				Details: map[string]string{"recording_sha256": closing.Details["recording_sha256"]}}
			if tt.event != nil {
				tt.event(&event)
			}
			leaf, err := event.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			first, second := audit.LeafHash(e.leaf), audit.LeafHash(leaf)
			point, err := audit.Checkpoint{Origin: origin, Size: 2, Root: tlog.NodeHash(first, second), Time: noon}.Sign(e.signer)
			if err != nil {
				t.Fatal(err)
			}
			proof := api.Proof{ProvenEvent: api.ProvenEvent{Leaf: e.leaf, Inclusion: []string{second.String()}}, Size: 2, Checkpoint: string(point),
				Deletion: &api.ProvenEvent{Leaf: leaf, Seq: 1, Inclusion: []string{first.String()}}}
			if tt.change != nil {
				tt.change(&proof)
			}
			// There is nothing else to be had of it.
			p := newPerson(t).signedIn(newServer(t, map[string]any{"GET /v1/sessions/SES-1/proof": proof}))
			code, out, errs := p.run("verify", "SES-1", "--json", "--key", e.key)
			var j recordingJSON
			if err := json.Unmarshal([]byte(out), &j); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			if code != tt.code || j.Verified || (j.Deleted != nil) != (code == exitNotFound) || !strings.Contains(errs, tt.want) {
				t.Errorf("exit %d, deleted %+v: %s", code, j.Deleted, errs)
			}
		})
	}
}

func TestVerifyFile(t *testing.T) {
	e := newEvidence(t, "SES-1", nil)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key := write("audit.pub", []byte("# of gw\n"+e.key+"\n"+e.key+"\n"))
	other := write("other.pub", []byte(newEvidence(t, "SES-1", nil).key))
	recording, export := write("a.cast", e.cast), write("audit.txt", e.export)
	broken := write("b.cast", bytes.Replace(e.cast, []byte("uptime"), []byte("rm -rf"), 1))
	forged := write("forged.txt", bytes.Replace(e.export, []byte("system"), []byte("nobody"), 1))
	point := write("monday", e.checkpoint)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{recording, "--key", key}, 0, "sealed as SES-1"},
		{[]string{recording, "--key", e.key}, 0, "hash chain intact"},
		{[]string{recording, "--key", other}, 1, "unknown key"},
		{[]string{broken, "--key", key}, 1, "NOT verified: recording is altered: chunk 1"},
		{[]string{export, "--key", key}, 0, "1 events of " + origin + ", nothing changed"},
		{[]string{export, "--key", key, "--checkpoint", point}, 0, "1 checkpoints kept elsewhere"},
		{[]string{export, "--key", other}, 1, "NOT verified"},
		{[]string{forged, "--key", key}, 1, "NOT verified"},
		{[]string{key, "--key", key}, 2, "neither a .cast recording nor a bundle"},
		{[]string{write("sealed", e.sealed), "--key", key}, 2, "encrypted"},
		{[]string{write("empty", nil), "--key", key}, 2, "neither"},
		{[]string{write("a.zip", []byte("PK\x03\x04 and no more")), "--key", key}, 1, "NOT verified: "},
		{[]string{write("c.zip", []byte("PK\x03\x04 and no more")), "--checkpoint", point}, 2, "check an audit export"},
		{[]string{write("b.zip", []byte("PK\x03\x04 and no more")), "--json"}, 1, `"kind":"bundle"`},
		{[]string{filepath.Join(dir, "none"), "--key", key}, 6, "there is no file"},
		{[]string{recording, "--key", filepath.Join(dir, "none")}, 2, "neither a public key nor a file"},
		{[]string{recording, "--key", recording}, 2, "holds no public key"},
	} {
		// No profile, no server: an auditor has the file and the key.
		code, out, errs := newPerson(t).run(append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%q: exit %d: %s%s", tt.args, code, out, errs)
		}
	}
	p := newPerson(t).signedIn(newServer(t, e.answers()))
	code, out, errs := p.run("audit", "verify")
	if code != 0 || !strings.Contains(errs, "an auditor uses --key") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if code, out, _ := p.run("audit", "key"); code != 0 || out != e.key+"\n" {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out, _ := p.run("audit", "checkpoint"); code != 0 || out != string(e.checkpoint) {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestReplayAndExport(t *testing.T) {
	e := newEvidence(t, "SES-1", nil)
	a := e.answers()
	a["GET /v1/sessions/SES-1/evidence"] = []byte("PK evidence")
	a["GET /v1/sessions/SES-1/video"] = []byte("ftyp video")
	a["GET /v1/audit/events?limit=1000&session=SES-1"] = api.List[api.Event]{Items: []api.Event{{Seq: 1, Action: "session.open"}}, Next: "1"}
	a["GET /v1/audit/events?after=1&limit=1000&session=SES-1"] = api.List[api.Event]{Items: []api.Event{{Seq: 2, Action: "session.close"}}}
	a["GET /v1/sessions/SES-1/recording?format=txt"] = []byte("00:00 $ uptime\n\x1b[2Jx\n")
	p := newPerson(t).signedIn(newServer(t, a))
	code, out, errs := p.run("replay", "SES-1", "--at", "1:00", "--speed", "4", "--idle", "2s", "--keys")
	if code != 0 || !strings.Contains(out, "12:00 up") || strings.Contains(out, "title") || strings.Contains(out, "\x1b]") {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
	file := filepath.Join(t.TempDir(), "a.cast")
	if code, _, errs := p.run("export", "SES-1", "-o", file); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, e.cast) {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	if code, _, errs := p.run("export", "SES-1", "-o", file); code != exitUsage || !strings.Contains(errs, "exists. Overwrite it?") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := p.run("export", "SES-1", "--yes", "--format", "txt", "-o", file); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, out, _ := p.run("replay", file); code != exitError {
		t.Errorf("a text is no recording: exit %d: %s", code, out)
	}
	if code, _, errs := p.run("export", "SES-1", "--yes", "--format", "bundle", "-o", file); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "PK evidence" {
		t.Errorf("got %q, %v", b, err)
	}
	code, out, errs = p.run("export", "SES-1", "--format", "events")
	if code != 0 || !strings.HasPrefix(out, `{"seq":1,`) || strings.Count(out, "\n") != 2 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if code, out, errs := p.run("export", "SES-1", "--format", "mp4"); code != 0 || out != "ftyp video" {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
	if code, _, _ := p.run("export", "SES-1", "--format", "gif"); code != exitUsage {
		t.Errorf("exit %d", code)
	}
	p.terminal = true
	if code, _, errs := p.run("export", "SES-1", "--format", "bundle"); code != exitUsage || !strings.Contains(errs, "-o SES-1.zip") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := p.run("export", "SES-1", "--format", "mp4"); code != exitUsage || !strings.Contains(errs, "-o SES-1.mp4") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, out, _ := p.run("export", "SES-1", "--format", "txt"); code != 0 || out != "00:00 $ uptime\n\\x1b[2Jx\n" {
		t.Errorf("exit %d: %q", code, out)
	}
}
