package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// DiscoveryWithin is how long one scan of a target may take.
const DiscoveryWithin = access.ScanLease - time.Minute

// A Discovery is a scan of a target that was begun.
type Discovery struct {
	Target  access.Target
	Hops    []access.Target // on the way there, in order
	Account string          // to log in as
	Until   time.Time       // when the login must have been made

	by   access.Caller
	scan access.TargetScan // as it was begun
}

// BeginDiscovery allows a scan of a target, as its provisioner or as an account of it
// that lets in certificates. Nobody else scans it for five minutes. The caller of
// BeginDiscovery calls EndDiscovery.
func (b *Broker) BeginDiscovery(ctx context.Context, by access.Caller, target, account string) (Discovery, error) {
	var d Discovery
	e := event(by, "account.discover", target)
	e.Target, e.Account = audit.Clean(target, audit.MaxName), audit.Clean(account, audit.MaxName)
	if err := b.refresh(ctx); err != nil {
		return d, b.refused(ctx, e, policyDown(err))
	}
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		t, err := b.administered(ctx, tx, by, policy.ActionAccountDiscover, target, &e)
		if err != nil {
			return e, err
		}
		d, err = b.beginDiscovery(ctx, tx, by, &t, account)
		e.Account = d.Account
		return e, err
	})
	return d, err
}

// BeginDue is BeginDiscovery for a scan that DueDiscoveries has named. What stands in its
// way is put on record as the failure of that scan, and the next one is a day later. It is
// the server's own.
func (b *Broker) BeginDue(ctx context.Context, targetID string) (Discovery, error) {
	var d Discovery
	var refused error
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		refused = nil
		t, err := tx.Target(ctx, targetID)
		if err != nil {
			return audit.Event{}, err
		}
		d, err = b.beginDiscovery(ctx, tx, access.System(), &t, "")
		if tx.Now().Before(d.scan.NextAt) {
			return audit.Event{}, fmt.Errorf("another server has scanned %s: %w", t.Name, access.ErrConflict)
		}
		if _, ok := errors.AsType[*access.Error](err); ok && !errors.Is(err, access.ErrConflict) {
			refused = err
			return failScan(ctx, tx, d, err)
		}
		if err != nil {
			return audit.Event{}, err
		}
		e := event(access.System(), "account.discover", targetID)
		e.Target, e.Account = t.Name, d.Account
		return e, nil
	})
	return d, errors.Join(err, refused)
}

func (b *Broker) beginDiscovery(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, account string) (Discovery, error) {
	if t.Kind != "" && !slices.Contains(access.ScannedKinds(), t.Kind) {
		return Discovery{}, &access.Error{Kind: access.ErrInvalid, Code: "DB-6506", Text: fmt.Sprintf("%s is a %s, which is not scanned", t.Name, access.KindName(t.Kind)), Next: "drawbolt account ls " + t.Name}
	}
	now := tx.Now()
	d := Discovery{Target: *t, Account: account, Until: now.Add(DiscoveryWithin), by: by}
	if account == "" {
		d.Account = t.ScansAs()
	}
	s, err := tx.TargetScan(ctx, t.ID)
	fresh := errors.Is(err, access.ErrNotFound)
	if err != nil && !fresh {
		return d, err
	}
	d.scan = s
	if now.Before(s.Until) {
		return d, &access.Error{Kind: access.ErrConflict, Code: "DB-6462", Text: t.Name + " is being scanned at this moment", Next: "drawbolt account ls --target " + t.Name}
	}
	if t.Locked {
		return d, lockedTarget(t)
	}
	if d.Account == "" && t.Kind != "" {
		return d, &access.Error{Kind: access.ErrInvalid, Code: "DB-6473", Text: t.Name + " has no account to be scanned as: none is named for it, and none sets the passwords of others", Next: "drawbolt target set " + t.Name + " --scan-account ACCOUNT"}
	}
	if d.Account == "" {
		return d, &access.Error{Kind: access.ErrInvalid, Code: "DB-6460", Text: t.Name + " has no provisioner, with which it is scanned",
			Next: "drawbolt target set " + t.Name + " --provisioner root, or name an account: --as ACCOUNT"}
	}
	if a, ok := t.Account(d.Account); t.Kind != "" && (!ok || a.Credential != access.CredentialPassword) {
		return d, &access.Error{Kind: access.ErrInvalid, Code: "DB-6474", Text: fmt.Sprintf("the password of %s@%s is not kept, so nothing is scanned with it", strconv.QuoteToASCII(audit.Clean(d.Account, 64)), t.Name),
			Next: "drawbolt account set ACCOUNT@" + t.Name + " --password-stdin"}
	} else if t.Kind == "" && d.Account != t.Provisioner && (!ok || a.Made != nil || a.Lent()) {
		return d, &access.Error{Kind: access.ErrInvalid, Code: "DB-6461", Text: fmt.Sprintf("%s has no account %s that is always there and lets in certificates", t.Name, strconv.QuoteToASCII(audit.Clean(d.Account, 64))),
			Next: "drawbolt target show " + t.Name}
	}
	if d.Hops, err = hopsOf(ctx, tx.Target, t); err != nil {
		return d, err
	}
	if s.TargetID, s.TargetName, s.Node, s.Until, s.TriedAt = t.ID, t.Name, b.c.Node, now.Add(access.ScanLease), now; fresh {
		s.Version, s.Score = 1, -1
		err = tx.AddTargetScan(ctx, &s)
	} else {
		err = tx.SaveTargetScan(ctx, &s)
	}
	d.scan = s
	return d, err
}

