package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A table maps one noun to its rows: which columns it has and which field each
// column is. Statements are built once; every column is named in each.
type table[T any] struct {
	name    string
	key     string
	columns func(*T) []column
	read    string // SELECT columns FROM name
	insert  string
	update  string
}

// A column is a name and a pointer to the field, wrapped where the database
// keeps another form than Go does.
type column struct {
	name string
	ptr  any
}

func newTable[T any](name, key string, columns func(*T) []column) *table[T] {
	var names, marks, sets []string
	versioned := false
	for _, c := range columns(new(T)) {
		versioned = versioned || c.name == "version"
		names = append(names, c.name)
		marks = append(marks, "?")
		if c.name != key {
			sets = append(sets, c.name+" = ?")
		}
	}
	all := strings.Join(names, ", ")
	t := &table[T]{
		name: name, key: key, columns: columns,
		read:   "SELECT " + all + " FROM " + name,
		insert: "INSERT INTO " + name + " (" + all + ") VALUES (" + strings.Join(marks, ", ") + ")",
	}
	if versioned {
		t.update = "UPDATE " + name + " SET " + strings.Join(sets, ", ") + " WHERE " + key + " = ? AND version = ?"
	}
	return t
}

// one returns the row that the clause selects, or access.ErrNotFound.
func (t *table[T]) one(ctx context.Context, q queryer, clause string, args ...any) (T, error) {
	var v T
	err := q.row(ctx, t.read+" "+clause, args...).Scan(pointers(t.columns(&v))...)
	if errors.Is(err, sql.ErrNoRows) {
		return v, access.ErrNotFound
	}
	if err != nil {
		return v, q.failed("read "+t.name, err)
	}
	return v, nil
}

func (t *table[T]) all(ctx context.Context, q queryer, clause string, args ...any) ([]T, error) {
	rows, err := q.rows(ctx, t.read+" "+clause, args...)
	if err != nil {
		return nil, q.failed("read "+t.name, err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := rows.Scan(pointers(t.columns(&v))...); err != nil {
			return nil, q.failed("read "+t.name, err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, q.failed("read "+t.name, err)
	}
	return list, nil
}

// maxIn is how many values one statement names.
const maxIn = 512

// in returns the rows whose column is one of the values.
func (t *table[T]) in(ctx context.Context, q queryer, column string, values []string, order string) ([]T, error) {
	var all []T
	for chunk := range slices.Chunk(values, maxIn) {
		marks, args := list(chunk)
		rows, err := t.all(ctx, q, "WHERE "+column+" IN "+marks+" "+order, args...)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// add inserts v as a new row; a row with the same key or unique name is
// access.ErrConflict.
func (t *table[T]) add(ctx context.Context, tx *Tx, v *T) error {
	if _, err := tx.exec(ctx, t.insert, values(t.columns(v))...); err != nil {
		if isDuplicate(err) {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-3010", Text: "there is one of that name already"}
		}
		return fmt.Errorf("add to %s: %w", t.name, err)
	}
	return nil
}

// save writes v back if its version is still the stored one, and raises the
// version; otherwise somebody was faster and it returns errStale, on which the
// change is tried again from its reads.
func (t *table[T]) save(ctx context.Context, tx *Tx, v *T, version *int64) error {
	was := *version
	*version++
	var key any
	var args []any
	for _, c := range t.columns(v) {
		if c.name == t.key {
			key = c.ptr
		} else {
			args = append(args, c.ptr)
		}
	}
	args = append(args, key, was)
	n, err := tx.exec(ctx, t.update, deref(args)...)
	if err != nil {
		return fmt.Errorf("save to %s: %w", t.name, err)
	}
	if n != 1 {
		return errStale
	}
	return nil
}

func pointers(columns []column) []any {
	list := make([]any, len(columns))
	for i, c := range columns {
		list[i] = c.ptr
	}
	return list
}

func values(columns []column) []any { return deref(pointers(columns)) }

func deref(list []any) []any {
	out := make([]any, len(list))
	for i, p := range list {
		switch p := p.(type) {
		case *string:
			out[i] = *p
		case *int64:
			out[i] = *p
		case *bool:
			out[i] = *p
		default:
			out[i] = p // a wrapper, or a plain value
		}
	}
	return out
}

// micros keeps a time as unix microseconds UTC, the zero time as 0.
type micros struct{ t *time.Time }

func (m micros) Value() (driver.Value, error) { return toMicros(*m.t), nil }

func (m micros) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a time is an integer, not %T", src)
	}
	*m.t = fromMicros(n)
	return nil
}

func toMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// seconds keeps a duration as whole seconds.
type seconds struct{ d *time.Duration }

func (s seconds) Value() (driver.Value, error) { return int64(*s.d / time.Second), nil }

func (s seconds) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a duration is an integer, not %T", src)
	}
	*s.d = time.Duration(n) * time.Second
	return nil
}

// text keeps a string of a named type.
type text[S ~string] struct{ s *S }

func (t text[S]) Value() (driver.Value, error) { return string(*t.s), nil }

func (t text[S]) Scan(src any) error {
	switch v := src.(type) {
	case string:
		*t.s = S(v)
	case []byte:
		*t.s = S(v)
	default:
		return fmt.Errorf("a text is a string, not %T", src)
	}
	return nil
}

// encoded keeps a small structure as JSON text.
type encoded struct{ ptr any }

func (e encoded) Value() (driver.Value, error) {
	b, err := json.Marshal(e.ptr)
	return string(b), err
}

func (e encoded) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return json.Unmarshal([]byte(v), e.ptr)
	case []byte:
		return json.Unmarshal(v, e.ptr)
	}
	return fmt.Errorf("JSON is a text, not %T", src)
}

// unsigned keeps a number below 2^63.
type unsigned struct{ n *uint64 }

func (u unsigned) Value() (driver.Value, error) { return int64(*u.n), nil }

func (u unsigned) Scan(src any) error {
	n, ok := src.(int64)
	if !ok || n < 0 {
		return fmt.Errorf("a serial is a positive integer, not %v", src)
	}
	*u.n = uint64(n)
	return nil
}

// blob keeps bytes; none are kept as an empty blob and come back as nil.
type blob struct{ b *[]byte }

func (b blob) Value() (driver.Value, error) {
	if *b.b == nil {
		return []byte{}, nil
	}
	return *b.b, nil
}

func (b blob) Scan(src any) error {
	v, ok := src.([]byte)
	if !ok && src != nil {
		return fmt.Errorf("a blob is bytes, not %T", src)
	}
	*b.b = nil
	if len(v) > 0 {
		*b.b = bytes.Clone(v) // the driver's own until the next row
	}
	return nil
}

// count keeps an int.
type count struct{ n *int }

func (c count) Value() (driver.Value, error) { return int64(*c.n), nil }

func (c count) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a count is an integer, not %T", src)
	}
	*c.n = int(n)
	return nil
}

// status keeps an exit status that may be unknown.
type status struct{ n **int }

func (s status) Value() (driver.Value, error) {
	if *s.n == nil {
		return "", nil
	}
	return strconv.Itoa(**s.n), nil
}

func (s status) Scan(src any) error {
	var v string
	switch src := src.(type) {
	case string:
		v = src
	case []byte:
		v = string(src)
	default:
		return fmt.Errorf("an exit status is a text, not %T", src)
	}
	if v == "" {
		*s.n = nil
		return nil
	}
	n, err := strconv.Atoi(v)
	*s.n = &n
	return err
}
