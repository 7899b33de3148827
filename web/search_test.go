package web

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/web/api"
)

// shown records a session of alice in which these lines were shown, one each
// minute, and has them kept for searching.
func (h *house) shown(command string, lines ...string) access.Session {
	h.t.Helper()
	x := h.record(command, strings.Join(lines, "\r\n"))
	if err := h.db.SaveText(h.t.Context(), x.ID, func(yield func(view.Text) bool) {
		for i, line := range lines {
			if !yield(view.Text{At: time.Duration(i) * 61 * time.Second, In: view.Output, Text: line}) {
				return
			}
		}
	}); err != nil {
		h.t.Fatal(err)
	}
	return x
}

func TestSearchAPI(t *testing.T) {
	h := newHouse(t)
	x := h.shown("psql", "psql (17.2)", "DROP TABLE audit_old;")
	got := callJSON[api.SearchPage](h, "carol", "GET", "/v1/search?q=drop+table&in=output,keys&target=db*&user=alice&account=guest&since=2026-01-01T00:00:00Z", nil, 200)
	want := api.SearchHit{Session: x.ID, Time: x.OpenedAt.Add(61 * time.Second), AtSeconds: 61, User: "alice", Account: "guest", Target: "db01", In: "output",
		Text: "DROP TABLE audit_old;", URL: "/sessions/" + x.ID + "/play?t=61&q=drop+table"}
	if !slices.Equal(got.Items, []api.SearchHit{want}) || got.Sessions != 1 || got.Next != "" || got.Reached != nil {
		t.Errorf("%+v", got)
	}
	one := callJSON[api.SearchPage](h, "carol", "GET", "/v1/search?q=psql+OR+table&limit=1", nil, 200)
	if len(one.Items) != 0 || one.Next != "" {
		t.Errorf("OR is a word like others: %+v", one)
	}
	h.shown("psql", "drop table b", "drop table c")
	first := callJSON[api.SearchPage](h, "carol", "GET", "/v1/search?q=drop&limit=2", nil, 200)
	rest := callJSON[api.SearchPage](h, "carol", "GET", "/v1/search?q=drop&limit=2&before="+first.Next, nil, 200)
	if len(first.Items) != 2 || len(rest.Items) != 1 || rest.Items[0] != (api.SearchHit{Session: x.ID, Time: want.Time, AtSeconds: 61, User: "alice", Account: "guest", Target: "db01", In: "output", Text: want.Text, URL: "/sessions/" + x.ID + "/play?t=61&q=drop"}) {
		t.Errorf("%+v\n%+v", first, rest)
	}
	for _, who := range []string{"alice", "bob", "eve"} {
		if none := callJSON[api.SearchPage](h, who, "GET", "/v1/search?q=drop", nil, 200); len(none.Items) != 0 || none.Sessions != 0 {
			t.Errorf("%s finds %+v", who, none)
		}
	}
	for query, code := range map[string]string{
		"": "DB-1001", "?q=": "DB-1001", "?q=rm": "DB-6060", "?q=abc&in=secrets": "DB-1001", "?q=abc&limit=201": "DB-1001", "?q=abc&since=yesterday": "DB-1001",
		"?q=abc&before=-1": "DB-1001", "?q=abc&else=1": "DB-1001", "?q=" + strings.Repeat("x", 257): "DB-1001", "?q=abc%1b": "DB-1001",
	} {
		if p := callJSON[api.Problem](h, "carol", "GET", "/v1/search"+query, nil, 422); p.Code != code {
			t.Errorf("%q: %+v", query, p)
		}
	}
}