// DiscoveryCredential issues the certificate with which the server logs in for a
// scan: at the hop of that index as its hop account, or, with the number of hops, at
// the target. It is for one minute, one key and one account, and only while the target
// is the one for which the scan began.
func (b *Broker) DiscoveryCredential(ctx context.Context, d Discovery, hop int, key ssh.PublicKey) (*ssh.Certificate, error) {
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
		if is.Version != was.Version || is.Locked || !now.Before(d.Until) {
			return nil, fmt.Errorf("%s was changed or locked meanwhile, or it took too long: %w", was.Name, access.ErrConflict)
		}
	}
	c := sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: d.Account, Target: at.Name, KeyID: "drawbolt discovery " + d.Target.ID,
		ValidAfter: now, ValidBefore: now.Add(provisionerTTL),
	}
	switch {
	case inside:
		c.Principal, c.PermitPortForwarding = at.HopAccount, true
	case hop != len(d.Hops) || d.Account == "" || d.Target.Kind != "":
		return nil, errors.New("a scan does not log in there")
	}
	return b.authority(sshca.User).Sign(ctx, b.serials(d.by, nil), c)
}

// DiscoveryLend gives the password with which a database is scanned, for the target as
// it was when the scan began. The use is an event. Whoever has it wipes it.
func (b *Broker) DiscoveryLend(ctx context.Context, d Discovery) (Loan, error) {
	if !b.now().Before(d.Until) || d.Target.Kind == "" {
		return Loan{}, fmt.Errorf("%s is not scanned with a password, or it took too long: %w", d.Target.Name, access.ErrConflict)
	}
	e := event(d.by, "secret.lend", d.Target.ID)
	e.Target, e.Account = d.Target.Name, audit.Clean(d.Account, audit.MaxName)
	detail(&e, "for", "discovery")
	return b.lend(ctx, &d.Target, d.Account, e, func(*store.Tx) error { return nil })
}

// Discovered is what came of a scan.
type Discovered struct {
	Scan    access.TargetScan
	Changes []discovery.Change
	Posture discovery.Posture
	Ways    []discovery.Way
	Found   []access.FoundAccount // that are there
}

