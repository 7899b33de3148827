package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/a-h/templ"
	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// The pages call the same verbs as the API and show its wire types, so that a
// page can say nothing that a client would not be told.

func (s *Server) page(by access.Caller, title, path string) ui.Page {
	return ui.Page{Title: title, User: by.User.Name, Path: path, Static: s.assets.path(), Now: s.now(), Entries: s.entries(by)}
}

// entries are those of the navigation that lead somewhere for the caller. When the
// policy cannot be asked, only what is everybody's is shown.
func (s *Server) entries(by access.Caller) []ui.Entry {
	if by.User.ID == "" {
		return nil
	}
	list := ui.Entries()
	var needs []policy.Action
	for _, e := range list {
		if e.Needs != "" {
			needs = append(needs, policy.Action(e.Needs))
		}
	}
	// Answered out of memory, but for one number that is read.
	may, err := s.c.Broker.May(context.Background(), by, needs...)
	return slices.DeleteFunc(list, func(e ui.Entry) bool { return e.Needs != "" && (err != nil || !may[policy.Action(e.Needs)]) })
}

// show writes a page. It is rendered whole first: half a page is none. It may be
// compressed: no page holds a secret beside what its address or its form said,
// whose bytes the length of the answer could give away one by one (BREACH).
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		s.writeProblem(w, s.problem(r, fmt.Errorf("render the page: %w", err)))
		return
	}
	body := printable(b.Bytes())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "Accept-Encoding")
	if takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = pack(body, gzip.DefaultCompression)
	}
	w.WriteHeader(status)
	w.Write(body)
}

// printable is a page without control characters, which somebody may have typed: a
// terminal that is shown it would obey them.
func printable(page []byte) []byte {
	acts := func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\r' && c != '\t' }
	if !bytes.ContainsFunc(page, acts) {
		return page
	}
	return bytes.Map(func(c rune) rune {
		if acts(c) {
			return utf8.RuneError
		}
		return c
	}, page)
}

// problemPage stands in the place of a page that cannot be shown.
func (s *Server) problemPage(w http.ResponseWriter, r *http.Request, by access.Caller, p *problem) {
	out := s.page(by, p.Title, "")
	out.Error, out.Again = &p.Problem, again(r, p)
	s.show(w, r, p.Status, ui.Problem(out))
}

// with puts what went wrong with a form onto the page that shows the form
// again, and returns the status of the answer.
func (s *Server) with(p *ui.Page, r *http.Request, err error) int {
	if err == nil {
		return http.StatusOK
	}
	said := s.problem(r, err)
	p.Error = &said.Problem
	p.Again = again(r, said)
	return said.Status
}

// again is where to show a fresh second factor, when the policy wants one: a
// fresh login has it.
func again(r *http.Request, p *problem) string {
	if !strings.HasPrefix(p.Rule, "mfa.") {
		return ""
	}
	return "/login?next=" + url.QueryEscape(r.URL.Path)
}

