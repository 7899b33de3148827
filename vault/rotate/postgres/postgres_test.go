package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/postgres"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

const role = `we"ird; -- role`

func TestRotator(t *testing.T) {
	address := servers.Postgres(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	admin, _ := u.User.Password()
	do := func(statement string) error {
		conn, err := pgx.Connect(context.Background(), address)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), statement)
		return err
	}
	name := pgx.Identifier{role}.Sanitize()
	if err := do("CREATE ROLE " + name + " LOGIN PASSWORD 'First-Passw0rd'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := do("DROP ROLE " + name); err != nil {
			t.Error(err)
		}
	})
	byAdmin := func(address string) rotate.Rotator {
		return postgres.Rotator{Address: address, Role: role, Admin: "postgres", AdminPassword: vault.NewSecret([]byte(admin))}
	}
	rotatetest.Run(t, rotatetest.Subject{
		Address: u.Host, First: "First-Passw0rd",
		New:    func(address string) rotate.Rotator { return postgres.Rotator{Address: address, Role: role} },
		Reset:  byAdmin,
		Change: func(password string) error { return do("ALTER ROLE " + name + " PASSWORD '" + password + "'") },
	})

	t.Run("refused", func(t *testing.T) {
		var no *rotate.Refusal
		err := postgres.Rotator{Address: u.Host, Role: "nobody here", Admin: "postgres", AdminPassword: vault.NewSecret([]byte(admin))}.
			Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte("x")))
		if !errors.As(err, &no) {
			t.Errorf("a role that is not there: %v", err)
		}
	})
	t.Run("without TLS only here", func(t *testing.T) {
		err := postgres.Rotator{Address: "192.0.2.1:5432", Role: role}.Check(t.Context(), vault.NewSecret([]byte("x")))
		if !errors.Is(err, rotate.ErrUnreachable) {
			t.Error(err)
		}
	})
}
