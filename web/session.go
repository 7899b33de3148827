package web

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
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
		return x, nil, &access.Error{Kind: access.ErrConflict, Code: "DB-6012", Text: "the recording of " + x.ID + " is not sealed yet: it can be had when the session is over"}
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
