package broker_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// probe begins a check of db01, which is reached via jump01 and has a provisioner.
func (h *house) probe() broker.Probe {
	h.t.Helper()
	if _, err := h.db.Target(h.t.Context(), "jump01"); err != nil {
		h.addHop("jump01")
		ok(h.t, h.setTarget("db01", func(t *access.Target) { t.Via, t.Provisioner = []string{"jump01"}, "ops" }))
	}
	p, err := h.BeginCheck(h.t.Context(), h.as("root"), "db01", "")
	ok(h.t, err)
	return p
}

// TestCheckCredential: the certificates of a check are for one minute, one key
// and one account that the check names, and each is on record before it exists.
func TestCheckCredential(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, p := t.Context(), h.probe()
		if len(p.Hops) != 1 || !slices.Equal(p.Accounts, []string{"root", "guest"}) {
			t.Fatalf("probe %+v", p)
		}
		for _, c := range []struct {
			hop       int
			account   string
			principal string
			forwards  bool
		}{
			{0, "", "hop@jump01", true},
			{0, "root", "hop@jump01", true}, // who is named does not count there
			{1, "root", "root@db01", false},
			{1, "guest", "guest@db01", false},
			{1, "ops", "ops@db01", false},
		} {
			events := len(h.events())
			cert, err := h.CheckCredential(ctx, p, c.hop, c.account, newKey(t))
			ok(t, err)
			_, forwards := cert.Extensions["permit-port-forwarding"]
			if !slices.Equal(cert.ValidPrincipals, []string{c.principal}) || forwards != c.forwards || len(cert.Extensions) > 1 ||
				cert.ValidBefore > uint64(h.clock.now().Add(time.Minute).Unix()) {
				t.Errorf("the certificate for %s is %+v", c.principal, cert)
			}
			told := h.events()[events:]
			if len(told) != 1 || told[0].Action != "certificate.issue" || told[0].Actor != h.as("root").User.ID || told[0].Details["serial"] == "" {
				t.Errorf("events %+v", told)
			}
		}
		for _, c := range []struct {
			hop     int
			account string
		}{{1, ""}, {1, "hop"}, {1, "postgres"}, {1, "root@db02"}, {2, "root"}, {-1, "root"}} {
			if _, err := h.CheckCredential(ctx, p, c.hop, c.account, newKey(t)); err == nil {
				t.Errorf("there is a certificate for %d %q", c.hop, c.account)
			}
		}
		only, err := h.BeginCheck(ctx, h.as("root"), "db01", "guest")
		ok(t, err)
		_, err = h.CheckCredential(ctx, only, 1, "root", newKey(t))
		want(t, err, access.ErrInvalid)
		if _, err := h.CheckCredential(ctx, broker.Probe{Target: p.Target, Accounts: []string{"root"}}, 0, "root", newKey(t)); err == nil {
			t.Error("there is a certificate for a check that nobody began")
		}
	})
}

// What takes the right to a check, or changes what is checked, ends it.
func TestCheckEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *house) error
	}{
		{"another address", func(h *house) error {
			return h.setTarget("db01", func(t *access.Target) { t.Address = "203.0.113.66:22" })
		}},
		{"another address of the hop", func(h *house) error {
			return h.setTarget("jump01", func(t *access.Target) { t.Address = "203.0.113.66:22" })
		}},
		{"locked", func(h *house) error { return h.LockTarget(h.t.Context(), h.as("root"), "db01", true, "INC-1") }},
		{"removed", func(h *house) error { return h.RemoveTarget(h.t.Context(), h.as("root"), "db01") }},
		{"a minute is over", func(h *house) error { h.clock.advance(61 * time.Second); return nil }},
		{"no administrator any more", func(h *house) error { h.setGroups("root", "engineers"); return nil }},
		{"the administrator is locked", func(h *house) error { h.setUser("root", func(u *access.User) { u.Locked = true }); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, sqliteURL(t))
			p := h.probe()
			_, err := h.CheckCredential(t.Context(), p, 0, "", newKey(t))
			ok(t, err)
			ok(t, c.do(h))
			if _, err := h.CheckCredential(t.Context(), p, 0, "", newKey(t)); err == nil {
				t.Error("the check goes on")
			}
		})
	}
}

