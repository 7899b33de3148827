package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Sealed is a column of this database in which the vault's ciphertexts are. All of
// them are named by SealedColumns, so that a version of the data key which none of
// them needs can be destroyed.
type Sealed struct {
	Table, Key, Column string
	Versioned          bool // the row has a version, which the ciphertext is bound to
}

// Name is what people read.
func (s Sealed) Name() string { return s.Table + "." + s.Column }

// SealedColumns returns everything that is sealed in this database: the vault's own
// records (keys of the installation and of the authorities), passwords and keys of
// accounts, and people's authenticators. The keys of journals are in the journals.
func SealedColumns() []Sealed {
	return []Sealed{
		{"vault_records", "id", "sealed", true},
		{"account_secrets", "id", "sealed", true},
		{"credentials", "user_id", "totp", false},
		{"credentials", "user_id", "pending_totp", false},
	}
}

// A SealedRow is one ciphertext. Version is 1 where rows have none.
type SealedRow struct {
	Key     string
	Version int64
	Sealed  []byte
}

// keysetRow is no ciphertext of a data key: it is what the keeper wrapped.
const keysetRow = "vault/keyset"

// SealedPage returns the ciphertexts of a column behind a key that do not begin with
// the prefix, by key, at most limit of them. An empty prefix lets all through.
func (db *DB) SealedPage(ctx context.Context, s Sealed, prefix []byte, after string, limit int) ([]SealedRow, error) {
	version := "1"
	if s.Versioned {
		version = "version"
	}
	query := "SELECT " + s.Key + ", " + version + ", " + s.Column + " FROM " + s.Table + " WHERE " + s.Key + " > ? AND " + s.Key + " <> ? AND " + s.Column + " <> ?"
	args := []any{after, keysetRow, []byte{}}
	if len(prefix) > 0 {
		query += " AND substr(" + s.Column + fmt.Sprintf(", 1, %d) <> ?", len(prefix))
		args = append(args, prefix)
	}
	rows, err := db.rows(ctx, query+" ORDER BY "+s.Key+" LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, db.failed("read "+s.Name(), err)
	}
	defer rows.Close()
	var list []SealedRow
	for rows.Next() {
		var r SealedRow
		if err := rows.Scan(&r.Key, &r.Version, &r.Sealed); err != nil {
			return nil, db.failed("read "+s.Name(), err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// CountSealed counts the ciphertexts of a column by their first bytes.
func (db *DB) CountSealed(ctx context.Context, s Sealed, prefix int) (map[string]int64, error) {
	rows, err := db.rows(ctx, fmt.Sprintf("SELECT substr(%s, 1, %d) AS first, count(*) FROM %s WHERE %s <> ? AND %s <> ? GROUP BY first", s.Column, prefix, s.Table, s.Key, s.Column),
		keysetRow, []byte{})
	if err != nil {
		return nil, db.failed("count "+s.Name(), err)
	}
	defer rows.Close()
	counts := map[string]int64{}
	for rows.Next() {
		var first []byte
		var n int64
		if err := rows.Scan(&first, &n); err != nil {
			return nil, db.failed("count "+s.Name(), err)
		}
		counts[string(first)] = n
	}
	return counts, rows.Err()
}

// SwapSealed puts a ciphertext in the place of another one of the same secret, for the
// next version where rows have one. access.ErrConflict: it was changed meanwhile. It
// writes no event: what is kept stays the same.
func (db *DB) SwapSealed(ctx context.Context, s Sealed, was SealedRow, sealed []byte) error {
	if !slices.Contains(SealedColumns(), s) || bytes.Equal(was.Sealed, sealed) {
		return access.Invalid("this is not sealed anew")
	}
	query, args := "UPDATE "+s.Table+" SET "+s.Column+" = ?", []any{blob{&sealed}}
	if s.Versioned {
		query += ", version = ?"
		args = append(args, was.Version+1)
	}
	query += " WHERE " + s.Key + " = ? AND " + s.Column + " = ?"
	args = append(args, was.Key, was.Sealed)
	if s.Versioned {
		query += " AND version = ?"
		args = append(args, was.Version)
	}
	return db.unaudited(ctx, func(tx *Tx) error { return tx.swap(ctx, query, args...) })
}

// A VaultServer is what a server may still need of the vault's data key.
type VaultServer struct {
	Node   string    `json:"node"`
	Oldest int       `json:"oldest"` // version of what only this server has
	Newest int       `json:"newest"` // version with which it seals
	SeenAt time.Time `json:"seen_at"`
}

// VaultServers returns all servers that were ever seen, at most 1000.
func (db *DB) VaultServers(ctx context.Context) ([]VaultServer, error) {
	rows, err := db.rows(ctx, "SELECT node, oldest, newest, seen_at FROM vault_servers ORDER BY node LIMIT 1000")
	if err != nil {
		return nil, db.failed("read vault_servers", err)
	}
	defer rows.Close()
	var list []VaultServer
	for rows.Next() {
		var s VaultServer
		if err := rows.Scan(&s.Node, count{&s.Oldest}, count{&s.Newest}, micros{&s.SeenAt}); err != nil {
			return nil, db.failed("read vault_servers", err)
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// SeeVaultServer saves what a server needs, at the time of the database's clock.
func (db *DB) SeeVaultServer(ctx context.Context, s VaultServer) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `INSERT INTO vault_servers (node, oldest, newest, seen_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (node) DO UPDATE SET oldest = excluded.oldest, newest = excluded.newest, seen_at = excluded.seen_at`,
			s.Node, s.Oldest, s.Newest, toMicros(tx.Now()))
		return err
	})
}

// ForgetVaultServer removes a server that never comes back, and what it had.
func (tx *Tx) ForgetVaultServer(ctx context.Context, node string) error {
	n, err := tx.exec(ctx, "DELETE FROM vault_servers WHERE node = ?", node)
	if err == nil && n == 0 {
		err = access.ErrNotFound
	}
	return err
}
