package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// krl answers with the revocation list, which targets fetch again and again: who
// has it already, and says so, gets nothing (RFC 9110, section 13.1.2).
func (s *Server) krl(w http.ResponseWriter, r *http.Request, by access.Caller) {
	list, err := s.c.Broker.KRL(r.Context())
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	sum := sha256.Sum256(list)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(list)
}

func (s *Server) revokeCertificate(ctx context.Context, by access.Caller, in *struct{ Body api.RevokeInput }) (api.Revocation, error) {
	n, err := s.c.Broker.RevokeCertificate(ctx, by, in.Body.Certificate, in.Body.Reason)
	return api.Revocation{Certificates: n}, err
}

func (s *Server) pushKRL(ctx context.Context, by access.Caller, _ *struct{}) (api.Pushed, error) {
	n, err := s.c.Broker.PushRevocations(ctx, by)
	return api.Pushed{Targets: n}, err
}

func (s *Server) rotateAuthority(ctx context.Context, by access.Caller, in *struct {
	Kind string `path:"kind" enum:"user,host,identity"`
	Body api.RotateInput
}) (api.List[api.AuthorityKey], error) {
	list, err := s.c.Broker.RotateAuthority(ctx, by, in.Kind, in.Body.Step, in.Body.Now)
	return api.List[api.AuthorityKey]{Items: each(list, func(k broker.AuthorityKey) api.AuthorityKey {
		return api.AuthorityKey{Kind: k.Kind, State: k.State, Key: keyText(k.Key)}
	})}, err
}

func (s *Server) authorities(context.Context, access.Caller, *struct{}) (api.Authorities, error) {
	a := s.c.Broker.Authorities()
	return api.Authorities{
		User: keyText(a.User), Host: keyText(a.Host),
		Users: each(a.Users, keyText), Hosts: each(a.Hosts, keyText), Identities: each(a.Identities, keyText),
	}, nil
}
