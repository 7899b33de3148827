package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/test/servers"
)

// A past is a database with sessions whose texts can be searched.
type past struct {
	t     testing.TB
	db    *store.DB
	users map[string]access.User
}

func newPast(t testing.TB, db *store.DB) *past {
	t.Helper()
	ok(t, db.PrepareText(t.Context()))
	return &past{t, db, map[string]access.User{}}
}

// session adds one of "user account@target".
func (p *past) session(where string, opened time.Time) access.Session {
	p.t.Helper()
	name, rest, _ := strings.Cut(where, " ")
	account, target, _ := strings.Cut(rest, "@")
	ctx := p.t.Context()
	var s access.Session
	change(p.t, p.db, func(tx *store.Tx) error {
		u, known := p.users[name]
		if !known {
			u = newUser(name)
			ok(p.t, tx.AddUser(ctx, &u))
			p.users[name] = u
		}
		r := newRequest(u)
		g := access.Grant{ID: access.NewID(access.GrantPrefix), RequestID: r.ID, UserID: u.ID, Duration: time.Hour}
		s = access.Session{ID: access.NewID(access.SessionPrefix), GrantID: g.ID, RequestID: r.ID, UserID: u.ID, UserName: name,
			TargetID: "TGT-" + target, TargetName: target, Account: account, State: access.Closed, OpenedAt: opened}
		return errors.Join(tx.AddRequest(ctx, &r), tx.AddGrant(ctx, &g), tx.AddSession(ctx, &s))
	})
	return s
}

func lines(in view.Source, texts ...string) iter.Seq[view.Text] {
	return func(yield func(view.Text) bool) {
		for i, text := range texts {
			if !yield(view.Text{At: time.Duration(i) * time.Second, In: in, Text: text}) {
				return
			}
		}
	}
}

func (p *past) save(s access.Session, texts iter.Seq[view.Text]) {
	p.t.Helper()
	ok(p.t, p.db.SaveText(p.t.Context(), s.ID, texts))
}

// everything is the filter of who may see all.
func (p *past) everything(words ...string) store.TextFilter {
	p.t.Helper()
	scopes, err := p.db.TextScopes(p.t.Context())
	ok(p.t, err)
	f := store.TextFilter{Words: words, All: true, Limit: 50, Within: 20 * time.Second}
	for _, s := range scopes {
		f.Scopes = append(f.Scopes, s.ID)
	}
	return f
}

func (p *past) find(f store.TextFilter) store.TextPage {
	p.t.Helper()
	page, err := p.db.FindText(p.t.Context(), f)
	ok(p.t, err)
	return page
}

func found(page store.TextPage) []string {
	list := []string{}
	for _, h := range page.Hits {
		list = append(list, h.Text)
	}
	return list
}

var march = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// TestFindText: what is found by which words, and what is not.
func TestFindText(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		p := newPast(t, db)
		s := p.session("alice root@db01", march)
		p.save(s, lines(view.Output, "DROP TABLE audit_old;", "100% done_now", `C:\temp`, "größe Ärger 漢字仮名", "a'b\"c", "ab"))
		for _, c := range []struct {
			words string // separated by |
			want  string
		}{
			{"drop", "DROP TABLE audit_old;"}, {"DROP TABLE", "DROP TABLE audit_old;"}, {"table|drop", "DROP TABLE audit_old;"}, {"audit_old", "DROP TABLE audit_old;"},
			{"drop|tables", ""}, {"auditXold", ""}, {"table drop", ""},
			{"100%", "100% done_now"}, {"0%x", ""}, {"done_", "100% done_now"}, {"100% d", "100% done_now"}, {"%%%", ""}, {"___", ""},
			{`c:\t`, `C:\temp`}, {`:\\t`, ""}, {"größe", "größe Ärger 漢字仮名"}, {"GRößE", "größe Ärger 漢字仮名"}, {"漢字仮", "größe Ärger 漢字仮名"},
			{`a'b`, "a'b\"c"}, {`b"c`, "a'b\"c"}, {`a'b" OR "x`, ""}, {"drop|e|_", "DROP TABLE audit_old;"}, {"NOT", ""}, {"***", ""},
		} {
			want := []string{}
			if c.want != "" {
				want = append(want, c.want)
			}
			if got := found(p.find(p.everything(strings.Split(c.words, "|")...))); !slices.Equal(got, want) {
				t.Errorf("%q finds %q, not %q", c.words, got, want)
			}
		}
	})
}

