package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// One server for all tests of a process; its end is the process's.
var startPostgres = sync.OnceValues(newPostgres)

// Postgres returns the URL of a fresh and empty database, which is dropped at
// the end of the test. The first call starts the server of this test process,
// which takes a second or two. It does not sync to disk: a test must not
// conclude from it what survives a power cut.
func Postgres(t testing.TB) (url string) {
	t.Helper()
	return PostgresFrom(t, "template1")
}

// PostgresFrom is Postgres with a copy of another database of the server, to
// which nobody may be connected meanwhile.
func PostgresFrom(t testing.TB, template string) (url string) {
	t.Helper()
	s, err := startPostgres()
	check(t, err)
	name, err := s.create(template)
	check(t, err)
	t.Cleanup(func() {
		if err := s.admin("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return s.base + name
}

// NewPostgresTemplate makes a database for PostgresFrom, which prepare fills. It
// is there as long as the server is.
func NewPostgresTemplate(prepare func(url string) error) (name string, err error) {
	s, err := startPostgres()
	if err != nil {
		return "", err
	}
	if name, err = s.create("template1"); err != nil {
		return "", err
	}
	return name, prepare(s.base + name)
}

func (s *postgres) create(template string) (name string, err error) {
	name = "test_" + strings.ToLower(rand.Text())
	return name, s.admin("CREATE DATABASE " + name + " TEMPLATE " + template)
}

// admin runs a statement that is about databases.
func (s *postgres) admin(query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.base+"postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		// A connection that was closed may not have ended yet; PostgreSQL waits five
		// seconds for it.
		_, err = conn.Exec(ctx, query)
		if e, is := errors.AsType[*pgconn.PgError](err); !is || e.Code != "55006" || ctx.Err() != nil {
			return err
		}
	}
}

// A postgres is kept for good: its pipe would be closed with it.
type postgres struct {
	*server
	base string // URL of the server, ending in /
}

func newPostgres() (*postgres, error) {
	const debian, bin = "postgresql", "/usr/lib/postgresql/*/bin/"
	initdb, err := program("initdb", debian, bin+"initdb")
	if err != nil {
		return nil, err
	}
	program, err := program("postgres", debian, bin+"postgres")
	if err != nil {
		return nil, err
	}
	dir, err := newDir("postgres")
	if err != nil {
		return nil, err
	}
	s, err := runPostgres(dir, initdb, program)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s, nil
}

func runPostgres(dir, initdb, program string) (*postgres, error) {
	// Any user of the machine can reach the port, so it asks for a password.
	password := rand.Text()
	pwfile, data := filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(pwfile, []byte(password), 0o600); err != nil {
		return nil, err
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	var as []string // PostgreSQL refuses to run as root
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		for _, path := range []string{pwfile, data} {
			if err := os.Chown(path, uid, gid); err != nil {
				return nil, err
			}
		}
		as = []string{"/usr/bin/setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups", "--"}
	}
	argv := append(as[:len(as):len(as)], initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", pwfile,
		"--no-sync", "--encoding=UTF8",
		// An order that is not that of bytes, so that tests find what relies on one.
		"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = dir
	if err := run(c); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	// SIGQUIT is PostgreSQL's immediate shutdown.
	s, err := start(dir, "QUIT", "", append(as, program, "-D", data, "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB")...)
	if err != nil {
		return nil, err
	}
	base := fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/", password, port)
	err = s.until(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, base+"postgres")
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return &postgres{s, base}, nil
}
