package broker

import (
	"context"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Found makes the first administrator and the first roles of an installation
// that has no user yet; of one that has any it changes nothing and returns
// ErrConflict. It asks no policy, because there is nobody yet whom one could
// name: whoever may run it has the vault's root key.
func (b *Broker) Found(ctx context.Context, administrator access.User, roles []access.Role) (access.User, error) {
	administrator.ID, administrator.Version = access.NewID(access.UserPrefix), 1
	if err := administrator.Validate(); err != nil {
		return administrator, err
	}
	for i := range roles {
		if err := roles[i].Validate(); err != nil {
			return administrator, err
		}
	}
	if err := checkRoles(roles, nil); err != nil {
		return administrator, err
	}
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		users, err := tx.Users(ctx)
		if err != nil {
			return audit.Event{}, err
		}
		if len(users) > 0 {
			return audit.Event{}, &access.Error{Kind: access.ErrConflict, Code: "DB-3014", Text: "there are users already; only an administrator adds more"}
		}
		administrator.CreatedAt = tx.Now()
		if err := tx.AddUser(ctx, &administrator); err != nil {
			return audit.Event{}, err
		}
		for i := range roles {
			roles[i].Version = 1
			if err := tx.AddRole(ctx, &roles[i]); err != nil {
				return audit.Event{}, err
			}
		}
		e := event(access.System(), "house.found", administrator.ID)
		detail(&e, "administrator", administrator.Name)
		return e, keepAdministrator(ctx, tx)
	})
	return administrator, err
}
