package local

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/drawbolt/drawbolt/broker/access"
)

func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 10)
		let := make(chan string, 10)
		leave := make(map[string]chan bool)
		come := func(name string, known bool, failures int, origin string) {
			leave[name] = make(chan bool)
			go func() {
				done, err := g.enter(t.Context(), known, failures, origin)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				let <- name
				<-leave[name]
				done()
			}()
			synctest.Wait()
		}
		want := func(names ...string) {
			t.Helper()
			synctest.Wait()
			for _, name := range names {
				select {
				case got := <-let:
					if got != name {
						t.Fatalf("%s was let in, want %s", got, name)
					}
				default:
					t.Fatalf("nobody was let in, want %s", name)
				}
			}
			if len(let) > 0 {
				t.Fatalf("%s was let in too", <-let)
			}
		}
		come("flood 1", false, 0, "a")
		want("flood 1")
		come("flood 2", false, 0, "a") // one place is kept for known users
		come("flood 3", false, 0, "a")
		come("guesser", false, 9, "b")
		want()
		come("known", true, 5, "c")
		want("known")
		come("known too", true, 0, "c")
		come("clean", false, 0, "d")
		want()
		leave["known"] <- true
		want("known too")
		leave["known too"] <- true
		want()
		leave["flood 1"] <- true
		want("clean")
		leave["clean"] <- true
		want("flood 2")
		leave["flood 2"] <- true
		want("flood 3")
		leave["flood 3"] <- true
		want("guesser")
		leave["guesser"] <- true
		synctest.Wait()
		if g.running != 0 || g.strangers != 0 || len(g.waiting) != 0 || len(g.present) != 0 {
			t.Errorf("the empty gate still counts: %d running, %d strangers, %v, %v", g.running, g.strangers, g.waiting, g.present)
		}
	})
}

func TestGateFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 3)
		ctx, cancel := context.WithCancel(t.Context())
		var busy, let, ended atomic.Int32
		come := func(known bool, failures int, origin string) {
			go func() {
				_, err := g.enter(ctx, known, failures, origin)
				switch {
				case err == nil:
					let.Add(1)
				case errors.Is(err, access.ErrUnavailable):
					busy.Add(1)
				case errors.Is(err, context.Canceled):
					ended.Add(1)
				}
			}()
			synctest.Wait()
		}
		for range 8 {
			come(false, 3, "a")
		}
		if let.Load() != 1 || busy.Load() != 4 {
			t.Fatalf("%d let in, %d turned away, want 1 and 4", let.Load(), busy.Load())
		}
		come(false, 0, "b") // takes the place of one of the flood in the queue
		if busy.Load() != 5 || len(g.waiting) != 3 {
			t.Errorf("%d turned away, %d wait, want 5 and 3", busy.Load(), len(g.waiting))
		}
		come(true, 0, "c")
		if let.Load() != 2 {
			t.Errorf("a known user waits behind the flood")
		}
		cancel()
		synctest.Wait()
		if ended.Load() != 3 || len(g.waiting) != 0 || g.running != 2 {
			t.Errorf("after the end of the context: %d ended, %d wait, %d run, want 3, 0, 2", ended.Load(), len(g.waiting), g.running)
		}
	})
}
