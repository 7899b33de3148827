//go:build linux

package test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/postgres"
)

// postgres is the story's own way to a PostgreSQL server; see storyVerbs.
func (s *story) postgres(ts *testscript.TestScript, args []string) {
	if len(args) == 1 && args[0] == "start" {
		role, password := "app_"+strings.ToLower(rand.Text()[:10]), rand.Text()
		_, err := servers.NewPostgresTemplate(func(address string) error {
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			ts.Setenv("PG", u.Host)
			ts.Setenv("ROLE", role)
			conn, err := pgx.Connect(context.Background(), address)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			_, err = conn.Exec(context.Background(), "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"'")
			return err
		})
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(s.work, "first"), []byte(password+"\n"), 0o600))
		return
	}
	if len(args) != 2 {
		ts.Fatalf("usage: postgres start | takes FILE | refuses FILE")
	}
	password, err := os.ReadFile(filepath.Join(s.work, args[1]))
	ts.Check(err)
	r := postgres.Rotator{Address: ts.Getenv("PG"), Role: ts.Getenv("ROLE")}
	err = r.Check(context.Background(), vault.NewSecret([]byte(strings.TrimSpace(string(password)))))
	if refused := errors.Is(err, rotate.ErrWrong); refused != (args[0] == "refuses") || err != nil && !refused {
		ts.Fatalf("%s: %v", args[0], err)
	}
}
