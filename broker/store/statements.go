package store

import (
	"context"
	"database/sql"
	"sync"
)

// statements are those that SQLite has compiled for a pool of connections:
// compiling one takes longer than running it. PostgreSQL's driver keeps its own.
type statements struct {
	pool *sql.DB

	mu     sync.RWMutex
	known  map[string]*sql.Stmt // nil: wanted, and not compiled yet
	wanted []string
}

// maxStatements is far above the number of different statements here.
const maxStatements = 500

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, known: map[string]*sql.Stmt{}}
}

// find returns the compiled query, or nil and notes that it is wanted.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.RLock()
	stmt, ok := s.known[query]
	s.mu.RUnlock()
	if ok {
		return stmt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[query]; !ok && len(s.known) < maxStatements {
		s.known[query] = nil
		s.wanted = append(s.wanted, query)
	}
	return s.known[query]
}

// compile compiles what is wanted. It takes a connection of the pool: a caller
// who holds the only one would wait for ever. What does not compile is wanted
// anew, and tells why when it is run.
func (s *statements) compile(ctx context.Context) {
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = nil
	s.mu.Unlock()
	for _, query := range wanted {
		stmt, err := s.pool.PrepareContext(ctx, query)
		s.mu.Lock()
		if err == nil {
			s.known[query] = stmt
		} else {
			delete(s.known, query)
		}
		s.mu.Unlock()
	}
}

// QueryContext runs a query outside of changes.
func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := s.ready(ctx, query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return s.pool.QueryContext(ctx, query, args...)
}

// QueryRowContext is QueryContext for one row.
func (s *statements) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := s.ready(ctx, query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return s.pool.QueryRowContext(ctx, query, args...)
}

func (s *statements) ready(ctx context.Context, query string) *sql.Stmt {
	stmt := s.find(query)
	if stmt == nil {
		s.compile(ctx)
		stmt = s.find(query)
	}
	return stmt
}
