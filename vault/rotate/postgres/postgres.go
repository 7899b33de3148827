// Package postgres changes the passwords of PostgreSQL's roles. What is sent is a
// verifier, made here (RFC 5803): the password itself reaches neither the server nor its log.
//
// It trusts the server that its TLS configuration names, and proves a password only by
// SCRAM-SHA-256: a server that lets anybody in proves none.
package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A Rotator changes the password of one role.
type Rotator struct {
	Address  string      // host:port
	Database string      // to log in to; default postgres
	TLS      *tls.Config // nil: without TLS, for loopback only
	Role     string
	// Admin is the role that sets the password, with AdminPassword. "": the role itself.
	Admin         string
	AdminPassword vault.Secret
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	conn, err := r.connect(ctx, r.Role, password)
	if err != nil {
		return err
	}
	conn.Close(ctx)
	return nil
}

// Set implements rotate.Rotator.
func (r Rotator) Set(ctx context.Context, current, password vault.Secret) error {
	role, with := r.Role, current
	if r.Admin != "" {
		role, with = r.Admin, r.AdminPassword
	}
	verifier, err := verifier(password)
	if err != nil {
		return err
	}
	conn, err := r.connect(ctx, role, with)
	if err != nil {
		// Nothing was asked of it yet.
		return fmt.Errorf("log in as %s: %w", role, errors.Join(rotate.ErrUnreachable, err))
	}
	defer conn.Close(ctx)
	// Utility statements take no parameters. A verifier has no quotes.
	_, err = conn.Exec(ctx, "ALTER ROLE "+pgx.Identifier{r.Role}.Sanitize()+" PASSWORD '"+verifier+"'")
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Severity == "ERROR" {
		return &rotate.Refusal{Why: pg.Message + " (" + pg.Code + ")"} // the statement is undone
	}
	return err
}

func (r Rotator) connect(ctx context.Context, role string, password vault.Secret) (*pgx.Conn, error) {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, errors.Join(rotate.ErrUnreachable, err)
	}
	if ip := net.ParseIP(host); r.TLS == nil && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w: without TLS only a server on this machine", rotate.ErrUnreachable)
	}
	c, err := pgx.ParseConfig("host=127.0.0.1 sslmode=disable require_auth=scram-sha-256 application_name=drawbolt")
	if err != nil {
		return nil, err
	}
	reached := false
	c.User, c.Password, c.Database, c.TLSConfig = role, string(password.Expose()), r.Database, r.TLS
	if c.Database == "" {
		c.Database = "postgres"
	}
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{host}, nil } // as it stands; resolved when it is dialled
	c.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, r.Address)
		reached = err == nil
		return conn, err
	}
	c.Fallbacks, c.DefaultQueryExecMode = nil, pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil {
		return conn, nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "28P01": // invalid_password
			return nil, rotate.ErrWrong
		case "28000": // the role may not log in
			return nil, fmt.Errorf("%w: %s", rotate.ErrLocked, pg.Message)
		case "3D000", "53300", "57P03": // logged in, and then: no such database, full, starting
			return nil, fmt.Errorf("%w: %s", rotate.ErrUnreachable, pg.Message)
		}
	}
	if !reached {
		err = errors.Join(rotate.ErrUnreachable, err)
	}
	return nil, err
}

// verifier makes what PostgreSQL keeps of a password: SCRAM-SHA-256$4096:salt$stored:server.
func verifier(password vault.Secret) (string, error) {
	const rounds = 4096 // what the server uses itself
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, string(password.Expose()), salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	defer clear(salted)
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	var b strings.Builder
	fmt.Fprintf(&b, "SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key")))
	return b.String(), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
