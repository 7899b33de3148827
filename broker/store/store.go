// Package store keeps drawbolt's state in SQL: SQLite in one file, or
// PostgreSQL, which several servers may share. Both run the same statements.
//
// Its promise is that no change exists without its audit event: a change, the
// event that tells of it and the Merkle hashes of that event are one
// transaction ([DB.Change]). When the event cannot be written, nothing
// happened.
//
// It trusts the database to keep what was committed. Somebody who can write to
// the database can roll it back or cut the end of the audit log, which signed
// checkpoints kept elsewhere show, but cannot forge an event or a vault record
// that verifies. It decides nothing: rules are in access, decisions in broker.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

//go:embed migrations
var migrations embed.FS

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	queryer // reads what is committed

	write    *sql.DB // SQLite: one connection, transactions take the write lock at once
	read     *sql.DB
	postgres bool
	now      func() time.Time
	texts    int64 // of one session, at most

	group  group       // of changes, for SQLite
	writes *statements // of write; nil for PostgreSQL
	bound  sync.Map    // query -> query in PostgreSQL's placeholder form
}

// Config says which database.
type Config struct {
	// URL is sqlite:///absolute/or/./relative/path or postgres://...
	URL string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Texts is how many texts of one session are kept to be searched, the first
	// of them; default 200,000, at most 1,000,000.
	Texts int64
}

// Open opens the database and brings its schema up to date. Two servers that
// start at once wait for each other. The caller closes it.
func Open(ctx context.Context, c Config) (*DB, error) {
	db := &DB{now: c.Now, texts: min(c.Texts, 1_000_000)}
	if db.texts <= 0 {
		db.texts = 200_000
	}
	if db.now == nil {
		db.now = time.Now
	}
	var err error
	switch {
	case strings.HasPrefix(c.URL, "sqlite://"):
		err = db.openSQLite(strings.TrimPrefix(c.URL, "sqlite://"))
	case strings.HasPrefix(c.URL, "postgres://"), strings.HasPrefix(c.URL, "postgresql://"):
		err = db.openPostgres(c.URL)
	default:
		err = errors.New("the database URL must begin with sqlite:// or postgres://")
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.queryer = queryer{db, db.read}
	if !db.postgres {
		db.conn, db.writes = newStatements(db.read), newStatements(db.write)
	}
	if err := db.migrate(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

func (db *DB) openSQLite(path string) error {
	// The files hold everything; nobody else may read them.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	const pragmas = "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)"
	name := "file:" + (&urlPath{path}).escaped() + pragmas
	// What is removed is overwritten: the text of a recording that is gone is gone,
	// and so is the header, with which a copy of it could be opened.
	if db.write, err = sql.Open("sqlite", name+"&_txlock=immediate&_pragma=secure_delete(1)"); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(8)
	db.read.SetMaxIdleConns(8)
	return nil
}

// urlPath escapes what SQLite's URI syntax would read as something else.
type urlPath struct{ path string }

func (p *urlPath) escaped() string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(p.path)
}

func (db *DB) openPostgres(url string) error {
	pool, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(8)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db.write, db.read, db.postgres = pool, pool, true
	return nil
}

func (db *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, folder := goose.DialectSQLite3, "sqlite/"
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if db.postgres {
		dialect, folder = goose.DialectPostgres, "postgres/"
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	// Those that no statements for both could make.
	for version, name := range map[int64]string{12: "00012_search.sql", 23: "00023_lists.sql"} {
		statements, err := fs.ReadFile(files, folder+name)
		if err != nil {
			return err
		}
		options = append(options, goose.WithGoMigrations(goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(statements))
			return err
		}}, nil)))
	}
	provider, err := goose.NewProvider(dialect, db.write, files, options...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	for attempt := 1; err != nil && !db.postgres && attempt < attempts; attempt++ {
		// SQLite has no lock for this: of two processes that begin together
		// one fails, changes nothing, and finds the work done when it looks
		// again.
		if e := pause(ctx, attempt); e != nil {
			return e
		}
		_, err = provider.Up(ctx)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Close closes the database.
func (db *DB) Close() error {
	err := db.write.Close()
	if db.read != db.write {
		err = errors.Join(err, db.read.Close())
	}
	return err
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var n int64
	if err := db.row(ctx, "SELECT size FROM audit_head WHERE id = 1").Scan(&n); err != nil {
		return unavailable(err)
	}
	return nil
}

// A queryer runs statements inside or outside a change.
type queryer struct {
	db   *DB
	conn interface {
		QueryContext(context.Context, string, ...any) (*sql.Rows, error)
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}
}

func (q queryer) row(ctx context.Context, query string, args ...any) *sql.Row {
	return q.conn.QueryRowContext(ctx, q.db.bind(query), args...)
}

func (q queryer) rows(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return q.conn.QueryContext(ctx, q.db.bind(query), args...)
}

// bind turns ? into $1, $2 for PostgreSQL. No statement here has a ? of another
// meaning.
func (db *DB) bind(query string) string {
	if !db.postgres {
		return query
	}
	if s, ok := db.bound.Load(query); ok {
		return s.(string)
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
		} else {
			b.WriteRune(r)
		}
	}
	db.bound.Store(query, b.String())
	return b.String()
}

// A Tx is one change being made. What it reads, it locks until the change is
// done, so that two servers cannot decide on the same thing at once.
type Tx struct {
	queryer
	tx     transaction
	now    time.Time
	events []audit.Event

	decided *Decision // see Decided

	revokedAt     []string // see RevokedAt
	then          []func() // see Then
	clockAccepted bool     // see DB.AcceptClock
}

// Now is the time of the change, in microseconds UTC.
func (tx *Tx) Now() time.Time { return tx.now }

// Also notes one more event of the same change, besides the one that the
// change function returns.
func (tx *Tx) Also(e audit.Event) { tx.events = append(tx.events, e) }

// Then has something done once the change is committed. What is not committed, or of
// which that is not known, is not followed by it.
func (tx *Tx) Then(do func()) { tx.then = append(tx.then, do) }

func (tx *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(ctx, tx.db.bind(query), args...)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errDatabase, err)
	}
	return res.RowsAffected()
}

