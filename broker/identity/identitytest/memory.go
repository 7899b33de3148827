// Package identitytest holds the stores of identity and identity/local to their
// contracts: Run is the one suite that every implementation passes, and Memory
// is the plainest implementation, for tests that need no database.
//
// It is for tests only; nothing that ships may import it.
package identitytest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
)

// A Store is both stores, as the database implements them.
type Store interface {
	identity.Store
	local.Store
}

// Memory is a Store in memory. It is safe for concurrent use: one mutex makes
// each method a transaction.
type Memory struct {
	mu          sync.Mutex
	users       map[string]access.User
	logins      map[string]identity.Login
	devices     map[string]identity.Device
	credentials map[string]local.Credential
	setups      map[string]local.Setup
	counters    map[string]local.Counter
	passkeys    []local.Passkey // in the order in which they were added
	challenges  []local.Challenge
	failures    []local.Failure
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		users:       make(map[string]access.User),
		logins:      make(map[string]identity.Login),
		devices:     make(map[string]identity.Device),
		credentials: make(map[string]local.Credential),
		setups:      make(map[string]local.Setup),
		counters:    make(map[string]local.Counter),
	}
}

// PutUser saves a user. One that is locked loses every login.
func (m *Memory) PutUser(u access.User) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[u.ID] = u
	if u.Locked {
		m.revoke(u.ID, "", time.Now())
	}
}

// RemoveUser forgets a user and nothing of theirs.
func (m *Memory) RemoveUser(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.users, id)
}

// Failures returns the refused logins that were recorded.
func (m *Memory) Failures() []local.Failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.failures)
}

// CounterCount returns how many counters are kept.
func (m *Memory) CounterCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.counters)
}

func notFound(what, id string) error { return fmt.Errorf("%s %q: %w", what, id, access.ErrNotFound) }

func (m *Memory) User(ctx context.Context, id string) (access.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user(id)
}

func (m *Memory) user(id string) (access.User, error) {
	u, ok := m.users[id]
	if !ok {
		return access.User{}, notFound("user", id)
	}
	u.Groups = slices.Clone(u.Groups)
	return u, nil
}

func (m *Memory) UserByName(ctx context.Context, name string) (access.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, u := range m.users {
		if u.Name == name {
			return m.user(id)
		}
	}
	return access.User{}, notFound("user", name)
}

func (m *Memory) CreateLogin(ctx context.Context, l identity.Login) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u, err := m.user(l.UserID); err != nil || u.Locked || u.Emergency {
		return fmt.Errorf("user %s: %w", l.UserID, access.ErrDenied)
	}
	if _, taken := m.logins[l.ID]; taken {
		return access.ErrConflict
	}
	m.logins[l.ID] = l
	return nil
}

func (m *Memory) Login(ctx context.Context, id string) (identity.Login, access.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.logins[id]
	if !ok {
		return identity.Login{}, access.User{}, notFound("login", id)
	}
	u, err := m.user(l.UserID)
	if err != nil {
		return identity.Login{}, access.User{}, err
	}
	return l, u, nil
}

func (m *Memory) LoginsOf(ctx context.Context, userID string, now time.Time) ([]identity.Login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []identity.Login
	for _, l := range m.logins {
		if l.UserID == userID && l.RevokedAt.IsZero() && now.Before(l.ExpiresAt) {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b identity.Login) int {
		return cmp.Or(b.IssuedAt.Compare(a.IssuedAt), cmp.Compare(b.ID, a.ID))
	})
	return list, nil
}

func (m *Memory) SetLoginMFA(ctx context.Context, by access.Caller, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.logins[id]
	if !ok || !l.RevokedAt.IsZero() {
		return notFound("login", id)
	}
	if at.After(l.MFAAt) {
		l.MFAAt = at
		m.logins[id] = l
	}
	return nil
}

func (m *Memory) RevokeLogin(ctx context.Context, by access.Caller, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.logins[id]
	if !ok {
		return notFound("login", id)
	}
	if l.RevokedAt.IsZero() {
		l.RevokedAt = at
		m.logins[id] = l
	}
	return nil
}

func (m *Memory) RevokeLogins(ctx context.Context, by access.Caller, userID string, at time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoke(userID, "", at), nil
}

