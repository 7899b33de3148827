package scan

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/rotation"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate/mysql"
	"github.com/drawbolt/drawbolt/vault/rotate/postgres"
)

// Bounds of what is read of a database.
const (
	maxRoles   = 5_001
	maxMembers = 50_000
)

// errTooMuch says that a server goes on behind the last row that it was asked for.
var errTooMuch = errors.New("it answers more than it was asked for")

// step is the scan as package rotation takes it, which knows how targets are reached.
func step(d broker.Discovery) broker.RotationStep {
	a, _ := d.Target.Account(d.Account)
	return broker.RotationStep{Target: d.Target, Account: a}
}

// explorePostgres reads the roles of a server of PostgreSQL.
func explorePostgres(ctx context.Context, d broker.Discovery, password vault.Secret) (none discovery.Scan, err error) {
	as, err := rotation.Postgres(step(d))
	if err != nil {
		return none, err
	}
	r, ok := as.(postgres.Rotator)
	if !ok {
		return none, fmt.Errorf("%s is not reached as PostgreSQL is", d.Target.Name)
	}
	conn, err := r.Login(ctx, password)
	if err != nil {
		return none, fmt.Errorf("log in as %s: %w", d.Account, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Others' operators and functions may stand in the search path.
	if _, err := conn.Exec(ctx, "SET search_path = pg_catalog; SET statement_timeout = '30s'; SET default_transaction_read_only = on"); err != nil {
		return none, err
	}
	var version string
	var now time.Time
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version'), now()").Scan(&version, &now); err != nil {
		return none, err
	}
	passwords, err := postgresPasswords(ctx, conn)
	if err != nil {
		return none, err
	}
	rows, err := conn.Query(ctx, "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin, COALESCE(EXTRACT(EPOCH FROM NULLIF(NULLIF(rolvaliduntil, 'infinity'), '-infinity')), 0)::bigint FROM pg_roles ORDER BY rolname LIMIT $1", maxRoles)
	if err != nil {
		return none, err
	}
	defer rows.Close()
	var roles []discovery.Role
	for rows.Next() {
		if len(roles) == maxRoles {
			return none, errTooMuch
		}
		var x discovery.Role
		var until int64
		if err := rows.Scan(&x.Name, &x.Super, &x.CreateRole, &x.CreateDB, &x.Replication, &x.BypassRLS, &x.Login, &until); err != nil {
			return none, err
		}
		if until > 0 {
			x.ValidUntil = time.Unix(until, 0).UTC()
		}
		if x.Password = passwords[x.Name]; x.Password == "" && x.Login {
			x.Password = discovery.PasswordSet // it is not told; the worse is taken
		}
		roles = append(roles, x)
	}
	if err := rows.Err(); err != nil {
		return none, err
	}
	members, err := conn.Query(ctx, "SELECT m.rolname, g.rolname FROM pg_auth_members x JOIN pg_roles m ON m.oid = x.member JOIN pg_roles g ON g.oid = x.roleid LIMIT $1", maxMembers)
	if err != nil {
		return none, err
	}
	defer members.Close()
	var pairs [][2]string
	for members.Next() {
		if len(pairs) == maxMembers {
			return none, errTooMuch
		}
		var p [2]string
		if err := members.Scan(&p[0], &p[1]); err != nil {
			return none, err
		}
		pairs = append(pairs, p)
	}
	return discovery.FromPostgreSQL(version, now.UTC(), roles, pairs), members.Err()
}

// postgresPasswords says of roles whether they have a password, where this may be seen.
// No verifier leaves the server.
func postgresPasswords(ctx context.Context, conn interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	PgConn() *pgconn.PgConn
}) (map[string]string, error) {
	states := map[string]string{}
	results := conn.PgConn().Exec(ctx, fmt.Sprintf("SELECT rolname, CASE WHEN rolpassword IS NULL THEN 'locked' ELSE 'set' END FROM pg_authid LIMIT %d", maxRoles))
	for n := 0; results.NextResult(); {
		for rows := results.ResultReader(); rows.NextRow(); n++ {
			if row := rows.Values(); n >= maxRoles || len(row) != 2 {
				return nil, errors.Join(errTooMuch, conn.PgConn().Close(ctx))
			}
			states[string(rows.Values()[0])] = string(rows.Values()[1])
		}
	}
	err := results.Close()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" { // insufficient_privilege
		return states, nil
	}
	return states, err
}

// exploreMySQL reads the users of a server of MySQL or MariaDB.
func exploreMySQL(ctx context.Context, d broker.Discovery, password vault.Secret) (none discovery.Scan, err error) {
	as, err := rotation.MySQL(step(d))
	if err != nil {
		return none, err
	}
	r, ok := as.(mysql.Rotator)
	if !ok {
		return none, fmt.Errorf("%s is not reached as MySQL is", d.Target.Name)
	}
	conn, done, err := r.Login(ctx, password)
	if err != nil {
		return none, fmt.Errorf("log in as %s: %w", d.Account, err)
	}
	defer done()
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return none, err
	}
	locked, where := "account_locked = 'Y'", ""
	if strings.Contains(version, "MariaDB") {
		// Where a user is locked stands elsewhere than in the view of users.
		locked = "COALESCE((SELECT JSON_VALUE(p.Priv, '$.account_locked') FROM mysql.global_priv p WHERE p.User = u.User AND p.Host = u.Host), 0) = 1"
		where = " WHERE u.is_role = 'N'"
	}
	rows, err := conn.QueryContext(ctx, "SELECT u.User, u.Host, u.plugin, CASE WHEN COALESCE(u.authentication_string, '') = '' THEN 'none' WHEN u.authentication_string = 'invalid' THEN 'locked' ELSE 'set' END, "+locked+" FROM mysql.user u"+where+fmt.Sprintf(" ORDER BY u.User, u.Host LIMIT %d", maxRoles))
	if err != nil {
		return none, err
	}
	defer rows.Close()
	var users []discovery.DatabaseUser
	byGrantee := map[string]int{}
	for rows.Next() {
		if len(users) == maxRoles {
			return none, errTooMuch
		}
		var u discovery.DatabaseUser
		if err := rows.Scan(&u.User, &u.Host, &u.Plugin, &u.Password, &u.Locked); err != nil {
			return none, err
		}
		byGrantee["'"+u.User+"'@'"+u.Host+"'"] = len(users)
		users = append(users, u)
	}
	if err := rows.Err(); err != nil {
		return none, err
	}
	rights, err := conn.QueryContext(ctx, "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES LIMIT "+strconv.Itoa(maxMembers))
	if err != nil {
		return none, err
	}
	defer rights.Close()
	for n := 0; rights.Next(); n++ {
		if n == maxMembers {
			return none, errTooMuch
		}
		var grantee, privilege, grantable string
		if err := rights.Scan(&grantee, &privilege, &grantable); err != nil {
			return none, err
		}
		if i, ok := byGrantee[grantee]; ok && privilege != "USAGE" {
			users[i].Privileges = append(users[i].Privileges, strings.ToUpper(privilege))
			users[i].Grants = users[i].Grants || grantable == "YES"
		}
	}
	return discovery.FromMySQL(version, time.Time{}, users), rights.Err()
}