// unchanged answers 304 to a script that looks at a page again of which it knows
// what is shown (RFC 9110, section 13.1.2): what somebody is typing stays.
func unchanged(w http.ResponseWriter, r *http.Request, key string) bool {
	w.Header().Set("ETag", `"`+key+`"`)
	if r.Header.Get("If-None-Match") != `"`+key+`"` {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// keyOf changes when what is shown of the requests does, with the program that
// shows them, and with what the person may see of it.
func (s *Server) keyOf(by access.Caller, lists ...[]ui.Request) string {
	sum := sha256.New()
	fmt.Fprintln(sum, s.assets.version, s.c.Version, by.User.Version)
	for _, list := range lists {
		for _, r := range list {
			grant := ""
			if r.Grant != nil {
				grant = r.Grant.State
			}
			fmt.Fprintln(sum, r.ID, r.Version, r.State, grant, r.MayDecide, r.NeedsFactor, r.Waiting, len(r.Story.Steps))
			for _, x := range r.Story.Sessions {
				fmt.Fprintln(sum, x.ID, x.State)
			}
		}
		fmt.Fprintln(sum)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// keyOfSessions is keyOf for sessions.
func (s *Server) keyOfSessions(by access.Caller, list ...api.Session) string {
	sum := sha256.New()
	fmt.Fprintln(sum, s.assets.version, s.c.Version, by.User.Version)
	for _, x := range list {
		fmt.Fprintln(sum, x.ID, x.State, x.Risks, x.Recording != nil, x.Deleted != nil, len(x.Holds), x.KeptUntil, x.Alarms)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func (s *Server) viewRequest(by access.Caller, c broker.Case) ui.Request {
	r := &c.Request
	v := ui.Request{
		Request: s.viewCase(c), Mine: r.RequesterID == by.User.ID, Bots: r.OwnerID == by.User.ID, Viewer: by.User.Name, Source: r.Source,
		Command: s.sshCommand(r.Account, r.TargetName), Plain: "ssh " + r.Account + "@" + r.TargetName,
	}
	if !v.Mine && !v.Bots { // an approver vouches for it; who asks need not know how it is reached
		v.Reached = ui.Reached{Address: r.TargetAddress, Via: r.TargetVia, HostKeys: fingerprints(r.TargetKeys)}
	}
	return v
}

// fingerprints are those of keys in the form of authorized_keys.
func fingerprints(keys []string) []string {
	return each(keys, func(k string) string {
		if der, err := base64.StdEncoding.DecodeString(k); err == nil {
			sum := sha256.Sum256(der)
			return "certificate SHA-256 " + hex.EncodeToString(sum[:])
		}
		key, err := parseKey(k)
		if err != nil {
			return "a key that cannot be read"
		}
		return key.Type() + " " + ssh.FingerprintSHA256(key)
	})
}

// sshCommand is what a stock ssh client takes without any configuration.
func (s *Server) sshCommand(account, target string) string {
	if s.sshPort == 22 {
		return "ssh " + account + "+" + target + "@" + s.sshHost
	}
	return "ssh -p " + strconv.Itoa(s.sshPort) + " " + account + "+" + target + "@" + s.sshHost
}

func (s *Server) viewRequests(by access.Caller, list []broker.Case) []ui.Request {
	return each(list, func(c broker.Case) ui.Request { return s.viewRequest(by, c) })
}

// Signing in.

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.show(w, r, http.StatusOK, ui.Login(s.page(by, "Sign in", ""), s.c.Local.HasPasskeys(), "", localPath(r.URL.Query().Get("next"))))
}

func (s *Server) loginForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	name, next := r.PostFormValue("user"), localPath(r.PostFormValue("next"))
	user, mfaAt, err := s.signIn(r, by, name)
	var token string
	var expires time.Time
	if err == nil {
		token, expires, err = s.issue(r.Context(), user, by, mfaAt)
	}
	if err != nil {
		p := s.page(access.Caller{}, "Sign in", "")
		status := s.with(&p, r, err)
		s.show(w, r, status, ui.Login(p, s.c.Local.HasPasskeys(), name, next))
		return
	}
	// A fresh login each time; the one that this browser had ends.
	if was, err := s.caller(r, by.Source); err == nil {
		if err := s.c.Logins.Revoke(r.Context(), was, was.Login); err != nil {
			s.fail(w, r, access.Caller{}, err)
			return
		}
	}
	setCookie(w, token, expires)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Server) issue(ctx context.Context, user access.User, by access.Caller, mfaAt time.Time) (string, time.Time, error) {
	token, l, err := s.c.Logins.Issue(ctx, user, by.Source, "web", mfaAt)
	return token, l.ExpiresAt, err
}

func (s *Server) logoutForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	if err := s.c.Logins.Revoke(r.Context(), by, by.Login); err != nil {
		s.fail(w, r, by, err)
		return
	}
	endCookie(w)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) setupPage(w http.ResponseWriter, r *http.Request, _ access.Caller) {
	token := r.URL.Query().Get("token")
	user, err := s.c.Local.SetupUser(r.Context(), token)
	if err != nil {
		s.fail(w, r, access.Caller{}, err)
		return
	}
	s.show(w, r, http.StatusOK, ui.Setup(s.page(access.Caller{}, "Choose a password", ""), user.Name, token))
}

func (s *Server) setupForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	token, password := r.PostFormValue("token"), r.PostFormValue("password")
	user, err := s.c.Local.SetupUser(r.Context(), token)
	if err != nil {
		s.fail(w, r, access.Caller{}, err)
		return
	}
	if password != r.PostFormValue("again") {
		err = access.Invalid("the two passwords are not the same")
	} else {
		_, err = s.c.Local.Setup(r.Context(), token, []byte(password), by.Source, "web")
	}
	if errors.Is(err, access.ErrInvalid) {
		p := s.page(access.Caller{}, "Choose a password", "")
		s.show(w, r, s.with(&p, r, err), ui.Setup(p, user.Name, token))
		return
	}
	if err != nil {
		s.fail(w, r, access.Caller{}, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) devicePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	p := s.page(by, "Log in on the command line", "")
	code := r.URL.Query().Get("code")
	if code == "" {
		s.show(w, r, http.StatusOK, ui.DevicePage(p, ui.Device{}))
		return
	}
	d, err := s.c.Logins.Device(r.Context(), code)
	status := s.with(&p, r, err)
	s.show(w, r, status, ui.DevicePage(p, ui.Device{Code: d.Code, Client: d.Client, Source: d.Source, ExpiresAt: d.ExpiresAt}))
}

func (s *Server) deviceForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	p := s.page(by, "Log in on the command line", "")
	code, done := r.PostFormValue("code"), ""
	var err error
	switch r.PostFormValue("action") {
	case "confirm":
		err, done = s.c.Logins.ConfirmDevice(r.Context(), by, code), "Confirmed. You can go back to your terminal and close this page."
	case "deny":
		err, done = s.c.Logins.DenyDevice(r.Context(), by, code), "Refused. Nobody was let in."
	default:
		err = access.Invalid("say whether you confirm or refuse")
	}
	if err != nil {
		done = ""
	}
	s.show(w, r, s.with(&p, r, err), ui.DevicePage(p, ui.Device{Done: done}))
}

// Requests.

func (s *Server) homePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	var lists [3][]ui.Request
	for i, f := range []broker.Filter{
		{Mine: true, Active: true, Limit: 50}, {Mine: true, Limit: 50}, {Inbox: true, Limit: ui.InboxCount},
	} {
		list, err := s.c.Broker.Requests(r.Context(), by, f)
		if err != nil {
			s.fail(w, r, by, err)
			return
		}
		lists[i] = s.viewRequests(by, list)
	}
	h := ui.Home{Open: lists[0], Inbox: len(lists[2])}
	seen := map[string]bool{}
	for _, x := range lists[1] {
		switch {
		case x.State == api.Pending:
			h.Pending = append(h.Pending, x)
		case !x.Open() && len(h.Recent) < 10:
			h.Recent = append(h.Recent, x)
		}
		if at := x.Account + "@" + x.Target; x.Grant != nil && x.Mine && !x.Open() && !seen[at] && len(seen) < 6 {
			seen[at] = true
			h.Again = append(h.Again, x)
		}
	}
	h.Key = s.keyOf(by, h.Open, h.Pending, h.Recent, lists[2])
	if unchanged(w, r, h.Key) {
		return
	}
	s.show(w, r, http.StatusOK, ui.HomePage(s.page(by, "My access", "/"), h))
}

func (s *Server) requestPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	view, err := s.viewStory(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	if unchanged(w, r, view.Key) {
		return
	}
	s.showRequest(w, r, by, view, nil)
}

// viewStory is a request with what has happened to it.
func (s *Server) viewStory(ctx context.Context, by access.Caller, id string) (ui.Request, error) {
	story, err := s.c.Broker.Story(ctx, by, id)
	if err != nil {
		return ui.Request{}, err
	}
	view := s.viewRequest(by, story.Case)
	view.Story = ui.Story{Steps: each(story.Steps, step), Sessions: each(story.Sessions, apiSession), More: story.More}
	view.Terms = story.Terms
	view.Key = s.keyOf(by, []ui.Request{view})
	if view.MayDecide || view.NeedsFactor {
		view.Passkey, err = s.hasPasskey(ctx, by)
	}
	return view, err
}

func (s *Server) showRequest(w http.ResponseWriter, r *http.Request, by access.Caller, view ui.Request, err error) {
	p := s.page(by, view.Account+" on "+view.Target, "/requests")
	status := s.with(&p, r, err)
	s.show(w, r, status, ui.RequestPage(p, view))
}

// requestForm is every decision that a page can send about a request. What is
// done is seen on the page that the browser is sent to; what is refused is told
// above the request as it is now, with what was typed.
func (s *Server) requestForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	ctx, id, b := r.Context(), r.PathValue("id"), s.c.Broker
	note, digest := r.PostFormValue("note"), r.PostFormValue("digest")
	secondsGiven, err := strconv.ParseInt(r.PostFormValue("seconds"), 10, 64)
	if err != nil {
		secondsGiven = 0
	}
	err = nil
	switch r.PostFormValue("action") {
	case "approve":
		if secondsGiven <= 0 {
			err = access.Invalid("choose for how long")
			break
		}
		if by, err = s.proveVote(r, by, digest); err != nil {
			break
		}
		_, err = b.Approve(ctx, by, id, digest, broker.Answer{Duration: duration(secondsGiven), Narrowing: narrowing(r), Comment: note})
	case "deny":
		if by, err = s.proveVote(r, by, digest); err != nil {
			break
		}
		_, err = b.Deny(ctx, by, id, digest, note)
	case "ask":
		_, err = b.Ask(ctx, by, id, note)
	case "answer":
		n, _ := strconv.Atoi(r.PostFormValue("question")) // anything else is the only one
		_, err = b.Answer(ctx, by, id, n, note)
	case "handover":
		_, err = b.HandOver(ctx, by, id, r.PostFormValue("to"), note)
	case "edit":
		err = edit(r, b, by, id, secondsGiven)
	case "cancel":
		_, err = b.Cancel(ctx, by, id)
	case "end":
		_, err = b.Release(ctx, by, id)
	case "extend":
		_, err = b.Extend(ctx, by, id, duration(secondsGiven))
	case "revoke":
		_, err = b.Revoke(ctx, by, id, note)
	case "checkin":
		_, err = b.Checkin(ctx, by, id, note)
	default:
		err = access.Invalid("there is no such decision")
	}
	if err == nil {
		http.Redirect(w, r, "/r/"+url.PathEscape(id), http.StatusSeeOther)
		return
	}
	view, findErr := s.viewStory(ctx, by, id)
	if findErr != nil {
		s.fail(w, r, by, err) // what was wrong first
		return
	}
	view.Typed = ui.Decision{Seconds: secondsGiven, Note: note, Without: r.PostForm["without"], FourEyes: r.PostFormValue("four_eyes") != ""}
	if r.PostFormValue("action") == "edit" {
		view.Edit = &ui.Edit{Seconds: secondsGiven, Reason: r.PostFormValue("reason"), Start: r.PostFormValue("start")}
	}
	s.showRequest(w, r, by, view, err)
}

