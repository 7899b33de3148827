package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// discard makes a call of a method that also returns a value.
func discard[T any](_ T, err error) error { return err }

func drain(r io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// routes has every method of Client with the request that it must make.
var routes = []struct {
	name string // of the method
	call func(ctx context.Context, c *Client) error
	want string // method, address, body
}{
	{"Login", func(ctx context.Context, c *Client) error {
		return discard(c.Login(ctx, LoginInput{User: "alice", Password: "pw", OTP: "123456"}))
	}, `POST /v1/login {"user":"alice","password":"pw","otp":"123456"}`},
	{"BeginDeviceLogin", func(ctx context.Context, c *Client) error { return discard(c.BeginDeviceLogin(ctx)) }, `POST /v1/login/device {}`},
	{"FinishDeviceLogin", func(ctx context.Context, c *Client) error {
		_, ok, err := c.FinishDeviceLogin(ctx, "d")
		if ok {
			return errors.New("an answer without a token is a login")
		}
		return err
	}, `POST /v1/login/device/token {"device":"d"}`},
	{"LoginBreakGlass", func(ctx context.Context, c *Client) error {
		return discard(c.LoginBreakGlass(ctx, BreakGlassLogin{Codes: []string{"A", "B"}, Reason: "r"}))
	}, `POST /v1/login/breakglass {"codes":["A","B"],"reason":"r"}`},
	{"BreakGlasses", func(ctx context.Context, c *Client) error {
		return discard(c.BreakGlasses(ctx, BreakGlassFilter{Open: true, Limit: 7, Before: "REQ-1"}))
	}, `GET /v1/breakglass?before=REQ-1&limit=7&open=true`},
	{"FindBreakGlass", func(ctx context.Context, c *Client) error { return discard(c.FindBreakGlass(ctx, "REQ-1")) }, `GET /v1/breakglass/REQ-1`},
	{"ReviewBreakGlass", func(ctx context.Context, c *Client) error {
		return discard(c.ReviewBreakGlass(ctx, "REQ-1", GlassReviewInput{Finding: Justified, Text: "t"}))
	}, `POST /v1/breakglass/REQ-1/review {"finding":"justified","text":"t"}`},
	{"AcknowledgeBreakGlass", func(ctx context.Context, c *Client) error { return discard(c.AcknowledgeBreakGlass(ctx, "REQ-1")) }, `POST /v1/breakglass/REQ-1/acknowledge {}`},
	{"Holdings", func(ctx context.Context, c *Client) error {
		return discard(c.Holdings(ctx, HoldingFilter{Role: "r", User: "u", Unused: true, Days: 30, Limit: 7, After: "a"}))
	}, `GET /v1/reports/access?after=a&days=30&limit=7&role=r&unused=true&user=u`},
	{"StartReview", func(ctx context.Context, c *Client) error {
		return discard(c.StartReview(ctx, ReviewInput{Roles: []string{"r"}, Unused: true, Owner: "o", DueAt: at("2026-03-01T09:00:00Z")}))
	}, `POST /v1/reviews {"roles":["r"],"unused":true,"owner":"o","due_at":"2026-03-01T09:00:00Z"}`},
	{"Reviews", func(ctx context.Context, c *Client) error {
		return discard(c.Reviews(ctx, ReviewFilter{Open: true, Limit: 7, Before: "CMP-1"}))
	}, `GET /v1/reviews?before=CMP-1&limit=7&open=true`},
	{"FindReview", func(ctx context.Context, c *Client) error { return discard(c.FindReview(ctx, "CMP-1")) }, `GET /v1/reviews/CMP-1`},
	{"ReviewItems", func(ctx context.Context, c *Client) error {
		return discard(c.ReviewItems(ctx, "CMP-1", ItemFilter{Undecided: true, Limit: 7, After: "4"}))
	}, `GET /v1/reviews/CMP-1/items?after=4&limit=7&undecided=true`},
	{"DecideReview", func(ctx context.Context, c *Client) error {
		return discard(c.DecideReview(ctx, "CMP-1", DecideInput{Items: []int{3, 4}, Decision: Kept, Reason: "r"}))
	}, `POST /v1/reviews/CMP-1/decide {"items":[3,4],"decision":"kept","reason":"r"}`},
	{"CloseReview", func(ctx context.Context, c *Client) error {
		return discard(c.CloseReview(ctx, "CMP-1", CloseInput{Undecided: true}))
	}, `POST /v1/reviews/CMP-1/close {"undecided":true}`},
	{"ExportReview", func(ctx context.Context, c *Client) error { return discard(c.ExportReview(ctx, "CMP-1")) }, `GET /v1/reviews/CMP-1/export`},
	{"Logout", func(ctx context.Context, c *Client) error { return c.Logout(ctx) }, `POST /v1/logout {}`},
	{"Me", func(ctx context.Context, c *Client) error { return discard(c.Me(ctx)) }, `GET /v1/me`},
	{"Certify", func(ctx context.Context, c *Client) error { return discard(c.Certify(ctx, "ssh-ed25519 AAAA")) }, `POST /v1/me/certificate {"public_key":"ssh-ed25519 AAAA"}`},
	{"MyKeys", func(ctx context.Context, c *Client) error { return discard(c.MyKeys(ctx)) }, `GET /v1/me/keys`},
	{"AddMyKey", func(ctx context.Context, c *Client) error { return discard(c.AddMyKey(ctx, KeyInput{Key: "k"})) }, `POST /v1/me/keys {"key":"k"}`},
	{"RemoveMyKey", func(ctx context.Context, c *Client) error { return c.RemoveMyKey(ctx, "SHA256:a/b+c") }, `DELETE /v1/me/keys/SHA256:a%2Fb+c`},
	{"Links", func(ctx context.Context, c *Client) error { return discard(c.Links(ctx, "")) }, `GET /v1/me/links`},
	{"Unlink", func(ctx context.Context, c *Client) error {
		return c.Unlink(ctx, "bob", Link{Kind: "slack", Team: "T1", Account: "../U"})
	}, `DELETE /v1/users/bob/links/slack/T1/..%2FU`},
	{"SlackManifest", func(ctx context.Context, c *Client) error { return discard(c.SlackManifest(ctx, "http")) }, `GET /v1/integrations/slack/manifest?mode=http`},
	{"CheckSlack", func(ctx context.Context, c *Client) error { return discard(c.CheckSlack(ctx)) }, `POST /v1/integrations/slack/check {}`},
	{"SetPassword", func(ctx context.Context, c *Client) error {
		return c.SetPassword(ctx, PasswordInput{Current: "a", New: "b"})
	}, `POST /v1/me/password {"current":"a","new":"b"}`},
	{"BeginTOTP", func(ctx context.Context, c *Client) error { return discard(c.BeginTOTP(ctx, TOTPInput{Password: "p"})) }, `POST /v1/me/totp {"password":"p"}`},
	{"ConfirmTOTP", func(ctx context.Context, c *Client) error { return c.ConfirmTOTP(ctx, "1") }, `POST /v1/me/totp/confirm {"otp":"1"}`},
	{"Checkout", func(ctx context.Context, c *Client) error {
		return discard(c.Checkout(ctx, "REQ-1", CheckoutInput{Reason: "r"}))
	}, `POST /v1/requests/REQ-1/checkout {"reason":"r"}`},
	{"Checkin", func(ctx context.Context, c *Client) error {
		return discard(c.Checkin(ctx, "REQ-1", CheckoutInput{}))
	}, `POST /v1/requests/REQ-1/checkin {}`},
	{"Leases", func(ctx context.Context, c *Client) error {
		return discard(c.Leases(ctx, LeaseFilter{Active: true, Target: "t", User: "u", Limit: 7, Before: "LEA-1"}))
	}, `GET /v1/checkouts?active=true&before=LEA-1&limit=7&target=t&user=u`},
	{"Setup", func(ctx context.Context, c *Client) error { return c.Setup(ctx, SetupInput{"t", "p"}) }, `POST /v1/setup {"token":"t","password":"p"}`},
	{"Targets", func(ctx context.Context, c *Client) error { return discard(c.Targets(ctx)) }, `GET /v1/targets`},
	{"TargetsLike", func(ctx context.Context, c *Client) error { return discard(c.TargetsLike(ctx, "db&x")) }, `GET /v1/targets?part=db%26x`},
	{"FindTarget", func(ctx context.Context, c *Client) error { return discard(c.FindTarget(ctx, "../me?x")) }, `GET /v1/targets/..%2Fme%3Fx`},
	{"AddTarget", func(ctx context.Context, c *Client) error {
		return discard(c.AddTarget(ctx, TargetInput{Name: "db01", Address: "h:22", Accounts: []AccountInput{{Name: "root"}}}))
	}, `POST /v1/targets {"name":"db01","address":"h:22","labels":{},"accounts":[{"name":"root"}]}`},
	{"SetTarget", func(ctx context.Context, c *Client) error {
		return discard(c.SetTarget(ctx, TargetInput{Name: "db01", Version: 3}))
	}, `PUT /v1/targets/db01 {"name":"db01","address":"","labels":{},"accounts":null,"version":3}`},
	{"RemoveTarget", func(ctx context.Context, c *Client) error { return c.RemoveTarget(ctx, "db01") }, `DELETE /v1/targets/db01`},
	{"Discover", func(ctx context.Context, c *Client) error {
		return discard(c.Discover(ctx, "db01", DiscoverInput{Account: "root"}))
	}, `POST /v1/targets/db01/discover {"account":"root"}`},
	{"Inventory", func(ctx context.Context, c *Client) error {
		return discard(c.Inventory(ctx, InventoryFilter{Class: "shared", Target: "db01", Owner: "bob", Name: "root", Risk: "high", After: "a", Limit: 7}))
	}, "GET /v1/inventory?after=a&class=shared&limit=7&name=root&owner=bob&risk=high&target=db01"},
	{"FindFound", func(ctx context.Context, c *Client) error { return discard(c.FindFound(ctx, "root@db01")) }, "GET /v1/inventory/root@db01"},
	{"Adopt", func(ctx context.Context, c *Client) error {
		return discard(c.Adopt(ctx, AdoptInput{Accounts: []string{"a"}, TakeOver: true}))
	}, `POST /v1/inventory/adopt {"accounts":["a"],"take_over":true}`},
	{"OnboardAccount", func(ctx context.Context, c *Client) error {
		return discard(c.OnboardAccount(ctx, "a@b", OnboardInput{Credential: "key", Managed: Managed{AfterUse: true}, DryRun: true}))
	}, `POST /v1/inventory/a@b/manage {"credential":"key","managed":{"after_use":true},"dry_run":true}`},
	{"Posture", func(ctx context.Context, c *Client) error { return discard(c.Posture(ctx, "db01")) }, "GET /v1/targets/db01/posture"},
	{"Postures", func(ctx context.Context, c *Client) error { return discard(c.Postures(ctx, "db01")) }, "GET /v1/postures?after=db01"},
	{"CheckTarget", func(ctx context.Context, c *Client) error {
		return discard(c.CheckTarget(ctx, "db01", CheckInput{Account: "root"}))
	}, `POST /v1/targets/db01/check {"account":"root"}`},
	{"BootstrapTarget", func(ctx context.Context, c *Client) error { return discard(c.BootstrapTarget(ctx, "db01")) }, `POST /v1/targets/db01/bootstrap`},
	{"LockTarget", func(ctx context.Context, c *Client) error { return discard(c.LockTarget(ctx, "db01", "why")) }, `POST /v1/targets/db01/lock {"reason":"why"}`},
	{"UnlockTarget", func(ctx context.Context, c *Client) error { return discard(c.UnlockTarget(ctx, "db01", "why")) }, `POST /v1/targets/db01/unlock {"reason":"why"}`},
	{"Request", func(ctx context.Context, c *Client) error {
		start := at("2026-03-01T09:00:00Z")
		return discard(c.Request(ctx, RequestInput{Target: "db01", Account: "root", DurationSeconds: 3600, Reason: "r", Start: &start, BreakGlass: true, Batch: "BAT-1"}))
	}, `POST /v1/requests {"target":"db01","account":"root","duration_seconds":3600,"reason":"r","start":"2026-03-01T09:00:00Z","break_glass":true,"batch":"BAT-1"}`},
	{"Requests", func(ctx context.Context, c *Client) error {
		return discard(c.Requests(ctx, RequestFilter{State: Pending, Mine: true, Inbox: true, Batch: "BAT-1", Limit: 7, Before: "REQ-1"}))
	}, `GET /v1/requests?batch=BAT-1&before=REQ-1&inbox=true&limit=7&mine=true&state=pending`},
	{"FindRequest", func(ctx context.Context, c *Client) error { return discard(c.FindRequest(ctx, "REQ-1")) }, `GET /v1/requests/REQ-1`},
	{"AwaitRequest", func(ctx context.Context, c *Client) error {
		return discard(c.AwaitRequest(ctx, "REQ-1", 4, time.Hour))
	}, `GET /v1/requests/REQ-1?version=4&wait_seconds=60`},
	{"Approve", func(ctx context.Context, c *Client) error {
		return discard(c.Approve(ctx, "REQ-1", ApproveInput{Digest: "d", DurationSeconds: 60, Comment: "c", Without: []string{"agent"}, FourEyes: true}))
	}, `POST /v1/requests/REQ-1/approve {"digest":"d","duration_seconds":60,"comment":"c","without":["agent"],"four_eyes":true}`},
	{"EditRequest", func(ctx context.Context, c *Client) error {
		return discard(c.EditRequest(ctx, "REQ-1", EditInput{DurationSeconds: 60, Reason: "r"}))
	}, `POST /v1/requests/REQ-1/edit {"duration_seconds":60,"reason":"r"}`},
	{"Ask", func(ctx context.Context, c *Client) error { return discard(c.Ask(ctx, "REQ-1", "why?")) }, `POST /v1/requests/REQ-1/ask {"text":"why?"}`},
	{"Answer", func(ctx context.Context, c *Client) error {
		return discard(c.Answer(ctx, "REQ-1", AnswerInput{2, "so"}))
	}, `POST /v1/requests/REQ-1/answer {"question":2,"text":"so"}`},
	{"HandOver", func(ctx context.Context, c *Client) error {
		return discard(c.HandOver(ctx, "REQ-1", HandOverInput{"dave", "n"}))
	}, `POST /v1/requests/REQ-1/handover {"to":"dave","note":"n"}`},
	{"Deny", func(ctx context.Context, c *Client) error {
		return discard(c.Deny(ctx, "REQ-1", DenyInput{Reason: "no"}))
	}, `POST /v1/requests/REQ-1/deny {"reason":"no"}`},
	{"Cancel", func(ctx context.Context, c *Client) error { return discard(c.Cancel(ctx, "REQ-1")) }, `POST /v1/requests/REQ-1/cancel {}`},
	{"End", func(ctx context.Context, c *Client) error { return discard(c.End(ctx, "REQ-1")) }, `POST /v1/requests/REQ-1/end {}`},
	{"Extend", func(ctx context.Context, c *Client) error { return discard(c.Extend(ctx, "REQ-1", ExtendInput{60})) }, `POST /v1/requests/REQ-1/extend {"duration_seconds":60}`},
	{"Revoke", func(ctx context.Context, c *Client) error { return discard(c.Revoke(ctx, "REQ-1", "no")) }, `POST /v1/requests/REQ-1/revoke {"reason":"no"}`},
	{"Delegations", func(ctx context.Context, c *Client) error { return discard(c.Delegations(ctx, true)) }, `GET /v1/delegations?all=true`},
	{"Delegate", func(ctx context.Context, c *Client) error {
		return discard(c.Delegate(ctx, "bob", DelegationInput{Delegate: "carol", Until: at("2026-03-14T08:00:00Z"), Reason: "away"}))
	}, `PUT /v1/users/bob/delegation {"delegate":"carol","until":"2026-03-14T08:00:00Z","reason":"away"}`},
	{"EndDelegation", func(ctx context.Context, c *Client) error { return c.EndDelegation(ctx, "bob") }, `DELETE /v1/users/bob/delegation`},
	{"Sessions", func(ctx context.Context, c *Client) error {
		return discard(c.Sessions(ctx, SessionFilter{Live: true, Target: "t", User: "u", Limit: 1, Before: "SES-1"}))
	}, `GET /v1/sessions?before=SES-1&limit=1&live=true&target=t&user=u`},
	{"Search", func(ctx context.Context, c *Client) error {
		return discard(c.Search(ctx, SearchFilter{Query: "DROP \"a b\"", In: []string{"output", "keys"}, User: "u", Target: "db*", Account: "root",
			Since: at("2026-03-01T09:00:00Z"), Until: at("2026-03-02T09:00:00Z"), Of: "REQ-1", Files: true, Limit: 7, Before: "12"}))
	}, `GET /v1/search?account=root&before=12&files=true&in=output%2Ckeys&limit=7&of=REQ-1&q=DROP+%22a+b%22&since=2026-03-01T09%3A00%3A00Z&target=db%2A&until=2026-03-02T09%3A00%3A00Z&user=u`},
	{"FindSession", func(ctx context.Context, c *Client) error { return discard(c.FindSession(ctx, "SES-1")) }, `GET /v1/sessions/SES-1`},
	{"EndSession", func(ctx context.Context, c *Client) error {
		return discard(c.EndSession(ctx, "SES-1", SessionEnd{"no", true}))
	}, `POST /v1/sessions/SES-1/end {"reason":"no","revoke":true}`},
	{"Watch", func(ctx context.Context, c *Client) error {
		w, err := c.Watch(ctx, "SES-1", WatchOptions{At: 90 * time.Second})
		if err != nil {
			return err
		}
		return w.Close()
	}, `GET /v1/sessions/SES-1/watch?at=90`},
	{"Message", func(ctx context.Context, c *Client) error { return c.Message(ctx, "SES-1", "hi") }, `POST /v1/sessions/SES-1/message {"text":"hi"}`},
	{"AcknowledgeAlarm", func(ctx context.Context, c *Client) error {
		return discard(c.AcknowledgeAlarm(ctx, "SES-1", AlarmInput{2}))
	}, `POST /v1/sessions/SES-1/acknowledge {"alarm":2}`},
	{"Expected", func(ctx context.Context, c *Client) error {
		return discard(c.Expected(ctx, "SES-1", ExpectedInput{2, "r"}))
	}, `POST /v1/sessions/SES-1/expected {"alarm":2,"reason":"r"}`},
	{"Pause", func(ctx context.Context, c *Client) error { return c.Pause(ctx, "SES-1") }, `POST /v1/sessions/SES-1/pause`},
	{"Resume", func(ctx context.Context, c *Client) error { return c.Resume(ctx, "SES-1") }, `POST /v1/sessions/SES-1/resume`},
	{"Recording", func(ctx context.Context, c *Client) error { return drain(c.Recording(ctx, "SES-1", "txt")) }, `GET /v1/sessions/SES-1/recording?format=txt`},
	{"SealedFile", func(ctx context.Context, c *Client) error { return drain(c.SealedFile(ctx, "SES-1")) }, `GET /v1/sessions/SES-1/sealed`},
	{"Playback", func(ctx context.Context, c *Client) error { return discard(c.Playback(ctx, "SES-1")) }, `GET /v1/sessions/SES-1/play`},
	{"FindInRecording", func(ctx context.Context, c *Client) error {
		return discard(c.FindInRecording(ctx, "SES-1", "DROP TABLE", "output", "keys"))
	}, `GET /v1/sessions/SES-1/play/find?in=output%2Ckeys&q=DROP+TABLE`},
	{"CheckRecording", func(ctx context.Context, c *Client) error { return discard(c.CheckRecording(ctx, "SES-1")) }, `POST /v1/sessions/SES-1/check {}`},
	{"Evidence", func(ctx context.Context, c *Client) error { return drain(c.Evidence(ctx, "SES-1")) }, `GET /v1/sessions/SES-1/evidence`},
	{"Video", func(ctx context.Context, c *Client) error { return drain(c.Video(ctx, "SES-1")) }, `GET /v1/sessions/SES-1/video`},
	{"Proof", func(ctx context.Context, c *Client) error { return discard(c.Proof(ctx, "SES-1")) }, `GET /v1/sessions/SES-1/proof`},
	{"HoldRecordings", func(ctx context.Context, c *Client) error {
		return discard(c.HoldRecordings(ctx, HoldInput{Sessions: []string{"SES-1"}, Reason: "r"}))
	}, `POST /v1/holds {"sessions":["SES-1"],"reason":"r"}`},
	{"Holds", func(ctx context.Context, c *Client) error { return discard(c.Holds(ctx)) }, `GET /v1/holds`},
	{"LiftHold", func(ctx context.Context, c *Client) error { return discard(c.LiftHold(ctx, "HLD-1", "r")) }, `POST /v1/holds/HLD-1/lift {"reason":"r"}`},
	{"DeleteRecording", func(ctx context.Context, c *Client) error { return discard(c.DeleteRecording(ctx, "SES-1", "r")) }, `POST /v1/sessions/SES-1/delete-recording {"reason":"r"}`},
	{"Retention", func(ctx context.Context, c *Client) error { return discard(c.Retention(ctx)) }, `GET /v1/retention`},
	{"SetRetention", func(ctx context.Context, c *Client) error {
		return discard(c.SetRetention(ctx, Retention{Rules: []RetentionRule{{ID: "year", KeepDays: 365}}, Version: 1}))
	}, `PUT /v1/retention {"rules":[{"id":"year","targets":{},"keep_days":365}],"version":1}`},
	{"Integrations", func(ctx context.Context, c *Client) error { return discard(c.Integrations(ctx)) }, `GET /v1/integrations`},
	{"FindIntegration", func(ctx context.Context, c *Client) error { return discard(c.FindIntegration(ctx, "ops")) }, `GET /v1/integrations/ops`},
	{"TestIntegration", func(ctx context.Context, c *Client) error { return discard(c.TestIntegration(ctx, "ops")) }, `POST /v1/integrations/ops/test {}`},
	{"RetryIntegration", func(ctx context.Context, c *Client) error { return discard(c.RetryIntegration(ctx, "ops")) }, `POST /v1/integrations/ops/retry {}`},
	{"Windows", func(ctx context.Context, c *Client) error { return discard(c.Windows(ctx)) }, `GET /v1/windows`},
	{"AddWindow", func(ctx context.Context, c *Client) error {
		return discard(c.AddWindow(ctx, WindowInput{Kind: Freeze, Reason: "r", Hours: "22:00-04:00", Weekdays: []string{"saturday"}}))
	}, `POST /v1/windows {"kind":"freeze","reason":"r","targets":{},"hours":"22:00-04:00","weekdays":["saturday"]}`},
	{"RemoveWindow", func(ctx context.Context, c *Client) error { return c.RemoveWindow(ctx, "WIN-1") }, `DELETE /v1/windows/WIN-1`},
	{"Networks", func(ctx context.Context, c *Client) error { return discard(c.Networks(ctx)) }, `GET /v1/networks`},
	{"SetNetwork", func(ctx context.Context, c *Client) error {
		return discard(c.SetNetwork(ctx, Network{Name: "vpn", Ranges: []string{"10.8.0.0/16"}}))
	}, `PUT /v1/networks/vpn {"name":"vpn","ranges":["10.8.0.0/16"]}`},
	{"RemoveNetwork", func(ctx context.Context, c *Client) error { return c.RemoveNetwork(ctx, "vpn") }, `DELETE /v1/networks/vpn`},
	{"RecordFacts", func(ctx context.Context, c *Client) error {
		return discard(c.RecordFacts(ctx, "db01", FactsInput{Facts: map[string]string{"patched": "yes"}}))
	}, `PUT /v1/targets/db01/facts {"facts":{"patched":"yes"}}`},
	{"Events", func(ctx context.Context, c *Client) error {
		return discard(c.Events(ctx, EventFilter{After: 0, Limit: 5, Actor: "a", Action: "b", Object: "o", Target: "t", Since: at("2026-03-01T09:00:00Z"), Until: at("2026-03-02T09:00:00+01:00")}))
	}, `GET /v1/audit/events?action=b&actor=a&after=0&limit=5&object=o&since=2026-03-01T09%3A00%3A00Z&target=t&until=2026-03-02T08%3A00%3A00Z`},
	{"ExportAudit", func(ctx context.Context, c *Client) error { return drain(c.ExportAudit(ctx)) }, `GET /v1/audit/export`},
	{"Checkpoint", func(ctx context.Context, c *Client) error { return discard(c.Checkpoint(ctx)) }, `GET /v1/audit/checkpoint`},
	{"AuditKey", func(ctx context.Context, c *Client) error { return discard(c.AuditKey(ctx)) }, `GET /v1/audit/key`},
	{"Users", func(ctx context.Context, c *Client) error { return discard(c.Users(ctx)) }, `GET /v1/users`},
	{"FindUser", func(ctx context.Context, c *Client) error { return discard(c.FindUser(ctx, "bob")) }, `GET /v1/users/bob`},
	{"AddUser", func(ctx context.Context, c *Client) error { return discard(c.AddUser(ctx, UserInput{Name: "bob"})) }, `POST /v1/users {"name":"bob"}`},
	{"SetUser", func(ctx context.Context, c *Client) error {
		return discard(c.SetUser(ctx, UserInput{Name: "bob", Version: 2}))
	}, `PUT /v1/users/bob {"name":"bob","version":2}`},
	{"LockUser", func(ctx context.Context, c *Client) error { return discard(c.LockUser(ctx, "bob", "r")) }, `POST /v1/users/bob/lock {"reason":"r"}`},
	{"UnlockUser", func(ctx context.Context, c *Client) error { return discard(c.UnlockUser(ctx, "bob", "r")) }, `POST /v1/users/bob/unlock {"reason":"r"}`},
	{"SetupLink", func(ctx context.Context, c *Client) error { return discard(c.SetupLink(ctx, "bob")) }, `POST /v1/users/bob/setup {}`},
	{"Keys", func(ctx context.Context, c *Client) error { return discard(c.Keys(ctx, "bob")) }, `GET /v1/users/bob/keys`},
	{"AddKey", func(ctx context.Context, c *Client) error {
		return discard(c.AddKey(ctx, "bob", KeyInput{Key: "k", Comment: "c"}))
	}, `POST /v1/users/bob/keys {"key":"k","comment":"c"}`},
	{"RemoveKey", func(ctx context.Context, c *Client) error { return c.RemoveKey(ctx, "bob", "SHA256:x") }, `DELETE /v1/users/bob/keys/SHA256:x`},
	{"MyPasskeys", func(ctx context.Context, c *Client) error { return discard(c.MyPasskeys(ctx)) }, `GET /v1/me/passkeys`},
	{"Passkeys", func(ctx context.Context, c *Client) error { return discard(c.Passkeys(ctx, "bob")) }, `GET /v1/users/bob/passkeys`},
	{"TakeFactor", func(ctx context.Context, c *Client) error { return c.TakeFactor(ctx, "bob", "PKY-1", "phone stolen") }, `POST /v1/users/bob/factors/PKY-1/take {"reason":"phone stolen"}`},
	{"Groups", func(ctx context.Context, c *Client) error { return discard(c.Groups(ctx)) }, `GET /v1/groups`},
	{"Roles", func(ctx context.Context, c *Client) error { return discard(c.Roles(ctx)) }, `GET /v1/roles`},
	{"FindRole", func(ctx context.Context, c *Client) error { return discard(c.FindRole(ctx, "dba")) }, `GET /v1/roles/dba`},
	{"SetRole", func(ctx context.Context, c *Client) error { return discard(c.SetRole(ctx, Role{Name: "dba"})) }, `PUT /v1/roles/dba {"name":"dba"}`},
	{"RemoveRole", func(ctx context.Context, c *Client) error { return c.RemoveRole(ctx, "dba") }, `DELETE /v1/roles/dba`},
	{"Explain", func(ctx context.Context, c *Client) error {
		return discard(c.Explain(ctx, ExplainInput{Target: "t", Account: "a", Action: "request"}))
	}, `POST /v1/policy/explain {"target":"t","account":"a","action":"request"}`},
	{"Policy", func(ctx context.Context, c *Client) error { return discard(c.Policy(ctx)) }, `GET /v1/policy`},
	{"WhoCan", func(ctx context.Context, c *Client) error { return discard(c.WhoCan(ctx, "t", "a")) }, `GET /v1/policy/who-can?account=a&target=t`},
	{"CanReach", func(ctx context.Context, c *Client) error { return discard(c.CanReach(ctx, "alice")) }, `GET /v1/policy/reach?user=alice`},
	{"TestPolicy", func(ctx context.Context, c *Client) error {
		return discard(c.TestPolicy(ctx, Candidate{Bundle: []byte("abc")}))
	}, `POST /v1/policy/test {"bundle":"YWJj"}`},
	{"ReplayPolicy", func(ctx context.Context, c *Client) error {
		return discard(c.ReplayPolicy(ctx, ReplayInput{Candidate: Candidate{Roles: []Role{{Name: "dba"}}}, Since: at("2026-03-01T00:00:00Z")}))
	}, `POST /v1/policy/replay {"roles":[{"name":"dba"}],"since":"2026-03-01T00:00:00Z"}`},
	{"DiffPolicy", func(ctx context.Context, c *Client) error {
		return discard(c.DiffPolicy(ctx, ReplayInput{Candidate: Candidate{Bundle: []byte("abc")}, Since: at("2026-03-01T00:00:00Z")}))
	}, `POST /v1/policy/diff {"bundle":"YWJj","since":"2026-03-01T00:00:00Z"}`},
	{"Authorities", func(ctx context.Context, c *Client) error { return discard(c.Authorities(ctx)) }, `GET /v1/authorities`},
	{"KRL", func(ctx context.Context, c *Client) error { return drain(c.KRL(ctx)) }, `GET /v1/krl`},
	{"RotateAuthority", func(ctx context.Context, c *Client) error {
		return discard(c.RotateAuthority(ctx, "user", RotateInput{Step: "retire", Now: true}))
	}, `POST /v1/authorities/user/rotate {"step":"retire","now":true}`},
	{"SetCredential", func(ctx context.Context, c *Client) error {
		return discard(c.SetCredential(ctx, "db01", "dba", CredentialInput{Credential: "password", Secret: []byte("pw")}))
	}, `PUT /v1/targets/db01/accounts/dba/credential {"credential":"password","secret":"cHc="}`},
	{"ManageAccount", func(ctx context.Context, c *Client) error {
		return discard(c.ManageAccount(ctx, "db01", "dba", ManageInput{Managed: Managed{EverySeconds: 86400, AfterUse: true}, Secret: []byte("pw")}))
	}, `PUT /v1/targets/db01/accounts/dba/managed {"every_seconds":86400,"after_use":true,"secret":"cHc="}`},
	{"UnmanageAccount", func(ctx context.Context, c *Client) error {
		return c.UnmanageAccount(ctx, "db01", "dba", UnmanageInput{"INC-1", true})
	}, `POST /v1/targets/db01/accounts/dba/unmanage {"reason":"INC-1","gone":true}`},
	{"RotateAccount", func(ctx context.Context, c *Client) error {
		return discard(c.RotateAccount(ctx, "db01", "dba", "INC-1"))
	}, `POST /v1/targets/db01/accounts/dba/rotate {"reason":"INC-1"}`},
	{"Passwords", func(ctx context.Context, c *Client) error { return discard(c.Passwords(ctx, "db01")) }, `GET /v1/targets/db01/passwords`},
	{"RecoverPasswords", func(ctx context.Context, c *Client) error {
		return discard(c.RecoverPasswords(ctx, "db01", "dba", "INC-1"))
	}, `POST /v1/targets/db01/accounts/dba/recover {"reason":"INC-1"}`},
	{"PushKRL", func(ctx context.Context, c *Client) error { return discard(c.PushKRL(ctx)) }, `POST /v1/krl/push`},
	{"RevokeCertificate", func(ctx context.Context, c *Client) error {
		return discard(c.RevokeCertificate(ctx, RevokeInput{"7", "no"}))
	}, `POST /v1/certificates/revoke {"certificate":"7","reason":"no"}`},
	{"MadeAccounts", func(ctx context.Context, c *Client) error { return discard(c.MadeAccounts(ctx)) }, `GET /v1/accounts`},
	{"GiveUpAccount", func(ctx context.Context, c *Client) error { return c.GiveUpAccount(ctx, "PRO-1", "r") }, `POST /v1/accounts/PRO-1/give-up {"reason":"r"}`},
	{"Version", func(ctx context.Context, c *Client) error { return discard(c.Version(ctx)) }, `GET /v1/version`},
}

func testClient(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	hc, err := NewHTTP("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	return &Client{Server: srv.URL, Token: "secret", HTTP: hc, Timeout: 10 * time.Second}
}

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func TestRoutes(t *testing.T) {
	methods := map[string]bool{}
	for m := range reflect.TypeFor[*Client]().Methods() {
		methods[m.Name] = true
	}
	for _, tt := range routes {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				body, _ := io.ReadAll(r.Body)
				got := strings.TrimSpace(r.Method + " " + r.RequestURI + " " + string(body))
				if got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if h := r.Header.Get("Authorization"); h != "Bearer secret" {
					t.Errorf("Authorization is %q", h)
				}
				if h := r.Header.Get("Content-Type"); (len(body) > 0) != (h == "application/json") {
					t.Errorf("Content-Type is %q with %d bytes", h, len(body))
				}
				answer(w, http.StatusOK, "application/json; charset=utf-8", "{}")
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Error(err)
			}
			if calls != 1 {
				t.Errorf("%d calls", calls)
			}
		})
		if !methods[tt.name] {
			t.Errorf("%s is not a method", tt.name)
		}
		delete(methods, tt.name)
	}
	delete(methods, "SSH") // TestSSH
	for name := range methods {
		t.Errorf("the method %s is not tested", name)
	}
}