// TestFindTextFilters: each limit of a search leaves out what it must.
func TestFindTextFilters(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		p := newPast(t, db)
		one := p.session("alice root@db01", march)
		two := p.session("bob root@db02", march.Add(time.Hour))
		three := p.session("bob guest@db02", march.Add(2*time.Hour))
		p.save(one, lines(view.Output, "needle one", "needle first"))
		p.save(three, lines(view.Keys, "needle three"))
		p.save(two, lines(view.File, "upload needle two ok"))
		scope := func(s access.Session) int64 {
			scopes, err := db.TextScopes(t.Context())
			ok(t, err)
			for _, x := range scopes {
				if x.UserID == s.UserID && x.TargetName == s.TargetName && x.Account == s.Account {
					return x.ID
				}
			}
			t.Fatal("no scope")
			return 0
		}
		for _, c := range []struct {
			name     string
			set      func(f *store.TextFilter)
			want     []string
			sessions int64
		}{
			{"all", func(f *store.TextFilter) {}, []string{"needle three", "upload needle two ok", "needle first", "needle one"}, 3},
			{"a source", func(f *store.TextFilter) { f.In = []view.Source{view.Keys} }, []string{"needle three"}, 3},
			{"sources", func(f *store.TextFilter) { f.In = []view.Source{view.File, view.Output} }, []string{"upload needle two ok", "needle first", "needle one"}, 3},
			{"since", func(f *store.TextFilter) { f.Since = march.Add(time.Hour) }, []string{"needle three", "upload needle two ok"}, 2},
			{"until", func(f *store.TextFilter) { f.Until = march.Add(time.Hour) }, []string{"needle first", "needle one"}, 1},
			{"a request", func(f *store.TextFilter) { f.Of = two.RequestID }, []string{"upload needle two ok"}, 1},
			{"a grant", func(f *store.TextFilter) { f.Of = one.GrantID }, []string{"needle first", "needle one"}, 1},
			{"files", func(f *store.TextFilter) { f.Files = true }, []string{"upload needle two ok"}, 1},
			{"a scope", func(f *store.TextFilter) { f.Scopes, f.All = []int64{scope(three)}, false }, []string{"needle three"}, 1},
			{"no scope", func(f *store.TextFilter) { f.Scopes, f.All = nil, false }, []string{}, 0},
		} {
			f := p.everything("needle")
			c.set(&f)
			if got := p.find(f); !slices.Equal(found(got), c.want) || got.Sessions != c.sessions || got.Next != 0 {
				t.Errorf("%s: %q in %d sessions, next %d; not %q in %d", c.name, found(got), got.Sessions, got.Next, c.want, c.sessions)
			}
		}
		// Page by page, all of it and nothing twice.
		var all []string
		f := p.everything("needle")
		for f.Limit = 1; ; {
			page := p.find(f)
			all = append(all, found(page)...)
			if f.Before = page.Next; f.Before == 0 {
				break
			}
		}
		if want := found(p.find(p.everything("needle"))); !slices.Equal(all, want) {
			t.Errorf("page by page %q, not %q", all, want)
		}
		hit := p.find(p.everything("first")).Hits[0]
		if hit.Session.ID != one.ID || hit.Session.UserName != "alice" || hit.At != time.Second || hit.In != view.Output {
			t.Errorf("%+v", hit)
		}
	})
}

// many is a session of n lines; every one in each is "line I of n".
func many(n, each int) iter.Seq[view.Text] {
	return func(yield func(view.Text) bool) {
		for i := range n {
			text := fmt.Sprintf("line %d of %d", i, n)
			if i%each == 0 {
				text += " marked"
			}
			if !yield(view.Text{At: time.Duration(i) * time.Millisecond, In: view.Output, Text: text}) {
				return
			}
		}
	}
}