// A check is for who may change targets. The others learn what they knew before.
func TestCheckIsNoOracle(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	_, err := h.BeginCheck(ctx, h.as("alice"), "db01", "") // she may ask for it
	want(t, err, access.ErrDenied)
	_, err = h.BeginBootstrap(ctx, h.as("alice"), "db01")
	want(t, err, access.ErrDenied)
	_, hidden := h.BeginCheck(ctx, h.as("carol"), "db01", "")
	_, none := h.BeginCheck(ctx, h.as("carol"), "nothere", "")
	want(t, hidden, access.ErrNotFound)
	want(t, none, access.ErrNotFound)
	if strings.ReplaceAll(hidden.Error(), "db01", "nothere") != none.Error() {
		t.Errorf("%q tells more than %q", hidden, none)
	}
	ok(t, h.LockTarget(ctx, h.as("root"), "db01", true, "INC-1"))
	_, err = h.BeginCheck(ctx, h.as("root"), "db01", "")
	want(t, err, access.ErrDenied)
	_, err = h.BeginBootstrap(ctx, h.as("root"), "db01")
	want(t, err, access.ErrDenied)
}

// The account for the way to others is tried at its own target as well, where it
// may be the only one; a target without any account is not enrolled.
func TestCheckOfHop(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.addHop("jump01")
	p, err := h.BeginCheck(t.Context(), h.as("root"), "jump01", "")
	if ok(t, err); !slices.Equal(p.Accounts, []string{"hop"}) {
		t.Errorf("tried are %q", p.Accounts)
	}
	cert, err := h.CheckCredential(t.Context(), p, 0, "hop", newKey(t))
	if ok(t, err); !slices.Equal(cert.ValidPrincipals, []string{"hop@jump01"}) || len(cert.Extensions) != 0 {
		t.Errorf("the certificate is %+v", cert)
	}
	b, err := h.BeginBootstrap(t.Context(), h.as("root"), "jump01")
	if ok(t, err); !slices.Equal(b.Logins, []broker.Login{{Account: "hop", Principal: "hop@jump01"}}) {
		t.Errorf("logins %+v", b.Logins)
	}
	ok(t, h.setTarget("jump01", func(t *access.Target) { t.HopAccount = "" }))
	_, err = h.BeginBootstrap(t.Context(), h.as("root"), "jump01")
	want(t, err, access.ErrInvalid)
}

func TestEndCheck(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	p := h.probe()
	steps := []access.CheckStep{{Step: access.CheckPort, State: access.CheckOK}}
	ok(t, h.EndCheck(t.Context(), p, steps))
	for range 20 {
		steps = append(steps, access.CheckStep{Step: access.CheckLogin, Target: "db01", Account: "root", State: access.CheckFailed, Detail: "\x1b[2Jno"})
	}
	ok(t, h.EndCheck(t.Context(), p, steps))
	events := h.events()
	first, second := events[len(events)-2], events[len(events)-1]
	if first.Action != "target.checked" || first.Outcome != audit.Done || second.Outcome != audit.Failed || second.Details["steps"] != "21" ||
		second.Details["finding_8"] == "" || second.Details["finding_9"] != "" || strings.Contains(second.Details["finding_1"], "\x1b") {
		t.Errorf("%+v\n%+v", first, second)
	}
}

var loggedIn = []access.CheckStep{{Step: access.CheckAuthority, State: access.CheckOK}}

// bootstrap makes one of db01, and returns its token.
func (h *house) bootstrap() string {
	h.t.Helper()
	b, err := h.BeginBootstrap(h.t.Context(), h.as("root"), "db01")
	ok(h.t, err)
	if len(b.Logins) < 2 || b.Logins[0] != (broker.Login{Account: "root", Principal: "root@db01"}) || len(b.Authorities) != 1 {
		h.t.Errorf("%+v", b)
	}
	return b.Token
}

