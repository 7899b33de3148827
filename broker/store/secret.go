package store

import (
	"context"
	"errors"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// An AccountSecret is what the bastion logs in with at an account of a target,
// sealed by the vault for its version. There is one only while the target has the
// account and that one does not log in with certificates.
type AccountSecret struct {
	ID        string // target/account
	TargetID  string
	Account   string
	Sealed    []byte
	ChangedAt time.Time
	Version   int64
}

var accountSecrets = newTable("account_secrets", "id", func(s *AccountSecret) []column {
	return []column{
		{"id", &s.ID}, {"target_id", &s.TargetID}, {"account", &s.Account}, {"sealed", blob{&s.Sealed}},
		{"changed_at", micros{&s.ChangedAt}}, {"version", &s.Version},
	}
})

// AccountSecret returns the secret of an account, or access.ErrNotFound.
func (q queryer) AccountSecret(ctx context.Context, targetID, account string) (AccountSecret, error) {
	return accountSecrets.one(ctx, q, "WHERE id = ?"+q.lock(), targetID+"/"+account)
}

// AddAccountSecret adds the first secret of an account.
func (tx *Tx) AddAccountSecret(ctx context.Context, s *AccountSecret) error {
	s.ID = s.TargetID + "/" + s.Account
	return accountSecrets.add(ctx, tx, s)
}

// SaveAccountSecret puts another secret in the place of the one that was read.
// Sealed is for the version after that one.
func (tx *Tx) SaveAccountSecret(ctx context.Context, s *AccountSecret) error {
	return accountSecrets.save(ctx, tx, s, &s.Version)
}

// ReplaceAccountSecret is SaveAccountSecret by itself: a step of a change of a password
// that an event has begun and another one ends. It is durable when that returns.
// access.ErrConflict: another version is kept.
func (db *DB) ReplaceAccountSecret(ctx context.Context, s *AccountSecret) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		row := *s
		err := accountSecrets.save(ctx, tx, &row, &row.Version)
		if errors.Is(err, errStale) {
			return access.ErrConflict
		}
		return err
	})
}

// forgetSecrets removes the secrets of a target that none of the accounts logs in
// with.
func (tx *Tx) forgetSecrets(ctx context.Context, targetID string, accounts []access.Account) error {
	query, args := "DELETE FROM account_secrets WHERE target_id = ?", []any{targetID}
	for _, a := range accounts {
		if a.Lent() {
			query += " AND account <> ?"
			args = append(args, a.Name)
		}
	}
	_, err := tx.exec(ctx, query, args...)
	return err
}