// EndDiscovery puts on record what a scan has found, or why it failed: the accounts,
// with what differs from the scan before, and what policies use as facts of the
// target.
func (b *Broker) EndDiscovery(ctx context.Context, d Discovery, s *discovery.Scan, profile discovery.Profile, failed error) (Discovered, error) {
	ctx = context.WithoutCancel(ctx)
	if failed != nil {
		return Discovered{}, errors.Join(failed, b.discoveryFailed(ctx, d, failed))
	}
	var out Discovered
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := event(d.by, "account.discovered", d.Target.ID)
		e.Target = d.Target.Name
		t, err := tx.Target(ctx, d.Target.ID)
		if err != nil {
			return e, err
		}
		if out.Scan, err = tx.TargetScan(ctx, t.ID); err != nil {
			return e, err
		}
		if out.Scan.Version != d.scan.Version {
			return e, &access.Error{Kind: access.ErrConflict, Code: "DB-6463", Text: "the scan of " + t.Name + " took too long, and another one has begun", Next: "drawbolt account ls --target " + t.Name}
		}
		before, err := tx.FoundOn(ctx, t.ID)
		if err != nil {
			return e, err
		}
		known, err := b.knownOf(ctx, tx, &t, s, before)
		if err != nil {
			return e, err
		}
		findings, ways := discovery.Classify(s, known)
		if len(findings) > access.MaxFound {
			slices.SortStableFunc(findings, func(a, b discovery.Finding) int { return int(a.Risk) - int(b.Risk) })
			findings = findings[:access.MaxFound]
			s.Incomplete = append(s.Incomplete, "accounts")
		}
		out.Ways, out.Posture = ways, profile.Assess(s.Settings)
		if out.Changes, out.Found, err = keepFound(ctx, tx, &t, s, before, findings); err != nil {
			return e, err
		}
		if err := keepScan(tx.Now(), &out, s); err != nil {
			return e, err
		}
		if err := tx.SaveTargetScan(ctx, &out.Scan); err != nil {
			return e, err
		}
		e.Outcome = audit.Done
		tellChanges(&e, &out)
		if grave := graveEvent(d.by, &t, &out); grave != nil {
			tx.Also(*grave)
		}
		return e, keepScanFacts(ctx, tx, &t, &e, s, out.Posture)
	})
	return out, err
}

func (b *Broker) discoveryFailed(ctx context.Context, d Discovery, why error) error {
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) { return failScan(ctx, tx, d, why) })
}

// failScan notes why a scan has failed, unless another one has begun since.
func failScan(ctx context.Context, tx *store.Tx, d Discovery, why error) (audit.Event, error) {
	e := event(d.by, "account.discovered", d.Target.ID)
	e.Target, e.Outcome, e.Reason = d.Target.Name, audit.Failed, audit.Clean(why.Error(), audit.MaxReason)
	s, err := tx.TargetScan(ctx, d.Target.ID)
	if err != nil || s.Version != d.scan.Version {
		return e, err
	}
	s.Problem, s.TriedAt, s.Until = audit.Clean(why.Error(), access.MaxComment), tx.Now(), time.Time{}
	again(&s, tx.Now())
	return e, tx.SaveTargetScan(ctx, &s)
}

// scanEvery is how often a target is scanned by itself.
const scanEvery = 24 * time.Hour

// again plans the next scan, if they are planned: at its hour, or the day after.
func again(s *access.TargetScan, now time.Time) {
	for !s.NextAt.IsZero() && !s.NextAt.After(now) {
		s.NextAt = s.NextAt.Add(scanEvery * (1 + now.Sub(s.NextAt)/scanEvery))
	}
}

