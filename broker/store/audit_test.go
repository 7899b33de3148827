package store_test

import (
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func TestLeaves(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		for i, action := range []string{"session.open", "session-x.open", "session", "session.close", "sessions.open", "request.create"} {
			e := event(action, "o1")
			e.Time = start.Add(time.Duration(i) * time.Hour)
			if i%2 == 0 {
				e.Session, e.Target, e.Actor, e.Object = "SES-1", "TGT-1", "system", "o2"
			}
			ok(t, db.Record(ctx, e))
		}
		checkLog(t, db)
		for _, tt := range []struct {
			name   string
			filter store.LeafFilter
			want   []int64
		}{
			{"all", store.LeafFilter{}, []int64{0, 1, 2, 3, 4, 5}},
			{"newest", store.LeafFilter{Newest: true, Limit: 2}, []int64{5, 4}},
			{"range", store.LeafFilter{From: 2, To: 4}, []int64{2, 3}},
			{"times", store.LeafFilter{Since: start.Add(time.Hour), Until: start.Add(3 * time.Hour)}, []int64{1, 2}},
			{"action", store.LeafFilter{Action: "session"}, []int64{2}},
			{"prefix", store.LeafFilter{Action: "session.*"}, []int64{0, 3}},
			{"no wildcards", store.LeafFilter{Action: "sess%.*"}, nil},
			{"session", store.LeafFilter{Session: "SES-1"}, []int64{0, 2, 4}},
			{"session and action", store.LeafFilter{Session: "SES-1", Action: "session.*"}, []int64{0}},
			{"target", store.LeafFilter{Target: "TGT-1", From: 1}, []int64{2, 4}},
			{"actor", store.LeafFilter{Actor: "system"}, []int64{0, 2, 4}},
			{"object", store.LeafFilter{Object: "o1"}, []int64{1, 3, 5}},
			{"quote", store.LeafFilter{Object: "' OR 1=1 --"}, nil},
		} {
			leaves, err := db.Leaves(ctx, tt.filter)
			ok(t, err)
			var got []int64
			for _, leaf := range leaves {
				e, err := audit.Parse(leaf)
				ok(t, err)
				got = append(got, e.Seq)
			}
			if len(got) != len(tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
				continue
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
				}
			}
		}
		for at, want := range map[time.Duration]int64{-time.Hour: 0, 0: 0, time.Second: 0, 2 * time.Hour: 2, 2*time.Hour + time.Minute: 2, 2*time.Hour + 5*time.Minute: 3, time.Hour * 99: 6} {
			if got, err := db.LeafAt(ctx, start.Add(at)); err != nil || got != want {
				t.Errorf("after %v the first event is %d, want %d, %v", at, got, want, err)
			}
		}
		leaf, err := db.Leaf(ctx, 3)
		ok(t, err)
		if e, err := audit.Parse(leaf); err != nil || e.Seq != 3 {
			t.Errorf("leaf 3 is %+v, %v", e, err)
		}
		// Other readers rely on proofs from the stored hashes.
		if _, err := audit.ProveInclusion(6, 3, db.Hashes(ctx)); err != nil {
			t.Error(err)
		}
		if _, err := db.Hashes(ctx).ReadHashes([]int64{99}); err == nil {
			t.Error("a hash that is not there was read")
		}
	})
}

func TestCheckpoints(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		_, err := db.LastCheckpoint(ctx)
		want(t, err, access.ErrNotFound)
		for _, c := range []store.SignedCheckpoint{{5, []byte("five")}, {9, []byte("nine")}, {9, []byte("nine again")}, {7, []byte("seven")}} {
			ok(t, db.SaveCheckpoint(ctx, c, now()))
		}
		if c, err := db.LastCheckpoint(ctx); err != nil || c.Size != 9 || string(c.Message) != "nine again" {
			t.Errorf("last checkpoint %+v, %v", c, err)
		}
		if list, err := db.Checkpoints(ctx, 5, 9, 10); err != nil || len(list) != 2 || list[0].Size != 7 || list[1].Size != 9 {
			t.Errorf("checkpoints %+v, %v", list, err)
		}
	})
}
