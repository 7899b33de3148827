package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The writes of a change. Add is for what is new, Save for what was read in
// the same change.

// AddUser adds a user.
func (tx *Tx) AddUser(ctx context.Context, u *access.User) error {
	if err := users.add(ctx, tx, u); err != nil {
		return err
	}
	return tx.join(ctx, u)
}

// SaveUser saves a user. One who is locked is logged out everywhere, for good,
// has no accounts in other systems any more, and the passwords that they have seen
// are to be changed.
func (tx *Tx) SaveUser(ctx context.Context, u *access.User) error {
	if err := users.save(ctx, tx, u, &u.Version); err != nil {
		return err
	}
	if err := tx.join(ctx, u); err != nil || !u.Locked {
		return err
	}
	if _, err := tx.exec(ctx, "DELETE FROM links WHERE user_id = ?", u.ID); err != nil {
		return err
	}
	if err := tx.leaves(ctx, u.ID); err != nil {
		return err
	}
	_, err := tx.endLogins(ctx, u.ID, "", tx.now)
	return err
}

// AddPublicKey registers a key. A key that anybody has registered already is
// access.ErrConflict.
func (tx *Tx) AddPublicKey(ctx context.Context, k *access.PublicKey) error {
	return publicKeys.add(ctx, tx, k)
}

// RemovePublicKey forgets the key of a user.
func (tx *Tx) RemovePublicKey(ctx context.Context, userID, fingerprint string) error {
	return tx.remove(ctx, "DELETE FROM public_keys WHERE user_id = ? AND fingerprint = ?", userID, fingerprint)
}

// AddTarget adds a target.
func (tx *Tx) AddTarget(ctx context.Context, t *access.Target) error { return targets.add(ctx, tx, t) }

// SaveTarget saves a target. The secrets of accounts that it has no more, or that
// log in with certificates now, are gone with that.
func (tx *Tx) SaveTarget(ctx context.Context, t *access.Target) error {
	if err := targets.save(ctx, tx, t, &t.Version); err != nil {
		return err
	}
	if err := tx.forgetSecrets(ctx, t.ID, t.Accounts); err != nil {
		return err
	}
	return tx.forgetRotations(ctx, t.ID, t.Accounts)
}

// RemoveTarget removes a target with its secrets and what scans have found there. What
// was done on it stays.
func (tx *Tx) RemoveTarget(ctx context.Context, id string) error {
	if err := errors.Join(tx.forgetSecrets(ctx, id, nil), tx.forgetRotations(ctx, id, nil)); err != nil {
		return err
	}
	for _, table := range []string{"found_accounts", "target_scans"} {
		if _, err := tx.exec(ctx, "DELETE FROM "+table+" WHERE target_id = ?", id); err != nil {
			return err
		}
	}
	return tx.remove(ctx, "DELETE FROM targets WHERE id = ?", id)
}