// TestBootstrapToken: it is for one target and one script, for an hour, and until
// a login has been proven; it is worth what its maker may do.
func TestBootstrapToken(t *testing.T) {
	source := netip.MustParseAddr("192.0.2.77")
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		use := func(token string) (broker.Probe, error) { return h.UseBootstrap(ctx, source, token, nil) }
		first := h.bootstrap()
		if strings.Contains(h.dump(), first) {
			t.Error("the token itself is kept")
		}
		stale, err := use(first)
		ok(t, err)
		if stale.Target.Name != "db01" {
			t.Errorf("the token is for %s", stale.Target.Name)
		}
		proven, err := h.EndBootstrap(ctx, stale, []access.CheckStep{{Step: access.CheckLogin, State: access.CheckFailed}, {Step: access.CheckAuthority, State: access.CheckFailed}})
		if ok(t, err); proven {
			t.Error("a failed login is a proof")
		}
		second := h.bootstrap()
		_, err = use(first) // another has taken its place
		want(t, err, access.ErrUnauthenticated)
		_, err = h.EndBootstrap(ctx, stale, loggedIn)
		want(t, err, access.ErrUnauthenticated)
		p, err := use(second)
		ok(t, err)
		proven, err = h.EndBootstrap(ctx, p, loggedIn)
		if ok(t, err); !proven {
			t.Error("a login is no proof")
		}
		_, err = use(second)
		want(t, err, access.ErrUnauthenticated)

		late := h.bootstrap()
		h.clock.advance(access.BootstrapTTL)
		_, err = use(late)
		want(t, err, access.ErrUnauthenticated)
		for _, token := range []string{"", "x", "' OR 1=1 --", strings.Repeat("A", 26)} {
			_, err = use(token)
			want(t, err, access.ErrUnauthenticated)
		}
		_, err = h.EndBootstrap(ctx, h.probe(), loggedIn)
		want(t, err, access.ErrInvalid) // a check that an administrator began
		last := h.bootstrap()
		h.setGroups("root", "engineers")
		if _, err = use(last); err == nil {
			t.Error("its maker may change targets no more, and it is worth something")
		}
	})
}

// TestBootstrapPins: the script's host keys are pinned when none is, and never
// over one that is.
func TestBootstrapPins(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, source := t.Context(), netip.MustParseAddr("192.0.2.77")
	had, err := h.db.Target(ctx, "db01")
	ok(t, err)
	theirs := []string{keyText(newKey(t)) + " root@db01"}
	token := h.bootstrap()
	_, err = h.UseBootstrap(ctx, source, token, theirs)
	ok(t, err)
	now, err := h.db.Target(ctx, "db01")
	if ok(t, err); !slices.Equal(now.HostKeys, had.HostKeys) {
		t.Errorf("pinned %q over %q", now.HostKeys, had.HostKeys)
	}
	ok(t, h.setTarget("db01", func(t *access.Target) { t.HostKeys = nil }))
	for _, bad := range [][]string{{"rubbish"}, {`command="x" ` + theirs[0]}, slices.Repeat(theirs, 17), {certificateText(t, h)}} {
		_, err = h.UseBootstrap(ctx, source, token, bad)
		want(t, err, access.ErrInvalid)
	}
	p, err := h.UseBootstrap(ctx, source, token, theirs)
	ok(t, err)
	now, err = h.db.Target(ctx, "db01")
	if ok(t, err); len(now.HostKeys) != 1 || now.HostKeys[0]+" root@db01" != theirs[0] || p.Target.Version != now.Version {
		t.Errorf("pinned %q, to be checked %+v", now.HostKeys, p.Target)
	}
	events := h.events()
	pinned := slices.IndexFunc(events, func(e audit.Event) bool { return e.Action == "bootstrap.use" && e.Details["host_key_1"] != "" })
	if pinned < 0 || events[pinned].Source != source.String() || events[pinned].ActorName != "root" {
		t.Errorf("no event tells of the pinned key from %s", source)
	}
}

func certificateText(t *testing.T, h *house) string {
	t.Helper()
	cert, err := h.CheckCredential(t.Context(), h.probe(), 0, "", newKey(t))
	ok(t, err)
	return string(ssh.MarshalAuthorizedKey(cert))
}
