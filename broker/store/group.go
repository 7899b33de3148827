package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A group commits changes that come at the same time together. SQLite has one
// writer, and a commit costs a flush to the disk, which all of them then share.
// Each change runs in a savepoint of its own: one that refuses or fails leaves
// the others as they are. A change has happened when the commit has, so no
// caller is answered before.
type group struct {
	mu      sync.Mutex
	waiting []*grouped
	working bool // somebody leads
}

// A grouped change waits to be run by whoever leads.
type grouped struct {
	ctx      context.Context
	fn       func(tx *Tx) error
	err      error
	panicked any
	lead     chan struct{} // closed when this caller is to lead next
	done     chan struct{} // closed when err is set
}

// maxGroup bounds how long the first change of a group waits for the last.
const maxGroup = 64

// together runs fn in one transaction with the changes that wait beside it.
func (db *DB) together(ctx context.Context, fn func(tx *Tx) error) error {
	c := &grouped{ctx: ctx, fn: fn, lead: make(chan struct{}), done: make(chan struct{})}
	g := &db.group
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if !g.working {
		g.working = true
		close(c.lead)
	}
	g.mu.Unlock()
	select {
	case <-c.done:
	case <-c.lead:
		db.leadGroup()
		<-c.done // the leader is always the first of its group
	}
	if c.panicked != nil {
		panic(c.panicked) // where it belongs
	}
	return c.err
}

// leadGroup runs the changes that wait and hands on to the next that came
// meanwhile.
func (db *DB) leadGroup() {
	g := &db.group
	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	list := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()

	db.runGroup(list)

	g.mu.Lock()
	if len(g.waiting) > 0 {
		close(g.waiting[0].lead)
	} else {
		g.waiting, g.working = nil, false
	}
	g.mu.Unlock()
	for _, c := range list {
		close(c.done)
	}
}

// runGroup sets the outcome of each change.
func (db *DB) runGroup(list []*grouped) {
	fail := func(err error) {
		for _, c := range list {
			if c.err == nil && c.panicked == nil {
				c.err = fmt.Errorf("%w: %w", errDatabase, err)
			}
		}
	}
	db.writes.compile(context.Background()) // while nothing holds the connection
	conn, err := db.write.BeginTx(context.Background(), nil)
	if err != nil {
		fail(err)
		return
	}
	defer conn.Rollback() // does nothing after Commit
	t := transaction{conn, db.writes}
	for _, c := range list {
		if err := db.runOne(t, c); err != nil {
			fail(err)
			return
		}
	}
	if err := conn.Commit(); err != nil {
		fail(err)
	}
}

// runOne runs one change in its savepoint. An error is of the transaction as a
// whole; that of the change is kept with it.
func (db *DB) runOne(t transaction, c *grouped) error {
	if c.err = c.ctx.Err(); c.err != nil {
		return nil // nobody waits for it any more
	}
	if _, err := t.Exec("SAVEPOINT one"); err != nil {
		return err
	}
	func() {
		defer func() { c.panicked = recover() }()
		c.err = c.fn(&Tx{queryer: queryer{db, t}, tx: t, now: db.now().UTC().Truncate(time.Microsecond)})
	}()
	if c.err == nil {
		c.err = c.ctx.Err() // given up meanwhile
	}
	if c.err != nil || c.panicked != nil {
		// A full disk may have ended the whole transaction already; then this
		// fails, and nothing of the group has happened.
		if _, err := t.Exec("ROLLBACK TO one"); err != nil {
			return err
		}
	}
	_, err := t.Exec("RELEASE one")
	return err
}

// A transaction runs statements; those of SQLite are compiled, once they are
// known. Changes share such a transaction, so that nobody's giving up may
// interrupt a statement, which would end the changes of all.
type transaction struct {
	*sql.Tx
	compiled *statements // nil: not SQLite, and not shared
}

// statement returns the compiled query, if there is one.
func (t transaction) statement(ctx context.Context, query string) (context.Context, *sql.Stmt) {
	if t.compiled == nil {
		return ctx, nil
	}
	ctx = context.WithoutCancel(ctx)
	if stmt := t.compiled.find(query); stmt != nil {
		return ctx, t.StmtContext(ctx, stmt)
	}
	return ctx, nil
}

func (t transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, stmt := t.statement(ctx, query)
	if stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

func (t transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, stmt := t.statement(ctx, query)
	if stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t transaction) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	ctx, stmt := t.statement(ctx, query)
	if stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}

// alone runs fn in a transaction of its own, which is committed if fn returns
// nil.
func (db *DB) alone(ctx context.Context, fn func(tx *Tx) error) error {
	conn, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errDatabase, err)
	}
	defer conn.Rollback() // does nothing after Commit
	t := transaction{conn, nil}
	if err := fn(&Tx{queryer: queryer{db, t}, tx: t, now: db.now().UTC().Truncate(time.Microsecond)}); err != nil {
		return err
	}
	if err := conn.Commit(); err != nil {
		return fmt.Errorf("%w: %w", errDatabase, err)
	}
	return nil
}

// transact runs fn in a transaction, which is committed if fn returns nil, and then
// what fn has left for Tx.Then.
func (db *DB) transact(ctx context.Context, fn func(tx *Tx) error) error {
	var last *Tx
	noted := func(tx *Tx) error {
		last = tx
		return fn(tx)
	}
	var err error
	if db.postgres {
		err = db.alone(ctx, noted)
	} else if err = db.together(ctx, noted); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errDatabase, err)
	}
	if err == nil {
		for _, then := range last.then {
			then()
		}
	}
	return err
}
