package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/drawbolt/drawbolt/vault"
)

// VaultRecords is the vault's backend in this database. The records are sealed
// before they come here. Changing one writes no event by itself: the verb that
// lends or rotates a secret does.
func (db *DB) VaultRecords() vault.Backend { return vaultRecords{db} }

type vaultRecords struct{ db *DB }

// Get implements vault.Backend.
func (v vaultRecords) Get(ctx context.Context, id string) (vault.Record, error) {
	r := vault.Record{ID: id}
	err := v.db.row(ctx, "SELECT version, sealed FROM vault_records WHERE id = ?", id).Scan(unsigned{&r.Version}, &r.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return r, vault.ErrNotFound
	}
	if err != nil {
		return r, v.db.failed("read vault_records", err)
	}
	return r, nil
}

// Put implements vault.Backend.
func (v vaultRecords) Put(ctx context.Context, r vault.Record) error {
	if r.Version == 1 {
		return v.change(ctx, "INSERT INTO vault_records (id, version, sealed) VALUES (?, 1, ?) ON CONFLICT (id) DO NOTHING", r.ID, r.Sealed)
	}
	return v.change(ctx, "UPDATE vault_records SET version = ?, sealed = ? WHERE id = ? AND version = ?",
		unsigned{&r.Version}, r.Sealed, r.ID, int64(r.Version)-1)
}

// Delete implements vault.Backend.
func (v vaultRecords) Delete(ctx context.Context, id string, version uint64) error {
	err := v.change(ctx, "DELETE FROM vault_records WHERE id = ? AND version = ?", id, unsigned{&version})
	if errors.Is(err, vault.ErrConflict) {
		if _, e := v.Get(ctx, id); errors.Is(e, vault.ErrNotFound) {
			return e
		}
	}
	return err
}

// List implements vault.Backend.
func (v vaultRecords) List(ctx context.Context, prefix string) ([]string, error) {
	// Compared here, byte for byte: LIKE differs between the engines.
	rows, err := v.db.rows(ctx, "SELECT id FROM vault_records")
	if err != nil {
		return nil, v.db.failed("read vault_records", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, v.db.failed("read vault_records", err)
		}
		if strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

func (v vaultRecords) change(ctx context.Context, query string, args ...any) error {
	res, err := v.db.write.ExecContext(ctx, v.db.bind(query), args...)
	if err != nil {
		return v.db.failed("write vault_records", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("write vault record: %w", vault.ErrConflict)
}
