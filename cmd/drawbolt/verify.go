package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

type verifyOptions struct {
	what        string
	keys        []string
	checkpoints []string
}

func (o *verifyOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "public `key` or a file that holds it (drawbolt audit key); may be repeated")
	f.StringArrayVar(&o.checkpoints, "checkpoint", nil, "`file` with an older checkpoint of an audit export, kept elsewhere; may be repeated")
}

func (c *cli) verifyCmd() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify SESSION|FILE [--key KEY]",
		Short: "Check that a recording, a bundle of evidence or an audit export is whole and unchanged",
		Long: `Check evidence. A FILE is a .cast recording, an audit export or a bundle
(drawbolt export --format bundle), and is checked without any server; --key is
needed. A bundle is checked without --key too, which proves only that it agrees with
the key that lies in it. A SESSION is fetched: its recording, the event that closed
it, and the proof that this event stands in the signed log. Without --key the server
is asked for the key, which proves only that the server agrees with itself.

Of a recording that was deleted, the proof that its deletion stands in the log is
checked as well.

Exit codes: 0 whole and unchanged, 1 not, 6 deleted, which the log proves.`,
		Example: "  drawbolt audit key > audit.pub\n  drawbolt verify evidence.cast --key audit.pub\n  drawbolt verify evidence.zip --key audit.pub\n  drawbolt verify SES-9f2c --key audit.pub",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.what = args[0]
			return c.runVerify(cmd.Context(), o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (c *cli) runVerify(ctx context.Context, o verifyOptions) error {
	if isSession(o.what) {
		return c.verifySession(ctx, o)
	}
	keys, err := readKeys(o.keys)
	if err != nil {
		return err
	}
	f, err := c.openInput(o.what)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	kind, err := kindOf(r)
	if err != nil {
		return err
	}
	if kind == kindBundle {
		if len(o.checkpoints) > 0 {
			return usage("a bundle holds no proof for checkpoints kept elsewhere: check an audit export with --checkpoint")
		}
		return c.verifyBundle(f, keys)
	}
	if len(keys) == 0 {
		e := usage("a file is checked with a public key: add --key")
		e.next = "drawbolt audit key > audit.pub; drawbolt verify FILE --key audit.pub"
		return e
	}
	if kind == kindAudit {
		return c.verifyAudit(r, keys, o)
	}
	return c.verifyRecording(r, keys)
}

// readKeys reads verifier keys, each one a key itself or a file of keys, one a line.
func readKeys(args []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, arg := range args {
		if v, err := note.NewVerifier(strings.TrimSpace(arg)); err == nil {
			keys = appendKey(keys, v)
			continue
		}
		b, err := readFile(arg)
		if err != nil {
			return nil, usage("--key %q is neither a public key nor a file that can be read: %v", arg, err)
		}
		lines := strings.Split(string(b), "\n")
		n := len(keys)
		for _, line := range lines {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, usage("%s holds no public key of drawbolt: %v", arg, err)
			}
			keys = appendKey(keys, v)
		}
		if len(keys) == n {
			return nil, usage("%s holds no public key", arg)
		}
	}
	return keys, nil
}

// appendKey leaves a key out that is there already: a list with two of one name
// and number opens nothing.
func appendKey(keys []note.Verifier, v note.Verifier) []note.Verifier {
	if slices.ContainsFunc(keys, func(k note.Verifier) bool { return k.Name() == v.Name() && k.KeyHash() == v.KeyHash() }) {
		return keys
	}
	return append(keys, v)
}

// serverKeys asks the server.
func serverKeys(ctx context.Context, cl *api.Client) ([]note.Verifier, error) {
	k, err := cl.AuditKey(ctx)
	if err != nil {
		return nil, err
	}
	var keys []note.Verifier
	for _, text := range append([]string{k.Key}, k.Recordings...) {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("read the server's audit key: %w", err)
		}
		keys = appendKey(keys, v)
	}
	return keys, nil
}

// broken is evidence that does not hold.
func broken(format string, args ...any) error {
	return &failure{code: exitError, text: "NOT verified: " + fmt.Sprintf(format, args...)}
}

