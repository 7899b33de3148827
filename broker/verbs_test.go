package broker_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// refuseAll is a policy that allows nobody anything.
var refuseAll = fstest.MapFS{"none.rego": {Data: []byte(`package drawbolt
decision := {
	"allow": false, "role": "", "rule": "", "approvals": [], "max_seconds": 0, "mfa_seconds": 0, "break_glass": false,
	"session": {"recording": "strict", "shell": false, "exec": false, "agent": false, "x11": false, "commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false},
	"reasons": [{"rule": "none", "text": "nobody may do anything"}],
}`)}}

// A scene is what the verbs below are called on.
type scene struct {
	*house
	pending, granted broker.Case
	session          *broker.Live // of granted, open
	closed           access.Session
	held             string                 // a hold on the session that is open
	window           string                 // the id of one that is not open
	glass            string                 // a request that was break-glass, and is over
	review           string                 // a campaign
	code             string                 // of an account in another system that is nobody's yet
	linked           access.ExternalAccount // bob's
	found            string                 // an account that a scan has found on db01
}

func newScene(h *house) *scene {
	t := h.t
	s := &scene{house: h}
	s.pending, s.granted = h.ask("alice", "root@db02"), h.granted()
	key, err := h.AddKey(t.Context(), h.as("alice"), "", keyText(newKey(t)), "laptop")
	ok(t, err)
	_ = key
	over := h.session("alice", s.granted)
	ok(t, h.Started(t.Context(), over))
	ok(t, h.Close(t.Context(), over, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: "r1", SHA256: strings.Repeat("0", 64), Size: 1}}))
	s.closed, err = h.db.Session(t.Context(), over.Session.ID)
	ok(t, err)
	s.session = h.session("alice", s.granted)
	_, err = h.Credential(t.Context(), s.session, newKey(t))
	ok(t, err)
	ok(t, h.Detected(t.Context(), s.session, broker.Detection{Level: access.DetectAlert, Rule: "alert mysqldump", Command: "mysqldump --all-databases", Sent: true}))
	s.stuck()
	hold, _, err := h.HoldRecordings(t.Context(), h.as("kim"), broker.HoldOrder{Sessions: []string{s.session.Session.ID}, Reason: "case 42"})
	ok(t, err)
	s.held = hold.ID
	s.glass = h.brokenGlass("erin").Request.ID
	c, err := h.StartCampaign(t.Context(), h.as("rita"), broker.CampaignOrder{Owner: "rita", Due: h.clock.now().Add(24 * time.Hour)})
	ok(t, err)
	s.review = c.ID
	s.linked = access.ExternalAccount{Kind: "slack", Team: "T1", ID: "UBOB", Name: "bob"}
	s.code, err = h.BeginLink(t.Context(), s.linked)
	ok(t, err)
	_, err = h.ConfirmLink(t.Context(), h.as("bob"), s.code)
	if !errors.Is(err, access.ErrConflict) { // he may have it already
		ok(t, err)
	}
	s.code, err = h.BeginLink(t.Context(), access.ExternalAccount{Kind: "slack", Team: "T1", ID: "UALICE", Name: "alice"})
	ok(t, err)
	_, err = h.db.ClaimChannel(t.Context(), "ops", "mail", "node1", time.Minute)
	ok(t, err)
	s.found = h.discovered("db01")
	h.managed("pg01", "app")
	window, err := h.AddWindow(t.Context(), h.as("root"), access.Window{Kind: access.Maintenance, Reason: "CHG-1", Hours: "00:00-00:01", Targets: access.Selector{Names: []string{"other"}}})
	ok(t, err)
	s.window = window.ID
	if _, err := h.db.Network(t.Context(), "office"); err != nil { // the house may have seen a scene before
		_, err = h.SetNetwork(t.Context(), h.as("root"), access.Network{Name: "office", Ranges: []string{"192.0.2.0/24"}})
		ok(t, err)
	}
	return s
}