func TestProblem(t *testing.T) {
	tests := []struct {
		name, kind, body string
		status           int
		want             Problem
	}{
		{"ours", ProblemType, `{"title":"Forbidden","status":200,"detail":"no","code":"DB-2002","rule":"approve.self","next":"ask","id":"x"}`, 403,
			Problem{Title: "Forbidden", Status: 403, Detail: "no", Code: "DB-2002", Rule: "approve.self", Next: "ask", ID: "x"}},
		{"of a proxy", "text/html", "<h1>oops</h1>", 418, Problem{Title: "I'm a teapot", Status: 418, Detail: "the server answered 418 I'm a teapot"}},
		{"not JSON", ProblemType, "{", 400, Problem{Title: "Bad Request", Status: 400, Detail: "the server answered 400 Bad Request"}},
		{"a redirect is not followed", "text/plain", "", 302, Problem{Title: "Found", Status: 302, Detail: "the server answered 302 Found"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				w.Header().Set("Location", "/elsewhere")
				answer(w, tt.status, tt.kind, tt.body)
			})
			_, err := c.Me(t.Context())
			if p := AsProblem(err); p == nil || *p != tt.want {
				t.Errorf("got %+v, want %+v", p, tt.want)
			}
			if calls != 1 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		name   string
		status int
		call   func(context.Context, *Client) error
		want   int32
	}{
		{"GET behind a proxy", 503, func(ctx context.Context, c *Client) error { return discard(c.Me(ctx)) }, attempts},
		{"POST behind a proxy", 503, func(ctx context.Context, c *Client) error { return discard(c.Cancel(ctx, "x")) }, 1},
		{"GET with an error of the server", 500, func(ctx context.Context, c *Client) error { return discard(c.Me(ctx)) }, 1},
		{"GET, broken off", 0, func(ctx context.Context, c *Client) error { return discard(c.Me(ctx)) }, attempts},
		{"POST, broken off", 0, func(ctx context.Context, c *Client) error { return discard(c.Cancel(ctx, "x")) }, 1},
		{"DELETE, broken off", 0, func(ctx context.Context, c *Client) error { return c.RemoveRole(ctx, "x") }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if tt.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(tt.status)
			})
			if err := tt.call(t.Context(), c); err == nil {
				t.Error("no error")
			}
			if got := calls.Load(); got != tt.want {
				t.Errorf("%d calls, want %d", got, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Run("too long", func(t *testing.T) {
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			chunk := bytes.Repeat([]byte(" "), 1<<20)
			for range MaxResponse>>20 + 1 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
		if _, err := c.Me(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than 64 MiB") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not JSON", func(t *testing.T) {
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, "text/html", "{}") })
		if _, err := c.Me(t.Context()); err == nil || !strings.Contains(err.Error(), "is it a drawbolt server?") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		c.Timeout = 50 * time.Millisecond
		if _, err := c.Me(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Me: %v", err)
		}
		if _, err := c.ExportAudit(t.Context()); err == nil {
			t.Error("ExportAudit: no error")
		}
	})
	t.Run("a stream may take longer than the timeout", func(t *testing.T) {
		release := make(chan struct{})
		c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begin ")
			w.(http.Flusher).Flush()
			<-release
			io.WriteString(w, "end")
		})
		c.Timeout = 2 * time.Second
		r, err := c.ExportAudit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		time.AfterFunc(c.Timeout+300*time.Millisecond, func() { close(release) })
		if b, err := io.ReadAll(r); err != nil || string(b) != "begin end" {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestAwaitOutlastsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{Server: "https://gw.example.com", Timeout: 5 * time.Second, HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(30 * time.Second): // the server holds the question
			}
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"id":"REQ-1","version":2}`))}, nil
		})}}
		r, err := c.AwaitRequest(t.Context(), "REQ-1", 1, 30*time.Second)
		if err != nil || r.Version != 2 {
			t.Errorf("got %+v, %v", r, err)
		}
		if _, err := c.FindRequest(t.Context(), "REQ-1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("FindRequest: %v", err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTrust(t *testing.T) {
	calls := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		answer(w, 200, "application/json", `{"version":"1"}`)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes
	srv.StartTLS()
	defer srv.Close()
	pin := Fingerprint(srv.Certificate())
	seen, err := PeerFingerprint(t.Context(), srv.URL)
	if err != nil || seen != pin {
		t.Errorf("PeerFingerprint: %s, %v; want %s", seen, err, pin)
	}
	if calls != 0 {
		t.Error("PeerFingerprint made a request")
	}
	other := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, pin string
		ok        bool
	}{{"pinned", pin, true}, {"pinned, as openssl writes it", "SHA256:" + colons(pin), true}, {"another pin", other, false}, {"roots of the system", "", false}} {
		t.Run(tt.name, func(t *testing.T) {
			calls = 0
			h, err := NewHTTP(tt.pin)
			if err != nil {
				t.Fatal(err)
			}
			defer h.CloseIdleConnections()
			_, err = (&Client{Server: srv.URL, HTTP: h, Token: "secret"}).Version(t.Context())
			if (err == nil) != tt.ok || (calls == 1) != tt.ok {
				t.Errorf("%d calls, %v", calls, err)
			}
			if Untrusted(err) == tt.ok {
				t.Errorf("Untrusted is %t of %v", !tt.ok, err)
			}
		})
	}
}

func colons(h string) string {
	var parts []string
	for i := 0; i < len(h); i += 2 {
		parts = append(parts, strings.ToUpper(h[i:i+2]))
	}
	return strings.Join(parts, ":")
}

func TestCheckServer(t *testing.T) {
	for in, want := range map[string]string{
		"https://gw.example.com":       "https://gw.example.com",
		"https://gw.example.com:8443/": "https://gw.example.com:8443",
		"http://127.0.0.1:8080":        "http://127.0.0.1:8080",
		"http://[::1]:8080":            "http://[::1]:8080",
		"http://gw.example.com":        "",
		"http://127.0.0.1.example.com": "",
		"https://a:b@gw.example.com":   "",
		"https://gw.example.com/v1":    "",
		"https://gw.example.com?x":     "",
		"https://":                     "",
		"ftp://gw.example.com":         "",
		"gw.example.com":               "",
	} {
		got, err := CheckServer(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
	c := &Client{Server: "http://gw.example.com", Token: "secret", HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("a token was sent in the clear")
		return nil, errors.New("no")
	})}}
	if _, err := c.Me(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"role", `{"name":"dba","rules":[{"id":"r","actions":["request"],"targets":{"labels":{"environment":["prod"]}},"session":{"shell":true}}]}`, ""},
		{"unknown", `{"name":"dba","x":1}`, `the key "x" is not known`},
		{"unknown, deep", `{"name":"dba","rules":[{"id":"r","max_duration":"1h"}]}`, `the key "max_duration" is not known`},
		{"another case", `{"Name":"dba"}`, `the key "Name" is not known`},
		{"twice", `{"name":"dba","name":"root"}`, `the key "name" stands there twice`},
		{"twice in a map", `{"rules":[{"targets":{"labels":{"a":[],"a":["b"]}}}]}`, `the key "a" stands there twice`},
		{"two values", `{"name":"dba"}{}`, "something follows"},
		{"cut", `{"name":`, "unexpected EOF"},
		{"empty", ``, "unexpected EOF"},
		{"deep", strings.Repeat("[", 100), "too deep"},
		{"another type", `{"name":1}`, "cannot unmarshal number"},
	} {
		var r Role
		err := Unmarshal([]byte(tt.in), &r)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// FuzzUnmarshal: what is taken means what it says. Decoded and encoded again it
// is taken again and is the same.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"name":"dba","rules":[{"id":"r","actions":[],"targets":{"labels":{"a":["b"]}},"session":{}}],"version":2}`))
	f.Add([]byte(`{"name":"a","name":"b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Role
		if Unmarshal(b, &r) != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if out2, _ := json.Marshal(again); !bytes.Equal(out, out2) {
			t.Fatalf("%s became %s", out, out2)
		}
	})
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(strings.Repeat("a0", 32))
	f.Add("SHA256:" + colons(strings.Repeat("0f", 32)))
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseFingerprint(s)
		if err != nil {
			return
		}
		if again, err := ParseFingerprint(h); err != nil || again != h || len(h) != 64 {
			t.Fatalf("%q gave %q, then %q, %v", s, h, again, err)
		}
	})
}

func ExampleClient() {
	h, err := NewHTTP("") // or the fingerprint of a self-signed certificate
	if err != nil {
		fmt.Println(err)
		return
	}
	c := &Client{Server: "https://gw.example.com", Token: "from Login", HTTP: h}
	r, err := c.Request(context.Background(), RequestInput{Target: "db01", Account: "root", Reason: "INC-42"})
	for err == nil && r.State == Pending {
		r, err = c.AwaitRequest(context.Background(), r.ID, r.Version, MaxWait)
	}
}