// lock is the clause that keeps a row that a change has read.
func (q queryer) lock() string {
	if _, changing := q.conn.(transaction); changing && q.db.postgres {
		return " FOR NO KEY UPDATE"
	}
	return "" // SQLite has one writer at a time
}

// share is the clause that keeps a row that a change has read as it is, and lets
// other changes keep it, too.
func (q queryer) share() string {
	if _, changing := q.conn.(transaction); changing && q.db.postgres {
		return " FOR SHARE"
	}
	return ""
}

// failed says what could not be done. Outside a change that is the whole
// answer: the database is not available.
func (q queryer) failed(what string, err error) error {
	if _, changing := q.conn.(transaction); changing {
		return fmt.Errorf("%s: %w: %w", what, errDatabase, err)
	}
	return unavailable(fmt.Errorf("%s: %w", what, err))
}

// errDatabase: the database broke; the change did not refuse.
var errDatabase = errors.New("database")

// errStale: the row has changed since it was read; the change is tried again.
var errStale = errors.New("changed by somebody else meanwhile")

const attempts = 8

// Change reads, changes and saves in one transaction, together with the event
// that fn returns. fn does no I/O besides tx and may be called again when
// another server was faster.
//
// When fn refuses (returns an error), nothing is changed; the event, if it has
// an action, is then written by itself with the outcome refused, and fn's
// error is returned. An error of the database or of the audit log is
// access.ErrUnavailable: nothing happened, or (a commit whose answer was lost)
// the change and its event both did.
func (db *DB) Change(ctx context.Context, fn func(tx *Tx) (audit.Event, error)) error {
	for attempt := 1; ; attempt++ {
		refusal, gave, err := db.try(ctx, fn)
		switch {
		case err == nil:
			return nil
		case refusal != nil:
			if refusal.Action == "" {
				return err
			}
			if refusal.Outcome == "" {
				refusal.Outcome = audit.Refused
			}
			if refusal.Reason == "" {
				refusal.Reason = audit.Clean(err.Error(), audit.MaxReason)
			}
			// Who gives up waiting does not get around the record.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if e := db.Change(ctx, func(tx *Tx) (audit.Event, error) {
				tx.decided = gave.decided
				return *refusal, nil
			}); e != nil {
				return errors.Join(err, e)
			}
			return err
		case attempt < attempts && isRetryable(err):
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		case errors.Is(err, errStale):
			return &access.Error{Kind: access.ErrConflict, Code: "DB-3011", Text: "it is being changed by others at this moment; try again"}
		case ctx.Err() != nil:
			return unavailable(fmt.Errorf("%w: %w", ctx.Err(), err))
		default:
			return unavailable(err)
		}
	}
}

// Record writes an event that comes with no other change.
func (db *DB) Record(ctx context.Context, e audit.Event) error {
	return db.Change(ctx, func(*Tx) (audit.Event, error) { return e, nil })
}

// unaudited makes a change that is no evidence. fn may be called again.
func (db *DB) unaudited(ctx context.Context, fn func(tx *Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.transact(ctx, fn)
		switch {
		case err == nil:
			return nil
		case isRetryable(err) && attempt < attempts:
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		case isRetryable(err), errors.Is(err, errDatabase):
			return unavailable(err)
		default:
			return err
		}
	}
}

// pause waits before the next attempt, longer each time.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-ctx.Done():
		return unavailable(ctx.Err())
	case <-time.After(time.Duration(attempt*attempt) * time.Millisecond):
		return nil
	}
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", access.ErrUnavailable, err)
}

// try runs one attempt. A refusal of fn comes back as the event to record, the
// change that was given up, whose decision goes with it, and fn's error; anything else
// as an error alone.
func (db *DB) try(ctx context.Context, fn func(tx *Tx) (audit.Event, error)) (refusal *audit.Event, of *Tx, err error) {
	err = db.transact(ctx, func(tx *Tx) error {
		of = tx
		e, err := fn(tx)
		if err != nil {
			if !errors.Is(err, errStale) && !errors.Is(err, errDatabase) {
				refusal = &e
			}
			return err
		}
		tx.nameDecision(&e)
		events := append([]audit.Event{e}, tx.events...)
		for i := range events {
			if events[i].Outcome == "" {
				events[i].Outcome = audit.Done
			}
		}
		seq, err := tx.append(ctx, events)
		if err == nil {
			err = tx.addDecision(ctx, seq)
		}
		if err != nil {
			return fmt.Errorf("write the audit event: %w", err)
		}
		return nil
	})
	return refusal, of, err
}

func isRetryable(err error) bool {
	if errors.Is(err, errStale) {
		return true
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01" // serialization failure, deadlock
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}

func isDuplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && (lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