// edit changes what a request asks for. What the form leaves as it is stays.
func edit(r *http.Request, b *broker.Broker, by access.Caller, id string, seconds int64) error {
	start, err := parseMinute(r.PostFormValue("start"))
	if err != nil {
		return err
	}
	_, err = b.Edit(r.Context(), by, id, access.Edit{Duration: duration(seconds), Reason: r.PostFormValue("reason"), Start: start})
	return err
}

// narrowing is what the form takes away.
func narrowing(r *http.Request) access.Narrowing {
	return access.Narrowing{Without: r.PostForm["without"], FourEyes: r.PostFormValue("four_eyes") != ""}
}

func (s *Server) askPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	s.showAsk(w, r, by, ui.Ask{Target: q.Get("target"), Account: q.Get("account"), Reason: q.Get("reason"), Seconds: 3600}, nil)
}

func (s *Server) showAsk(w http.ResponseWriter, r *http.Request, by access.Caller, a ui.Ask, err error) {
	p := s.page(by, "Ask for access", "")
	status := s.with(&p, r, err)
	// Some to choose from. Others are typed, or found under Targets.
	list, _, err := s.c.Broker.FindTargets(r.Context(), by, broker.TargetFilter{Part: a.Target, Usable: true, Limit: 100})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	a.Targets = each(list, viewTarget)
	s.show(w, r, status, ui.AskPage(p, a))
}

