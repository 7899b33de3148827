package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/drawbolt/drawbolt/vault"
)

// Login logs in as the role. Errors are those of Check.
func (r Rotator) Login(ctx context.Context, password vault.Secret) (*pgx.Conn, error) {
	return r.connect(ctx, r.Role, password)
}