// stuck is an account whose removal has failed.
func (s *scene) stuck() string {
	g := s.granted.Grant
	p := access.Provision{ID: access.NewID(access.ProvisionPrefix), GrantID: g.ID, TargetID: g.TargetID, State: access.Removing, Tries: 1, Version: 1}
	p.Login = p.ID // one of a kind on the target
	if old, err := s.db.Provision(s.t.Context(), g.ID); err == nil {
		return old.ID
	}
	ok(s.t, s.db.Change(s.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddProvision(s.t.Context(), &p)
	}))
	return p.ID
}

// verbs calls every verb, each in a way that the house's own policy allows, so
// that a refusal is the other policy's. One name may have several lines.
var verbs = []struct {
	name   string
	who    string
	call   func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error
	hidden bool // the answer is "not found": that there is one is told to nobody who may not know
}{
	{"Request", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Request(ctx, by, asking("guest@db01"))
		return err
	}, true},
	{"Request", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // joins the pending one
		_, err := b.Request(ctx, by, asking("root@db02"))
		return err
	}, false},
	{"Request", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // has a grant
		_, err := b.Request(ctx, by, asking("root@db01"))
		return err
	}, false},
	{"FindRequest", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindRequest(ctx, by, s.pending.Request.ID)
		return err
	}, true},
	{"FindRequest", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindRequest(ctx, by, s.granted.Grant.ID)
		return err
	}, true},
	{"Requests", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Requests(ctx, by, broker.Filter{Mine: true})
		return err
	}, false},
	{"Await", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Await(ctx, by, s.pending.Request.ID, -1)
		return err
	}, true},
	{"Cancel", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Cancel(ctx, by, s.pending.Request.ID)
		return err
	}, true},
	{"Approve", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Approve(ctx, by, s.pending.Request.ID, s.pending.Request.Digest(), broker.Answer{})
		return err
	}, true},
	{"Deny", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Deny(ctx, by, s.pending.Request.ID, "", "not today")
		return err
	}, true},
	{"Ask", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Ask(ctx, by, s.pending.Request.ID, "which disk?")
		return err
	}, true},
	{"Answer", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		if b == s.Broker {
			_, err := b.Ask(ctx, s.as("bob"), s.pending.Request.ID, "which disk?")
			ok(s.t, err)
		}
		_, err := b.Answer(ctx, by, s.pending.Request.ID, 1, "sdb")
		return err
	}, true},
	{"HandOver", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.HandOver(ctx, by, s.pending.Request.ID, "dave", "he knows the disks")
		return err
	}, true},
	{"Edit", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Edit(ctx, by, s.pending.Request.ID, access.Edit{Duration: 30 * time.Minute})
		return err
	}, true},
	{"Delegate", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Delegate(ctx, by, "", "carol", time.Time{}, s.clock.now().Add(time.Hour), "away")
		return err
	}, false},
	{"Delegate", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Delegate(ctx, by, "bob", "carol", time.Time{}, s.clock.now().Add(time.Hour), "ill")
		return err
	}, false},
	{"EndDelegation", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		if b == s.Broker {
			_, err := b.Delegate(ctx, by, "", "carol", time.Time{}, s.clock.now().Add(time.Hour), "away")
			ok(s.t, err)
		}
		return b.EndDelegation(ctx, by, "")
	}, false},
	{"Delegations", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Delegations(ctx, by, false)
		return err
	}, false},
	{"Extend", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Extend(ctx, by, s.granted.Grant.ID, time.Minute)
		return err
	}, true},
	{"Release", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Release(ctx, by, s.granted.Grant.ID)
		return err
	}, true},
	{"Revoke", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Revoke(ctx, by, s.granted.Request.ID, "INC-1")
		return err
	}, true},
	{"Reach", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // a grant
		_, err := b.Reach(ctx, by, "db01", "root")
		return err
	}, true},
	{"Reach", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // a pending request
		_, err := b.Reach(ctx, by, "db02", "root")
		return err
	}, true},
	{"Reach", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // nothing yet
		_, err := b.Reach(ctx, by, "db01", "guest")
		return err
	}, true},
	{"Open", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Open(ctx, by, s.granted.Grant.ID, broker.Opening{Kind: "shell"})
		return err
	}, false},
	{"FindTarget", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindTarget(ctx, by, "vault01")
		return err
	}, true},
	{"FindTarget", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error { // with a grant
		_, err := b.FindTarget(ctx, by, "db01")
		return err
	}, true},
	{"AddTarget", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.AddTarget(ctx, by, access.Target{Name: "new", Address: "192.0.2.9:22"})
		return err
	}, false},
	{"SetTarget", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.SetTarget(ctx, by, access.Target{Name: "db02", Address: "203.0.113.1:22", Version: 1})
		return err
	}, false},
	{"RecordFacts", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RecordFacts(ctx, by, "db01", map[string]string{"patched": "yes"}, time.Time{})
		return err
	}, true},
	{"BeginDiscovery", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.BeginDiscovery(ctx, by, "db02", "root")
		return err
	}, true},
	{"FoundAccounts", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.FoundAccounts(ctx, by, broker.FoundFilter{})
		return err
	}, false},
	{"FindFound", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindFound(ctx, by, s.found)
		return err
	}, true},
	{"Posture", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Posture(ctx, by, "db01")
		return err
	}, true},
	{"Postures", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.Postures(ctx, by, "", 0)
		return err
	}, false},
	{"ManageFound", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		owner := "alice"
		_, err := b.ManageFound(ctx, by, []string{s.found}, broker.Management{Owner: &owner})
		return err
	}, true},
	{"OnboardAccount", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.OnboardAccount(ctx, by, s.found, broker.Onboarding{Managed: access.Managed{Reset: "root"}})
		return err
	}, true},
	{"PreviewOnboarding", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.PreviewOnboarding(ctx, by, s.found, broker.Onboarding{Managed: access.Managed{Reset: "root"}})
		return err
	}, true},
	{"Windows", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Windows(ctx, by)
		return err
	}, false},
	{"AddWindow", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.AddWindow(ctx, by, access.Window{Kind: access.Maintenance, Reason: "CHG-1", Hours: "22:00-04:00"})
		return err
	}, false},
	{"RemoveWindow", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.RemoveWindow(ctx, by, s.window)
	}, false},
	{"Networks", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Networks(ctx, by)
		return err
	}, false},
	{"SetNetwork", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.SetNetwork(ctx, by, access.Network{Name: "vpn", Ranges: []string{"10.8.0.0/16"}})
		return err
	}, false},
	{"RemoveNetwork", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.RemoveNetwork(ctx, by, "office")
	}, false},
	{"RemoveTarget", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.RemoveTarget(ctx, by, "db01")
	}, false},
	{"LockTarget", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.LockTarget(ctx, by, "db01", true, "INC-1")
	}, false},
	{"SetCredential", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.SetCredential(ctx, by, "db01", "root", access.CredentialPassword, []byte("correct horse"))
	}, true},
	{"Checkout", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		if b == s.Broker {
			ok(s.t, s.Close(ctx, s.session, broker.Closing{Reason: "exited"}))
			s.lends(access.CheckoutAny)
			s.granted = s.regranted()
		}
		_, _, err := b.Checkout(ctx, by, s.granted.Request.ID, "")
		return err
	}, false},
	{"Checkin", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		if b == s.Broker {
			s.lends(access.CheckoutAny)
			s.granted = s.regranted()
			s.shown("alice", s.granted)
		}
		_, err := b.Checkin(ctx, by, s.granted.Request.ID, "")
		return err
	}, true},
	{"Leases", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Leases(ctx, by, broker.LeaseFilter{})
		return err
	}, false},
	{"PushRevocations", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.PushRevocations(ctx, by)
		return err
	}, false},
	{"BeginCheck", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.BeginCheck(ctx, by, "db01", "")
		return err
	}, true},
	{"BeginBootstrap", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.BeginBootstrap(ctx, by, "db01")
		return err
	}, true},
	{"MadeAccounts", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.MadeAccounts(ctx, by)
		return err
	}, false},
	{"GiveUpAccount", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.GiveUpAccount(ctx, by, s.stuck(), "the machine is gone")
	}, false},
	{"FindTargets", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.FindTargets(ctx, by, broker.TargetFilter{})
		return err
	}, false},
	{"FindUsers", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.FindUsers(ctx, by, broker.UserFilter{})
		return err
	}, false},
	{"Groups", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Groups(ctx, by)
		return err
	}, false},
	{"FindPerson", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindPerson(ctx, by, "alice")
		return err
	}, false},
	{"Changes", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Changes(ctx, by, broker.TopicRequests, -1)
		return err
	}, false},
	{"May", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.May(ctx, by, "role.read")
		return err
	}, false},
	{"MayReadSystem", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.MayReadSystem(ctx, by)
	}, false},
	{"Story", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Story(ctx, by, s.granted.Request.ID)
		return err
	}, true},
	{"Users", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Users(ctx, by)
		return err
	}, false},
	{"FindUser", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindUser(ctx, by, "alice")
		return err
	}, false},
	{"AddUser", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.AddUser(ctx, by, access.User{Name: "new"})
		return err
	}, false},
	{"SetUser", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		u := s.user("mallory")
		u.Groups = []string{"admins"}
		_, err := b.SetUser(ctx, by, u)
		return err
	}, false},
	{"LockUser", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.LockUser(ctx, by, "mallory", true, "INC-1")
	}, false},
	{"Keys", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Keys(ctx, by, "")
		return err
	}, false},
	{"Keys", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Keys(ctx, by, "alice")
		return err
	}, false},
	{"AddKey", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.AddKey(ctx, by, "", keyText(newKey(s.t)), "")
		return err
	}, false},
	{"AddKey", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.AddKey(ctx, by, "alice", keyText(newKey(s.t)), "")
		return err
	}, false},
	{"RemoveKey", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		list, err := s.db.PublicKeys(ctx, by.User.ID)
		ok(s.t, err)
		return b.RemoveKey(ctx, by, "", list[0].Fingerprint)
	}, false},
	{"MaySetUp", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.MaySetUp(ctx, by, "alice")
		return err
	}, false},
	{"FactorsOf", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FactorsOf(ctx, by, "alice")
		return err
	}, false},
	{"MayTakeFactor", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.MayTakeFactor(ctx, by, "alice")
		return err
	}, false},
	{"NeedsFactor", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.NeedsFactor(ctx, by)
		return err
	}, false},
	{"Roles", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Roles(ctx, by)
		return err
	}, false},
	{"FindRole", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindRole(ctx, by, "engineers")
		return err
	}, false},
	{"SetRole", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.SetRole(ctx, by, access.Role{Name: "new"})
		return err
	}, false},
	{"RemoveRole", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.RemoveRole(ctx, by, "auditors")
	}, false},
	{"OwnRoles", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.OwnRoles(ctx, by)
		return err
	}, false},
	{"Explain", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Explain(ctx, by, broker.WhatIf{Target: "vault01", Account: "root", Action: "request"})
		return err
	}, true},
	{"Explain", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Explain(ctx, by, broker.WhatIf{User: "alice", Target: "db01", Account: "root", Action: "request"})
		return err
	}, false},
	{"ShowPolicy", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.ShowPolicy(ctx, by)
		return err
	}, false},
	{"WhoCan", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.WhoCan(ctx, by, "db01", "root")
		return err
	}, false},
	{"CanReach", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.CanReach(ctx, by, "alice")
		return err
	}, false},
	{"TestPolicy", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.TestPolicy(ctx, by, broker.Candidate{Files: filesOf(s.t, refuseAll)})
		return err
	}, false},
	{"ReplayPolicy", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.ReplayPolicy(ctx, by, broker.Candidate{Files: filesOf(s.t, refuseAll)}, time.Time{})
		return err
	}, false},
	{"DiffPolicy", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.DiffPolicy(ctx, by, broker.Candidate{Roles: []access.Role{}}, time.Time{})
		return err
	}, false},
	{"Sessions", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Sessions(ctx, by, broker.SessionFilter{})
		return err
	}, false},
	{"FindSession", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindSession(ctx, by, s.closed.ID)
		return err
	}, true},
	{"FindSession", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindSession(ctx, by, s.closed.ID)
		return err
	}, true},
	{"Replay", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Replay(ctx, by, s.closed.ID, "play")
		return err
	}, true},
	{"Look", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Look(ctx, by, s.closed.ID, broker.Glance{Open: true})
		return err
	}, true},
	{"LastCheck", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.LastCheck(ctx, by, s.closed.ID)
		return err
	}, true},
	{"Search", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Search(ctx, by, broker.SearchFilter{Query: "DROP TABLE"})
		return err
	}, false},
	{"Evidence", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Evidence(ctx, by, s.closed.ID)
		return err
	}, true},
	{"Proof", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Proof(ctx, by, s.closed.ID)
		return err
	}, true},
	{"RecordingLife", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RecordingLife(ctx, by, s.closed.ID)
		return err
	}, true},
	{"HoldRecordings", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.HoldRecordings(ctx, by, broker.HoldOrder{Sessions: []string{s.closed.ID}, Reason: "case 4711"})
		return err
	}, true},
	{"HoldRecordings", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.HoldRecordings(ctx, by, broker.HoldOrder{User: "alice", Reason: "case 4711"})
		return err
	}, true},
	{"Holds", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Holds(ctx, by)
		return err
	}, false},
	{"LiftHold", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.LiftHold(ctx, by, s.held, "case 4711 is closed")
		return err
	}, false},
	{"DeleteRecording", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.DeleteRecording(ctx, by, s.closed.ID, "erasure request 88")
		return err
	}, true},
	{"GlassCases", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.GlassCases(ctx, by, true, "", 0)
		return err
	}, false},
	{"FindGlassCase", "erin", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindGlassCase(ctx, by, s.glass)
		return err
	}, true},
	{"ReviewGlass", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.ReviewGlass(ctx, by, s.glass, access.Justified, "the disk was full")
		return err
	}, true},
	{"Acknowledge", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Acknowledge(ctx, by, s.glass, 0)
	}, true},
	{"Acknowledge", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Acknowledge(ctx, by, s.session.Session.ID, 1)
	}, true},
	{"Expected", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Expected(ctx, by, s.session.Session.ID, 1, "the backup of CHG-7")
	}, true},
	{"Holdings", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.Holdings(ctx, by, broker.HoldingFilter{})
		return err
	}, false},
	{"StartCampaign", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.StartCampaign(ctx, by, broker.CampaignOrder{Owner: "sam", Due: s.clock.now().Add(time.Hour)})
		return err
	}, false},
	{"Campaigns", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Campaigns(ctx, by, false, "", 0)
		return err
	}, false},
	{"FindCampaign", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindCampaign(ctx, by, s.review)
		return err
	}, false},
	{"CampaignItems", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.CampaignItems(ctx, by, s.review, false, 0, 0)
		return err
	}, false},
	{"DecideItems", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.DecideItems(ctx, by, s.review, []int{1}, access.Kept, "an engineer")
		return err
	}, false},
	{"CloseCampaign", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.CloseCampaign(ctx, by, s.review, true)
		return err
	}, false},
	{"ExportCampaign", "rita", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.ExportCampaign(ctx, by, s.review)
		return err
	}, false},
	{"Retention", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Retention(ctx, by)
		return err
	}, false},
	{"SetRetention", "kim", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, _, err := b.SetRetention(ctx, by, access.Retention{Version: 1, Rules: []access.RetentionRule{{ID: "year", KeepDays: 365}}})
		return err
	}, false},
	{"Terminate", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Terminate(ctx, by, s.session.Session.ID, "INC-1")
	}, true},
	{"Watch", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		w, err := b.Watch(ctx, by, s.session.Session.ID, false)
		if err == nil {
			err = w.End(ctx, 0, time.Second, nil)
		}
		return err
	}, true},
	{"Message", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Message(ctx, by, s.session.Session.ID, "please stop")
	}, true},
	{"Pause", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Pause(ctx, by, s.session.Session.ID)
	}, true},
	{"Resume", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		if b == s.Broker {
			ok(s.t, b.Pause(ctx, by, s.session.Session.ID))
		}
		return b.Resume(ctx, by, s.session.Session.ID)
	}, true},
	{"Events", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Events(ctx, by, broker.EventFilter{})
		return err
	}, false},
	{"Checkpoint", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Checkpoint(ctx, by)
		return err
	}, false},
	{"Trail", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Trail(ctx, by, broker.TrailFilter{})
		return err
	}, false},
	{"LogState", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.LogState(ctx, by)
		return err
	}, false},
	{"ExportAudit", "carol", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		var w bytes.Buffer
		err := b.ExportAudit(ctx, by, &w)
		if w.Len() > 0 && err != nil {
			s.t.Error("refused, but something was written")
		}
		return err
	}, false},
	{"RotateAuthority", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RotateAuthority(ctx, by, "user", broker.StepStage, false)
		return err
	}, false},
	{"RevokeCertificate", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RevokeCertificate(ctx, by, s.session.Session.ID, "INC-7 lost")
		return err
	}, false},
	{"Integrations", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Integrations(ctx, by)
		return err
	}, false},
	{"FindIntegration", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindIntegration(ctx, by, "ops")
		return err
	}, false},
	{"TestIntegration", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.TestIntegration(ctx, by, "ops")
		return err
	}, false},
	{"RetryIntegration", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RetryIntegration(ctx, by, "ops")
		return err
	}, false},
	{"MayCheckIntegration", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.MayCheckIntegration(ctx, by, "slack")
	}, false},
	{"FindLink", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.FindLink(ctx, by, s.code)
		return err
	}, false},
	{"ConfirmLink", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.ConfirmLink(ctx, by, s.code)
		return err
	}, false},
	{"Links", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Links(ctx, by, "")
		return err
	}, false},
	{"Links", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Links(ctx, by, "bob")
		return err
	}, false},
	{"Unlink", "bob", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Unlink(ctx, by, "", s.linked)
	}, false},
	{"Unlink", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.Unlink(ctx, by, "bob", s.linked)
	}, false},
	{"ManageAccount", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.ManageAccount(ctx, by, "pg01", "app", "", access.Managed{}, []byte("a new one"))
	}, true},
	{"UnmanageAccount", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.UnmanageAccount(ctx, by, "pg01", "app", "INC-1", true)
	}, true},
	{"RotateAccount", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		return b.RotateAccount(ctx, by, "pg01", "app", "INC-1")
	}, true},
	{"Passwords", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Passwords(ctx, by, "pg01")
		return err
	}, true},
	{"RecoverPasswords", "root", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.RecoverPasswords(ctx, by, "pg01", "app", "INC-1")
		return err
	}, true},
	{"Certify", "alice", func(ctx context.Context, b *broker.Broker, by access.Caller, s *scene) error {
		_, err := b.Certify(ctx, by, newKey(s.t))
		return err
	}, false},
}

