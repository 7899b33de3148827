package rotate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// A State says what is known of a password.
type State string

// The states of a password.
const (
	Current   State = "current"   // proved by a login, and not replaced since
	Candidate State = "candidate" // may be in force already
	Replaced  State = "replaced"  // was current
	Unused    State = "unused"    // was a candidate until another one proved to be in force
	Refused   State = "refused"   // the system has refused to set it
)

// A Password is one password of an account.
type Password struct {
	Secret   vault.Secret
	State    State
	MadeAt   time.Time
	ProvedAt time.Time // the last login with it; zero: none
	WrongAt  time.Time // when it was last not accepted; zero: never
	SentAt   time.Time // when it was last sent to be set; zero: never
	// LiveUntil is until when the system may still accept it although another one is
	// in force; zero: it does not.
	LiveUntil time.Time
}

// An Entry is everything that is known of an account's password.
type Entry struct {
	Current   Password
	Candidate *Password // nil: no change is under way
	History   []Password
	// Tried are logins that failed, or whose answer never came, the oldest first. They
	// are written down before they are tried.
	Tried []time.Time
	// Refusals are when the system has refused a password.
	Refusals   []time.Time
	Owner      string // who works on it
	OwnedUntil time.Time
}

const (
	maxHistory = 20
	keptNoes   = 3 // refused ones among them
)

// Known lists every password that may be in force, the likeliest first: what an
// operator tries when all else fails.
func (e Entry) Known() []Password {
	var list []Password
	if e.Candidate != nil {
		list = append(list, *e.Candidate)
	}
	return append(append(list, e.Current), e.History...)
}

// NewEntry is what is known of an account whose password was told and not tried yet.
func NewEntry(password vault.Secret, at time.Time) Entry {
	return Entry{Current: Password{Secret: password, State: Current, MadeAt: at}}
}

// NewUnknown is what is known of an account whose password nobody knows: one that is not
// in force, and not tried. It is made as candidates are.
func NewUnknown(make func() (vault.Secret, error), at time.Time) (Entry, error) {
	password, err := make()
	e := NewEntry(password, at)
	e.Current.WrongAt = at
	return e, err
}

// Tell puts a password that somebody says is in force in the place of the current one,
// which stays in the history.
func (e *Entry) Tell(password vault.Secret, at time.Time) {
	if equal(password, e.Current.Secret) {
		e.Current.WrongAt = time.Time{}
		return
	}
	e.retire(e.Current, Replaced)
	e.Current = NewEntry(password, at).Current
}

// Wipe makes all passwords unreadable.
func (e Entry) Wipe() {
	for _, p := range e.Known() {
		p.Secret.Wipe()
	}
}

// wrong notes that a password was not accepted.
func (e *Entry) wrong(p Password, at time.Time) {
	note := func(q *Password) {
		if equal(p.Secret, q.Secret) {
			q.WrongAt = at
		}
	}
	note(&e.Current)
	if e.Candidate != nil {
		note(e.Candidate)
	}
	for i := range e.History {
		note(&e.History[i])
	}
}

// retire puts a password into the history.
func (e *Entry) retire(p Password, s State) {
	p.State = s
	e.History = slices.Insert(e.History, 0, p)
	noes := 0
	e.History = slices.DeleteFunc(e.History, func(p Password) bool {
		if p.State == Refused {
			noes++
		}
		return p.State == Refused && noes > keptNoes
	})
	e.History = e.History[:min(len(e.History), maxHistory)]
}

// promote says that a login has proved this password to be in force.
func (e *Entry) promote(p Password, at time.Time, grace time.Duration) {
	p.State, p.ProvedAt, p.WrongAt, p.LiveUntil = Current, at, time.Time{}, time.Time{}
	same := func(q Password) bool { return equal(p.Secret, q.Secret) }
	e.History = slices.DeleteFunc(e.History, same)
	if !same(e.Current) {
		if grace > 0 {
			e.Current.LiveUntil = at.Add(grace)
		}
		e.retire(e.Current, Replaced)
	}
	if c := e.Candidate; c != nil && !same(*c) {
		e.retire(*c, Unused)
	}
	e.Current, e.Candidate = p, nil
}

func equal(a, b vault.Secret) bool { return string(a.Expose()) == string(b.Expose()) }