type recordingJSON struct {
	Verified        bool      `json:"verified"`
	Kind            string    `json:"kind"`
	Session         string    `json:"session"`
	Started         time.Time `json:"started"`
	DurationSeconds float64   `json:"duration_seconds"`
	Chunks          int       `json:"chunks"`
	Events          int64     `json:"events"`
	Aborted         bool      `json:"aborted"`
	EndReason       string    `json:"end_reason,omitempty"`
	Key             string    `json:"key"`
	Journal         string    `json:"journal,omitempty"` // head of the hash chain of the journal it was made from
	// Of a session that the server was asked for:
	SHA256         string       `json:"sha256,omitempty"` // of the sealed file
	Seq            *int64       `json:"seq,omitempty"`    // of the event that closed it
	CheckpointSize int64        `json:"checkpoint_size,omitempty"`
	CheckpointTime *time.Time   `json:"checkpoint_time,omitempty"`
	KeyFromServer  bool         `json:"key_from_server,omitempty"`
	Deleted        *deletedJSON `json:"deleted,omitempty"`
	Problem        string       `json:"problem,omitempty"`
}

// deletedJSON is what the audit log proves of a recording that was deleted.
type deletedJSON struct {
	At     time.Time `json:"at"`
	Seq    int64     `json:"seq"` // of the event
	Rule   string    `json:"rule,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     []string  `json:"by,omitempty"`
}

func checkRecording(r io.Reader, keys []note.Verifier) (recordingJSON, error) {
	rep, err := cast.Verify(r, note.VerifierList(keys...))
	if err != nil {
		return recordingJSON{Kind: kindRecording, Problem: err.Error()}, err
	}
	return recordingJSON{Verified: true, Kind: kindRecording, Session: rep.Seal.ID, Started: rep.Seal.Started,
		DurationSeconds: rep.Seal.Duration.Seconds(), Chunks: rep.Chunks, Events: rep.Seal.Events,
		Aborted: rep.Seal.Aborted, EndReason: rep.Seal.Reason, Key: rep.Key,
		Journal: hex.EncodeToString(rep.Seal.Journal[:])}, nil
}

func (c *cli) verifyRecording(r io.Reader, keys []note.Verifier) error {
	j, err := checkRecording(r, keys)
	if ok, eerr := c.emit(j); ok && eerr != nil {
		return eerr
	}
	if err != nil {
		return damage(err)
	}
	if c.json == "" {
		c.showRecording(&j)
	}
	return nil
}

func damage(err error) error {
	if _, ok := errors.AsType[*cast.DamageError](err); ok {
		return broken("%v", err)
	}
	return err
}

func (c *cli) showRecording(j *recordingJSON) {
	c.print("✓ %d chunks, %d events, hash chain intact", j.Chunks, j.Events)
	c.print("✓ sealed as %s by %s, begun %s, %s long", j.Session, j.Key, j.Started.UTC().Format(time.RFC3339), formatDuration(time.Duration(j.DurationSeconds*float64(time.Second))))
	if j.Aborted {
		c.print("! the server died before the session ended; what was recorded until then is whole")
	}
}

func (c *cli) verifySession(ctx context.Context, o verifyOptions) error {
	cl, _, err := c.client()
	if err != nil {
		return err
	}
	var keys []note.Verifier
	fromServer := len(o.keys) == 0
	if fromServer {
		keys, err = serverKeys(ctx, cl)
	} else {
		keys, err = readKeys(o.keys)
	}
	if err != nil {
		return err
	}
	j, err := c.checkSession(ctx, cl, o.what, keys)
	j.KeyFromServer = fromServer
	if err != nil {
		j.Verified, j.Problem = false, err.Error()
	}
	if ok, eerr := c.emit(j); ok && eerr != nil {
		return eerr
	}
	if err != nil {
		return err
	}
	if c.json == "" {
		c.showRecording(&j)
		c.print("✓ sealed file unchanged, SHA-256 %s", j.SHA256)
		c.print("✓ closed by event %d of the audit log, which checkpoint %d of %s covers", *j.Seq, j.CheckpointSize, j.CheckpointTime.UTC().Format(time.RFC3339))
	}
	if fromServer {
		c.say("• the key came from this server too; an auditor uses --key with one kept elsewhere")
	}
	return nil
}

// checkSession follows the evidence from the signed checkpoint down: checkpoint,
// event, sealed file, recording.
func (c *cli) checkSession(ctx context.Context, cl *api.Client, id string, keys []note.Verifier) (recordingJSON, error) {
	j := recordingJSON{Kind: kindRecording, Session: id}
	proof, err := cl.Proof(ctx, id)
	if err != nil {
		return j, err
	}
	point, err := openCheckpoint([]byte(proof.Checkpoint), keys)
	if err != nil {
		return j, broken("the checkpoint: %v", err)
	}
	event, err := provenEvent(point, proof.ProvenEvent)
	if err != nil {
		return j, err
	}
	want := event.Details["recording_sha256"]
	tells := event.Action == "session.close" || event.Action == "session.seal" // the latter when it was sealed later
	if !tells || event.Outcome != audit.Done || event.Session != id || want == "" {
		return j, broken("event %d of the audit log does not tell the recording of %s", event.Seq, id)
	}
	t := point.Time
	j.SHA256, j.Seq, j.CheckpointSize, j.CheckpointTime = want, &event.Seq, point.Size, &t
	if proof.Deletion != nil {
		return j, j.deletedBy(point, *proof.Deletion)
	}
	got, err := hashSealed(ctx, cl, id)
	if err != nil {
		return j, err
	}
	if got != want {
		return j, broken("the sealed file has SHA-256 %s, the audit log says %s", got, want)
	}
	r, err := cl.Recording(ctx, id, "cast")
	if err != nil {
		return j, err
	}
	defer r.Close()
	known := j
	if j, err = checkRecording(r, keys); err != nil {
		return j, damage(err)
	}
	if j.Session != id {
		return j, broken("the recording is that of %s", j.Session)
	}
	// The hash in the log is that of the sealed file, which only the server can
	// open; the journal's head is what ties the recording shown here to it.
	if head := event.Details["recording_head"]; head != "" && head != j.Journal {
		return j, broken("the recording was made from the journal %s, the audit log says %s", j.Journal, head)
	}
	j.SHA256, j.Seq, j.CheckpointSize, j.CheckpointTime = known.SHA256, known.Seq, known.CheckpointSize, known.CheckpointTime
	return j, nil
}

// provenEvent returns an event of which the proof holds.
func provenEvent(point audit.Checkpoint, proof api.ProvenEvent) (audit.Event, error) {
	path := make(tlog.RecordProof, 0, len(proof.Inclusion))
	for _, text := range proof.Inclusion {
		h, err := tlog.ParseHash(text)
		if err != nil || len(path) > 64 {
			return audit.Event{}, broken("the proof is not one")
		}
		path = append(path, h)
	}
	if err := audit.CheckInclusion(point, proof.Leaf, path); err != nil {
		return audit.Event{}, broken("%v", err)
	}
	event, err := audit.Parse(proof.Leaf)
	if err != nil {
		return event, broken("%v", err)
	}
	return event, nil
}

// deletedBy returns the failure that says that a recording is gone, if the proof
// of its deletion holds.
func (j *recordingJSON) deletedBy(point audit.Checkpoint, proof api.ProvenEvent) error {
	e, err := provenEvent(point, proof)
	if err != nil {
		return err
	}
	if e.Action != "recording.delete" || e.Outcome != audit.Done || e.Session != j.Session || e.Details["recording_sha256"] != j.SHA256 {
		return broken("event %d of the audit log does not tell that the recording of %s was deleted", e.Seq, j.Session)
	}
	j.Deleted = &deletedJSON{At: e.Time, Seq: e.Seq, Rule: e.Rule, Reason: e.Reason}
	how := "by the rule of retention " + e.Rule
	if first := e.Details["first"]; first != "" { // by people, whom a rule of policy let
		j.Deleted.Rule, j.Deleted.By = "", []string{first, e.ActorName}
		how = fmt.Sprintf("by %s and %s: %s", first, e.ActorName, e.Reason)
	}
	return &failure{code: exitNotFound, text: fmt.Sprintf("the recording was deleted on %s, %s; event %d of the audit log says so, which checkpoint %d of %s covers, and keeps its SHA-256 %s",
		e.Time.UTC().Format(time.RFC3339), how, e.Seq, point.Size, point.Time.UTC().Format(time.RFC3339), j.SHA256)}
}

func hashSealed(ctx context.Context, cl *api.Client, id string) (string, error) {
	r, err := cl.SealedFile(ctx, id)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("read the sealed file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openCheckpoint opens a checkpoint with the key that it names.
func openCheckpoint(msg []byte, keys []note.Verifier) (audit.Checkpoint, error) {
	var err error
	for _, k := range keys {
		var p audit.Checkpoint
		if p, err = audit.OpenCheckpoint(msg, k); err == nil {
			return p, nil
		}
	}
	return audit.Checkpoint{}, err
}

type auditJSON struct {
	Verified    bool       `json:"verified"`
	Kind        string     `json:"kind"`
	Origin      string     `json:"origin"`
	Events      int64      `json:"events"`
	Checkpoints int        `json:"checkpoints"`
	Proven      int64      `json:"proven"` // events that a checkpoint covers
	Until       *time.Time `json:"until,omitempty"`
	FirstBad    *int64     `json:"first_bad,omitempty"`
	LastBad     *int64     `json:"last_bad,omitempty"`
	Line        int64      `json:"line,omitempty"`
	Problem     string     `json:"problem,omitempty"`
}

// verifyAudit checks an audit export, with the key whose name is the origin.
func (c *cli) verifyAudit(r *bufio.Reader, keys []note.Verifier, o verifyOptions) error {
	key, err := auditKeyFor(r, keys)
	if err != nil {
		return err
	}
	var older []audit.Checkpoint
	for _, name := range o.checkpoints {
		b, err := readFile(name)
		if err != nil {
			return err
		}
		p, err := audit.OpenCheckpoint(b, key)
		if err != nil {
			return broken("the checkpoint in %s: %v", name, err)
		}
		older = append(older, p)
	}
	res, err := audit.Verify(r, key, older...)
	if err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	j := auditJSON{Verified: res.Verified, Kind: kindAudit, Origin: res.Origin, Events: res.Events, Checkpoints: res.Checkpoints,
		Proven: res.Last.Size, Line: res.Line, Problem: res.Problem}
	if t := res.Last.Time; !t.IsZero() {
		j.Until = &t
	}
	if res.FirstBad >= 0 && !res.Verified {
		j.FirstBad, j.LastBad = &res.FirstBad, &res.LastBad
	}
	if ok, err := c.emit(j); ok && err != nil {
		return err
	}
	if !res.Verified {
		text := res.Problem
		if j.FirstBad != nil {
			if text += fmt.Sprintf(" (event %d", res.FirstBad); res.LastBad != res.FirstBad {
				text += fmt.Sprintf(" to %d", res.LastBad)
			}
			text += fmt.Sprintf(", line %d)", res.Line)
		}
		if res.Last.Size > 0 {
			text += fmt.Sprintf("; events 0 to %d are proven", res.Last.Size-1)
		}
		return broken("%s", text)
	}
	if c.json == "" {
		c.print("✓ %d events of %s, nothing changed, missing or added", res.Events, res.Origin)
		c.print("✓ %d checkpoints signed, the last one at %s", res.Checkpoints, res.Last.Time.UTC().Format(time.RFC3339))
		if len(older) > 0 {
			c.print("✓ %d checkpoints kept elsewhere belong to the same history", len(older))
		}
	}
	return nil
}

// auditKeyFor picks the key that is called like the log of the export.
func auditKeyFor(r *bufio.Reader, keys []note.Verifier) (note.Verifier, error) {
	b, _ := r.Peek(512) // a shorter file is fine
	line, _, _ := bytes.Cut(b, []byte("\n"))
	_, origin, _ := strings.Cut(string(line), " ")
	for _, k := range keys {
		if k.Name() == origin {
			return k, nil
		}
	}
	if len(keys) == 0 {
		return nil, usage("a public key is needed: add --key")
	}
	return keys[0], nil // Verify says what is wrong
}
