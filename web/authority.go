package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

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
