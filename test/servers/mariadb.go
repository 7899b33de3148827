package servers

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

// A MariaDB is a running server with a user root, who has no password and logs in by
// the socket only.
type MariaDB struct {
	*server
	Address string // host:port
	socket  string
}

// NewMariaDB starts one, which takes a second. It ends with the test.
func NewMariaDB(t testing.TB) *MariaDB {
	t.Helper()
	install, err := program("mariadb-install-db", "mariadb-server")
	check(t, err)
	daemon, err := program("mariadbd", "mariadb-server", "/usr/sbin/mariadbd")
	check(t, err)
	dir, err := newDir("mariadb")
	check(t, err)
	m, err := runMariaDB(dir, install, daemon)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(fmt.Errorf("start MariaDB: %w", err))
	}
	t.Cleanup(m.stop)
	return m
}

func runMariaDB(dir, install, daemon string) (*MariaDB, error) {
	data, as := filepath.Join(dir, "data"), "--user="+os.Getenv("USER")
	if os.Getuid() == 0 {
		as = "--user=mysql"
		if err := os.Chmod(dir, 0o777); err != nil { // its socket is made in it
			return nil, err
		}
	}
	if err := run(exec.Command(install, "--no-defaults", as, "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m := &MariaDB{Address: "127.0.0.1:" + strconv.Itoa(port), socket: filepath.Join(dir, "socket")}
	if m.server, err = start(dir, "TERM", "", daemon, "--no-defaults", as, "--datadir="+data, "--socket="+m.socket, "--port="+strconv.Itoa(port),
		"--bind-address=127.0.0.1", "--pid-file="+filepath.Join(dir, "pid"), "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve",
		"--general-log=1", "--general-log-file="+filepath.Join(dir, "statements")); err != nil {
		return nil, err
	}
	if err := m.until(func() error {
		return m.Do("DELETE FROM mysql.global_priv WHERE User = '' OR User = 'root' AND Host <> 'localhost'; FLUSH PRIVILEGES")
	}); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

// Do does statements as root.
func (m *MariaDB) Do(statements string) error {
	c := driver.NewConfig()
	c.User, c.Net, c.Addr, c.MultiStatements = "root", "unix", m.socket, true
	connector, err := driver.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	_, err = db.Exec(statements)
	return errors.Join(err, db.Close())
}

// Statements returns what the server has logged of all statements.
func (m *MariaDB) Statements() (string, error) {
	b, err := os.ReadFile(filepath.Join(m.dir, "statements"))
	return string(b), err
}