// knownOf is what there is to compare a scan with.
func (b *Broker) knownOf(ctx context.Context, tx *store.Tx, t *access.Target, s *discovery.Scan, before []access.FoundAccount) (discovery.Known, error) {
	k := discovery.Known{
		Now: tx.Now(), Production: strings.HasPrefix(t.Labels.Environment, "prod"),
		Managed: map[string]bool{}, Made: map[string]bool{}, Owners: map[string]discovery.Person{}, Declared: map[string]discovery.Class{},
		People: map[string]discovery.Person{}, Keys: map[string]discovery.Person{},
	}
	for _, a := range t.Accounts {
		k.Managed[a.Name] = a.Made == nil
		if a.KnownAs != "" {
			k.Managed[a.KnownAs] = true
		}
		if t.Kind == access.KindMySQL {
			k.Managed[a.Name+"@%"] = true
			k.Managed[a.KnownAs+"@%"] = a.KnownAs != ""
		}
	}
	for i := range s.Accounts { // of a directory, where names of entries are long
		if a := &s.Accounts[i]; s.Kind == discovery.LDAP && slices.ContainsFunc(t.Accounts, func(o access.Account) bool { return strings.EqualFold(o.KnownAs, a.Comment) }) {
			k.Managed[a.Name] = true
		}
	}
	for _, name := range []string{t.Provisioner, t.HopAccount} {
		if name != "" {
			k.Managed[name] = true
		}
	}
	for _, key := range b.Authorities().Users {
		k.Authorities = append(k.Authorities, ssh.FingerprintSHA256(key))
	}
	var err error
	if k.OwnKeys, err = b.ownKeys(ctx, tx, t); err != nil {
		return k, err
	}
	made, err := tx.LoginsOn(ctx, t.ID)
	if err != nil {
		return k, err
	}
	for _, login := range made {
		k.Made[login] = true
	}
	var names, fingerprints, ids []string
	for i := range s.Accounts {
		a := &s.Accounts[i]
		if a.Matters() {
			names = append(names, a.Name)
		}
		for _, key := range a.Keys {
			fingerprints = append(fingerprints, key.Fingerprint)
		}
	}
	for _, f := range before {
		if f.Declared != "" {
			k.Declared[f.Name] = discovery.Class(f.Declared)
		}
		if f.OwnerID != "" {
			ids = append(ids, f.OwnerID)
		}
	}
	people, err := tx.UsersNamed(ctx, names)
	if err != nil {
		return k, err
	}
	for name, u := range people {
		k.People[name] = discovery.Person{Name: name, Left: u.Locked}
	}
	keys, err := tx.PublicKeysOf(ctx, distinct(fingerprints))
	if err != nil {
		return k, err
	}
	for _, key := range keys {
		ids = append(ids, key.UserID)
	}
	users, err := tx.UsersByID(ctx, distinct(ids))
	if err != nil {
		return k, err
	}
	person := func(id, name string) discovery.Person {
		if u, ok := users[id]; ok {
			return discovery.Person{Name: u.Name, Left: u.Locked}
		}
		return discovery.Person{Name: name, Left: true}
	}
	for _, key := range keys {
		k.Keys[key.Fingerprint] = person(key.UserID, key.UserID)
	}
	for _, f := range before {
		if f.OwnerID != "" {
			k.Owners[f.Name] = person(f.OwnerID, f.OwnerName)
		}
	}
	return k, nil
}