// notVerbs are the exported methods that ask no policy, and why.
var notVerbs = map[string]string{
	"BeginDue":            "the server's own: scans that DueDiscoveries has planned",
	"DueDiscoveries":      "the server's own: what is to be scanned",
	"DiscoveryCredential": "for a scan that was begun, while its target stays as it is",
	"DiscoveryLend":       "for a scan that was begun, while its target stays as it is",
	"EndDiscovery":        "for a scan that was begun: what it found",
	"ScanTotals":          "figures that the server measures",
	"ScansAfter":          "figures that the server measures",
	"Run":                 "the server's own loop",
	"Authorities":         "public keys",
	"KRL":                 "serials that say nothing, for every target",
	"HostCertificate":     "the bastion's own, for a key that it made",
	"KnowsKey":            "spares a peer a signature; proves and tells nothing",
	"Recognize":           "finds out who the caller is",
	"Credential":          "for the handle that Open returned, while it holds",
	"HopCredential":       "for the handle that Open returned, while it holds",
	"Started":             "for the handle that Open returned",
	"Transferred":         "writes down what became of a file",
	"Detected":            "writes down that a command was seen",
	"Close":               "for the handle that Open returned; ending takes nothing",
	"Refused":             "writes down that a front refused something",
	"Recovered":           "the server's own, after a crash",
	"ExpireRecordings":    "the server's own, for rules that two people have set",
	"Abandoned":           "closes what this server left open when it died",
	"CheckLog":            "the server's own, before it serves",
	"Account":             "what the server itself has planned",
	"DueRotations":        "the server's own: which passwords are to be changed or proved",
	"AbandonRotations":    "the server's own, after a crash",
	"BeginRotation":       "the server's own, for what is due; it tells nobody a password",
	"BeginFailed":         "the server's own: that a step could not be begun",
	"RotationCredential":  "the server's own, for a step that it has begun, while it holds",
	"EndRotation":         "the server's own: how a step ended",
	"AbandonSteps":        "the server's own, after a crash",
	"UsePolicy":           "the server's own, with a bundle that its operator put there",
	"PolicyRefused":       "the server's own, with a bundle that its operator put there",
	"TellPolicy":          "the server's own, each minute",
	"PolicyFindings":      "for the doctor, who holds the master key",
	"DueAccounts":         "the server's own: what is to be removed",
	"BeginCreation":       "for the grant of a session that Open opened, while it holds",
	"BeginRemoval":        "the server's own, when a grant is over; removing takes nothing that anybody may keep",
	"StepCredential":      "the server's own, for a step that it has begun, while it holds",
	"CheckCredential":     "for a check that BeginCheck allowed; asks once more",
	"EndCheck":            "for a check that BeginCheck allowed: what it found",
	"UseBootstrap":        "for the bearer of a token; asks for who made it",
	"EndBootstrap":        "for a check that UseBootstrap allowed: what it found",
	"StepDone":            "the server's own: how a step ended",
	"StepFailed":          "the server's own: how a step ended",
	"AwaitRevocation":     "the server's own: who is to learn at once what is in KRL",
	"BeginDelivery":       "the server's own: what is in KRL, for the machines",
	"DeliveryCredential":  "the server's own, for a delivery that it has begun, while it holds",
	"EndPush":             "the server's own: how a push ended",
	"Lend":                "for the handle that Open returned, while it holds",
	"CheckLend":           "for a check that BeginCheck allowed; asks once more",
	"Checked":             "writes down what a verification found, which Proof allowed",
	"Quarantined":         "writes down that an object does not arrive where recordings are kept",
	"RoomChanged":         "writes down how much room there is for recordings",
	"AwaitEvents":         "the server's own: how long the log is",
	"Tell":                "the server's own, for channels that the configuration names",
	"IntegrationStatus":   "the server's own, for its metrics",
	"BeginLink":           "for an account that its own system vouches for, which is nobody's yet",
	"Linked":              "says who is calling",
	"LinksTo":             "the server's own, for channels that the configuration names",
	"CaseNow":             "the server's own, for channels that the configuration names",
	"EnvironmentOf":       "the server's own, for channels that the configuration names",
	"VoteTakes":           "asks for others, to show them a button; the vote asks again",
	"Found":               "before there is anybody who could be asked about",
	"EmergencyUser":       "for whoever holds the vault's root key",
	"GlassReviewNow":      "the server's own, for channels that the configuration names",
	"Unanswered":          "the server's own, for channels that the configuration names",
	"UseOf":               "the server's own, for channels that the configuration names",
	"SessionNow":          "the server's own, for channels that the configuration names",
	"DetectionAt":         "the server's own, for channels that the configuration names",
	"BreaksGlass":         "for the operator who makes sealed codes; a hint",
}

