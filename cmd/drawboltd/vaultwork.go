package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
)

const (
	vaultEvery = 30 * time.Second // the keyset is looked at, and what the server needs is saved
	checkEvery = 24 * time.Hour   // everything sealed is opened, for its alarm
	tellAgain  = 30 * 24 * time.Hour

	// destroyAfter is how old a retired version is at least when it is destroyed.
	destroyAfter = 3 * vault.SealWithin

	sealedPage = 100 // rows that are sealed anew, or checked, in one go
)

// vaultWork is what the server does for its vault besides opening it.
type vaultWork struct {
	found     chan vault.Tampering
	tampers   prometheus.Counter
	kick      chan struct{} // there is something to seal anew
	renewed   atomic.Int64  // since the start
	resealing atomic.Bool
}

func newVaultWork() vaultWork {
	return vaultWork{
		found: make(chan vault.Tampering, 64), kick: make(chan struct{}, 1),
		tampers: prometheus.NewCounter(prometheus.CounterOpts{Name: "drawbolt_vault_tampered_total", Help: "Records of the vault that were found flipped, swapped or rolled back, each once."}),
	}
}

func (a *App) vaultMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		a.tampers,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_vault_key_version", Help: "Version of the data key with which this server seals."}, func() float64 {
			keys := a.keys.vault.Keys()
			return float64(keys[len(keys)-1].Version)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_vault_stale", Help: "1 while this server cannot open the keyset that another one has put in the place of its own."}, func() float64 {
			if a.keys.vault.Stale() {
				return 1
			}
			return 0
		}),
	}
}

// openMarks opens what is known of the vault outside of the database, beside the
// checkpoint.
func (a *App) openMarks(ctx context.Context, existing bool) (err error) {
	if a.marks, err = vault.OpenMarks(filepath.Join(filepath.Dir(a.config.Audit.CheckpointFile), "vault.marks")); err != nil {
		return err
	}
	a.closers = append(a.closers, a.marks.Close)
	if existing && a.marks.Fresh() {
		a.log.WarnContext(ctx, "no versions of secrets are kept outside the database any more, so a rollback before this start could not be seen")
	}
	return nil
}

// tampered takes an alarm of the vault, which may come out of the middle of a change
// and does not wait for it to be put on record.
func (a *App) tampered(t vault.Tampering) {
	a.tampers.Inc()
	select {
	case a.found <- t:
	default:
		a.log.Error("more of the vault is not what was written than can be put on record at once", "id", t.ID, "version", t.Version, "why", t.Why)
	}
}

// recordTampered puts the alarms on record that there are: each once in a month, on
// whatever server it is found.
func (a *App) recordTampered() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		select {
		case t := <-a.found:
			if err := a.recordOne(ctx, t); err != nil {
				a.log.ErrorContext(ctx, "an alarm of the vault is not on record", "id", t.ID, "version", t.Version, "why", t.Why, "error", err)
				return err
			}
		default:
			return nil
		}
	}
}

func (a *App) recordOne(ctx context.Context, t vault.Tampering) error {
	sum := sha256.Sum256(fmt.Appendf(nil, "vault.tampered %s %d %s", t.ID, t.Version, t.Why))
	first, err := a.db.Once(ctx, hex.EncodeToString(sum[:]), time.Now().Add(tellAgain))
	if err != nil || !first {
		return err
	}
	a.log.ErrorContext(ctx, "a record of the vault is not what was written", "id", t.ID, "version", t.Version, "why", t.Why)
	return a.db.Record(ctx, audit.Event{
		Actor: "system", Action: "vault.tampered", Object: audit.Clean(t.ID, audit.MaxName), Outcome: audit.Done,
		Reason: audit.Clean(t.Why, audit.MaxReason), Details: map[string]string{"version": strconv.FormatUint(t.Version, 10), "node": a.config.Server.Name},
	})
}

// runVault looks after the vault until ctx ends: it follows changes of the keyset,
// seals anew what older versions sealed (where the last run was stopped, too), destroys
// versions that nothing needs, puts alarms on record and opens everything once a day.
func (a *App) runVault(ctx context.Context) error {
	tick := time.NewTicker(vaultEvery)
	defer tick.Stop()
	var checked time.Time
	for {
		err := a.tendVault(ctx)
		if err == nil && time.Since(checked) >= checkEvery {
			checked = time.Now()
			err = a.checkVault(ctx)
		}
		if err = errors.Join(err, a.recordTampered(), a.marks.Err()); err != nil && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "the vault could not be looked after", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case t := <-a.found:
			if err := a.recordOne(ctx, t); err != nil && ctx.Err() == nil {
				a.log.ErrorContext(ctx, "an alarm of the vault is not on record", "id", t.ID, "version", t.Version, "why", t.Why, "error", err)
			}
		case <-a.kick:
		case <-tick.C:
		}
	}
}

// tendVault does one round.
func (a *App) tendVault(ctx context.Context) error {
	v := a.keys.vault
	if err := v.Refresh(ctx, nil); err != nil {
		return err
	}
	if err := a.saveNeeds(ctx); err != nil {
		return err
	}
	if keys := v.Keys(); len(keys) == 1 {
		return nil
	}
	if err := a.resealAll(ctx); err != nil {
		return err
	}
	return a.destroyUnused(ctx)
}

