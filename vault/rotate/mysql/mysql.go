// Package mysql changes the passwords of accounts of MariaDB and MySQL. MariaDB is sent
// the hash that it keeps, made here, so that no log of the server has the password; MySQL,
// whose hash has to be made by itself, is sent the password over TLS.
//
// It trusts the server that its TLS configuration names.
package mysql

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A Rotator changes the password of one account, which is a user and from where it
// logs in.
type Rotator struct {
	Address    string      // host:port
	TLS        *tls.Config // nil: without TLS, for loopback only
	User, Host string      // Host as in the server's table of users; default "%"
	// Admin is the user that sets the password, with AdminPassword; it needs CREATE
	// USER. "": the account itself.
	Admin         string
	AdminPassword vault.Secret
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	_, done, err := r.connect(ctx, r.User, password)
	if err == nil {
		done()
	}
	return err
}

// Set implements rotate.Rotator.
func (r Rotator) Set(ctx context.Context, current, password vault.Secret) error {
	user, with := r.User, current
	if r.Admin != "" {
		user, with = r.Admin, r.AdminPassword
	}
	conn, done, err := r.connect(ctx, user, with)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", user, errors.Join(rotate.ErrUnreachable, err)) // nothing was asked of it yet
	}
	defer done()
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return errors.Join(rotate.ErrUnreachable, err)
	}
	host := r.Host
	if host == "" {
		host = "%"
	}
	statement, args := "ALTER USER ?@? IDENTIFIED BY ?", []any{r.User, host, string(password.Expose())}
	switch maria := strings.Contains(version, "MariaDB"); {
	case maria && r.Admin == "": // what is one's own needs no right
		statement, args = "SET PASSWORD = ?", []any{native(password)}
	case maria:
		statement, args[2] = "ALTER USER ?@? IDENTIFIED VIA mysql_native_password USING ?", native(password)
	case r.Admin == "":
		statement, args = "ALTER USER USER() IDENTIFIED BY ?", args[2:]
	}
	_, err = conn.ExecContext(ctx, statement, args...)
	if my, ok := errors.AsType[*driver.MySQLError](err); ok && my.Number != errShutdown {
		return &rotate.Refusal{Why: fmt.Sprintf("error %d (%s)", my.Number, my.SQLState[:])} // its text may quote the statement
	}
	return err
}

const errShutdown = 1053 // in the middle of the statement

// native is the hash of mysql_native_password: SHA-1 of the SHA-1 of the password.
func native(password vault.Secret) string {
	once := sha1.Sum(password.Expose())
	twice := sha1.Sum(once[:])
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// connect logs in. done closes the connection.
func (r Rotator) connect(ctx context.Context, user string, password vault.Secret) (conn *sql.Conn, done func(), err error) {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, nil, errors.Join(rotate.ErrUnreachable, err)
	}
	if ip := net.ParseIP(host); r.TLS == nil && (ip == nil || !ip.IsLoopback()) {
		return nil, nil, fmt.Errorf("%w: without TLS only a server on this machine", rotate.ErrUnreachable)
	}
	reached := false
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.TLS = user, string(password.Expose()), "tcp", r.Address, r.TLS
	c.InterpolateParams = true // a statement of this kind takes none
	c.Logger = quiet{}
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed, err := (&net.Dialer{}).DialContext(ctx, network, address)
		reached = err == nil
		return dialed, err
	}
	c.ReadTimeout, c.WriteTimeout = time.Minute, time.Minute
	connector, err := driver.NewConnector(c)
	if err != nil {
		return nil, nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	if conn, err = db.Conn(ctx); err == nil {
		return conn, func() { conn.Close(); db.Close() }, nil
	}
	db.Close()
	if my, ok := errors.AsType[*driver.MySQLError](err); ok {
		switch my.Number {
		case 1045: // access denied
			return nil, nil, rotate.ErrWrong
		case 3118, 4151: // the account is locked: MySQL, MariaDB
			return nil, nil, rotate.ErrLocked
		case 1040, 1129, 1130, 1203, 1226: // it was not looked at: too many connections, this host is blocked
			return nil, nil, fmt.Errorf("%w: error %d", rotate.ErrUnreachable, my.Number)
		}
		return nil, nil, fmt.Errorf("error %d", my.Number)
	}
	if !reached {
		err = errors.Join(rotate.ErrUnreachable, err)
	}
	return nil, nil, err
}

// quiet keeps the driver from writing to standard error.
type quiet struct{}

func (quiet) Print(...any) {}
