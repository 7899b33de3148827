package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
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
	return apiSession(x), err
}

func (s *Server) endSession(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Reason
}) (api.Session, error) {
	if err := s.c.Broker.Terminate(ctx, by, in.ID, in.Body.Reason); err != nil {
		return api.Session{}, err
	}
	return s.findSession(ctx, by, &in.ByID)
}

func (s *Server) recording(ctx context.Context, by access.Caller, in *struct {
	ByID
	Format string `query:"format" enum:"cast,txt" default:"cast"`
}) (content, error) {
	if in.Format == "txt" {
		return s.openText(ctx, by, in.ID)
	}
	x, r, err := s.openRecording(ctx, by, in.ID, "replay", s.c.OpenCast)
	if err != nil {
		return content{}, err
	}
	return content{"application/x-asciicast", x.ID + ".cast", copyAll(r)}, nil
}

// openText is the transcript of a recording.
func (s *Server) openText(ctx context.Context, by access.Caller, id string) (content, error) {
	x, r, err := s.openRecording(ctx, by, id, "export", s.c.OpenCast)
	if err != nil {
		return content{}, err
	}
	return content{"text/plain; charset=utf-8", x.ID + ".txt", func(w io.Writer) error {
		defer r.Close()
		return cast.Text(w, r)
	}}, nil
}

func (s *Server) sealed(ctx context.Context, by access.Caller, in *ByID) (content, error) {
	x, r, err := s.openRecording(ctx, by, in.ID, "verify", s.c.OpenSealed)
	if err != nil {
		return content{}, err
	}
	return content{"application/octet-stream", x.ID + ".sealed", copyAll(r)}, nil
}

// openRecording asks the broker, which records that somebody looked, and opens
// what there is to read.
func (s *Server) openRecording(ctx context.Context, by access.Caller, id, how string, from func(context.Context, access.Session) (io.ReadCloser, error)) (access.Session, io.ReadCloser, error) {
	x, err := s.c.Broker.Replay(ctx, by, id, how)
	if err != nil {
		return x, nil, err
	}
	if x.Recording.Name == "" || from == nil {
		return x, nil, notSealed(x.ID)
	}
	r, err := from(ctx, x)
	if err != nil {
		return x, nil, fmt.Errorf("open the recording of %s: %w", x.ID, err)
	}
	return x, r, nil
}

func (s *Server) evidence(ctx context.Context, by access.Caller, in *ByID) (content, error) {
	return s.openEvidence(ctx, by, in.ID)
}

// openEvidence is all that proves a session. One person makes a few at a time:
// each costs a processor while it is packed.
func (s *Server) openEvidence(ctx context.Context, by access.Caller, id string) (content, error) {
	leave, ok := s.packing.enter(by.User.ID)
	if !ok {
		return content{}, &access.Error{Kind: errRate, Code: "DB-6091", Text: fmt.Sprintf("evidence is being packed for you %d times already", maxPacking), Next: "wait for it, then try again"}
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
		return content{}, notSealed(x.ID)
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
	return content{"application/zip", x.ID + ".zip", func(w io.Writer) error {
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

func notSealed(id string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6012", Text: "the recording of " + id + " is not sealed yet: it can be had when the session is over"}
}

func copyAll(r io.ReadCloser) func(io.Writer) error {
	return func(w io.Writer) error {
		defer r.Close()
		_, err := io.Copy(w, r)
		return err
	}
}

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
	return api.Proof{
		Leaf: p.Leaf, Seq: p.Seq, Size: head.Size, Checkpoint: string(p.Checkpoint), Sealed: apiSealed(x.Recording),
		Inclusion: each(p.Inclusion, func(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }),
	}, nil
}
