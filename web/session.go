package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/bundle"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) sessions(ctx context.Context, by access.Caller, in *struct {
	Live   bool   `query:"live"`
	Target string `query:"target" maxLength:"64"`
	User   string `query:"user" maxLength:"64"`
	Batch  string `query:"batch" maxLength:"32"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.Session], error) {
	list, err := s.c.Broker.Sessions(ctx, by, broker.SessionFilter{Live: in.Live, Target: in.Target, User: in.User, Batch: in.Batch, Limit: in.Limit, Before: in.Before})
	return page(list, in.Limit, apiSession, func(x access.Session) string { return x.ID }), err
}

func (s *Server) findSession(ctx context.Context, by access.Caller, in *ByID) (api.Session, error) {
	x, err := s.c.Broker.FindSession(ctx, by, in.ID)
	if err != nil {
		return api.Session{}, err
	}
	return s.withLife(ctx, by, x)
}

func (s *Server) endSession(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.SessionEnd
}) (api.Session, error) {
	if err := s.cut(ctx, by, in.ID, in.Body.Reason, in.Body.Revoke); err != nil {
		return api.Session{}, err
	}
	return s.findSession(ctx, by, &in.ByID)
}

// cut ends a session, or takes its grant away, which ends it and every other one
// under that grant.
func (s *Server) cut(ctx context.Context, by access.Caller, id, reason string, revoke bool) error {
	if !revoke {
		return s.c.Broker.Terminate(ctx, by, id, reason)
	}
	x, err := s.c.Broker.FindSession(ctx, by, id)
	if err == nil {
		_, err = s.c.Broker.Revoke(ctx, by, x.GrantID, reason)
	}
	return err
}

func (s *Server) message(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Message
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.Message(ctx, by, in.ID, in.Body.Text)
}

func (s *Server) pause(ctx context.Context, by access.Caller, in *ByID) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.Pause(ctx, by, in.ID)
}

func (s *Server) resume(ctx context.Context, by access.Caller, in *ByID) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.Resume(ctx, by, in.ID)
}

func (s *Server) recording(ctx context.Context, by access.Caller, in *struct {
	ByID
	Format string `query:"format" enum:"cast,txt" default:"cast"`
}) (content, error) {
	if in.Format == "txt" {
		return s.openText(ctx, by, in.ID)
	}
	x, r, err := s.openRecording(ctx, by, in.ID, "replay", s.openCast)
	if err != nil {
		return content{}, err
	}
	return content{media: "application/x-asciicast", file: x.ID + ".cast", write: copyAll(r)}, nil
}

// openText is the transcript of a recording.
func (s *Server) openText(ctx context.Context, by access.Caller, id string) (content, error) {
	x, r, err := s.openRecording(ctx, by, id, "export", s.openCast)
	if err != nil {
		return content{}, err
	}
	return content{media: "text/plain; charset=utf-8", file: x.ID + ".txt", write: func(w io.Writer) error {
		defer r.Close()
		return errors.Join(cast.Text(w, r), damage(r))
	}}, nil
}

func (s *Server) sealed(ctx context.Context, by access.Caller, in *ByID) (content, error) {
	x, r, err := s.openRecording(ctx, by, in.ID, "verify", s.c.OpenSealed)
	if err != nil {
		return content{}, err
	}
	return content{media: "application/octet-stream", file: x.ID + ".sealed", write: copyAll(r)}, nil
}

// openCast reads a recording from its beginning.
func (s *Server) openCast(ctx context.Context, x access.Session) (io.ReadCloser, error) {
	if s.c.OpenCast == nil {
		return nil, errNotSealed(x.ID)
	}
	return s.c.OpenCast(ctx, x)
}

// openRecording asks the broker, which records that somebody looked, and opens
// what there is to read.
func (s *Server) openRecording(ctx context.Context, by access.Caller, id, how string, from func(context.Context, access.Session) (io.ReadCloser, error)) (access.Session, io.ReadCloser, error) {
	x, err := s.c.Broker.Replay(ctx, by, id, how)
	if err != nil {
		return x, nil, err
	}
	if x.Recording.Name == "" || from == nil {
		return x, nil, errNotSealed(x.ID)
	}
	r, err := from(ctx, x)
	if err != nil {
		return x, nil, notHere(x, err)
	}
	return x, r, nil
}

// notHere says why a recording cannot be opened.
func notHere(x access.Session, err error) error {
	switch {
	case errors.Is(err, recorder.ErrArchived):
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-6100", Text: "the recording of " + x.ID + " is in an archive and is being brought back, which takes hours; try again tomorrow", Next: "drawbolt replay " + x.ID}
	case errors.Is(err, fs.ErrNotExist):
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-6101", Text: "the recording of " + x.ID + " is not where recordings are kept: it is on its way from the server " + x.Node + ", or was taken away", Next: "drawboltd doctor, on " + x.Node}
	}
	return fmt.Errorf("open the recording of %s: %w", x.ID, err)
}

func (s *Server) evidence(ctx context.Context, by access.Caller, in *ByID) (content, error) {
	return s.openEvidence(ctx, by, in.ID)
}

// openEvidence is all that proves a session. One person makes a few at a time:
// each costs a processor while it is packed.
func (s *Server) openEvidence(ctx context.Context, by access.Caller, id string) (content, error) {
	leave, ok := s.reading.enter(by.User.ID)
	if !ok {
		return content{}, &access.Error{Kind: errRate, Code: "DB-6091", Text: fmt.Sprintf("evidence is being packed for you %d times already", maxReading), Next: "wait for it, then try again"}
	}
	c, err := s.packEvidence(ctx, by, id, leave)
	if err != nil {
		leave()
	}
	return c, err
}

func (s *Server) packEvidence(ctx context.Context, by access.Caller, id string, leave func()) (content, error) {
	e, err := s.c.Broker.Evidence(ctx, by, id)
	if err != nil {
		return content{}, err
	}
	x, b := e.Session, e.Bundle
	if s.c.OpenCast == nil {
		return content{}, errNotSealed(x.ID)
	}
	if b.Told, err = s.told(&e); err != nil {
		return content{}, err
	}
	b.Keys = slices.Compact(append([]string{s.c.VerifierKey}, s.c.RecordingKeys...))
	b.Recording = func() (io.ReadCloser, error) { return s.c.OpenCast(ctx, x) }
	// What cannot be opened must fail before the answer has begun.
	r, err := b.Recording()
	if err != nil {
		return content{}, fmt.Errorf("open the recording of %s: %w", x.ID, err)
	}
	r.Close()
	return content{media: "application/zip", file: x.ID + ".zip", write: func(w io.Writer) error {
		defer leave()
		return bundle.Write(w, b)
	}}, nil
}

// told is what the evidence says besides, for people: nothing proves it.
func (s *Server) told(e *broker.Evidence) ([]byte, error) {
	type certificate struct {
		Serial      string     `json:"serial"`
		Kind        string     `json:"kind"`
		KeyID       string     `json:"key_id"`
		Key         string     `json:"key"` // fingerprint
		Principal   string     `json:"principal"`
		Target      string     `json:"target"`
		ValidAfter  time.Time  `json:"valid_after"`
		ValidBefore time.Time  `json:"valid_before"`
		RevokedAt   *time.Time `json:"revoked_at,omitempty"`
	}
	b, err := json.MarshalIndent(struct {
		Note         string        `json:"note"`
		Session      api.Session   `json:"session"`
		Request      api.Request   `json:"request"`
		Certificates []certificate `json:"certificates"`
	}{
		"This is what the server says. Nothing in the evidence proves it.", apiSession(e.Session), s.viewCase(e.Case),
		each(e.Certificates, func(c broker.Certificate) certificate {
			return certificate{strconv.FormatUint(c.Serial, 10), c.Kind, c.KeyID, c.Key, c.Principal, c.Target, c.IssuedAt.UTC(), c.ExpiresAt.UTC(), when(c.RevokedAt)}
		}),
	}, "", "  ")
	return append(b, '\n'), err
}

func errNotSealed(id string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6012", Text: "the recording of " + id + " is not sealed yet: it can be had when the session is over"}
}

func copyAll(r io.ReadCloser) func(io.Writer) error {
	return func(w io.Writer) error {
		defer r.Close()
		_, err := io.Copy(w, r)
		return errors.Join(err, damage(r))
	}
}

// damage is what of a recording could not be read, though everything else was.
func damage(r io.Reader) error {
	if d, ok := r.(interface{ Damage() error }); ok {
		if err := d.Damage(); err != nil {
			return &damaged{err}
		}
	}
	return nil
}

// A damaged content was written as far as it could be read.
type damaged struct{ error }

func (d *damaged) Unwrap() error { return d.error }

func (s *Server) proof(ctx context.Context, by access.Caller, in *ByID) (api.Proof, error) {
	p, err := s.c.Broker.Proof(ctx, by, in.ID)
	if err != nil {
		return api.Proof{}, err
	}
	x, err := s.c.Broker.FindSession(ctx, by, in.ID)
	if err != nil {
		return api.Proof{}, err
	}
	head, err := audit.OpenCheckpoint(p.Checkpoint, s.verifier)
	if err != nil {
		return api.Proof{}, fmt.Errorf("read back our own checkpoint: %w", err)
	}
	out := api.Proof{ProvenEvent: provenEvent(p.ProvenEvent), Size: head.Size, Checkpoint: string(p.Checkpoint), Sealed: apiSealed(x.Recording)}
	if p.Deletion != nil {
		e := provenEvent(*p.Deletion)
		out.Deletion = &e
	}
	return out, nil
}

func provenEvent(e broker.ProvenEvent) api.ProvenEvent {
	return api.ProvenEvent{Leaf: e.Leaf, Seq: e.Seq, Inclusion: each(e.Inclusion, func(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) })}
}
