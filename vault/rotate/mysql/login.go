package mysql

import (
	"context"
	"database/sql"

	"github.com/drawbolt/drawbolt/vault"
)

// Login logs in as the user. Errors are those of Check. done closes what was opened.
func (r Rotator) Login(ctx context.Context, password vault.Secret) (conn *sql.Conn, done func(), err error) {
	return r.connect(ctx, r.User, password)
}
