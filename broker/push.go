package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// DeliveryWithin is how long one try may take to bring the list of revoked
// certificates to one target.
const DeliveryWithin = 30 * time.Second

// unpushed are the names of the targets that are to get the list of revoked
// certificates at once, until somebody takes them.
type unpushed struct {
	ready chan struct{} // there is a name
	mu    sync.Mutex
	names map[string]bool
}

func newUnpushed() *unpushed {
	return &unpushed{ready: make(chan struct{}, 1), names: map[string]bool{}}
}

func (u *unpushed) add(names []string) {
	if len(names) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, name := range names {
		u.names[name] = true
	}
	select {
	case u.ready <- struct{}{}:
	default: // it stands there already
	}
}

func (u *unpushed) take() map[string]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := u.names
	u.names = map[string]bool{}
	return names
}

// AwaitRevocation waits until certificates were revoked on this server, and
// returns the targets at which they let somebody in; or until somebody asks for a
// push, and returns all. Those are among them to which the list can be brought:
// that have a provisioner. One that is locked is too. A lock is against people,
// and the machine must still learn whom to refuse; it is shown nothing but a list
// that is public and a certificate for itself. It is no verb of a person. There is
// one caller at a time.
//
// A certificate has one principal, of one target, so that others have no use for
// the news. They fetch it.
func (b *Broker) AwaitRevocation(ctx context.Context) ([]access.Target, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.unpushed.ready:
		}
		names := b.unpushed.take()
		all, err := b.c.Store.Targets(ctx)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(t access.Target) bool { return !names[t.Name] || t.Provisioner == "" })
		if len(all) > 0 {
			return all, nil
		}
	}
}

// PushRevocations has the list brought to every target that has a provisioner, at
// once, and returns how many these are.
func (b *Broker) PushRevocations(ctx context.Context, by access.Caller) (int, error) {
	var names []string
	err := b.write(ctx, by, policy.ActionLockWrite, event(by, "revocations.begin", ""), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		names = nil // this may be another attempt
		all, err := tx.Targets(ctx)
		for _, t := range all {
			if t.Provisioner != "" {
				names = append(names, t.Name)
			}
		}
		detail(e, "targets", strconv.Itoa(len(names)))
		return err
	})
	if err != nil {
		return 0, err
	}
	b.unpushed.add(names)
	return len(names), nil
}

// A Delivery is the list of revoked certificates on its way to a target. It is
// worth nothing after Until.
type Delivery struct {
	Target access.Target
	Hops   []access.Target // on the way there, in order
	Number uint64          // of the list; a newer one has a greater
	List   []byte
	Until  time.Time
}

// BeginDelivery returns the newest list, for a target as it is now. It is no
// verb of a person: AwaitRevocation has named the target.
func (b *Broker) BeginDelivery(ctx context.Context, targetID string) (Delivery, error) {
	t, err := b.c.Store.Target(ctx, targetID)
	if err != nil {
		return Delivery{}, err
	}
	if t.Provisioner == "" {
		return Delivery{}, fmt.Errorf("%s has no provisioner any more: %w", t.Name, access.ErrNotFound)
	}
	d := Delivery{Target: t, Until: b.now().Add(DeliveryWithin)}
	if d.Hops, err = hopsOf(ctx, b.c.Store.Target, &t); err != nil {
		return d, err
	}
	krl, err := b.revoked(ctx)
	if err != nil {
		return d, err
	}
	d.Number = krl.Number
	d.List, err = krl.Marshal()
	return d, err
}

// DeliveryCredential issues the certificate with which the server logs in for a
// delivery: at the hop of that index as its hop account, or, with the number of
// hops, at the target as its provisioner. It is for one minute, one key and one
// account, and only while the target is the one for which the delivery began.
func (b *Broker) DeliveryCredential(ctx context.Context, d Delivery, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
	now, at := b.now(), d.Target
	inside := hop >= 0 && hop < len(d.Hops)
	if inside {
		at = d.Hops[hop]
	}
	for _, was := range []access.Target{d.Target, at} {
		is, err := b.c.Store.Target(ctx, was.ID)
		if err != nil {
			return nil, err
		}
		if is.Version != was.Version || !now.Before(d.Until) {
			return nil, fmt.Errorf("%s was changed meanwhile, or it took too long: %w", was.Name, access.ErrConflict)
		}
	}
	c := sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: at.Provisioner, Target: at.Name, KeyID: "drawbolt revocations " + d.Target.ID,
		ValidAfter: now, ValidBefore: now.Add(provisionerTTL),
	}
	switch {
	case inside:
		c.Principal, c.PermitPortForwarding = at.HopAccount, true
	case hop != len(d.Hops) || c.Principal == "":
		return nil, errors.New("a delivery does not log in there")
	}
	return b.authority(sshca.User).Sign(ctx, b.serials(access.System(), nil), c)
}

// A Push is what became of bringing the list to the targets of one revocation.
type Push struct {
	Targets int
	Missed  []Missed
}

// Missed is a target that was not reached, and why not. It may hold what the
// target said.
type Missed struct {
	Target string
	Why    error
}

// EndPush puts on record how a push ended. Targets that were missed fetch the
// list themselves.
func (b *Broker) EndPush(ctx context.Context, p Push) error {
	e := event(access.System(), "revocations.push", "")
	e.Outcome = audit.Done
	detail(&e, "targets", strconv.Itoa(p.Targets))
	detail(&e, "reached", strconv.Itoa(p.Targets-len(p.Missed)))
	for i, m := range p.Missed {
		e.Outcome, e.Reason = audit.Failed, "the list of revoked certificates was not brought to every target; those that were missed fetch it"
		if i < maxFindings {
			detail(&e, fmt.Sprintf("missed_%d", i+1), fmt.Sprintf("%s: %v", m.Target, m.Why))
		}
	}
	return b.c.Store.Record(ctx, e)
}