// TestSearchPage: the page finds what the API finds, marks it, leads to the second,
// and shows what somebody else wrote as text.
func TestSearchPage(t *testing.T) {
	h := newHouse(t)
	x := h.shown("psql", `<script>alert(1)</script> "DROP TABLE" <b>audit_old</b>`, strings.Repeat("filler ", 500)+"needle at the end")
	page := func(who, query string, status int) string {
		resp := h.do(httpCall{method: "GET", path: "/search" + query, cookie: h.token(who)})
		if resp.StatusCode != status {
			t.Errorf("%s as %s: %d, not %d", query, who, resp.StatusCode, status)
		}
		return text(resp)
	}
	got := page("carol", "?"+url.Values{"q": {"drop audit_old"}, "user": {"alice"}, "target": {"db*"}, "account": {"guest"}, "in": {"output", "keys"}, "since": {"2026-01-01"}, "until": {""}}.Encode(), 200)
	for _, want := range []string{
		`href="/sessions/` + x.ID + `/play?t=0&amp;q=drop+audit_old"`, "<mark>DROP</mark>", "<mark>audit_old</mark>", "&lt;script&gt;alert(1)", "1 hit in 1 session (",
		`value="drop audit_old"`, `value="db*"`, `value="2026-01-01"`, `value="keys" checked`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "<script>alert") || strings.Contains(got, `value="file" checked`) {
		t.Errorf("it acts, or is wrong:\n%s", got)
	}
	if got := page("carol", "?q=needle", 200); !strings.Contains(got, "…") || !strings.Contains(got, "<mark>needle</mark> at the end") || strings.Count(got, "filler") > 20 {
		t.Errorf("of a long line:\n%s", got)
	}
	for _, c := range []struct {
		who, query string
		status     int
		want       string
	}{
		{"bob", "?q=drop", 200, "0 hits in 0 sessions"}, {"carol", "?q=nowhere", 200, "0 hits in 1 session"}, {"carol", "", 200, "Search recordings"},
		{"carol", "?q=rm", 422, "at least 3 characters"}, {"carol", "?q=abc&since=tomorrow", 422, "2026-03-01"}, {"carol", "?q=abc&user=" + strings.Repeat("x", 65), 422, "at most 64"},
		{"carol", "?q=drop&until=2020-01-01", 200, "0 hits in 0 sessions"}, {"carol", "?q=drop&files=yes", 200, "0 hits in 0 sessions"},
	} {
		if got := page(c.who, c.query, c.status); !strings.Contains(got, c.want) {
			t.Errorf("%s as %s: there is no %q in\n%s", c.query, c.who, c.want, got)
		}
	}
}

// TestSearchOnAPhone searches from the page of sessions: with the key /, without
// scripts, in both themes.
func TestSearchOnAPhone(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	x := h.shown("psql", "postgres=# DROP TABLE "+strings.Repeat("a_very_long_name_", 20)+";", "DROP TABLE")
	for _, c := range []struct {
		name, scheme string
		scripts      bool
	}{{"light", "light", true}, {"dark", "dark", true}, {"without scripts", "light", false}} {
		t.Run(c.name, func(t *testing.T) {
			ctx := browser(t, c.scheme, c.scripts)
			signIn(t, ctx, srv.URL, "carol", "/sessions")
			if c.scripts {
				// As a keyboard sends it: what is prevented makes no character.
				if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeRawKeyDown, Key: "/"}); err != nil {
					t.Fatal(err)
				}
				do(t, ctx, chromedp.KeyEvent("drop table/"))
				if typed := get(t, ctx, chromedp.Value(css(`[data-search]`))); typed != "drop table/" {
					t.Errorf("typed is %q", typed)
				}
				do(t, ctx, chromedp.KeyEvent("\b"), chromedp.KeyEvent("\r"))
			} else {
				do(t, ctx, chromedp.SendKeys(css(`[data-search]`), "drop table"), chromedp.Click(css(`search button`)))
			}
			do(t, ctx, chromedp.WaitVisible(css(`mark`)))
			file := "search-" + strings.ReplaceAll(c.name, " ", "-")
			picture(t, ctx, file)
			if c.scripts {
				accessible(t, ctx, file)
			}
			do(t, ctx, chromedp.Click(css(`search summary`)), chromedp.WaitVisible(css(`input[name=since]`)))
			picture(t, ctx, file+"-narrow")
			if w := width(t, ctx); w > 360 {
				t.Errorf("it is %v wide", w)
			}
			do(t, ctx, chromedp.Click(css(`ol li a`)), chromedp.WaitNotPresent(css(`mark`)), chromedp.WaitVisible(css(`h1`)))
			if at := get(t, ctx, chromedp.Location()); !strings.HasSuffix(at, "/sessions/"+x.ID+"/play?t=61&q=drop+table") {
				t.Errorf("the hit leads to %s", at)
			}
		})
	}
}
