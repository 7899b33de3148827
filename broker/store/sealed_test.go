package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/vault"
)

// TestSealedColumns: a column of bytes is in the list of what the vault has sealed, or
// is named here as something else.
func TestSealedColumns(t *testing.T) {
	open := []string{ // not the vault's
		"devices.secret_hash", "setups.hash", // hashes
		"audit_head.edge", "audit_leaves.hashes", "audit_leaves.leaf", "audit_checkpoints.message",
		"recording_headers.header",                                              // of age
		"passkeys.credential", "passkeys.public_key", "passkey_challenges.hash", // public, and a hash
	}
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		rows, err := raw(t, url).Query(bytesColumns(url))
		ok(t, err)
		defer rows.Close()
		var found []string
		for rows.Next() {
			var name string
			ok(t, rows.Scan(&name))
			found = append(found, name)
		}
		ok(t, rows.Err())
		known := slices.Clone(open)
		for _, s := range store.SealedColumns() {
			known = append(known, s.Name())
		}
		for _, name := range found {
			if !slices.Contains(known, name) {
				t.Errorf("%s is neither in SealedColumns nor known to be something else", name)
			}
		}
		for _, s := range store.SealedColumns() {
			if !slices.Contains(found, s.Name()) {
				t.Errorf("there is no column %s", s.Name())
			}
		}
	})
}

func bytesColumns(url string) string {
	if len(url) > 8 && url[:8] == "postgres" {
		return "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema() AND data_type = 'bytea'"
	}
	return "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND upper(c.type) = 'BYTEA'"
}

func TestSealedAnew(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		old, young := []byte{1, 0, 0, 0, 1}, []byte{1, 0, 0, 0, 2}
		var ids []string
		change(t, db, func(tx *store.Tx) error {
			for i := range 5 {
				row := store.AccountSecret{TargetID: fmt.Sprint("TGT-", i), Account: "root", Sealed: append(slices.Clone(old), byte(i)), ChangedAt: tx.Now(), Version: 7}
				if err := tx.AddAccountSecret(ctx, &row); err != nil {
					return err
				}
				ids = append(ids, row.ID)
			}
			return nil
		})
		ok(t, db.VaultRecords().Put(ctx, vault.Record{ID: "vault/keyset", Version: 1, Sealed: []byte("wrapped")}))
		ok(t, db.VaultRecords().Put(ctx, vault.Record{ID: "keys/a", Version: 1, Sealed: old}))
		u := newUser("anna")
		change(t, db, func(tx *store.Tx) error { return tx.AddUser(ctx, &u) })
		by := access.Caller{User: u, Via: "web"}
		ok(t, db.Identities().SetPassword(ctx, by, u.ID, "hash", now()))
		ok(t, db.Identities().SetPendingTOTP(ctx, by, u.ID, old))

		counts := map[string]int64{}
		for _, s := range store.SealedColumns() {
			n, err := db.CountSealed(ctx, s, len(old))
			ok(t, err)
			counts[s.Name()] = n[string(old)]
			if len(n) > 1 {
				t.Errorf("%s: %v", s.Name(), n)
			}
		}
		if fmt.Sprint(counts) != "map[account_secrets.sealed:5 credentials.pending_totp:1 credentials.totp:0 vault_records.sealed:1]" {
			t.Errorf("counts %v", counts)
		}
		secrets := store.SealedColumns()[1]
		after, seen := "", []string{}
		for {
			page, err := db.SealedPage(ctx, secrets, young, after, 2)
			ok(t, err)
			if len(page) == 0 {
				break
			}
			for _, row := range page {
				seen, after = append(seen, row.Key), row.Key
				next := append(slices.Clone(young), row.Sealed[5:]...)
				ok(t, db.SwapSealed(ctx, secrets, row, next))
				want(t, db.SwapSealed(ctx, secrets, row, next), access.ErrConflict)
			}
		}
		if !slices.Equal(seen, ids) {
			t.Errorf("seen %q, want %q", seen, ids)
		}
		left, err := db.SealedPage(ctx, secrets, young, "", 9)
		ok(t, err)
		all, err := db.SealedPage(ctx, secrets, nil, "", 9)
		ok(t, err)
		if len(left) != 0 || len(all) != 5 || all[3].Version != 8 || all[3].Sealed[5] != 3 {
			t.Errorf("left %v, all %v", left, all)
		}
		pending, err := db.SealedPage(ctx, store.SealedColumns()[3], young, "", 9)
		ok(t, err)
		if len(pending) != 1 || pending[0].Key != u.ID || pending[0].Version != 1 {
			t.Fatalf("pending %v", pending)
		}
		ok(t, db.SwapSealed(ctx, store.SealedColumns()[3], pending[0], young))

		ok(t, db.SeeVaultServer(ctx, store.VaultServer{Node: "a", Oldest: 1, Newest: 2}))
		ok(t, db.SeeVaultServer(ctx, store.VaultServer{Node: "b", Oldest: 1, Newest: 1}))
		ok(t, db.SeeVaultServer(ctx, store.VaultServer{Node: "b", Oldest: 2, Newest: 2}))
		change(t, db, func(tx *store.Tx) error { return tx.ForgetVaultServer(ctx, "a") })
		list, err := db.VaultServers(ctx)
		ok(t, err)
		if len(list) != 1 || list[0].Node != "b" || list[0].Oldest != 2 || list[0].SeenAt.IsZero() {
			t.Errorf("servers %+v", list)
		}
	})
}
