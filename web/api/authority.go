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

// Pushed says to how many targets the list of revoked certificates is brought.
type Pushed struct {
	Targets int `json:"targets"`
}

// PushKRL has the list of revoked certificates brought to all targets that have a
// provisioner. The event revocations.push says how that ended.
func (c *Client) PushKRL(ctx context.Context) (Pushed, error) {
	return call[Pushed](ctx, c, http.MethodPost, "/v1/krl/push", nil, nil)
}

// RotateInput is one step in the rotation of an authority.
type RotateInput struct {
	Step string `json:"step"`          // stage, activate or retire
	Now  bool   `json:"now,omitempty"` // retire a key whose certificates are valid still
}

// An AuthorityKey is a key of an authority.
type AuthorityKey struct {
	Kind  string `json:"kind"`  // user, host or identity
	State string `json:"state"` // active, next or old
	Key   string `json:"key"`   // authorized_keys form
}

// RotateAuthority does a step for the authority of that kind, and returns the
// keys that are to be trusted.
func (c *Client) RotateAuthority(ctx context.Context, kind string, in RotateInput) (List[AuthorityKey], error) {
	return call[List[AuthorityKey]](ctx, c, http.MethodPost, path("authorities", kind, "rotate"), nil, in)
}
