package broker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
)

// A SearchFilter says what is looked for in recordings, and in which. Zero
// fields do not limit, except Query.
type SearchFilter struct {
	// Query is what must stand in one line of what was shown, typed or run:
	// words, all of them, in any order; "several in quotes" as they are. Upper
	// and lower case of a to z are the same.
	Query        string
	In           []view.Source
	User         string // name of whose session it was
	Target       string // a name, or a pattern in which * stands for anything
	Account      string
	Since, Until time.Time // when the session was opened
	Of           string    // id of the request or the grant
	Files        bool      // only sessions in which a file was carried
	Before       int64     // SearchPage.Next of the page before
	Limit        int       // default 50, at most 200
}

// A SearchPage is what a search has found, and a SearchHit one line of it.
type (
	SearchPage = store.TextPage
	SearchHit  = store.TextHit
)

// Limits of a search.
const (
	maxQuery = 256 // bytes
	maxWords = 8
	// Accounts on targets, for each of which the policy is asked: of those that are
	// looked for, and of all others.
	maxPlaces, maxOtherPlaces = 10_000, 1000
	// searchFor is how long one page may be looked for: so much is read of other
	// people's database at a time.
	searchFor = 2 * time.Second
	// searchesAtOnce is how many are looked for at once on one server, each
	// waiting at most so long for its turn.
	searchesAtOnce = 2
)

// Search finds what was shown, typed and run in sessions. Only who may replay
// the recording of a session finds anything in it; to anybody else that session
// does not exist, is not counted, and costs no time. Each search is an event,
// which names the sessions of which a line was shown.
func (b *Broker) Search(ctx context.Context, by access.Caller, f SearchFilter) (SearchPage, error) {
	e := event(by, "session.search", "")
	describe(&e, f)
	if _, err := b.allow(ctx, question{action: policy.ActionSessionList, by: by, owner: by.User.ID}, e); err != nil {
		return SearchPage{}, err
	}
	page, err := b.search(ctx, by, f)
	if err != nil {
		return SearchPage{}, b.refused(ctx, e, err)
	}
	detail(&e, "hits", strconv.Itoa(len(page.Hits)))
	detail(&e, "sessions", strconv.FormatInt(page.Sessions, 10))
	if !page.Reached.IsZero() {
		detail(&e, "reached", page.Reached.Format(time.RFC3339))
	}
	for i, ids := range shown(page.Hits) {
		detail(&e, "shown_"+strconv.Itoa(i+1), ids)
	}
	if err := b.c.Store.Record(ctx, e); err != nil {
		return SearchPage{}, err
	}
	return page, nil
}

// describe puts what is looked for into the event.
func describe(e *audit.Event, f SearchFilter) {
	var in []string
	for _, s := range f.In {
		in = append(in, string(s))
	}
	detail(e, "query", f.Query)
	detail(e, "in", strings.Join(in, ","))
	detail(e, "user", f.User)
	detail(e, "target", f.Target)
	detail(e, "account", f.Account)
	detail(e, "of", f.Of)
	if !f.Since.IsZero() {
		detail(e, "since", f.Since.UTC().Format(time.RFC3339))
	}
	if !f.Until.IsZero() {
		detail(e, "until", f.Until.UTC().Format(time.RFC3339))
	}
	if f.Files {
		detail(e, "files", "true")
	}
	if f.Before != 0 {
		detail(e, "before", strconv.FormatInt(f.Before, 10))
	}
}

// shown lists the sessions of the hits, as many in one text as an event holds.
func shown(hits []store.TextHit) []string {
	const most = audit.MaxDetailValue / 21 // the length of an id, and a blank
	var lists []string
	seen := map[string]bool{}
	for _, h := range hits {
		id := h.Session.ID
		switch {
		case seen[id]:
			continue
		case len(seen)%most == 0:
			lists = append(lists, id)
		default:
			lists[len(lists)-1] += " " + id
		}
		seen[id] = true
	}
	return lists
}

