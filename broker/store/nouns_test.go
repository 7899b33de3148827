package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// filler gives every field a value that is not zero and that no other field
// has, so that a column that is forgotten or swapped is found.
type filler struct{ n int64 }

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC).Add(time.Duration(f.n) * time.Hour)
		return
	case *time.Duration:
		*x = time.Duration(f.n) * time.Minute
		return
	case *access.RequestState: // the schema knows the states
		*x = []access.RequestState{access.Approved, access.Denied}[f.n%2]
		return
	case *access.SessionState:
		*x = []access.SessionState{access.Open, access.Closed}[f.n%2]
		return
	case *access.ProvisionState:
		*x = []access.ProvisionState{access.Creating, access.Removing}[f.n%2]
		return
	case *access.EndReason:
		*x = []access.EndReason{access.EndReleased, access.EndRevoked}[f.n%2]
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x'\"\\ü " + strconv.FormatInt(f.n, 10))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(f.n)
	case reflect.Uint64:
		v.SetUint(1<<62 + uint64(f.n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	default:
		panic("no value for a " + v.Type().String())
	}
}

func fill[T any](f *filler) *T {
	v := new(T)
	f.fill(reflect.ValueOf(v).Elem())
	return v
}

func TestFieldsRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, f := t.Context(), &filler{}
		same := func(what string, got, want any, err error) {
			t.Helper()
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("%s: %v, -want +got\n%s", what, err, d)
			}
		}
		var u *access.User
		var tg *access.Target
		var rl *access.Role
		var rq *access.Request
		var g *access.Grant
		var s *access.Session
		votes, against := []access.Approval{}, []access.Approval{}
		// Twice: what is added, and what is saved over it.
		for round := range 2 {
			name := fmt.Sprint("round ", round)
			u2, tg2, rl2, rq2, g2, s2 := fill[access.User](f), fill[access.Target](f), fill[access.Role](f), fill[access.Request](f), fill[access.Grant](f), fill[access.Session](f)
			f.n++ // the other states
			votes = append(votes, rq2.Approvals...)
			rq2.Approvals = append([]access.Approval{}, votes...)
			against = append(against, rq2.Objections...)
			rq2.Objections = append([]access.Approval{}, against...)
			if round == 0 {
				u2.ID, tg2.ID = access.NewID(access.UserPrefix), access.NewID(access.TargetPrefix)
				rq2.ID, g2.ID, s2.ID = access.NewID(access.RequestPrefix), access.NewID(access.GrantPrefix), access.NewID(access.SessionPrefix)
				rq2.RequesterID, g2.RequestID, g2.UserID, s2.GrantID = u2.ID, rq2.ID, u2.ID, g2.ID
			} else {
				u2.ID, tg2.ID, rl2.Name, rq2.ID, g2.ID, s2.ID = u.ID, tg.ID, rl.Name, rq.ID, g.ID, s.ID
				u2.Version, tg2.Version, rl2.Version, rq2.Version, g2.Version, s2.Version = u.Version, tg.Version, rl.Version, rq.Version, g.Version, s.Version
				rq2.RequesterID, g2.RequestID, g2.UserID, s2.GrantID = u.ID, rq.ID, u.ID, g.ID
			}
			u, tg, rl, rq, g, s = u2, tg2, rl2, rq2, g2, s2
			generation, err := db.Generation(ctx)
			ok(t, err)
			change(t, db, func(tx *store.Tx) error {
				var errs []error
				if round == 0 {
					errs = []error{tx.AddUser(ctx, u), tx.AddTarget(ctx, tg), tx.AddRole(ctx, rl), tx.AddRequest(ctx, rq), tx.AddGrant(ctx, g), tx.AddSession(ctx, s)}
				} else {
					errs = []error{tx.SaveUser(ctx, u), tx.SaveTarget(ctx, tg), tx.SaveRole(ctx, rl), tx.SaveRequest(ctx, rq), tx.SaveGrant(ctx, g), tx.SaveSession(ctx, s)}
				}
				for _, err := range errs {
					ok(t, err)
				}
				return nil
			})
			gotUser, err := db.User(ctx, u.ID)
			same(name+" user", gotUser, *u, err)
			gotUser, err = db.User(ctx, u.Name)
			same(name+" user by name", gotUser, *u, err)
			gotTarget, err := db.Target(ctx, tg.ID)
			same(name+" target", gotTarget, *tg, err)
			gotRole, err := db.Role(ctx, rl.Name)
			same(name+" role", gotRole, *rl, err)
			gotRequest, err := db.Request(ctx, rq.ID)
			same(name+" request", gotRequest, *rq, err)
			gotGrant, err := db.Grant(ctx, g.ID)
			same(name+" grant", gotGrant, *g, err)
			gotGrant, err = db.Grant(ctx, rq.ID)
			same(name+" grant of request", gotGrant, *g, err)
			gotSession, err := db.Session(ctx, s.ID)
			same(name+" session", gotSession, *s, err)
			if after, err := db.Generation(ctx); err != nil || after != generation+1 {
				t.Errorf("generation %d after %d, %v", after, generation, err)
			}
		}

		k := fill[access.PublicKey](f)
		k.UserID = u.ID
		change(t, db, func(tx *store.Tx) error { return tx.AddPublicKey(ctx, k) })
		pv := fill[access.Provision](f)
		pv.ID, pv.GrantID = access.NewID(access.ProvisionPrefix), g.ID
		change(t, db, func(tx *store.Tx) error { return tx.AddProvision(ctx, pv) })
		f.n++ // the other states
		pv2 := fill[access.Provision](f)
		pv2.ID, pv2.GrantID, pv2.Version = pv.ID, pv.GrantID, pv.Version
		change(t, db, func(tx *store.Tx) error { return tx.SaveProvision(ctx, pv2) })
		gotProvision, err := db.Provision(ctx, pv2.ID)
		same("provision", gotProvision, *pv2, err)
		gotProvision, err = db.Provision(ctx, g.ID)
		same("provision of grant", gotProvision, *pv2, err)
		gotProvision, err = db.LoginHolder(ctx, pv2.TargetID, pv2.Login)
		same("provision of login", gotProvision, *pv2, err)

		ro := fill[access.Rotation](f)
		ro.ID = access.RotationID(ro.TargetID, ro.Account)
		change(t, db, func(tx *store.Tx) error { return tx.AddRotation(ctx, ro) })
		ro2 := fill[access.Rotation](f)
		ro2.ID, ro2.TargetID, ro2.Account, ro2.Version = ro.ID, ro.TargetID, ro.Account, ro.Version
		change(t, db, func(tx *store.Tx) error { return tx.SaveRotation(ctx, ro2) })
		gotRotation, err := db.Rotation(ctx, ro.ID)
		same("rotation", gotRotation, *ro2, err)

		bs := fill[access.Bootstrap](f)
		change(t, db, func(tx *store.Tx) error { return tx.AddBootstrap(ctx, bs) })
		bs2 := fill[access.Bootstrap](f)
		bs2.TargetID, bs2.Version = bs.TargetID, bs.Version
		change(t, db, func(tx *store.Tx) error { return tx.SaveBootstrap(ctx, bs2) })
		gotBootstrap, err := db.Bootstrap(ctx, bs2.TargetID)
		same("bootstrap", gotBootstrap, *bs2, err)
		gotBootstrap, err = db.BootstrapOfToken(ctx, bs2.Token)
		same("bootstrap of token", gotBootstrap, *bs2, err)
		_, err = db.BootstrapOfToken(ctx, bs.Token) // another has taken its place
		want(t, err, access.ErrNotFound)

		gotKey, err := db.PublicKey(ctx, k.Fingerprint)
		same("key", gotKey, *k, err)
		keys, err := db.PublicKeys(ctx, u.ID)
		same("keys", keys, []access.PublicKey{*k}, err)
		change(t, db, func(tx *store.Tx) error { return tx.RemovePublicKey(ctx, u.ID, k.Fingerprint) })
		_, err = db.PublicKey(ctx, k.Fingerprint)
		want(t, err, access.ErrNotFound)

		// The zero values of everything that may be empty.
		empty := access.Session{ID: access.NewID(access.SessionPrefix), GrantID: g.ID, State: access.Opening}
		change(t, db, func(tx *store.Tx) error { return tx.AddSession(ctx, &empty) })
		gotSession, err := db.Session(ctx, empty.ID)
		same("empty session", gotSession, empty, err)
	})
}