// saveNeeds says which versions of the data key this server may still need: for the
// journals that are on its disk, and for those of sessions that begin from now on.
func (a *App) saveNeeds(ctx context.Context) error {
	keys := a.keys.vault.Keys()
	newest := keys[len(keys)-1].Version
	oldest := newest
	wrapped, err := a.recorder.WrappedKeys()
	if err != nil {
		return err
	}
	for _, w := range wrapped {
		for _, k := range keys {
			if bytes.HasPrefix(w, k.Prefix()) {
				oldest = min(oldest, k.Version)
			}
		}
	}
	return a.db.SeeVaultServer(ctx, store.VaultServer{Node: a.config.Server.Name, Oldest: oldest, Newest: newest})
}

// resealAll seals everything in the database with the newest version. Each record is
// done for itself, so that it goes on wherever it was stopped; between two pages it
// rests as long as one took.
func (a *App) resealAll(ctx context.Context) error {
	a.resealing.Store(true)
	defer a.resealing.Store(false)
	keys := a.keys.vault.Keys()
	current := keys[len(keys)-1].Prefix()
	for _, column := range store.SealedColumns() {
		if err := a.eachSealed(ctx, column, current, func(row store.SealedRow) error { return a.reseal(ctx, column, row) }); err != nil {
			return fmt.Errorf("seal %s anew: %w", column.Name(), err)
		}
	}
	return nil
}

func (a *App) eachSealed(ctx context.Context, column store.Sealed, except []byte, do func(store.SealedRow) error) error {
	for after := ""; ; {
		begin := time.Now()
		page, err := a.db.SealedPage(ctx, column, except, after, sealedPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, row := range page {
			after = row.Key
			if err := do(row); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Since(begin)):
		}
	}
}

// reseal seals one record anew. One that cannot be opened stays, and its alarm was
// given; one that somebody changes at this moment is left to the next round.
func (a *App) reseal(ctx context.Context, column store.Sealed, row store.SealedRow) error {
	v := a.keys.vault
	var err error
	if column.Table == "vault_records" {
		_, err = v.Reseal(ctx, row.Key)
	} else {
		next := row.Version
		if column.Versioned {
			next++
		}
		var sealed []byte
		if sealed, err = v.Renew(a.sealedID(column, row), uint64(row.Version), uint64(next), row.Sealed); err == nil {
			err = a.db.SwapSealed(ctx, column, row, sealed)
		}
		if err == nil {
			_, err = v.Check("", uint64(next), sealed) // from now on the older one is refused
		}
	}
	switch {
	case err == nil:
		a.renewed.Add(1)
		return nil
	case errors.Is(err, vault.ErrTampered), errors.Is(err, vault.ErrInvalid), errors.Is(err, vault.ErrConflict), errors.Is(err, vault.ErrNotFound), errors.Is(err, access.ErrConflict):
		return nil
	}
	return err
}

// sealedID is for what was sealed before sealed secrets named their id.
func (a *App) sealedID(column store.Sealed, row store.SealedRow) string {
	if column.Table == "credentials" {
		return authenticatorKeys{}.id("totp/" + row.Key)
	}
	return ""
}

