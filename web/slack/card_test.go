package slack

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

// TestMessages compares every message with testdata/*.json, which can be put into
// Slack's Block Kit Builder as they are.
func TestMessages(t *testing.T) {
	asked := time.Date(2026, 3, 2, 10, 41, 0, 0, time.UTC)
	request := access.Request{
		ID: "REQ-0123456789abcdef", RequesterID: "USR-alice", RequesterName: "alice", TargetID: "TGT-1", TargetName: "db01", Account: "root",
		Reason: "INC-1234 replication lag", Ticket: "INC-1234", Duration: time.Hour, Source: "203.0.113.7", State: access.Pending,
		CreatedAt: asked, ExpiresAt: asked.Add(15 * time.Minute), Needs: []access.Need{{Count: 1, Groups: []string{"dba"}}}, Policy: access.Ruling{Rule: "prod-db-root"}, Version: 1,
	}
	vote := func(id, name, comment string) access.Approval {
		return access.Approval{UserID: id, UserName: name, Comment: comment, Duration: time.Hour, At: asked.Add(52 * time.Second)}
	}
	grant := access.Grant{ID: "GRA-1", RequestID: request.ID, Duration: time.Hour, OpenedAt: asked.Add(52 * time.Second), NotBefore: asked.Add(52 * time.Second), ActivateBy: asked.Add(4 * time.Hour), End: asked.Add(4 * time.Hour)}
	// of makes a view; each case changes it.
	of := func(change func(v *view)) view {
		r := request
		v := view{Case: broker.Case{Request: r}, environment: "prod", accounts: map[string]string{"USR-alice": "U0ALICE", "USR-bob": "U0BOB"}, button: true, now: asked.Add(time.Minute), url: "https://gw.example.com/r/" + r.ID, pages: "https://gw.example.com"}
		change(&v)
		return v
	}
	glass := func(onIt string) *access.GlassReview {
		return &access.GlassReview{RequestID: request.ID, OpenedAt: asked, FactorAt: asked.Add(-20 * time.Second), AckName: onIt}
	}
	rules := func(v *view) {
		v.Request.Rules = access.SessionRules{Shell: true, Files: []string{"download /var/log/**", "upload /srv/**"}}
	}
	approved := func(v *view) {
		g := grant
		v.Grant, v.Request.State, v.Request.DecidedAt = &g, access.Approved, asked.Add(52*time.Second)
		v.Request.Approvals = []access.Approval{vote("USR-bob", "bob", "ok, read-only please")}
	}
	used := func(v *view) {
		approved(v)
		v.Grant.Start, v.Grant.End = asked.Add(time.Minute), asked.Add(61*time.Minute)
		v.now = asked.Add(2 * time.Minute)
	}
	over := func(reason access.EndReason, note string) func(*view) {
		return func(v *view) {
			used(v)
			v.Grant.EndedAt, v.Grant.EndReason, v.Grant.EndedBy, v.Grant.EndNote = asked.Add(7*time.Minute), reason, "chen", note
			v.now = asked.Add(8 * time.Minute)
		}
	}
	questions := func(v *view) {
		v.Request.Questions = []access.Question{
			{ByID: "USR-bob", ByName: "bob", Text: "is the replica not enough? <!channel> *now* `x`", At: asked},
			{ByID: "USR-chen", ByName: "chen", Text: "until when?", At: asked, Answer: "until noon <https://evil.example.com|approved>", AnsweredAt: asked.Add(time.Minute)},
		}
	}
	hand := func(v *view) {
		v.Request.HandOvers = []access.HandOver{{ByID: "USR-chen", ByName: "chen", ToID: "USR-bob", ToName: "bob", Note: "you know these disks <!here>", At: asked}}
	}
	session := func(change ...func(*access.Alarm)) *access.Session {
		x := &access.Session{ID: "SES-0123456789abcdef", OpenedAt: asked.Add(-812 * time.Second), RequestID: request.ID, UserName: "alice", Account: "root", TargetName: "db01",
			Alarms: []access.Alarm{{Rule: "alert mysqldump", Level: access.DetectAlert, At: asked}}}
		for _, f := range change {
			f(&x.Alarms[0])
		}
		return x
	}
	unusual := finding{Detection: broker.Detection{Rule: "alert mysqldump", Command: "mysqldump --all-databases"}, at: asked, number: 1}
	s := &Slack{c: Config{URL: "https://gw.example.com"}}
	for name, m := range map[string]message{
		"request": card(of(func(v *view) {})),
		"request-second-factor": card(of(func(v *view) {
			v.button = false
		})),
		"request-one-of-two": card(of(func(v *view) {
			v.Request.Needs[0].Count = 2
			v.Request.Approvals = []access.Approval{vote("USR-bob", "bob", "")}
		})),
		"request-again": card(of(func(v *view) {
			g := grant
			g.Start, g.EndedAt, g.EndReason, g.EndedBy = asked.Add(-30*24*time.Hour), asked.Add(-30*24*time.Hour+18*time.Minute), access.EndRevoked, "chen"
			v.Last = &g
		})),
		"request-scheduled": card(of(func(v *view) {
			v.Request.Start, v.Request.Duration, v.Request.Source, v.Request.Ticket = asked.Add(24*time.Hour), 15*time.Minute, "", ""
		})),
		"request-ticket": card(of(func(v *view) {
			v.Request.TicketCheck = access.TicketCheck{ID: "INC-1234", Valid: true, State: "In progress", Assignee: "alice", Title: "Replication lag on db01"}
		})),
		"request-ticket-hostile": card(of(func(v *view) {
			v.Request.TicketCheck = access.TicketCheck{ID: "INC-1234", State: "*Approved*", Title: "<!channel> <https://evil.example.com|Approve>\n@here " + strings.Repeat("long ", 100), Why: "it is closed"}
		})),
		"request-hostile": card(of(func(v *view) {
			v.Request.Reason = "<!channel> <https://evil.example.com|Approved> *bold* `code` & " + strings.Repeat("long ", 100)
			v.Request.RequesterName, v.accounts = "<!here>*`", nil
		})),
		"approved": card(of(approved)),
		"in-use":   card(of(used)),
		"denied": card(of(func(v *view) {
			v.Request.State, v.Request.DecidedBy, v.Request.Note, v.Request.DecidedAt = access.Denied, "bob", "use the replica", asked.Add(time.Minute)
		})),
		"cancelled": card(of(func(v *view) {
			v.Request.State, v.Request.DecidedBy, v.Request.DecidedAt = access.Cancelled, "alice", asked.Add(time.Minute)
		})),
		"expired":    card(of(func(v *view) { v.now = asked.Add(16 * time.Minute) })),
		"ended":      card(of(func(v *view) { used(v); v.now = asked.Add(2 * time.Hour) })),
		"lapsed":     card(of(func(v *view) { approved(v); v.now = asked.Add(5 * time.Hour) })),
		"given-back": card(of(over(access.EndReleased, ""))),
		"revoked":    card(of(over(access.EndRevoked, "Wrong host, INC-1234 is about db07"))),
		"break-glass": card(of(func(v *view) {
			used(v)
			v.Request.BreakGlass, v.Request.Approvals, v.Request.Needs, v.glass = true, nil, nil, glass("")
		})),

		"answer-approved": answer(of(approved)),
		"answer-denied": answer(of(func(v *view) {
			v.Request.State, v.Request.DecidedBy, v.Request.Note = access.Denied, "bob", "use the replica"
		})),
		"answer-expired": answer(of(func(v *view) { v.now = asked.Add(16 * time.Minute) })),
		"answer-revoked": answer(of(over(access.EndRevoked, "wrong host"))),
		"answer-waiting": answer(of(func(v *view) {})),

		"unusual":       s.unusual(session(), unusual),
		"unusual-on-it": s.unusual(session(func(a *access.Alarm) { a.AckID, a.AckName = "USR-chen", "chen" }), unusual),
		"unusual-expected": s.unusual(session(func(a *access.Alarm) {
			a.ExpectedName, a.ExpectedAt, a.Reason = "chen", asked, "the backup of CHG-7 <!channel>"
		}), unusual),
		"unusual-one-of-too-many": s.unusual(session(), finding{Detection: broker.Detection{Rule: "alert mysqldump", Command: "<!channel> *x*"}, at: asked}),
		"break-glass-on-it": card(of(func(v *view) {
			used(v)
			v.Request.BreakGlass, v.Request.Approvals, v.Request.Needs, v.glass = true, nil, nil, glass("chen")
		})),
		"request-asker": card(of(func(v *view) {
			v.Asker = &broker.Asker{Schedules: true, OnCall: []string{"oncall-db", "oncall-web"}, NewNetwork: true}
		})),
		"request-asker-hostile": card(of(func(v *view) {
			v.Asker = &broker.Asker{Schedules: true, OnCall: []string{"oncall-<!channel>*`"}, NewNetwork: true}
			v.Request.Source, v.Request.RequesterName = "<https://evil.example.com|10.0.0.1>", "<!here>*`"
		})),
		"request-not-on-call": card(of(func(v *view) { v.Asker = &broker.Asker{Schedules: true} })),
		"request-narrower":    card(of(rules)),
		"approved-narrower": card(of(func(v *view) {
			rules(v)
			approved(v)
			v.Request.Approvals[0].Narrowing = access.ReadOnly()
			v.Request.Approvals = append(v.Request.Approvals, vote("USR-chen", "chen", ""))
			v.Request.Approvals[1].Narrowing = access.Narrowing{Without: []string{"agent"}, FourEyes: true}
		})),
		"in-use-running": card(of(func(v *view) {
			used(v)
			v.use = access.GrantUse{Sessions: 1, Running: 1, First: "SES-0123456789abcdef", Commands: -1}
		})),
		"expired-asked": card(of(func(v *view) {
			v.now = asked.Add(16 * time.Minute)
			v.nobody = broker.Unanswered{Asked: []access.User{{ID: "USR-bob", Name: "bob"}, {ID: "USR-chen", Name: "chen"}}, Escalated: []string{"leads"}, At: asked.Add(10 * time.Minute)}
		})),
		"expired-asked-hostile": card(of(func(v *view) {
			v.now = asked.Add(16 * time.Minute)
			for range 200 {
				v.nobody.Asked = append(v.nobody.Asked, access.User{ID: "USR-x", Name: "<!channel>*` <https://evil.example.com|bob>" + strings.Repeat("x", 200)})
			}
			v.nobody.Escalated, v.nobody.At = []string{"<!subteam^S1>"}, asked.Add(10*time.Minute)
		})),
		"ended-counted":   card(of(func(v *view) { over(access.EndReleased, "")(v); v.use = access.GrantUse{Sessions: 3, Commands: 44} })),
		"ended-uncounted": card(of(func(v *view) { over(access.EndReleased, "")(v); v.use = access.GrantUse{Sessions: 1, Commands: -1} })),
		"break-glass-bare": card(of(func(v *view) {
			used(v)
			v.Request.BreakGlass, v.Request.Approvals, v.Request.Needs = true, nil, nil
			v.glass = glass("")
			v.glass.FactorAt = time.Time{}
		})),
		"break-glass-over": card(of(func(v *view) { over(access.EndReleased, "")(v); v.Request.BreakGlass, v.glass = true, glass("chen") })),
		"break-glass-overdue": card(of(func(v *view) {
			over(access.EndReleased, "")(v)
			v.Request.BreakGlass, v.glass, v.now = true, glass(""), asked.Add(25*time.Hour)
		})),
		"break-glass-reviewed": card(of(func(v *view) {
			over(access.EndReleased, "")(v)
			v.Request.BreakGlass, v.glass = true, glass("chen")
			v.glass.ClosedAt, v.glass.ClosedName, v.glass.Finding = asked.Add(time.Hour), "<!here>dave*", access.NotJustified
		})),
		"request-questions":    card(of(func(v *view) { questions(v); v.Request.Questions = append(v.Request.Questions, v.Request.Questions...) })),
		"request-handed":       card(of(func(v *view) { hand(v) })),
		"handed":               handed(of(hand), "U0BOB"),
		"question":             question(of(questions), 1),
		"question-answered":    question(of(questions), 2),
		"question-late":        question(of(func(v *view) { questions(v); v.now = asked.Add(16 * time.Minute) }), 1),
		"answer":               reply(of(questions), 2),
		"sealed-login":         s.sealedLogin(notify.Notice{Kind: notify.BreakGlass, At: asked, Actor: "emergency", Text: "SSO down, nobody can log in"}),
		"sealed-login-hostile": s.sealedLogin(notify.Notice{Kind: notify.BreakGlass, At: asked, Text: "<!channel> <https://evil.example.com|Approved> " + strings.Repeat("long ", 100)}),
		"refused":              s.sentence(&refusal{&access.Error{Kind: access.ErrDenied, Code: "DB-2002", Text: "nobody approves a request of their own", Rule: "approve.self", Next: "drawbolt status " + request.ID}, "https://gw.example.com/r/" + request.ID}),
		"unknown":              s.sentence(&access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6193", Text: "drawbolt does not know this account: link it with your own first", Next: "/access link"}),
		"confirm":              confirm(asking("db01", "root", "1h", "INC-1234 lag")),
		"help":                 help(),
	} {
		golden(t, name, struct {
			Text   string      `json:"text"`
			Blocks []sdk.Block `json:"blocks"`
		}{m.Text, m.Blocks})
		if m.shown() == "" {
			t.Errorf("%s is not told apart", name)
		}
	}
	golden(t, "form-ask", askForm(asking("db01", "root", "1h", "INC-1234 lag"), "C0PROD", nil))
	golden(t, "manifest-socket", json.RawMessage(Manifest(SocketMode, "https://gw.example.com")))
	golden(t, "manifest-http", json.RawMessage(Manifest(HTTPMode, "https://gw.example.com")))
}

func asking(target, account, duration, reason string) asked {
	return asked{Account: account, Target: target, Duration: duration, Reason: reason}
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".json")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not as it was; UPDATE_GOLDEN=1 writes it:\n%s", path, b.String())
	}
}

