package broker

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func unknownUser(err error, name string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-2105", Text: "there is no user " + audit.Clean(name, 64), Next: "drawbolt user ls"}
	}
	return err
}

// Users lists the users.
func (b *Broker) Users(ctx context.Context, by access.Caller) ([]access.User, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionUserRead, by: by}, event(by, "user.list", "")); err != nil {
		return nil, err
	}
	return b.c.Store.Users(ctx)
}

// FindUser returns a user by name.
func (b *Broker) FindUser(ctx context.Context, by access.Caller, name string) (access.User, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionUserRead, by: by}, event(by, "user.read", name)); err != nil {
		return access.User{}, err
	}
	u, err := b.c.Store.User(ctx, name)
	return u, unknownUser(err, name)
}

// AddUser adds a user, who cannot log in before a setup link or a key is made
// for them. A bot belongs to the person that OwnerID names, by name or id, or to
// the caller: what it asks for, that person does not approve.
func (b *Broker) AddUser(ctx context.Context, by access.Caller, u access.User) (access.User, error) {
	u.ID, u.Version = access.NewID(access.UserPrefix), 1
	u.Locked, u.LockReason, u.Emergency = false, "", false
	if err := u.Validate(); err != nil {
		return u, err
	}
	err := b.write(ctx, by, policy.ActionUserWrite, event(by, "user.add", u.ID), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		u.CreatedAt = tx.Now()
		if u.Bot && u.OwnerID == "" {
			u.OwnerID = by.User.ID
		}
		if err := findOwner(ctx, tx, &u); err != nil {
			return err
		}
		userDetails(e, &u)
		if err := notBoth(ctx, tx, &u, &access.User{}); err != nil {
			return err
		}
		return tx.AddUser(ctx, &u)
	})
	return u, err
}

// findOwner puts the id of the bot's owner in the place of their name.
func findOwner(ctx context.Context, tx *store.Tx, u *access.User) error {
	if u.OwnerID == "" {
		return nil
	}
	owner, err := tx.User(ctx, u.OwnerID)
	if err != nil {
		return unknownUser(err, u.OwnerID)
	}
	if owner.Bot {
		return access.Invalid("%s is a bot: name the person whose bot %s is", owner.Name, u.Name)
	}
	u.OwnerID = owner.ID
	return nil
}

func userDetails(e *audit.Event, u *access.User) {
	detail(e, "name", u.Name)
	detail(e, "groups", strings.Join(u.Groups, " "))
	detail(e, "email", u.Email())
	for name, value := range u.Attributes {
		detail(e, "attribute_"+name, value)
	}
	detail(e, "owner", u.OwnerID)
}

// SetUser changes the display name, the groups and the attributes of a user.
// Version must be the version that the caller saw. Nobody changes their own
// groups and attributes, because they give roles.
func (b *Broker) SetUser(ctx context.Context, by access.Caller, u access.User) (access.User, error) {
	if err := u.Validate(); err != nil {
		return u, err
	}
	err := b.write(ctx, by, policy.ActionUserWrite, event(by, "user.set", u.Name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		was, err := tx.User(ctx, u.Name)
		if err != nil {
			return unknownUser(err, u.Name)
		}
		e.Object = was.ID
		if was.ID == by.User.ID {
			return ownRights
		}
		if was.Version != u.Version {
			return staleVersion(u.Name)
		}
		u.ID, u.CreatedAt, u.Locked, u.LockReason, u.Emergency = was.ID, was.CreatedAt, was.Locked, was.LockReason, was.Emergency
		if u.Bot && u.OwnerID == "" {
			u.OwnerID = was.OwnerID
		}
		if err := findOwner(ctx, tx, &u); err != nil {
			return err
		}
		if u.Emergency && u.Bot {
			return access.Invalid("the emergency user is no bot")
		}
		userDetails(e, &u)
		if was.Email() != u.Email() {
			detail(e, "email_was", was.Email())
		}
		if err := notBoth(ctx, tx, &u, &was); err != nil {
			return err
		}
		if err := tx.SaveUser(ctx, &u); err != nil {
			return err
		}
		return keepAdministrator(ctx, tx)
	})
	return u, err
}

var ownRights = &access.Error{Kind: access.ErrDenied, Code: "DB-2011", Rule: "rights.own", Text: "nobody changes their own rights; ask another administrator"}

// LockUser denies a user everything from now on and ends their sessions, or
// lifts that. The lock of a user is theirs to lift by no way.
func (b *Broker) LockUser(ctx context.Context, by access.Caller, name string, locked bool, reason string) error {
	action := "user.unlock"
	if locked {
		action = "user.lock"
		if err := access.CheckReason(reason); err != nil {
			return err
		}
	}
	e := event(by, action, name)
	e.Reason = audit.Clean(reason, audit.MaxReason)
	return b.write(ctx, by, policy.ActionLockWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		u, err := tx.User(ctx, name)
		if err != nil {
			return unknownUser(err, name)
		}
		e.Object = u.ID
		detail(e, "name", u.Name)
		u.Locked, u.LockReason = locked, reason
		if err := tx.SaveUser(ctx, &u); err != nil {
			return err
		}
		if locked {
			if err := revokeCertificates(ctx, tx, e, store.OfUser(u.ID)); err != nil {
				return err
			}
			if err := b.endLeases(ctx, tx, by, store.LeaseFilter{User: u.ID}, access.EndLocked); err != nil {
				return err
			}
		}
		return keepAdministrator(ctx, tx)
	})
}

