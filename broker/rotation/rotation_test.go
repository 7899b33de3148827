package rotation_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/rotation"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

// systems are models of them: each account has a password, and some system is broken.
type systems struct {
	mu        sync.Mutex
	passwords map[string]string
	order     []string // of the first change of each account
	atOnce    map[string]int
	most      int // that were worked on at one target at once
	broken    map[string]bool
}

type account struct {
	*systems
	target, name string
}

func (a account) Set(_ context.Context, _, password vault.Secret) error {
	a.enter()
	defer a.leave()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken[a.target] {
		panic("a system that drives a library mad")
	}
	a.passwords[a.name+"@"+a.target] = string(password.Expose())
	a.order = append(a.order, a.name+"@"+a.target)
	return nil
}

func (a account) Check(_ context.Context, password vault.Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.passwords[a.name+"@"+a.target]; now != string(password.Expose()) {
		return rotate.ErrWrong
	}
	return nil
}

func (a account) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.atOnce[a.target]++
	a.most = max(a.most, a.atOnce[a.target])
}

func (a account) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.atOnce[a.target]--
}

// furnish makes managed accounts, all of which are due, on targets that have so many each.
func furnish(t testing.TB, b *broker.Broker, db *store.DB, s *systems, targets, each int) (by access.Caller) {
	t.Helper()
	ctx := t.Context()
	by = access.Caller{User: access.User{ID: access.NewID(access.UserPrefix), Name: "root", Groups: []string{"admins"}, CreatedAt: time.Now(), Version: 1}}
	ok(t, db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		r := access.Role{Name: "admins", Groups: []string{"admins"}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"target.read", "target.write", "secret.read", "secret.write", "secret.rotate"}}}}
		return audit.Event{Actor: "system", Action: "test"}, errors.Join(tx.AddUser(ctx, &by.User), tx.AddRole(ctx, &r))
	}))
	for i := range targets {
		name := fmt.Sprintf("pg%04d", i)
		n := access.Target{Name: name, Kind: access.KindPostgres, Address: "192.0.2.1:5432"}
		for j := range each {
			n.Accounts = append(n.Accounts, access.Account{Name: fmt.Sprintf("app%d", j), Credential: access.CredentialCertificate})
		}
		_, err := b.AddTarget(ctx, by, n)
		ok(t, err)
		for j := range each {
			account := fmt.Sprintf("app%d", j)
			s.passwords[account+"@"+name] = "first"
			ok(t, b.ManageAccount(ctx, by, name, account, "", access.Managed{Every: time.Hour}, []byte("first")))
		}
	}
	return by
}

// TestManyDue: many accounts that are due at once are changed with bounded memory and a
// few at a time at each target; what presses comes first, and a system that breaks keeps no
// other waiting.
func TestManyDue(t *testing.T) {
	targets, each := 20, 4
	s := &systems{passwords: map[string]string{}, atOnce: map[string]int{}, broken: map[string]bool{"pg0003": true}}
	c := brokertest.Config(t, "node1", storetest.SQLite(t))
	b, err := broker.New(t.Context(), c)
	ok(t, err)
	furnish(t, b, c.Store, s, targets, each)
	changeAll(t, b, c.Store, s, targets*each-each)
	if s.most > 4 {
		t.Errorf("%d at once at one target", s.most)
	}
	due, err := b.DueRotations(t.Context(), 1000)
	ok(t, err)
	if len(due) != 0 {
		t.Errorf("%d are still due", len(due))
	}
	for i := range each {
		r, err := c.Store.RotationsOf(t.Context(), targetID(t, c.Store, "pg0003"))
		ok(t, err)
		if r[i].StateAt(time.Now()) != "failing" || r[i].Tries != 1 {
			t.Errorf("at the broken one: %+v", r[i])
		}
	}
	// By schedule is what is old; on demand comes before it.
	s.mu.Lock()
	s.order = nil
	s.mu.Unlock()
	ok(t, c.Store.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		for i := range targets {
			id := targetID(t, c.Store, fmt.Sprintf("pg%04d", i))
			why := access.CauseSchedule
			if i == targets-1 {
				why = access.CauseLeft
			}
			if err := tx.RotationDue(t.Context(), id, "app0", why, tx.Now().Add(-time.Duration(targets-i)*time.Minute)); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "test"}, nil
	}))
	list, err := b.DueRotations(t.Context(), 3)
	ok(t, err)
	if len(list) != 3 || list[0].TargetName != fmt.Sprintf("pg%04d", targets-1) || list[1].TargetName != "pg0000" {
		t.Errorf("the order is %v", list)
	}
}