// AddRole adds a role and raises the policy data's generation.
func (tx *Tx) AddRole(ctx context.Context, r *access.Role) error {
	if err := roles.add(ctx, tx, r); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// SaveRole saves a role and raises the policy data's generation.
func (tx *Tx) SaveRole(ctx context.Context, r *access.Role) error {
	if err := roles.save(ctx, tx, r, &r.Version); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// RemoveRole removes a role and raises the policy data's generation.
func (tx *Tx) RemoveRole(ctx context.Context, name string) error {
	if err := tx.remove(ctx, "DELETE FROM roles WHERE name = ?", name); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// RaiseVersion raises the version of a request that is as it was, and yet looks
// another way now.
func (tx *Tx) RaiseVersion(ctx context.Context, r *access.Request) error {
	r.Version++
	_, err := tx.exec(ctx, "UPDATE requests SET version = version + 1 WHERE id = ?", r.ID)
	return err
}

// LockPolicy keeps everybody else from changing roles, networks and windows until
// the change is done, so that what it reads of them holds together.
func (tx *Tx) LockPolicy(ctx context.Context) error {
	var n int64
	if err := tx.row(ctx, "SELECT generation FROM policy_data WHERE id = 1"+tx.lock()).Scan(&n); err != nil {
		return tx.failed("read policy_data", err)
	}
	return nil
}

func (tx *Tx) raiseGeneration(ctx context.Context) error {
	_, err := tx.exec(ctx, "UPDATE policy_data SET generation = generation + 1 WHERE id = 1")
	return err
}

func (tx *Tx) remove(ctx context.Context, query string, args ...any) error {
	n, err := tx.exec(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if n == 0 {
		return access.ErrNotFound
	}
	return nil
}

// AddRequest adds a request.
func (tx *Tx) AddRequest(ctx context.Context, r *access.Request) error {
	if err := requests.add(ctx, tx, r); err != nil {
		return err
	}
	if err := tx.ask(ctx, r); err != nil {
		return err
	}
	if err := tx.setExpiry(ctx, r); err != nil {
		return err
	}
	if err := tx.setEscalation(ctx, r); err != nil {
		return err
	}
	return tx.addVotes(ctx, r)
}

// SaveRequest saves a request and the approvals that are new.
func (tx *Tx) SaveRequest(ctx context.Context, r *access.Request) error {
	if err := requests.save(ctx, tx, r, &r.Version); err != nil {
		return err
	}
	if err := tx.ask(ctx, r); err != nil {
		return err
	}
	if err := tx.setExpiry(ctx, r); err != nil {
		return err
	}
	if err := tx.setEscalation(ctx, r); err != nil {
		return err
	}
	return tx.addVotes(ctx, r)
}

// addVotes writes the votes that are not there yet. A vote is never changed.
func (tx *Tx) addVotes(ctx context.Context, r *access.Request) error {
	for i, a := range slices.Concat(r.Approvals, r.Objections) {
		v := vote{r.ID, i >= len(r.Approvals), a}
		if _, err := tx.exec(ctx, approvals.insert+" ON CONFLICT (request_id, user_id) DO NOTHING", values(approvals.columns(&v))...); err != nil {
			return fmt.Errorf("add to approvals: %w", err)
		}
	}
	return nil
}

// RemoveVotes removes those of the user of that id on a request, or all when it
// is empty: they are void. That they were given stays in the audit log.
func (tx *Tx) RemoveVotes(ctx context.Context, requestID, userID string) error {
	query, args := "DELETE FROM approvals WHERE request_id = ?", []any{requestID}
	if userID != "" {
		query, args = query+" AND user_id = ?", append(args, userID)
	}
	if _, err := tx.exec(ctx, query, args...); err != nil {
		return fmt.Errorf("remove votes: %w", err)
	}
	return nil
}

// SetDelegation adds a delegation, or puts it in the place of the one that its
// user has.
func (tx *Tx) SetDelegation(ctx context.Context, d *access.Delegation) error {
	if err := tx.RemoveDelegation(ctx, d.UserID); err != nil && !errors.Is(err, access.ErrNotFound) {
		return err
	}
	return delegations.add(ctx, tx, d)
}

// RemoveDelegation removes that of the user of that id.
func (tx *Tx) RemoveDelegation(ctx context.Context, userID string) error {
	return tx.remove(ctx, "DELETE FROM delegations WHERE user_id = ?", userID)
}

// AddGrant adds a grant. A request has at most one.
func (tx *Tx) AddGrant(ctx context.Context, g *access.Grant) error {
	if err := grants.add(ctx, tx, g); err != nil {
		return err
	}
	return tx.setEnd(ctx, g)
}

// SaveGrant saves a grant. A lease under it lasts as long as it does.
func (tx *Tx) SaveGrant(ctx context.Context, g *access.Grant) error {
	if err := grants.save(ctx, tx, g, &g.Version); err != nil {
		return err
	}
	if err := tx.keepLease(ctx, g); err != nil {
		return err
	}
	return tx.setEnd(ctx, g)
}

// AddSession adds a session.
func (tx *Tx) AddSession(ctx context.Context, s *access.Session) error {
	return sessions.add(ctx, tx, s)
}

// SaveSession saves a session.
func (tx *Tx) SaveSession(ctx context.Context, s *access.Session) error {
	return sessions.save(ctx, tx, s, &s.Version)
}