// keepAdministrator refuses a change after which nobody could change roles any
// more. It looks at who holds a role that may write roles, directly or by a
// group, and is not locked.
func keepAdministrator(ctx context.Context, tx *store.Tx) error {
	roles, err := tx.Roles(ctx)
	if err != nil {
		return err
	}
	users, err := tx.Users(ctx)
	if err != nil {
		return err
	}
	admin := administratorRoles(roles)
	if len(admin) == 0 {
		return nil // a house without administrators from the start, as in tests
	}
	for _, u := range users {
		if u.Locked || u.Bot || u.Emergency {
			continue
		}
		for _, r := range roles {
			if admin[r.Name] && holds(&r, &u) {
				return nil
			}
		}
	}
	return lastAdministrator
}

var lastAdministrator = &access.Error{Kind: access.ErrDenied, Code: "DB-2012", Rule: "rights.last", Text: "that would leave nobody who can change roles"}

func holds(r *access.Role, u *access.User) bool {
	for _, id := range r.Users {
		if id == u.ID {
			return true
		}
	}
	for _, g := range r.Groups {
		if u.In(g) {
			return true
		}
	}
	return hasAttributes(r, u)
}

// hasAttributes reports whether the user has each of the attributes by which the role
// is given.
func hasAttributes(r *access.Role, u *access.User) bool {
	for name, values := range r.Attributes {
		if !slices.Contains(values, u.Attributes[name]) {
			return false
		}
	}
	return len(r.Attributes) > 0
}

// administratorRoles are the roles that may write roles, by their own rules or
// by those they inherit.
func administratorRoles(roles []access.Role) map[string]bool {
	admin := map[string]bool{}
	for range roles { // inheritance is at most as deep as there are roles
		for _, r := range roles {
			for _, rule := range r.Rules {
				for _, a := range rule.Actions {
					if a == string(policy.ActionRoleWrite) {
						admin[r.Name] = true
					}
				}
			}
			for _, parent := range r.Inherits {
				if admin[parent] {
					admin[r.Name] = true
				}
			}
		}
	}
	return admin
}

// Keys lists the registered SSH keys of a user; "" is the caller.
func (b *Broker) Keys(ctx context.Context, by access.Caller, user string) ([]access.PublicKey, error) {
	u, err := b.keyHolder(ctx, by, user, event(by, "user.keys", user), policy.ActionUserRead)
	if err != nil {
		return nil, err
	}
	return b.c.Store.PublicKeys(ctx, u.ID)
}

// keyHolder finds whose keys are meant and asks whether the caller may: one's
// own are one's own affair, those of others are administration.
func (b *Broker) keyHolder(ctx context.Context, by access.Caller, user string, e audit.Event, others policy.Action) (access.User, error) {
	action, name := others, user
	if user == "" || user == by.User.Name {
		action, name = policy.ActionKeyWrite, by.User.ID
	}
	if _, err := b.allow(ctx, question{action: action, by: by, owner: by.User.ID}, e); err != nil {
		return access.User{}, err
	}
	u, err := b.c.Store.User(ctx, name)
	return u, unknownUser(err, name)
}

// AddKey registers an SSH public key of a user ("" is the caller). A key
// belongs to one person only.
func (b *Broker) AddKey(ctx context.Context, by access.Caller, user, text, comment string) (access.PublicKey, error) {
	key, err := parseKey(text)
	if err != nil {
		return access.PublicKey{}, access.Invalid("the key: %v", err)
	}
	if err := access.CheckText("the comment", comment, access.MaxLabel); err != nil {
		return access.PublicKey{}, err
	}
	e := event(by, "user.key.add", user)
	u, err := b.keyHolder(ctx, by, user, e, policy.ActionUserWrite)
	if err != nil {
		return access.PublicKey{}, err
	}
	if u.Emergency {
		return access.PublicKey{}, b.refused(ctx, e, errCodesOnly)
	}
	k := access.PublicKey{UserID: u.ID, Fingerprint: ssh.FingerprintSHA256(key), Key: keyText(key), Comment: comment}
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Object = u.ID
		e.Details = map[string]string{"fingerprint": k.Fingerprint, "name": u.Name}
		k.CreatedAt = tx.Now()
		err := tx.AddPublicKey(ctx, &k)
		if errors.Is(err, access.ErrConflict) {
			err = &access.Error{Kind: access.ErrConflict, Code: "DB-3013", Text: "this key is registered already"}
		}
		return e, err
	})
	return k, err
}

// RemoveKey forgets a registered key.
func (b *Broker) RemoveKey(ctx context.Context, by access.Caller, user, fingerprint string) error {
	e := event(by, "user.key.remove", user)
	u, err := b.keyHolder(ctx, by, user, e, policy.ActionUserWrite)
	if err != nil {
		return err
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Object = u.ID
		e.Details = map[string]string{"fingerprint": audit.Clean(fingerprint, audit.MaxDetailValue), "name": u.Name}
		err := tx.RemovePublicKey(ctx, u.ID, fingerprint)
		if errors.Is(err, access.ErrNotFound) {
			err = &access.Error{Kind: access.ErrNotFound, Code: "DB-2106", Text: "there is no such key", Next: "drawbolt user key ls"}
		}
		return e, err
	})
}

// MaySetUp reports whether the caller may make a setup link for a user, which
// is the right to change users, and returns the user.
func (b *Broker) MaySetUp(ctx context.Context, by access.Caller, name string) (access.User, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionUserWrite, by: by}, event(by, "user.setup", name)); err != nil {
		return access.User{}, err
	}
	u, err := b.c.Store.User(ctx, name)
	if err == nil && u.ID == by.User.ID {
		return u, ownRights
	}
	if err == nil && u.Emergency {
		return u, errCodesOnly
	}
	return u, unknownUser(err, name)
}