func TestEveryVerbAsks(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		s := newScene(h)
		config := h.config
		config.Policy = brokertest.Policy(t, refuseAll)
		b, err := broker.New(t.Context(), config)
		ok(t, err)
		for _, v := range verbs {
			t.Run(v.name+" by "+v.who, func(t *testing.T) {
				by := h.as(v.who)
				before, events := h.dump(), len(h.events())
				err := v.call(t.Context(), b, by, s)
				kind := access.ErrDenied
				if v.hidden {
					kind = access.ErrNotFound
				}
				want(t, err, kind)
				if ae, is := errors.AsType[*access.Error](err); !is || ae.Code == "" || ae.Text == "" {
					t.Errorf("the refusal %v says nothing to a person", err)
				}
				if after := h.dump(); after != before {
					t.Errorf("refused, but changed:\n%s", difference(before, after))
				}
				told := h.events()[events:]
				if len(told) != 1 || told[0].Outcome != audit.Refused || told[0].Actor != by.User.ID || told[0].Reason == "" {
					t.Errorf("events %+v, want one refusal to %s", told, v.who)
				}
			})
		}
		goesOn(t, s.session)
	})
}

// The same calls under the house's own policy are allowed, so that what is
// refused above is not refused for some other reason.
func TestEveryVerbIsAllowed(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	for _, v := range verbs {
		t.Run(v.name+" by "+v.who, func(t *testing.T) {
			h := h
			if v.name != "Reach" && v.name != "Request" {
				h = newHouse(t, sqliteURL(t))
			}
			s := newScene(h)
			defer h.Release(t.Context(), h.as("alice"), s.granted.Grant.ID)
			if err := v.call(t.Context(), h.Broker, h.as(v.who), s); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVerbTableIsComplete(t *testing.T) {
	inTable := map[string]bool{}
	for _, v := range verbs {
		inTable[v.name] = true
	}
	caller := reflect.TypeFor[access.Caller]()
	methods := reflect.TypeFor[*broker.Broker]()
	for i := range methods.NumMethod() {
		m := methods.Method(i)
		takes := m.Type.NumIn() > 2 && m.Type.In(2) == caller
		switch why := notVerbs[m.Name]; {
		case inTable[m.Name] && why != "":
			t.Errorf("%s is in both tables", m.Name)
		case inTable[m.Name] && !takes:
			t.Errorf("%s does not take its caller as the second parameter", m.Name)
		case !inTable[m.Name] && why == "":
			t.Errorf("%s is in no table: either it asks, or it has a reason not to", m.Name)
		}
		delete(inTable, m.Name)
	}
	for name := range inTable {
		t.Errorf("%s is in the table but is no method", name)
	}
	for name := range notVerbs {
		if _, is := methods.MethodByName(name); !is {
			t.Errorf("%s is listed but is no method", name)
		}
	}
}

// difference is the lines of either that the other has not.
func difference(a, b string) string {
	var out []string
	in := func(s string) map[string]bool {
		m := map[string]bool{}
		for line := range strings.Lines(s) {
			m[line] = true
		}
		return m
	}
	inA, inB := in(a), in(b)
	for line := range inA {
		if !inB[line] {
			out = append(out, "- "+line)
		}
	}
	for line := range inB {
		if !inA[line] {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "")
}
