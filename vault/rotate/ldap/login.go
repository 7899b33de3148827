package ldap

import (
	"context"

	"github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/vault"
)

// Login logs in as the entry. Errors are those of Check. done closes what was opened.
func (r Rotator) Login(ctx context.Context, password vault.Secret) (conn *ldap.Conn, done func(), err error) {
	c, err := r.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := c.bind(r.DN, password); err != nil {
		c.close()
		return nil, nil, err
	}
	return c.Conn, c.close, nil
}