func targetID(t testing.TB, db *store.DB, name string) string {
	t.Helper()
	n, err := db.Target(t.Context(), name)
	ok(t, err)
	return n.ID
}

// changeAll runs a worker until so many accounts were changed.
func changeAll(t testing.TB, b *broker.Broker, db *store.DB, s *systems, n int) {
	t.Helper()
	w, err := rotation.New(rotation.Config{Broker: b, Every: 20 * time.Millisecond, Systems: map[string]rotation.System{
		access.KindPostgres: func(step broker.RotationStep) (rotate.Rotator, error) {
			return account{s, step.Target.Name, step.Account.Name}, nil
		},
	}})
	ok(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for end := time.Now().Add(20 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		due, err := b.DueRotations(ctx, 1)
		ok(t, err)
		working, err := db.RotationsAt(ctx, "node1")
		ok(t, err)
		if len(due) == 0 && len(working) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it takes too long")
		}
	}
	stop()
	ok(t, <-ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) != n {
		t.Errorf("%d were changed, of %d", len(s.order), n)
	}
}

var dueAtOnce = flag.Int("due", 1000, "accounts that are due in BenchmarkManyDue")

// BenchmarkManyDue changes passwords that are due at once, ten at each target, at models
// of systems.
//
//	go test ./broker/rotation -run '^$' -bench ManyDue -benchtime 1x -timeout 1h -due 10000
func BenchmarkManyDue(b *testing.B) {
	for _, engine := range []struct {
		name string
		url  func(testing.TB) string
	}{{"sqlite", func(t testing.TB) string { return storetest.SQLite(t) }}, {"postgres", storetest.Postgres}} {
		b.Run(engine.name, func(b *testing.B) {
			s := &systems{passwords: map[string]string{}, atOnce: map[string]int{}}
			c := brokertest.Config(b, "node1", engine.url(b))
			k, err := broker.New(b.Context(), c)
			ok(b, err)
			const each = 10
			targets := *dueAtOnce / each
			by := furnish(b, k, c.Store, s, targets, each)
			b.ResetTimer()
			for b.Loop() {
				asked, memory := meanwhile(b, k, by, func() { changeAll(b, k, c.Store, s, targets*each) })
				b.ReportMetric(float64(asked[len(asked)/2].Microseconds()), "us-p50")
				b.ReportMetric(float64(asked[len(asked)*99/100].Microseconds()), "us-p99")
				b.ReportMetric(float64(memory>>20), "MiB")
			}
			b.ReportMetric(float64(targets*each)/b.Elapsed().Minutes(), "rotations/min")
		})
	}
}

// meanwhile asks the broker for the passwords of a target while something is done, ten times
// a second, and returns how long each answer took, the shortest first, and the most memory
// that the program had in use.
func meanwhile(b *testing.B, k *broker.Broker, by access.Caller, do func()) (took []time.Duration, memory uint64) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			began := time.Now()
			if _, err := k.Passwords(b.Context(), by, "pg0001"); err != nil {
				b.Error(err)
			}
			took = append(took, time.Since(began))
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			memory = max(memory, m.HeapInuse+m.StackInuse)
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	<-ended
	slices.Sort(took)
	return took, memory
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