func (b *Broker) search(ctx context.Context, by access.Caller, f SearchFilter) (SearchPage, error) {
	if !b.c.Search {
		return SearchPage{}, &access.Error{Kind: access.ErrConflict, Code: "DB-6062", Text: "this server keeps no text of recordings that could be searched (recordings.search)", Next: "drawbolt sessions"}
	}
	words, err := parseQuery(f.Query)
	if err != nil {
		return SearchPage{}, err
	}
	for _, s := range f.In {
		if !s.Valid() {
			return SearchPage{}, access.Invalid("there is no %s to search in: output, keys, command, file or mark", strconv.QuoteToASCII(string(s)))
		}
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	wait, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	select {
	case b.searches <- struct{}{}:
		defer func() { <-b.searches }()
	case <-wait.Done():
		if err := ctx.Err(); err != nil {
			return SearchPage{}, err
		}
		return SearchPage{}, &access.Error{Kind: access.ErrUnavailable, Code: "DB-6063", Text: "others are searching at this moment; try again in a few seconds"}
	}
	scopes, all, err := b.searchable(ctx, by, f)
	if err != nil {
		return SearchPage{}, err
	}
	page, err := b.c.Store.FindText(ctx, store.TextFilter{
		Words: words, In: f.In, Scopes: scopes, All: all, Since: f.Since, Until: f.Until, Of: f.Of, Files: f.Files,
		Before: f.Before, Limit: min(f.Limit, 200), Within: searchFor,
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = tooMuch("the search takes too long")
	}
	return page, err
}

func tooMuch(text string) error {
	// Not ErrUnavailable, on which clients try the same again.
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6061", Text: text + ": narrow it", Next: "drawbolt search WORDS --target 'db*' --user NAME --since 7d"}
}

// parseQuery takes a query apart.
func parseQuery(query string) ([]string, error) {
	if err := access.CheckText("what is searched for", query, maxQuery); err != nil {
		return nil, err
	}
	var words []string
	long := false
	for i, part := range strings.Split(query, `"`) {
		list := strings.Fields(part)
		if i%2 == 1 && strings.TrimSpace(part) != "" { // in quotes
			list = []string{part}
		}
		for _, w := range list {
			words, long = append(words, w), long || store.Searchable(w)
		}
	}
	switch {
	case !long:
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6060", Text: "one of the words that are searched for must have at least 3 characters", Next: `drawbolt search '"rm -rf"'`}
	case len(words) > maxWords:
		return nil, access.Invalid("at most %d words are searched for at once", maxWords)
	}
	return words, nil
}

// searchable returns the scopes whose sessions the caller may replay and the
// filter lets in, and whether the caller may replay all there are. What the policy
// is told of a session is its scope, and of its owner it takes only whether that
// is the caller (TestOwnersOfOthers): so one question answers for all of an account.
func (b *Broker) searchable(ctx context.Context, by access.Caller, f SearchFilter) (ids []int64, all bool, err error) {
	scopes, err := b.c.Store.TextScopes(ctx)
	if err != nil {
		return nil, false, err
	}
	list, err := b.c.Store.Targets(ctx)
	if err != nil {
		return nil, false, err
	}
	targets := map[string]*access.Target{}
	for i := range list {
		targets[list[i].ID] = &list[i]
	}
	user := ""
	if f.User != "" {
		u, err := b.c.Store.User(ctx, f.User)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return nil, false, err
		}
		user = u.ID // nobody's, when there is none of that name
	}
	lets := func(s store.TextScope) bool {
		return (f.User == "" || s.UserID == user) && (f.Account == "" || s.Account == f.Account) && (f.Target == "" || matchTarget(f.Target, s.TargetName))
	}
	type place struct {
		target, name, account string
		own                   bool
	}
	asked := map[place]error{}
	ask := func(s store.TextScope) error {
		at := place{s.TargetID, s.TargetName, s.Account, s.UserID == by.User.ID}
		answer, known := asked[at]
		if !known {
			if len(asked) == maxPlaces {
				return tooMuch(fmt.Sprintf("sessions were at more than %d accounts of targets", maxPlaces))
			}
			t := targets[s.TargetID]
			if t == nil {
				t = &access.Target{ID: s.TargetID, Name: s.TargetName, Locked: true} // see targetOrRemoved
			}
			answer = b.mayFind(ctx, by, t, s)
			asked[at] = answer
		}
		return answer
	}
	var stale error // what only a fresh second factor is missing for
	all = true
	for _, s := range scopes {
		if !lets(s) {
			continue
		}
		err := ask(s)
		ae, _ := errors.AsType[*access.Error](err)
		switch {
		case err == nil:
			ids = append(ids, s.ID)
			continue
		case !errors.Is(err, access.ErrDenied):
			return nil, false, err
		case ae != nil && strings.HasPrefix(ae.Rule, "mfa."):
			stale = err
		}
		all = false
	}
	// Whether anything is to be hidden is known when all others have been asked about.
	lookedFor := len(asked)
	for _, s := range scopes {
		if all = all && len(asked) < lookedFor+maxOtherPlaces; !all {
			break
		}
		switch err := ask(s); {
		case errors.Is(err, access.ErrDenied):
			all = false
		case err != nil:
			return nil, false, err
		}
	}
	if len(ids) == 0 && stale != nil {
		return nil, false, stale
	}
	return ids, all, nil
}

// mayFind asks what Replay asks.
func (b *Broker) mayFind(ctx context.Context, by access.Caller, t *access.Target, s store.TextScope) error {
	for _, action := range []policy.Action{policy.ActionSessionReplay, policy.ActionSessionList} {
		if _, err := b.decideNow(ctx, question{action: action, by: by, target: t, account: s.Account, owner: s.UserID}); err != nil {
			return err
		}
	}
	return nil
}

// matchTarget matches a pattern in which * stands for anything. Names of targets
// have no slash.
func matchTarget(pattern, name string) bool {
	ok, err := path.Match(strings.NewReplacer(`\`, `\\`, `?`, `\?`, `[`, `\[`).Replace(pattern), name)
	return ok && err == nil
}