func (m *Memory) revoke(userID, keep string, at time.Time) (n int) {
	for id, l := range m.logins {
		if l.UserID == userID && l.RevokedAt.IsZero() && id != keep {
			l.RevokedAt = at
			m.logins[id] = l
			n++
		}
	}
	for code, d := range m.devices {
		if d.UserID == userID {
			delete(m.devices, code)
		}
	}
	return n
}

func (m *Memory) PruneLogins(ctx context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, l := range m.logins {
		if l.ExpiresAt.Before(before) {
			delete(m.logins, id)
		}
	}
	for code, d := range m.devices {
		if d.ExpiresAt.Before(before) {
			delete(m.devices, code)
		}
	}
	return nil
}

func (m *Memory) CreateDevice(ctx context.Context, d identity.Device, perOrigin, all int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for code, other := range m.devices {
		if !d.CreatedAt.Before(other.ExpiresAt) {
			if other.Code == d.Code || bytes.Equal(other.SecretHash, d.SecretHash) {
				delete(m.devices, code)
			}
			continue
		}
		if other.Code == d.Code || bytes.Equal(other.SecretHash, d.SecretHash) {
			return access.ErrConflict
		}
		all--
		if other.Origin == d.Origin {
			perOrigin--
		}
	}
	if all <= 0 || perOrigin <= 0 {
		return access.ErrUnavailable
	}
	d.SecretHash = bytes.Clone(d.SecretHash)
	m.devices[d.Code] = d
	return nil
}

func (m *Memory) waiting(code string, now time.Time) (identity.Device, error) {
	d, ok := m.devices[code]
	if !ok || d.UserID != "" || !now.Before(d.ExpiresAt) {
		return identity.Device{}, notFound("device", code)
	}
	d.SecretHash = bytes.Clone(d.SecretHash)
	return d, nil
}

func (m *Memory) DeviceByCode(ctx context.Context, code string, now time.Time) (identity.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting(code, now)
}

func (m *Memory) ConfirmDevice(ctx context.Context, by access.Caller, code string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.waiting(code, now)
	if err != nil {
		return err
	}
	d.UserID, d.MFAAt = by.User.ID, by.MFAAt
	m.devices[code] = d
	return nil
}

func (m *Memory) DenyDevice(ctx context.Context, by access.Caller, code string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.waiting(code, now); err != nil {
		return err
	}
	delete(m.devices, code)
	return nil
}

func (m *Memory) ClaimDevice(ctx context.Context, secretHash []byte, now time.Time) (identity.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for code, d := range m.devices {
		if bytes.Equal(d.SecretHash, secretHash) && now.Before(d.ExpiresAt) {
			if d.UserID != "" {
				delete(m.devices, code)
			}
			return d, nil
		}
	}
	return identity.Device{}, notFound("device", "")
}

func (m *Memory) Credential(ctx context.Context, userID string) (local.Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.credential(userID)
}

func (m *Memory) credential(userID string) (local.Credential, error) {
	c, ok := m.credentials[userID]
	if !ok {
		return local.Credential{}, notFound("credential of", userID)
	}
	c.TOTP, c.PendingTOTP = bytes.Clone(c.TOTP), bytes.Clone(c.PendingTOTP)
	return c, nil
}

func (m *Memory) SetPassword(ctx context.Context, by access.Caller, userID, hash string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setPassword(by.Login, userID, hash, at)
}

func (m *Memory) setPassword(keep, userID, hash string, at time.Time) error {
	if _, err := m.user(userID); err != nil {
		return err
	}
	c := m.credentials[userID]
	c.UserID, c.Hash, c.ChangedAt = userID, hash, at
	m.credentials[userID] = c
	m.revoke(userID, keep, at)
	m.dropSetups(userID)
	return nil
}

func (m *Memory) dropSetups(userID string) {
	for k, s := range m.setups {
		if s.UserID == userID {
			delete(m.setups, k)
		}
	}
}

func (m *Memory) Rehash(ctx context.Context, userID, old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.credential(userID)
	if err != nil || c.Hash != old {
		return access.ErrConflict
	}
	c.Hash = new
	m.credentials[userID] = c
	return nil
}

func (m *Memory) SetPendingTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.credential(userID)
	if err != nil {
		return err
	}
	c.PendingTOTP = bytes.Clone(sealed)
	m.credentials[userID] = c
	return nil
}