func newRequest(u access.User) access.Request {
	return access.Request{
		ID: access.NewID(access.RequestPrefix), RequesterID: u.ID, RequesterName: u.Name, TargetID: "TGT-1", Account: "root",
		Reason: "INC-42", Duration: time.Hour, State: access.Pending, CreatedAt: now(), ExpiresAt: now().Add(time.Hour),
	}
}

func TestFiltersAndPages(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, at := t.Context(), now()
		u := newUser("anna")
		change(t, db, func(tx *store.Tx) error { return tx.AddUser(ctx, &u) })
		var all []string // newest first
		change(t, db, func(tx *store.Tx) error {
			for i := range 10 {
				r := newRequest(u)
				r.CreatedAt = at.Add(time.Duration(i/2) * time.Second) // two of each time
				r.Account = []string{"root", "postgres"}[i%2]
				r.TargetID = []string{"TGT-1", "TGT-2"}[i/5]
				r.Batch = []string{"BAT-1", ""}[i%2]
				if i%5 == 0 {
					r.State = access.Denied
				}
				ok(t, tx.AddRequest(ctx, &r))
				g := access.Grant{ID: access.NewID(access.GrantPrefix), RequestID: r.ID, UserID: u.ID, Duration: time.Hour, End: at.Add(time.Duration(i) * time.Minute)}
				ok(t, tx.AddGrant(ctx, &g))
				s := access.Session{ID: access.NewID(access.SessionPrefix), GrantID: g.ID, RequestID: r.ID, UserID: u.ID, Account: r.Account, TargetID: r.TargetID, Node: "n1",
					State: []access.SessionState{access.Open, access.Closed}[i%2], OpenedAt: r.CreatedAt}
				ok(t, tx.AddSession(ctx, &s))
			}
			return nil
		})
		for _, tt := range []struct {
			name   string
			filter store.RequestFilter
			want   int
		}{
			{"all", store.RequestFilter{}, 10},
			{"limit", store.RequestFilter{Limit: 3}, 3},
			{"state", store.RequestFilter{State: access.Denied}, 2},
			{"requester", store.RequestFilter{Requester: u.ID}, 10},
			{"nobody", store.RequestFilter{Requester: "USR-x"}, 0},
			{"owner of nothing", store.RequestFilter{Owner: u.ID}, 0},
			{"target and account", store.RequestFilter{TargetID: "TGT-1", Account: "root"}, 3},
			{"before what is not there", store.RequestFilter{Before: "REQ-x"}, 0},
		} {
			if list, err := db.Requests(ctx, tt.filter); err != nil || len(list) != tt.want {
				t.Errorf("requests, %s: %d, %v, want %d", tt.name, len(list), err, tt.want)
			}
		}
		list, err := db.Requests(ctx, store.RequestFilter{})
		ok(t, err)
		for i, r := range list {
			all = append(all, r.ID)
			if i > 0 && r.CreatedAt.After(list[i-1].CreatedAt) {
				t.Errorf("request %d is newer than the one before it", i)
			}
		}
		var paged []string
		for before := ""; ; before = paged[len(paged)-1] {
			page, err := db.Requests(ctx, store.RequestFilter{Before: before, Limit: 3})
			ok(t, err)
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				paged = append(paged, r.ID)
			}
		}
		if d := cmp.Diff(all, paged); d != "" {
			t.Errorf("pages of requests:\n%s", d)
		}
		for _, tt := range []struct {
			name   string
			filter store.SessionFilter
			want   int
		}{
			{"all", store.SessionFilter{}, 10},
			{"live", store.SessionFilter{Live: true}, 5},
			{"user", store.SessionFilter{User: u.ID, Live: true, Account: "root"}, 5},
			{"account of the closed", store.SessionFilter{Live: true, Account: "postgres"}, 0},
			{"target", store.SessionFilter{Target: "TGT-2"}, 5},
			{"node", store.SessionFilter{Node: "n2"}, 0},
			{"batch", store.SessionFilter{Batch: "BAT-1"}, 5},
			{"another batch", store.SessionFilter{Batch: "BAT-2"}, 0},
			{"limit", store.SessionFilter{Limit: 4}, 4},
		} {
			if list, err := db.Sessions(ctx, tt.filter); err != nil || len(list) != tt.want {
				t.Errorf("sessions, %s: %d, %v, want %d", tt.name, len(list), err, tt.want)
			}
		}
		open, err := db.OpenGrants(ctx, u.ID, at.Add(4*time.Minute).UnixMicro())
		if err != nil || len(open) != 5 {
			t.Errorf("%d open grants, %v, want 5", len(open), err)
		}
	})
}