// TestFindTextInMany: so many texts that the index is asked, and the same is found.
func TestFindTextInMany(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		p := newPast(t, db)
		old := p.session("alice root@db01", march)
		p.save(old, lines(view.Output, "the rarest of lines"))
		for i := range 9 {
			p.save(p.session("bob root@db01", march.Add(time.Duration(i+1)*time.Hour)), many(2500, 700))
		}
		for _, c := range []struct {
			words []string
			want  int
		}{
			{[]string{"rarest"}, 1}, {[]string{"of lines"}, 1}, {[]string{"lines", "rarest"}, 1}, {[]string{"marked"}, 36}, {[]string{"line 77 of"}, 9}, {[]string{"nowhere"}, 0},
		} {
			f := p.everything(c.words...)
			indexed := p.find(f)
			f.All = false
			if read := p.find(f); len(indexed.Hits) != c.want || !slices.Equal(found(indexed), found(read)) || indexed.Next != 0 {
				t.Errorf("%q: %d by the index, %d read one by one, not %d", c.words, len(indexed.Hits), len(read.Hits), c.want)
			}
		}
		// Page by page through the index.
		f, n := p.everything("marked"), 0
		for f.Limit = 7; ; {
			page := p.find(f)
			n += len(page.Hits)
			if f.Before = page.Next; f.Before == 0 {
				break
			}
		}
		if n != 36 {
			t.Errorf("page by page there are %d", n)
		}
		// When the time is up it says how far it came, and goes on from there.
		f = p.everything("rarest")
		f.Within = time.Nanosecond
		if _, err := db.FindText(t.Context(), f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in no time: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		f.Within = time.Minute
		if _, err := db.FindText(ctx, f); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
		// Who may not see all is answered without the index, which knows of all: its
		// work would tell of what is hidden.
		if strings.HasPrefix(url, "sqlite:") {
			do(t, raw(t, url), "DROP TABLE texts_index")
			f = p.everything("rarest")
			f.Scopes, f.All = f.Scopes[:1], false
			if page := p.find(f); len(page.Hits) != 1 {
				t.Errorf("without the index %d", len(page.Hits))
			}
			f = p.everything("rarest")
			if _, err := db.FindText(t.Context(), f); err == nil {
				t.Error("who may see all is not answered with the index: was it right to conclude anything?")
			}
		}
	})
}

// TestSaveText: saving replaces, keeps no more than it may, and refuses what is no
// text of a view; several sessions of one moment have their own.
func TestSaveText(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		p := newPast(t, db)
		var same []access.Session
		for i := range 3 {
			s := p.session("alice root@db01", march)
			p.save(s, lines(view.Output, fmt.Sprintf("needle %d", i)))
			same = append(same, s)
		}
		p.save(same[1], lines(view.Output, "another needle", "and one more needle"))
		got := found(p.find(p.everything("needle")))
		slices.Sort(got)
		if want := []string{"and one more needle", "another needle", "needle 0", "needle 2"}; !slices.Equal(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
		for name, bad := range map[string]view.Text{
			"a control character": {In: view.Output, Text: "a\x1b[31m"}, "nothing": {In: view.Output}, "a source": {In: "else", Text: "x"},
			"too long": {In: view.Output, Text: strings.Repeat("x", view.MaxText+1)}, "no UTF-8": {In: view.Output, Text: "\xff"}, "a time": {At: -1, In: view.Output, Text: "x"},
		} {
			if err := db.SaveText(t.Context(), same[0].ID, slices.Values([]view.Text{bad})); err == nil {
				t.Errorf("%s was saved", name)
			}
		}
		want(t, db.SaveText(t.Context(), "SES-0000000000000000", lines(view.Output, "x")), access.ErrNotFound)
		// Of one that is broken off, what was saved is found until it is saved again.
		if err := db.SaveText(t.Context(), same[0].ID, func(yield func(view.Text) bool) {
			many(600, 100)(yield)
			yield(view.Text{In: "else", Text: "x"})
		}); err == nil {
			t.Error("it was not broken off")
		}
		if page := p.find(p.everything("marked")); page.Partial != 1 || page.Sessions != 3 || len(page.Hits) != 5 {
			t.Errorf("of one that was broken off: %d hits, %d of %d partial", len(page.Hits), page.Partial, page.Sessions)
		}
		ok(t, db.Close())
		db, err := store.Open(t.Context(), store.Config{URL: url, Texts: 1200})
		ok(t, err)
		defer db.Close()
		p.db = db
		p.save(same[0], many(1200, 100))
		if page := p.find(p.everything("marked")); page.Partial != 0 || len(page.Hits) != 12 {
			t.Errorf("of one that has as many as may be: %d hits, %d partial", len(page.Hits), page.Partial)
		}
		p.save(same[0], many(5000, 100))
		if page := p.find(p.everything("marked")); page.Partial != 1 || len(page.Hits) != 12 {
			t.Errorf("of one that is too long: %d hits, %d partial", len(page.Hits), page.Partial)
		}
	})
}

