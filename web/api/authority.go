package api

import (
	"context"
	"io"
	"net/http"
)

// KRL returns the list of revoked certificates for sshd's RevokedKeys. It needs
// no login. The caller closes it.
func (c *Client) KRL(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/krl", nil)
}

// RevokeInput says which certificates are to count no more, and why.
type RevokeInput struct {
	Certificate string `json:"certificate"` // serial, or id of a session
	Reason      string `json:"reason"`
}

// Revocation says how many certificates were valid until then.
type Revocation struct {
	Certificates int `json:"certificates"`
}

// RevokeCertificate revokes a certificate, or those of a session.
func (c *Client) RevokeCertificate(ctx context.Context, in RevokeInput) (Revocation, error) {
	return call[Revocation](ctx, c, http.MethodPost, "/v1/certificates/revoke", nil, in)
}