// A Book keeps the Entry of one account.
type Book interface {
	// Load returns the entry and its version, which is at least 1.
	Load(ctx context.Context) (Entry, uint64, error)
	// Save puts an entry in the place of that version, 0 for the first one, and
	// returns the new version. It is durable when that returns. ErrFenced: another
	// version is kept. After any other error it may have been saved or not.
	Save(ctx context.Context, e Entry, version uint64) (uint64, error)
}

// VaultBook keeps an Entry in a vault, as one record.
type VaultBook struct {
	Vault *vault.Vault
	ID    string
}

// Load implements Book.
func (b VaultBook) Load(ctx context.Context) (Entry, uint64, error) {
	s, version, err := b.Vault.Get(ctx, b.ID)
	if err != nil {
		return Entry{}, 0, err
	}
	defer s.Wipe()
	e, err := Unmarshal(s)
	return e, version, err
}

// Save implements Book.
func (b VaultBook) Save(ctx context.Context, e Entry, version uint64) (uint64, error) {
	s, err := Marshal(e)
	if err != nil {
		return 0, err
	}
	defer s.Wipe()
	if err := b.Vault.Put(ctx, b.ID, s, version+1); errors.Is(err, vault.ErrConflict) {
		return 0, ErrFenced
	} else if err != nil {
		return 0, err
	}
	return version + 1, nil
}

// The form in which an entry is sealed. A vault.Secret does not let itself be
// marshaled, so that this is the only place where one is.
type (
	sealedPassword struct {
		Secret    []byte    `json:"secret"`
		State     State     `json:"state"`
		MadeAt    time.Time `json:"made_at"`
		ProvedAt  time.Time `json:"proved_at,omitzero"`
		WrongAt   time.Time `json:"wrong_at,omitzero"`
		SentAt    time.Time `json:"sent_at,omitzero"`
		LiveUntil time.Time `json:"live_until,omitzero"`
	}
	sealedEntry struct {
		Format     int              `json:"format"`
		Passwords  []sealedPassword `json:"passwords"` // candidate, if there is one; current; history
		Tried      []time.Time      `json:"tried,omitempty"`
		Refusals   []time.Time      `json:"refusals,omitempty"`
		Owner      string           `json:"owner,omitempty"`
		OwnedUntil time.Time        `json:"owned_until,omitzero"`
	}
)

// Marshal returns an entry in the form in which it is sealed.
func Marshal(e Entry) (vault.Secret, error) {
	text, err := encode(e)
	if err != nil {
		return vault.Secret{}, err
	}
	defer clear(text)
	return vault.NewSecret(text), nil
}

// Unmarshal reads an entry that Marshal made. No error says anything of it.
func Unmarshal(s vault.Secret) (Entry, error) { return decode(s.Expose()) }

func encode(e Entry) ([]byte, error) {
	sealed := sealedEntry{Format: 1, Tried: e.Tried, Refusals: e.Refusals, Owner: e.Owner, OwnedUntil: e.OwnedUntil}
	for _, p := range e.Known() {
		sealed.Passwords = append(sealed.Passwords, sealedPassword{p.Secret.Expose(), p.State, p.MadeAt, p.ProvedAt, p.WrongAt, p.SentAt, p.LiveUntil})
	}
	return json.Marshal(sealed)
}

func decode(text []byte) (Entry, error) {
	var sealed sealedEntry
	if err := json.Unmarshal(text, &sealed); err != nil {
		return Entry{}, errors.New("what is kept of the account cannot be read") // the error would quote it
	}
	if sealed.Format != 1 {
		return Entry{}, fmt.Errorf("what is kept of the account has format %d, which this version does not know", sealed.Format)
	}
	e := Entry{Tried: sealed.Tried, Refusals: sealed.Refusals, Owner: sealed.Owner, OwnedUntil: sealed.OwnedUntil}
	found := false
	for _, s := range sealed.Passwords {
		p := Password{vault.NewSecret(s.Secret), s.State, s.MadeAt, s.ProvedAt, s.WrongAt, s.SentAt, s.LiveUntil}
		clear(s.Secret)
		switch {
		case p.State == Candidate && e.Candidate == nil:
			e.Candidate = &p
		case p.State == Current && !found:
			e.Current, found = p, true
		case p.State == Replaced, p.State == Unused, p.State == Refused:
			e.History = append(e.History, p)
		default:
			return Entry{}, errors.New("what is kept of the account has two passwords of one kind, or one of none")
		}
	}
	if !found {
		return Entry{}, errors.New("what is kept of the account has no current password")
	}
	return e, nil
}