// TestDeletedTextIsGone: what is removed is not found any more, and its bytes are
// gone from the files, though others' texts are there still.
func TestDeletedTextIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		p := newPast(t, db)
		secret, other := p.session("alice root@db01", march), p.session("bob root@db01", march.Add(time.Hour))
		p.save(secret, func(yield func(view.Text) bool) {
			for t := range many(700, 10) {
				t.Text += " xyzzyqux"
				if !yield(t) {
					return
				}
			}
		})
		p.save(other, many(300, 10))
		if n := len(p.find(p.everything("xyzzyqux")).Hits); n != 50 {
			t.Fatalf("%d hits", n)
		}
		// In a change that is refused it stays.
		err := db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			ok(t, tx.DeleteText(t.Context(), secret.ID))
			return event("test.change", "x"), access.Invalid("no")
		})
		want(t, err, access.ErrInvalid)
		if n := len(p.find(p.everything("xyzzyqux")).Hits); n != 50 {
			t.Fatalf("%d hits", n)
		}
		change(t, db, func(tx *store.Tx) error { return tx.DeleteText(t.Context(), secret.ID) })
		ok(t, db.DeleteText(t.Context(), secret.ID)) // nothing is left
		if page := p.find(p.everything("xyzzyqux")); len(page.Hits) != 0 || page.Sessions != 1 {
			t.Errorf("%d hits in %d sessions", len(page.Hits), page.Sessions)
		}
		if n := len(p.find(p.everything("marked")).Hits); n != 30 {
			t.Errorf("%d of the others", n)
		}
		if path, lite := strings.CutPrefix(url, "sqlite://"); lite {
			do(t, raw(t, url), "PRAGMA wal_checkpoint(TRUNCATE)")
			b, err := os.ReadFile(path)
			ok(t, err)
			for _, part := range []string{"xyzzyqux", "yzzyq", "zzy", "yqu"} { // the text, and the index of it
				if bytes.Contains(b, []byte(part)) {
					t.Errorf("%q is still in the file", part)
				}
			}
			if !bytes.Contains(b, []byte("marked")) {
				t.Error("the others are not in the file: was it the right one?")
			}
		}
		p.save(secret, lines(view.Output, "needle"))
		ok(t, db.DropText(t.Context()))
		ok(t, db.DropText(t.Context()))
		if scopes, err := db.TextScopes(t.Context()); err != nil || len(scopes) != 0 {
			t.Errorf("%v, %v", scopes, err)
		}
		ok(t, db.PrepareText(t.Context()))
		p.save(secret, lines(view.Output, "needle"))
		if n := len(p.find(p.everything("needle")).Hits); n != 1 {
			t.Errorf("switched on again, it finds %d", n)
		}
	})
}

// TestPrepareTextRefused: a database in which the extension may not be made says what
// the operator has to do, and when that is done the search works.
func TestPrepareTextRefused(t *testing.T) {
	owner := servers.Postgres(t)
	admin := raw(t, owner)
	do(t, admin, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
	do(t, admin, "GRANT ALL ON SCHEMA public TO plain")
	t.Cleanup(func() { do(t, admin, "DROP OWNED BY plain"); do(t, admin, "DROP ROLE plain") })
	u, err := url.Parse(owner)
	ok(t, err)
	u.User = url.UserPassword("plain", "plain")
	db, err := store.Open(t.Context(), store.Config{URL: u.String()})
	ok(t, err)
	defer db.Close()
	err = db.PrepareText(t.Context())
	for _, want := range []string{"CREATE EXTENSION pg_trgm", "recordings.search: false", "permission denied"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	ok(t, db.DropText(t.Context())) // a server that keeps no texts needs none
	do(t, admin, "CREATE EXTENSION pg_trgm")
	p := newPast(t, db)
	p.save(p.session("alice root@db01", march), lines(view.Output, "needle"))
	if n := len(p.find(p.everything("needle")).Hits); n != 1 {
		t.Errorf("%d hits", n)
	}
}