// checkVault opens everything that is sealed in the database, so that what was changed
// there is found before somebody needs it.
func (a *App) checkVault(ctx context.Context) error {
	v := a.keys.vault
	for _, column := range store.SealedColumns() {
		err := a.eachSealed(ctx, column, nil, func(row store.SealedRow) error {
			var s vault.Secret
			var err error
			if column.Table == "vault_records" {
				s, _, err = v.Get(ctx, row.Key)
			} else {
				s, err = v.Check(a.sealedID(column, row), uint64(row.Version), row.Sealed)
			}
			s.Wipe()
			if errors.Is(err, vault.ErrTampered) || errors.Is(err, vault.ErrInvalid) || errors.Is(err, vault.ErrNotFound) {
				return nil // the vault has told of it, or it is gone
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("check %s: %w", column.Name(), err)
		}
	}
	return nil
}

// destroyUnused destroys the versions of the data key that nothing needs any more:
// nothing in the database, and no server.
func (a *App) destroyUnused(ctx context.Context) error {
	status, err := a.vaultStatus(ctx)
	if err != nil {
		return err
	}
	for _, k := range status.Keys {
		if k.Retired.IsZero() || k.Records > 0 || len(k.Servers) > 0 || time.Since(k.Retired) < destroyAfter {
			continue
		}
		if err := a.keys.vault.Destroy(ctx, k.Version); err != nil && !errors.Is(err, vault.ErrConflict) && !errors.Is(err, vault.ErrInvalid) {
			return err
		} else if err != nil {
			return nil // another server did it
		}
		if err := a.db.Record(ctx, audit.Event{Actor: "system", Action: "vault.destroy", Object: strconv.Itoa(k.Version), Outcome: audit.Done, Reason: "nothing is sealed with this version of the data key any more"}); err != nil {
			return err
		}
	}
	return nil
}

// vaultStatus is how the data key stands.
type vaultStatus struct {
	Keys      []keyStatus `json:"keys"`
	Resealing bool        `json:"resealing"`
	Renewed   int64       `json:"renewed"` // records, by this server since its start
	Unknown   int64       `json:"unknown"` // records that no version opens
}

// keyStatus is how one version stands.
type keyStatus struct {
	vault.Key
	Records int64            `json:"records"` // in the database
	In      map[string]int64 `json:"in"`      // by table and column
	Servers []string         `json:"servers"` // that may have something under it
}

func (a *App) vaultStatus(ctx context.Context) (vaultStatus, error) {
	s := vaultStatus{Resealing: a.resealing.Load(), Renewed: a.renewed.Load()}
	for _, k := range a.keys.vault.Keys() {
		s.Keys = append(s.Keys, keyStatus{Key: k, In: map[string]int64{}, Servers: []string{}})
	}
	for _, column := range store.SealedColumns() {
		counts, err := a.db.CountSealed(ctx, column, len(s.Keys[0].Prefix()))
		if err != nil {
			return s, err
		}
		for i := range s.Keys {
			k := &s.Keys[i]
			if n := counts[string(k.Prefix())]; n > 0 {
				k.In[column.Name()], k.Records = n, k.Records+n
				delete(counts, string(k.Prefix()))
			}
		}
		for _, n := range counts {
			s.Unknown += n
		}
	}
	servers, err := a.db.VaultServers(ctx)
	for _, server := range servers {
		for i := range s.Keys {
			if k := &s.Keys[i]; server.Oldest <= k.Version && k.Version <= server.Newest {
				k.Servers = append(k.Servers, server.Node)
			}
		}
	}
	return s, err
}

// doVault answers questions about the open vault.
func (a *App) doVault(ctx context.Context, uid uint32, q question) (answer, error) {
	e := audit.Event{Actor: "system", Action: q.Verb, Outcome: audit.Done, Reason: audit.Clean(q.Reason, audit.MaxReason), Details: map[string]string{"uid": strconv.FormatUint(uint64(uid), 10)}}
	switch q.Verb {
	case "vault.status":
		s, err := a.vaultStatus(ctx)
		return answer{Vault: &s}, err
	case "vault.rotate":
		return a.rotateRoot(ctx, e)
	case "vault.forget":
		if e.Object = audit.Clean(q.Node, audit.MaxName); q.Node == a.config.Server.Name {
			return answer{}, &access.Error{Kind: access.ErrInvalid, Code: "DB-6379", Text: "this server runs, and is not forgotten", Next: "drawboltd vault status"}
		}
		err := a.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) { return e, tx.ForgetVaultServer(ctx, q.Node) })
		if errors.Is(err, access.ErrNotFound) {
			err = &access.Error{Kind: access.ErrNotFound, Code: "DB-6380", Text: "no server of this name was ever seen", Next: "drawboltd vault status"}
		}
		return answer{}, err
	}
	return answer{}, access.Invalid("there is no question %.40q", q.Verb)
}

// rotateRoot makes a new version of the data key. The event is written first: a crash
// after it leaves a version too few, and never one that nobody knows of.
func (a *App) rotateRoot(ctx context.Context, e audit.Event) (answer, error) {
	keys := a.keys.vault.Keys()
	if len(keys) >= vault.MaxKeys {
		return answer{}, &access.Error{Kind: access.ErrConflict, Code: "DB-6381", Text: fmt.Sprintf("the data key has %d versions, and the oldest is in use still", len(keys)), Next: "drawboltd vault status"}
	}
	e.Object = strconv.Itoa(keys[len(keys)-1].Version + 1)
	if err := a.db.Record(ctx, e); err != nil {
		return answer{}, err
	}
	if _, err := a.keys.vault.Rotate(ctx); err != nil {
		failed := e
		failed.Outcome, failed.Reason = audit.Failed, audit.Clean(err.Error(), audit.MaxReason)
		err = errors.Join(err, a.db.Record(ctx, failed))
		if errors.Is(err, vault.ErrStale) {
			err = &access.Error{Kind: access.ErrUnavailable, Code: "DB-6382", Text: "the vault was given another keeper, which this server does not have", Next: "drawboltd unseal"}
		}
		return answer{}, err
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
	s, err := a.vaultStatus(ctx)
	return answer{Vault: &s}, err
}

// words puts the status of the vault on a screen.
func (s vaultStatus) words() string {
	var b strings.Builder
	for _, k := range s.Keys {
		state := "seals"
		if !k.Retired.IsZero() {
			state = "retired " + k.Retired.Format(time.DateOnly)
		}
		fmt.Fprintf(&b, "version %-3d %-20s %d records", k.Version, state, k.Records)
		if len(k.Servers) > 0 && !k.Retired.IsZero() {
			fmt.Fprintf(&b, "; needed by %s", strings.Join(k.Servers, ", "))
		}
		b.WriteByte('\n')
	}
	if s.Unknown > 0 {
		fmt.Fprintf(&b, "%d records can be opened by no version\n", s.Unknown)
	}
	return b.String()
}
