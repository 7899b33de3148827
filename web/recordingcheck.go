package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) checkRecording(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Empty
}) (api.RecordingCheck, error) {
	if err := s.checkNow(ctx, by, in.ID); err != nil {
		return api.RecordingCheck{}, err
	}
	return s.lastCheck(ctx, by, in.ID)
}

func (s *Server) lastCheck(ctx context.Context, by access.Caller, id string) (api.RecordingCheck, error) {
	c, err := s.c.Broker.LastCheck(ctx, by, id)
	return api.RecordingCheck{At: when(c.At), By: c.By, Whole: c.Whole, Finding: c.Finding}, err
}

// checkWithin is how long a page waits for a verification.
const checkWithin = 10 * time.Minute

func (s *Server) checkForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id := r.PathValue("id")
	// A recording of a day takes longer than an answer may.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(checkWithin)) // a test's recorder has none
	if err := s.checkNow(r.Context(), by, id); err != nil {
		s.fail(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/sessions/"+url.PathEscape(id)+"/play#evidence", http.StatusSeeOther)
}

// checkNow verifies a recording as drawbolt verify does, from the signed head of
// the audit log down, and writes down what it found.
func (s *Server) checkNow(ctx context.Context, by access.Caller, id string) error {
	done, err := s.mayRead(by.User.ID)
	if err != nil {
		return err
	}
	defer done()
	p, err := s.c.Broker.Proof(ctx, by, id) // asks, and tells that it is looked at
	if err != nil {
		return err
	}
	x, err := s.c.Broker.FindSession(ctx, by, id)
	if err != nil {
		return err
	}
	if s.c.OpenSealed == nil || s.c.OpenCast == nil || x.Recording.Name == "" {
		return errNotSealed(x.ID)
	}
	finding := ""
	head, err := audit.OpenCheckpoint(p.Checkpoint, s.verifier)
	if err == nil {
		err = audit.CheckInclusion(head, p.Leaf, p.Inclusion)
	}
	var e audit.Event
	if err == nil {
		e, err = audit.Parse(p.Leaf)
	}
	if err != nil {
		finding = "the audit log: " + err.Error()
	} else if finding, err = s.compare(ctx, x, e); err != nil {
		return err // it could not be read, which says nothing about it
	}
	return s.c.Broker.Checked(ctx, by, x, finding)
}

// compare says what of a recording is not as its event in the audit log tells.
func (s *Server) compare(ctx context.Context, x access.Session, e audit.Event) (finding string, err error) {
	sealed, err := s.c.OpenSealed(ctx, x)
	if err != nil {
		return "", fmt.Errorf("open the recording of %s: %w", x.ID, err)
	}
	defer sealed.Close()
	h := sha256.New()
	if _, err := io.Copy(h, sealed); err != nil {
		return "", fmt.Errorf("read the recording of %s: %w", x.ID, err)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), e.Details["recording_sha256"]; got != want {
		return fmt.Sprintf("the sealed file has SHA-256 %s, the audit log says %s", got, want), nil
	}
	c, err := s.c.OpenCast(ctx, x)
	if err != nil {
		return "", fmt.Errorf("open the recording of %s: %w", x.ID, err)
	}
	defer c.Close()
	report, err := cast.Verify(c, s.recorders)
	var damage *cast.DamageError
	switch {
	case errors.As(err, &damage):
		return damage.Error(), nil
	case err != nil:
		return "", fmt.Errorf("read the recording of %s: %w", x.ID, err)
	case report.Seal.ID != x.ID:
		return "the recording is that of " + report.Seal.ID, nil
	}
	if want := e.Details["recording_head"]; want != "" && want != hex.EncodeToString(report.Seal.Journal[:]) {
		return "the recording was made from another journal than the audit log says", nil
	}
	return "", nil
}

// recorderKeys are those that seal recordings.
func recorderKeys(log note.Verifier, others []string) (note.Verifiers, error) {
	keys := []note.Verifier{log}
	for _, text := range others {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("a key of recordings: %w", err)
		}
		if v.Name() != log.Name() || v.KeyHash() != log.KeyHash() {
			keys = append(keys, v)
		}
	}
	return note.VerifierList(keys...), nil
}
