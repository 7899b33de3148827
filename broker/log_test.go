package broker_test

import (
	"bytes"
	"database/sql"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// raw is SQLite's database without the store.
func (h *house) raw() *sql.DB {
	h.t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(h.url, "sqlite://")+"?_pragma=busy_timeout(60000)")
	ok(h.t, err)
	h.t.Cleanup(func() { db.Close() })
	return db
}

// closedSession is a life with a recording; it returns the session's id.
func (h *house) closedSession() string {
	l := h.session("alice", h.granted())
	ok(h.t, h.Close(h.t.Context(), l, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: "r1", SHA256: strings.Repeat("0", 64), Size: 1}}))
	return l.Session.ID
}

func TestExportVerifies(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, carol := t.Context(), h.as("carol")
		h.closedSession()
		kept, err := h.Checkpoint(ctx, carol)
		ok(t, err)
		h.ask("alice", "root@db02")
		var x bytes.Buffer
		ok(t, h.ExportAudit(ctx, carol, &x))
		older, err := audit.OpenCheckpoint(kept, h.config.Verifier)
		ok(t, err)
		res, err := audit.Verify(bytes.NewReader(x.Bytes()), h.config.Verifier, older)
		ok(t, err)
		events := h.events()
		if !res.Verified || res.Events != int64(len(events)) || res.Checkpoints != 2 || events[len(events)-1].Action != "audit.export" {
			t.Errorf("%+v", res)
		}
		// Any changed letter of it is found.
		for i := 10; i < x.Len(); i += 97 {
			b := bytes.Clone(x.Bytes())
			b[i] ^= 1
			if res, err := audit.Verify(bytes.NewReader(b), h.config.Verifier, older); err == nil && res.Verified {
				t.Errorf("byte %d changed, and it verifies", i)
			}
		}
		list, err := h.Events(ctx, carol, broker.EventFilter{Action: "grant.open"})
		ok(t, err)
		if len(list) != 1 || list[0].Details["holder"] != "alice" {
			t.Errorf("events %+v", list)
		}
		_, err = h.Events(ctx, h.as("alice"), broker.EventFilter{})
		want(t, err, access.ErrDenied)
	})
}

func TestProof(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		id := h.closedSession()
		p, err := h.Proof(t.Context(), h.as("carol"), id)
		ok(t, err)
		c, err := audit.OpenCheckpoint(p.Checkpoint, h.config.Verifier)
		ok(t, err)
		ok(t, audit.CheckInclusion(c, p.Leaf, p.Inclusion))
		e, err := audit.Parse(p.Leaf)
		ok(t, err)
		if e.Action != "session.close" || e.Session != id || e.Details["recording_sha256"] != strings.Repeat("0", 64) || e.Seq != p.Seq {
			t.Errorf("proves %+v", e)
		}
		other := slices.Clone(p.Leaf)
		other[len(other)/2] ^= 1
		if audit.CheckInclusion(c, other, p.Inclusion) == nil {
			t.Error("proves another leaf as well")
		}
		// Seeing it is told, to whoever may see it only.
		if h.count(0, "session.replay", audit.Done) != 1 {
			t.Errorf("told %v", h.told(0))
		}
		_, err = h.Proof(t.Context(), h.as("bob"), id)
		want(t, err, access.ErrNotFound)
		_, err = h.Replay(t.Context(), h.as("alice"), id, "play")
		want(t, err, access.ErrDenied) // one may list one's own sessions, not watch oneself
	})
}

func TestReplayOfOpenSession(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	l := h.session("alice", h.granted())
	_, err := h.Replay(t.Context(), h.as("carol"), l.Session.ID, "play")
	want(t, err, access.ErrConflict)
	want(t, h.Terminate(t.Context(), h.as("carol"), l.Session.ID, "INC-1"), access.ErrDenied)
	_, err = h.FindSession(t.Context(), h.as("carol"), "SES-0000000000000000")
	want(t, err, access.ErrNotFound)
	list, err := h.Sessions(t.Context(), h.as("erin"), broker.SessionFilter{})
	ok(t, err)
	if len(list) != 0 {
		t.Errorf("erin sees %d sessions of alice", len(list))
	}
	ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
	want(t, h.Terminate(t.Context(), h.as("root"), l.Session.ID, "INC-1"), access.ErrConflict)
}

// A database that was put back to an older copy, or rewritten, no longer holds
// what a checkpoint says that was kept elsewhere; and nothing new is signed.
func TestCheckLog(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, carol := t.Context(), h.as("carol")
	path := strings.TrimPrefix(h.url, "sqlite://")
	h.closedSession()
	_, err := h.Checkpoint(ctx, carol)
	ok(t, err)
	copyTo := t.TempDir() + "/old.db"
	_, err = h.raw().Exec("VACUUM INTO ?", copyTo)
	ok(t, err)
	h.ask("alice", "root@db02")
	kept, err := h.Checkpoint(ctx, carol)
	ok(t, err)
	ok(t, h.CheckLog(ctx, kept))
	h.ask("erin", "root@db02")
	ok(t, h.CheckLog(ctx, kept)) // the log has grown: it still holds

	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	old := &house{t: t, url: "sqlite://" + copyTo, clock: h.clock, config: h.config, bundle: h.bundle}
	old.open()
	old.Broker = old.broker()
	err = old.CheckLog(ctx, kept)
	if err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("rolled back: %v", err)
	}
	// It grows again, to another history of the same length.
	for i := 0; i < 10; i++ {
		_, _ = old.FindUser(ctx, old.as("mallory"), "root")
	}
	err = old.CheckLog(ctx, kept)
	if err == nil || !strings.Contains(err.Error(), "rewritten") {
		t.Errorf("another history: %v", err)
	}
	forged := bytes.Replace(kept, []byte("drawbolt"), []byte("drawb0lt"), 1)
	if h.CheckLog(ctx, forged) == nil {
		t.Error("a forged checkpoint passes")
	}

	// An event rewritten alone: the export does not verify.
	_, err = h.raw().Exec("UPDATE audit_leaves SET leaf = CAST(replace(CAST(leaf AS TEXT), 'alice', 'alicf') AS BLOB) WHERE seq = 1")
	ok(t, err)
	var x bytes.Buffer
	if err := h.ExportAudit(ctx, carol, &x); err == nil {
		if res, err := audit.Verify(&x, h.config.Verifier); err != nil || res.Verified || res.FirstBad != 1 {
			t.Errorf("a rewritten event verifies: %+v, %v", res, err)
		}
	}
	// Rewritten with its hashes: nothing is signed any more.
	_, err = h.raw().Exec("UPDATE audit_leaves SET hashes = zeroblob(length(hashes))")
	ok(t, err)
	if _, err := h.Checkpoint(ctx, carol); err == nil {
		t.Error("a rewritten log was signed")
	}
}

// Checkpoints are signed while the server runs, and kept outside as well.
func TestCheckpointsAreKept(t *testing.T) {
	var last atomic.Pointer[[]byte]
	h := newHouse(t, sqliteURL(t), func(c *broker.Config) {
		c.CheckpointEvery = 20 * time.Millisecond
		c.KeepCheckpoint = func(m []byte) error { last.Store(&m); return nil }
	})
	stop := h.start()
	eventually(t, "a checkpoint", func() bool { return last.Load() != nil })
	h.ask("alice", "root@db01")
	stop()
	size := int64(len(h.events()))
	c, err := audit.OpenCheckpoint(*last.Load(), h.config.Verifier)
	ok(t, err)
	if c.Size != size {
		t.Errorf("the last checkpoint covers %d of %d events: the end of a run is signed", c.Size, size)
	}
}