func (s *Server) askForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	a := asked(r, r.PostFormValue("target"))
	if err := s.ask(w, r, by, a); err != nil {
		s.showAsk(w, r, by, a, err)
	}
}

// asked reads a form that asks for access to a target.
func asked(r *http.Request, target string) ui.Ask {
	a := ui.Ask{
		Target: target, Account: r.PostFormValue("account"), Reason: r.PostFormValue("reason"),
		BreakGlass: r.PostFormValue("break_glass") == "yes",
	}
	a.Seconds, _ = strconv.ParseInt(r.PostFormValue("seconds"), 10, 64) // 0: the default
	return a
}

// ask asks, and sends the browser to the request.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, by access.Caller, a ui.Ask) error {
	c, err := s.c.Broker.Request(r.Context(), by, broker.Ask{
		Target: a.Target, Account: a.Account, Reason: a.Reason, Duration: duration(a.Seconds), BreakGlass: a.BreakGlass,
	})
	if err == nil {
		http.Redirect(w, r, "/r/"+c.Request.ID, http.StatusSeeOther)
	}
	return err
}

// Sessions.

func (s *Server) sessionsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	const limit = 50
	q := r.URL.Query()
	live := q.Get("live") == "true"
	list, err := s.c.Broker.Sessions(r.Context(), by, broker.SessionFilter{Live: live, Before: q.Get("before"), Limit: limit})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	l := ui.SessionList{Live: live, First: q.Get("before") == ""}
	if len(list) == limit {
		l.Older = "/sessions?" + url.Values{"live": {strconv.FormatBool(live)}, "before": {list[limit-1].ID}}.Encode()
	}
	if live {
		slices.SortStableFunc(list, func(a, b access.Session) int { return risk(a) - risk(b) })
	}
	l.Items = each(list, apiSession)
	l.Key = s.keyOfSessions(by, l.Items...)
	if unchanged(w, r, l.Key) {
		return
	}
	s.show(w, r, http.StatusOK, ui.SessionsPage(s.page(by, "Sessions", "/sessions"), l))
}