func (m *Memory) ConfirmTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte, step int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.credential(userID)
	if err != nil || c.PendingTOTP == nil || !bytes.Equal(c.PendingTOTP, sealed) {
		return access.ErrConflict
	}
	c.TOTP, c.TOTPStep, c.PendingTOTP = c.PendingTOTP, step, nil
	m.credentials[userID] = c
	return nil
}

func (m *Memory) RemoveFactor(ctx context.Context, by access.Caller, userID, id string, last bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removeFactor(userID, id, last)
}

func (m *Memory) removeFactor(userID, id string, last bool) error {
	c := m.credentials[userID]
	works := c.TOTP != nil && id != local.TOTP
	at := -1
	for i, p := range m.passkeys {
		switch {
		case p.UserID != userID:
		case p.ID == id:
			at = i
		case p.BlockedAt.IsZero():
			works = true
		}
	}
	switch {
	case at < 0 && (id != local.TOTP || c.TOTP == nil && c.PendingTOTP == nil):
		return notFound("second factor", id)
	case !last && !works:
		return access.ErrConflict
	case at >= 0:
		m.passkeys = slices.Delete(m.passkeys, at, at+1)
	default:
		c.TOTP, c.TOTPStep, c.PendingTOTP = nil, 0, nil
		m.credentials[userID] = c
	}
	return nil
}

func (m *Memory) TakeFactor(ctx context.Context, by access.Caller, l local.Lost) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.credentials[l.UserID].ChangedAt.After(l.NotSince) {
		return access.ErrConflict
	}
	if err := m.removeFactor(l.UserID, l.ID, true); err != nil {
		return err
	}
	c := m.credentials[l.UserID]
	c.UserID, c.TakenAt = l.UserID, l.At
	m.credentials[l.UserID] = c
	m.revoke(l.UserID, "", l.At)
	m.dropSetups(l.UserID)
	return nil
}

func (m *Memory) UseTOTPStep(ctx context.Context, userID string, sealed []byte, step int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.credential(userID)
	if err != nil || c.TOTP == nil || !bytes.Equal(c.TOTP, sealed) || step <= c.TOTPStep {
		return access.ErrConflict
	}
	c.TOTPStep = step
	m.credentials[userID] = c
	return nil
}

func (m *Memory) CreateSetup(ctx context.Context, by access.Caller, s local.Setup, notSince time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.user(s.UserID); err != nil {
		return err
	}
	if m.credentials[s.UserID].TakenAt.After(notSince) {
		return access.ErrConflict
	}
	m.dropSetups(s.UserID)
	s.Hash = bytes.Clone(s.Hash)
	m.setups[string(s.Hash)] = s
	return nil
}

func (m *Memory) Setup(ctx context.Context, hash []byte, now time.Time) (local.Setup, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.setups[string(hash)]
	if !ok || !now.Before(s.ExpiresAt) {
		return local.Setup{}, notFound("setup link", "")
	}
	s.Hash = bytes.Clone(s.Hash)
	return s, nil
}

func (m *Memory) UseSetup(ctx context.Context, by access.Caller, hash []byte, passwordHash string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.setups[string(hash)]
	if !ok || !now.Before(s.ExpiresAt) {
		return notFound("setup link", "")
	}
	return m.setPassword("", s.UserID, passwordHash, now)
}

func (m *Memory) Counters(ctx context.Context, keys []string) ([]local.Counter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(keys), nil
}

func (m *Memory) read(keys []string) []local.Counter {
	list := make([]local.Counter, len(keys))
	for i, k := range keys {
		list[i] = m.counters[k]
		list[i].Key = k
	}
	return list
}

func (m *Memory) UpdateCounters(ctx context.Context, keys []string, fn func([]local.Counter) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.read(keys)
	if err := fn(list); err != nil {
		return err
	}
	for _, c := range list {
		m.counters[c.Key] = c
	}
	return nil
}

func (m *Memory) LoginFailed(ctx context.Context, f local.Failure) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures = append(m.failures, f)
	return nil
}

func (m *Memory) PruneLocal(ctx context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, c := range m.counters {
		if c.ExpiresAt.Before(before) {
			delete(m.counters, k)
		}
	}
	for k, s := range m.setups {
		if s.ExpiresAt.Before(before) {
			delete(m.setups, k)
		}
	}
	m.challenges = slices.DeleteFunc(m.challenges, func(c local.Challenge) bool { return c.ExpiresAt.Before(before) })
	return nil
}