func TestVoters(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		u, first, second := newUser("anna"), newUser("bob"), newUser("carl")
		asked, other := newRequest(u), newRequest(u)
		change(t, db, func(tx *store.Tx) error {
			for _, one := range []*access.User{&u, &second, &first} {
				ok(t, tx.AddUser(ctx, one))
			}
			for _, vote := range []struct {
				request *access.Request
				voters  []string
			}{{&asked, []string{second.ID, first.ID, "USR-gone"}}, {&other, []string{first.ID}}} {
				ok(t, tx.AddRequest(ctx, vote.request))
				for _, id := range vote.voters {
					vote.request.Approvals = append(vote.request.Approvals, access.Approval{UserID: id, Duration: time.Hour, At: now()})
				}
				ok(t, tx.SaveRequest(ctx, vote.request))
			}
			return nil
		})
		for id, want := range map[string][]string{asked.ID: {"bob", "carl"}, other.ID: {"bob"}, "REQ-x": nil} {
			voters, err := db.Voters(ctx, id)
			var got []string
			for _, v := range voters {
				got = append(got, v.Name)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("voters of %s: %v, %v, want %v", id, got, err, want)
			}
		}
	})
}

func TestNotFound(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		for name, get := range map[string]func() error{
			"user":       func() error { _, err := db.User(ctx, "x"); return err },
			"target":     func() error { _, err := db.Target(ctx, "x"); return err },
			"role":       func() error { _, err := db.Role(ctx, "x"); return err },
			"request":    func() error { _, err := db.Request(ctx, "x"); return err },
			"grant":      func() error { _, err := db.Grant(ctx, "x"); return err },
			"session":    func() error { _, err := db.Session(ctx, "x"); return err },
			"key":        func() error { _, err := db.PublicKey(ctx, "x"); return err },
			"leaf":       func() error { _, err := db.Leaf(ctx, 0); return err },
			"checkpoint": func() error { _, err := db.LastCheckpoint(ctx); return err },
		} {
			if err := get(); err != access.ErrNotFound {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestCertificates(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		a := store.Certificate{Kind: "user", Principal: "root", Target: "TGT-1", KeyID: "SES-1", Key: "SHA256:x", IssuedAt: now(), ExpiresAt: now().Add(time.Minute)}
		b := a
		b.RevokedAt = now()
		change(t, db, func(tx *store.Tx) error {
			ok(t, tx.AddCertificate(ctx, &a))
			return tx.AddCertificate(ctx, &b)
		})
		if a.Serial == b.Serial || a.Serial == 0 || a.Serial >= 1<<63 {
			t.Errorf("serials %d and %d", a.Serial, b.Serial)
		}
		for serial, want := range map[uint64]bool{a.Serial: false, b.Serial: true, 0: true, 1 << 63: true, 1<<64 - 1: true} {
			if got, err := db.Revoked(ctx, serial); err != nil || got != want {
				t.Errorf("serial %d: revoked %v, %v, want %v", serial, got, err, want)
			}
		}
	})
}

// One hands their votes over to one person at a time; that one finds them while
// it is time, and as long as they may vote.
func TestDelegations(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, now := t.Context(), time.Now().UTC().Truncate(time.Microsecond)
		anna, bert, carl := newUser("anna"), newUser("bert"), newUser("carl")
		d := access.Delegation{UserID: anna.ID, UserName: "anna", DelegateID: bert.ID, DelegateName: "bert", From: now, Until: now.Add(time.Hour), Reason: "away", Version: 1}
		other := d
		other.DelegateID, other.DelegateName = carl.ID, "carl"
		change(t, db, func(tx *store.Tx) error {
			for _, u := range []*access.User{&anna, &bert, &carl} {
				ok(t, tx.AddUser(ctx, u))
			}
			want(t, tx.RemoveDelegation(ctx, anna.ID), access.ErrNotFound)
			ok(t, tx.SetDelegation(ctx, &other))
			return tx.SetDelegation(ctx, &d)
		})
		if got, err := db.Delegation(ctx, anna.ID); err != nil || got != d {
			t.Errorf("%+v, %v", got, err)
		}
		names := func(id string, at time.Time) (list []string) {
			users, err := db.StandsFor(ctx, id, at)
			ok(t, err)
			for _, u := range users {
				list = append(list, u.Name)
			}
			return list
		}
		for _, tt := range []struct {
			id   string
			at   time.Time
			want []string
		}{
			{bert.ID, now, []string{"anna"}}, {bert.ID, now.Add(-time.Microsecond), nil}, {bert.ID, now.Add(time.Hour), nil}, {carl.ID, now, nil}, {anna.ID, now, nil},
		} {
			if got := names(tt.id, tt.at); !slices.Equal(got, tt.want) {
				t.Errorf("%s stands for %v, want %v", tt.id, got, tt.want)
			}
		}
		for id, n := range map[string]int{"": 1, anna.ID: 1, bert.ID: 1, carl.ID: 0} {
			if list, err := db.Delegations(ctx, id, now); err != nil || len(list) != n {
				t.Errorf("delegations of %q: %v, %v", id, list, err)
			}
		}
		change(t, db, func(tx *store.Tx) error {
			u, err := tx.User(ctx, anna.ID)
			ok(t, err)
			u.Locked = true
			return tx.SaveUser(ctx, &u)
		})
		if got := names(bert.ID, now); got != nil {
			t.Errorf("stands for %v, who is locked", got)
		}
	})
}

func TestMembers(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		change(t, db, func(tx *store.Tx) error {
			for name, groups := range map[string][]string{"a": {"db_leads"}, "b": {"dbxleads"}, "c": {"leads", "db_leads"}, "d": {"db_leads"}, "e": {"db_leads"}, "f": nil} {
				u := newUser("user-" + name)
				u.Groups, u.Bot, u.Locked = groups, name == "d", name == "e"
				ok(t, tx.AddUser(ctx, &u))
			}
			return nil
		})
		for limit, n := range map[int]int{10: 2, 1: 1} {
			got, err := db.Members(ctx, []string{"db_leads", "nobody"}, limit)
			if err != nil || len(got) != n {
				t.Errorf("of %d: %v, %v", limit, got, err)
			}
		}
		if got, err := db.Members(ctx, nil, 10); err != nil || len(got) != 0 {
			t.Errorf("of no group: %v, %v", got, err)
		}
	})
}