func (s *Server) sessionPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showSession(w, r, by, nil)
}

func (s *Server) showSession(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	view, err := s.viewSession(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	view.Key = s.keyOfSessions(by, view.Session)
	if wrong == nil && unchanged(w, r, view.Key) {
		return
	}
	p := s.page(by, view.ID, "/sessions")
	s.show(w, r, s.with(&p, r, wrong), ui.SessionPage(p, view))
}

// viewSession is a session, with its request where the caller may see that.
func (s *Server) viewSession(ctx context.Context, by access.Caller, id string) (ui.Session, error) {
	x, err := s.c.Broker.FindSession(ctx, by, id)
	if err != nil {
		return ui.Session{}, err
	}
	known, err := s.withLife(ctx, by, x)
	if err != nil {
		return ui.Session{}, err
	}
	view := ui.Session{Session: known, MayEnd: x.State != access.Closed, VerifyCommand: "drawbolt verify " + x.ID, Films: s.c.MayFilm != nil && s.c.MayFilm()}
	c, err := s.c.Broker.FindRequest(ctx, by, x.RequestID)
	switch {
	case err == nil:
		of := s.viewCase(c)
		view.Of = &of
		if c.Request.RequesterID != by.User.ID {
			view.HostKeys = fingerprints(c.Request.TargetKeys)
		}
	case !errors.Is(err, access.ErrNotFound) && !errors.Is(err, access.ErrDenied):
		return view, err
	}
	return view, nil
}

// playPolicy is the content policy of the one page that runs WebAssembly: the
// terminal of the player.
var playPolicy = strings.Replace(contentPolicy, "script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", 1)

func (s *Server) playPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	ctx, id, q := r.Context(), r.PathValue("id"), r.URL.Query()
	at, err := strconv.ParseFloat(q.Get("t"), 64)
	if !(at >= 0 && at < 1e9) || err != nil {
		at = 0
	}
	n := 0
	x, p, err := s.look(ctx, by, id, true, func(p *playable) (from, to time.Duration, err error) {
		at = min(at, precise(p.end.Duration))
		n = p.at(time.Duration(at * float64(time.Second)))
		return p.moment(n)
	})
	if err != nil && !errors.Is(err, errNoView) {
		s.fail(w, r, by, err)
		return
	}
	view := ui.Play{T: at, Q: clip(strings.ToValidUTF8(q.Get("q"), "\ufffd"), 200)}
	if err == nil {
		playback := apiPlayback(x, p)
		view.Playback, view.Segment = &playback, n
		if view.Screen, err = s.screen(ctx, x, p, n); err != nil {
			s.fail(w, r, by, err)
			return
		}
	}
	if view.Session, err = s.viewSession(ctx, by, id); err == nil {
		view.Check, err = s.lastCheck(ctx, by, id)
	}
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	out := s.page(by, view.User+" as "+view.Account+" on "+view.Target, "/sessions")
	out.Wide = true
	w.Header().Set("Content-Security-Policy", playPolicy)
	s.show(w, r, http.StatusOK, ui.PlayPage(out, view))
}

func (s *Server) sessionForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id := r.PathValue("id")
	var err error
	if r.PostFormValue("action") != "" {
		err = s.alarmForm(r.Context(), by, id, r)
	} else {
		err = s.cut(r.Context(), by, id, r.PostFormValue("note"), r.PostFormValue("revoke") == "yes")
	}
	if err != nil {
		s.showSession(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/sessions/"+url.PathEscape(id), http.StatusSeeOther)
}

func (s *Server) evidenceFile(w http.ResponseWriter, r *http.Request, by access.Caller) {
	c, err := s.openEvidence(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.send(w, r, c)
}

func (s *Server) videoFile(w http.ResponseWriter, r *http.Request, by access.Caller) {
	c, err := s.video(r.Context(), by, &ByID{ID: r.PathValue("id")})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.send(w, r, c)
}

func (s *Server) transcript(w http.ResponseWriter, r *http.Request, by access.Caller) {
	c, err := s.openText(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.send(w, r, c)
}
