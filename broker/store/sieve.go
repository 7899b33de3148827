package store

import (
	"context"
	"encoding/json"

	"github.com/drawbolt/drawbolt/broker/access"
)

// sieved is how many rows one statement looks at. Whoever wants few of them does not
// read the others.
const sieved = 1000

// SieveTargets returns the first limit targets by name that keep holds: of those
// behind the name after in whose name part stands, when these are not empty. Next is
// the name behind which there may be more, "" when there are none. What keep is shown
// has an id, a name, labels, applications and accounts, and is not to be changed or
// kept: only what it holds is read whole.
func (q queryer) SieveTargets(ctx context.Context, after, part string, limit int, keep func(*access.Target) bool) (list []access.Target, next string, err error) {
	s := sieve{q: q, part: part, keep: keep, labels: map[string]access.Labels{}, applications: map[string][]string{}, accounts: map[string][]access.Account{}}
	next = after
	for n := sieved; len(s.ids) < limit && n == sieved; {
		if n, err = s.look(ctx, &next, limit); err != nil {
			return nil, "", q.failed("read targets", err)
		}
	}
	if len(s.ids) < limit {
		next = ""
	}
	whole, err := q.TargetsByID(ctx, s.ids)
	for _, id := range s.ids { // in the order of the database, which the pages go by
		if t, ok := whole[id]; ok {
			list = append(list, t)
		}
	}
	return list, next, err
}

// A sieve remembers what it has decoded: of ten thousand targets there are some
// hundred different labels, and fewer sets of accounts.
type sieve struct {
	q            queryer
	part         string
	keep         func(*access.Target) bool
	labels       map[string]access.Labels
	applications map[string][]string
	accounts     map[string][]access.Account
	ids          []string // of those that are kept
}

// look looks at the next rows, until there are limit ids, and returns how many it has
// read. After becomes the name of the last.
func (s *sieve) look(ctx context.Context, after *string, limit int) (n int, err error) {
	clause, args := "", []any{*after}
	if s.part != "" {
		clause, args = containing("name"), append(args, pattern(s.part))
	}
	rows, err := s.q.rows(ctx, "SELECT id, name, labels, applications, accounts FROM targets WHERE name > ?"+clause+" ORDER BY name LIMIT ?", append(args, sieved)...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for len(s.ids) < limit && rows.Next() {
		var t access.Target
		var labels, applications, accounts string
		if err := rows.Scan(&t.ID, &t.Name, &labels, &applications, &accounts); err != nil {
			return 0, err
		}
		if t.Labels, err = decoded(s.labels, labels); err != nil {
			return 0, err
		}
		if t.Applications, err = decoded(s.applications, applications); err != nil {
			return 0, err
		}
		if t.Accounts, err = decoded(s.accounts, accounts); err != nil {
			return 0, err
		}
		*after, n = t.Name, n+1
		if s.keep(&t) {
			s.ids = append(s.ids, t.ID)
		}
	}
	return n, rows.Err()
}

// decoded is the value of a JSON text.
func decoded[T any](known map[string]T, text string) (T, error) {
	v, ok := known[text]
	if ok {
		return v, nil
	}
	err := json.Unmarshal([]byte(text), &v)
	known[text] = v
	return v, err
}