func TestParseAsk(t *testing.T) {
	for text, want := range map[string]asked{
		"db01 as root for 1h INC-1234 lag":    {"root", "db01", "1h", "INC-1234 lag"},
		"db01 for 1h as root INC-1234 lag":    {"root", "db01", "1h", "INC-1234 lag"},
		"root@db01 INC-1234 lag":              {"root", "db01", "", "INC-1234 lag"},
		"db01 for the audit of today":         {"", "db01", "", "for the audit of today"},
		"db01 for 30m for the audit":          {"", "db01", "30m", "for the audit"},
		"  db01   as  root   for  2h  look  ": {"root", "db01", "2h", "look"},
		"db01 as root as before":              {"root", "db01", "", "as before"},
	} {
		if got, err := parseAsk(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"db01", "db01 as root", "db01 as", "DB01 x y", "<!channel> x", "db01 as ro`ot why", "@ x", "db01 as root for 1h", "db01 \u202ex"} {
		if got, err := parseAsk(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// FuzzParseAsk: what is understood says the same when it is written out again.
func FuzzParseAsk(f *testing.F) {
	f.Add("db01 as root for 1h INC-1234 lag")
	f.Add("root@db01 for the audit")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAsk(text)
		if err != nil {
			return
		}
		if a.Account == "" {
			a.Account = "root"
		}
		if a.Duration == "" {
			a.Duration = "1h"
		}
		again, err := parseAsk(a.Target + " as " + a.Account + " for " + a.Duration + " " + a.Reason)
		if err != nil || again != a {
			t.Errorf("%q is %+v, and then %+v, %v", text, a, again, err)
		}
	})
}

// FuzzParse: no body makes the reader of Slack's forms panic, and what is read has
// come out of the body alone.
func FuzzParse(f *testing.F) {
	f.Add("application/x-www-form-urlencoded", []byte(`payload={"type":"block_actions","user":{"id":"U1","team_id":"T1"},"actions":[{"action_id":"approve","block_id":"b","value":"REQ-1 x"}]}`))
	f.Add("application/x-www-form-urlencoded", []byte("command=/access&text=db01&team_id=T1&user_id=U1"))
	f.Add("application/json", []byte(`{"type":"event_callback","event":{"type":"app_home_opened","user":"U1","tab":"home"}}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		in, challenge, err := parse(contentType, body)
		if err == nil && (in == nil) == (challenge == "") && in == nil && len(body) == 0 {
			t.Error("nothing was read as something")
		}
		if c, is := in.(sdk.InteractionCallback); is && err == nil {
			_ = deedOf(&c)
		}
	})
}

// TestMayReply: answers go to Slack, or to the proxy in front of it.
func TestMayReply(t *testing.T) {
	for address, want := range map[string]bool{
		"https://hooks.slack.com/actions/T1/1/x": true, "http://hooks.slack.com/x": false, "https://hooks.slack.com.evil.example/x": false,
		"https://evil.example/hooks.slack.com": false, "https://user@hooks.slack.com/x": false, "http://169.254.169.254/": false, "": false,
	} {
		s := &Slack{c: Config{APIURL: sdk.APIURL}}
		if s.mayReply(address) != want {
			t.Errorf("%q: %v", address, !want)
		}
	}
	proxied := &Slack{c: Config{APIURL: "https://proxy.example.com/slack/"}}
	if !proxied.mayReply("https://proxy.example.com/hook") || proxied.mayReply("https://proxy.example.com.evil.example/hook") || proxied.mayReply("http://proxy.example.com/hook") {
		t.Error("a proxy is not told apart")
	}
}