// keepFound saves what was found, and says what differs from what was there before. What
// a scan could not see has not gone.
func keepFound(ctx context.Context, tx *store.Tx, t *access.Target, s *discovery.Scan, before []access.FoundAccount, findings []discovery.Finding) ([]discovery.Change, []access.FoundAccount, error) {
	now := tx.Now()
	rows := map[string]*access.FoundAccount{}
	var was []discovery.Finding
	for i := range before {
		f := &before[i]
		rows[f.Name] = f
		if f.GoneAt.IsZero() {
			was = append(was, FindingOf(f))
		}
	}
	blind := slices.Contains(s.Incomplete, "passwd") || slices.Contains(s.Incomplete, "accounts") || slices.Contains(s.Incomplete, "what only root may read")
	if blind {
		for _, f := range was {
			if !slices.ContainsFunc(findings, func(is discovery.Finding) bool { return is.Name == f.Name }) {
				findings = append(findings, f)
			}
		}
	}
	changes := discovery.Diff(was, findings)
	first := !slices.ContainsFunc(before, func(f access.FoundAccount) bool { return f.GoneAt.IsZero() })
	var found []access.FoundAccount
	for _, is := range findings {
		detailed, err := json.Marshal(is)
		if err != nil {
			return nil, nil, fmt.Errorf("keep what was found: %w", err)
		}
		f, there := rows[is.Name]
		if !there {
			f = &access.FoundAccount{ID: access.NewID(access.FoundPrefix), TargetID: t.ID, Name: is.Name, FirstSeen: now, Version: 1}
		}
		same := there && f.GoneAt.IsZero() && f.Class == string(is.Class) && f.Risk == int64(is.Risk) && f.OwnerName == is.Owner && f.Detail == string(detailed) && f.TargetName == t.Name
		f.TargetName, f.Class, f.Risk, f.OwnerName, f.Reasons, f.Detail = t.Name, string(is.Class), int64(is.Risk), is.Owner, is.Reasons, string(detailed)
		f.LastSeen, f.GoneAt = now, time.Time{}
		switch {
		case !there:
			err = tx.AddFoundAccount(ctx, f)
		case !same:
			err = tx.SaveFoundAccount(ctx, f)
		}
		if err != nil {
			return nil, nil, err
		}
		found = append(found, *f)
	}
	for _, c := range changes {
		if f := rows[c.Account]; c.What == "gone" && f != nil {
			f.GoneAt = now
			if err := tx.SaveFoundAccount(ctx, f); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := tx.SeeAccounts(ctx, t.ID, now); err != nil {
		return nil, nil, err
	}
	if first && len(changes) > 0 { // of the first scan everything is new
		changes = slices.DeleteFunc(changes, func(c discovery.Change) bool { return !c.Grave })
	}
	return changes, found, tx.ForgetGone(ctx, t.ID, now.Add(-access.KeepGone))
}

// FindingOf is what stands in a row. What does not read is what the columns say.
func FindingOf(f *access.FoundAccount) (is discovery.Finding) {
	_ = json.Unmarshal([]byte(f.Detail), &is) // ours; the columns count
	is.Name, is.Class, is.Risk, is.Owner, is.Reasons = f.Name, discovery.Class(f.Class), discovery.Risk(f.Risk), f.OwnerName, f.Reasons
	return is
}

// Bounds of what is kept of one scan besides its accounts.
const (
	maxDrift = 100
	maxWays  = 500
)

func keepScan(now time.Time, out *Discovered, s *discovery.Scan) error {
	drift := discovery.Drift(out.Scan.Settings, s.Settings)
	faults, err := json.Marshal(out.Posture)
	if err != nil {
		return fmt.Errorf("keep the posture: %w", err)
	}
	slices.SortStableFunc(out.Ways, func(a, b discovery.Way) int { return int(a.Risk) - int(b.Risk) })
	ways, err := json.Marshal(out.Ways[:min(len(out.Ways), maxWays)])
	if err != nil {
		return fmt.Errorf("keep the ways: %w", err)
	}
	k := &out.Scan
	k.At, k.Problem, k.Until = now, "", time.Time{}
	k.Accounts, k.Score, k.Settings = int64(len(out.Found)), int64(out.Posture.Score), s.Settings
	k.Faults, k.Ways, k.WayCount = string(faults), string(ways), int64(len(out.Ways))
	k.Drift, k.Incomplete = drift[:min(len(drift), maxDrift)], s.Incomplete
	again(k, now)
	return nil
}

// tellChanges writes into the event what a scan has found.
func tellChanges(e *audit.Event, out *Discovered) {
	detail(e, "accounts", strconv.Itoa(len(out.Found)))
	detail(e, "ways", strconv.Itoa(len(out.Ways)))
	detail(e, "score", strconv.Itoa(out.Posture.Score))
	detail(e, "incomplete", strings.Join(out.Scan.Incomplete, ", "))
	detail(e, "drift", strings.Join(out.Scan.Drift, "; "))
	detail(e, "changes", strconv.Itoa(len(out.Changes)))
	for i, c := range out.Changes[:min(len(out.Changes), maxFindings)] {
		detail(e, fmt.Sprintf("change_%d", i+1), c.What+" "+c.Account+": "+c.Text)
	}
}

// graveEvent tells people of what should not wait; nil: there is nothing.
func graveEvent(by access.Caller, t *access.Target, out *Discovered) *audit.Event {
	e := event(by, "account.grave", t.ID)
	e.Target, e.Outcome = t.Name, audit.Done
	var texts []string
	for _, c := range out.Changes {
		if c.Grave {
			texts = append(texts, c.Account+" ("+c.What+"): "+c.Text)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	n := len(texts)
	for i, text := range texts[:min(n, maxFindings)] {
		detail(&e, fmt.Sprintf("change_%d", i+1), text)
	}
	e.Reason = audit.Clean(fmt.Sprintf("%d on %s: %s. Look: drawbolt account ls --target %s", n, t.Name, strings.Join(texts[:min(n, 3)], "; "), t.Name), access.MaxComment)
	return &e
}

// keepScanFacts keeps what policies use as facts of the target, under names that
// nothing else has. An empty value forgets one.
func keepScanFacts(ctx context.Context, tx *store.Tx, t *access.Target, e *audit.Event, s *discovery.Scan, p discovery.Posture) error {
	facts := map[string]access.Fact{}
	for name, fact := range t.Facts {
		if !strings.HasPrefix(name, discovery.FactPrefix) {
			facts[name] = fact
		}
	}
	for name, value := range discovery.Facts(s, p) {
		if value == "" {
			continue
		}
		if err := access.CheckFacts(map[string]string{name: value}); err != nil {
			continue // the target says something that is none
		}
		if len(facts) >= access.MaxItems {
			detail(e, "facts", fmt.Sprintf("the target has %d facts already; not all are kept", access.MaxItems))
			break
		}
		facts[name] = access.Fact{Value: value, At: tx.Now(), By: "scan"}
		if t.Facts[name].Value != value {
			detail(e, "fact_"+name, value)
		}
	}
	t.Facts = facts
	return tx.SaveTarget(ctx, t)
}

// DueDiscoveries returns the ids of targets that are to be scanned now, at most limit,
// and plans the first scan of those that can be scanned and have no plan: within a day,
// at an hour of their own, so that many do not come at once. It is the server's own.
func (b *Broker) DueDiscoveries(ctx context.Context, limit int) ([]string, error) {
	fresh, err := b.c.Store.Unplanned(ctx, 100)
	if err != nil {
		return nil, err
	}
	if len(fresh) > 0 {
		if err := b.planScans(ctx, fresh); err != nil {
			return nil, err
		}
	}
	return b.c.Store.DueScans(ctx, b.now(), limit)
}

func (b *Broker) planScans(ctx context.Context, ids []string) error {
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := event(access.System(), "account.plan", "")
		e.Outcome = audit.Done
		detail(&e, "targets", strconv.Itoa(len(ids)))
		for _, id := range ids {
			t, err := tx.Target(ctx, id)
			if errors.Is(err, access.ErrNotFound) {
				continue
			} else if err != nil {
				return e, err
			}
			s, err := tx.TargetScan(ctx, id)
			fresh := errors.Is(err, access.ErrNotFound)
			if err != nil && !fresh {
				return e, err
			}
			if !s.NextAt.IsZero() { // another server has planned it
				continue
			}
			s.TargetID, s.TargetName, s.NextAt = id, t.Name, firstScan(id, tx.Now())
			if fresh {
				s.Version, s.Score = 1, -1
				err = tx.AddTargetScan(ctx, &s)
			} else {
				err = tx.SaveTargetScan(ctx, &s)
			}
			if err != nil {
				return e, err
			}
		}
		return e, nil
	})
}

// firstScan is between one hour and a day from now, and each target has its own.
func firstScan(id string, now time.Time) time.Time {
	h := fnv.New64a()
	h.Write([]byte(id))
	return now.Add(time.Hour + time.Duration(h.Sum64()%uint64(scanEvery-time.Hour)))
}

// ScanTotals returns figures of all scans. It is no verb of a person: the server
// measures with it.
func (b *Broker) ScanTotals(ctx context.Context) (store.ScanTotals, error) {
	return b.c.Store.ScanTotals(ctx)
}

// ScansAfter returns how the last scans went of targets whose names come after that one,
// a thousand of them. It is no verb of a person: the server measures with it.
func (b *Broker) ScansAfter(ctx context.Context, target string) ([]access.TargetScan, error) {
	return b.c.Store.TargetScans(ctx, target, 1000)
}
