package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// rotation is a row: when a server has something to do stands in columns of its own,
// so that it can be found among many.
type rotation struct {
	access.Rotation
	urgency int64
	beginAt time.Time
}

var rotations = newTable("rotations", "id", func(r *rotation) []column {
	return []column{
		{"id", &r.ID}, {"target_id", &r.TargetID}, {"target_name", &r.TargetName}, {"account", &r.Account},
		{"due_at", micros{&r.DueAt}}, {"cause", text[access.Cause]{&r.Cause}}, {"after_use", &r.AfterUse}, {"held_until", micros{&r.HeldUntil}},
		{"prove_at", micros{&r.ProveAt}}, {"changed_at", micros{&r.ChangedAt}}, {"proved_at", micros{&r.ProvedAt}},
		{"tries", &r.Tries}, {"since_at", micros{&r.Since}}, {"problem", &r.Problem}, {"next_at", micros{&r.NextAt}}, {"alarmed_at", micros{&r.AlarmedAt}},
		{"node", &r.Node}, {"until_at", micros{&r.Until}},
		{"urgency", &r.urgency}, {"begin_at", micros{&r.beginAt}}, {"version", &r.Version},
	}
})

func rowOf(r *access.Rotation) *rotation { return &rotation{*r, r.Urgency(), r.BeginAt()} }

// Rotation returns that of a managed account, by its id, or access.ErrNotFound.
func (q queryer) Rotation(ctx context.Context, id string) (access.Rotation, error) {
	r, err := rotations.one(ctx, q, "WHERE id = ?"+q.lock(), id)
	return r.Rotation, err
}

// AddRotation adds that of an account that is managed from now on.
func (tx *Tx) AddRotation(ctx context.Context, r *access.Rotation) error {
	r.ID = access.RotationID(r.TargetID, r.Account)
	return rotations.add(ctx, tx, rowOf(r))
}

// SaveRotation saves a rotation that was read in the same change.
func (tx *Tx) SaveRotation(ctx context.Context, r *access.Rotation) error {
	row := rowOf(r)
	err := rotations.save(ctx, tx, row, &row.Version)
	r.Version = row.Version
	return err
}

// RotationDue says that the password of an account is to be changed at a moment, or as
// soon as can be from then on. It does nothing for an account that is not managed.
func (tx *Tx) RotationDue(ctx context.Context, targetID, account string, why access.Cause, at time.Time) error {
	return tx.rotation(ctx, access.RotationID(targetID, account), func(r *access.Rotation) { r.Due(why, at) })
}

// RotationUsed says that a session in an account has ended. Where the password is
// changed after each use, that is due now.
func (tx *Tx) RotationUsed(ctx context.Context, targetID, account string) error {
	return tx.rotation(ctx, access.RotationID(targetID, account), func(r *access.Rotation) {
		if r.AfterUse {
			r.Due(access.CauseUse, tx.now)
		}
	})
}

// HoldRotation says until when somebody may be using the password of an account, whom
// a change by schedule would take it from; the zero time: nobody does. It does
// nothing for an account that is not managed.
func (tx *Tx) HoldRotation(ctx context.Context, targetID, account string, until time.Time) error {
	return tx.rotation(ctx, access.RotationID(targetID, account), func(r *access.Rotation) { r.HeldUntil = until })
}

// rotation changes the rotation of that id, if there is one.
func (tx *Tx) rotation(ctx context.Context, id string, change func(*access.Rotation)) error {
	r, err := tx.Rotation(ctx, id)
	if errors.Is(err, access.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	change(&r)
	return tx.SaveRotation(ctx, &r)
}

// PasswordSeen notes that a user has seen the password that the account has now: when
// they are locked it is changed.
func (tx *Tx) PasswordSeen(ctx context.Context, targetID, account, userID string) error {
	if _, err := tx.exec(ctx, "INSERT INTO password_readers (rotation_id, user_id, at) VALUES (?, ?, ?) ON CONFLICT (rotation_id, user_id) DO UPDATE SET at = excluded.at",
		access.RotationID(targetID, account), userID, toMicros(tx.now)); err != nil {
		return fmt.Errorf("save to password_readers: %w", err)
	}
	return nil
}

// passwordsSeenBy returns the rotations of the accounts whose password of now the user
// has seen.
func (tx *Tx) passwordsSeenBy(ctx context.Context, userID string) ([]rotation, error) {
	return rotations.all(ctx, tx.queryer, "WHERE id IN (SELECT rotation_id FROM password_readers WHERE user_id = ?) ORDER BY id"+tx.lock(), userID)
}

// leaves has the passwords changed that a user has seen who is locked now.
func (tx *Tx) leaves(ctx context.Context, userID string) error {
	list, err := tx.passwordsSeenBy(ctx, userID)
	if err != nil {
		return err
	}
	for i := range list {
		r := &list[i].Rotation
		r.Due(access.CauseLeft, tx.now)
		if err := tx.SaveRotation(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// PasswordUnseen forgets who had seen the password of an account until that moment: it
// has another one.
func (tx *Tx) PasswordUnseen(ctx context.Context, id string, until time.Time) error {
	_, err := tx.exec(ctx, "DELETE FROM password_readers WHERE rotation_id = ? AND at <= ?", id, toMicros(until))
	return err
}

// DueRotations returns for what a server has something to do at t, the most urgent
// first, and then what has waited longest.
func (q queryer) DueRotations(ctx context.Context, t time.Time, limit int) ([]access.Rotation, error) {
	rows, err := rotations.all(ctx, q, "WHERE begin_at <= ? ORDER BY urgency, begin_at, id LIMIT ?", toMicros(t), page(limit))
	return plain(rows), err
}

// RotationsOf returns those of a target's accounts, by name.
func (q queryer) RotationsOf(ctx context.Context, targetID string) ([]access.Rotation, error) {
	rows, err := rotations.all(ctx, q, "WHERE target_id = ? ORDER BY account LIMIT ?", targetID, access.MaxItems)
	return plain(rows), err
}

// RotationsAt returns those that a server is at, at most 1000.
func (q queryer) RotationsAt(ctx context.Context, node string) ([]access.Rotation, error) {
	rows, err := rotations.all(ctx, q, "WHERE node = ? ORDER BY id LIMIT 1000", node)
	return plain(rows), err
}

func plain(rows []rotation) []access.Rotation {
	var list []access.Rotation
	for _, r := range rows {
		list = append(list, r.Rotation)
	}
	return list
}

// forgetRotations removes those of a target whose accounts are not managed.
func (tx *Tx) forgetRotations(ctx context.Context, targetID string, accounts []access.Account) error {
	clause, args := " LIKE ?", []any{targetID + "/%"}
	for _, a := range accounts {
		if a.Managed != nil {
			clause, args = clause+" AND {id} <> ?", append(args, access.RotationID(targetID, a.Name))
		}
	}
	for table, column := range map[string]string{"rotations": "id", "password_readers": "rotation_id"} {
		if _, err := tx.exec(ctx, "DELETE FROM "+table+" WHERE "+column+strings.ReplaceAll(clause, "{id}", column), args...); err != nil {
			return err
		}
	}
	return nil
}
