package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/web/api"
)

// onboarding lets root take accounts over and manage them, at db01, where a scan has found
// deploy, web and batch and where there is an account that sets passwords; and at db02, where
// it has found them and nothing could set a password.
func (h *house) onboarding() map[string]string {
	h.t.Helper()
	ctx := h.t.Context()
	admin := must(h.broker.FindRole(ctx, h.by("root"), "administrator"))
	admin.Rules[0].Actions = append(admin.Rules[0].Actions, "account.read", "account.discover", "account.adopt", "secret.write", "secret.read")
	must(h.broker.SetRole(ctx, h.by("root"), admin))
	ids := map[string]string{}
	for _, target := range []string{"db01", "db02"} {
		scan := must(discovery.ParseLinux([]byte("drawbolt\t1\nuid\t0\npasswd\troot\t0\t0\tlocked\t/root\t/bin/sh\t\n" +
			"passwd\tdeploy\t1000\t1\tset\t/\t/bin/sh\t\npasswd\tweb\t1001\t1\tset\t/\t/bin/sh\t\npasswd\tbatch\t1002\t1\tset\t/\t/bin/sh\t\n" +
			"sshd\tpasswordauthentication\tyes\nfact\tsecurity-updates\t0\nshadow\troot\tlocked\t\t\t\nend\tof the scan\n")))
		d := must(h.broker.BeginDiscovery(ctx, h.by("root"), target, "root"))
		found := must(h.broker.EndDiscovery(ctx, d, &scan, must(discovery.DefaultProfile()), nil))
		for _, f := range found.Found {
			ids[f.Name+"@"+target] = f.ID
		}
	}
	db01 := must(h.broker.FindTarget(ctx, h.by("root"), "db01")).Target
	db01.Provisioner = "maker"
	must(h.broker.SetTarget(ctx, h.by("root"), db01))
	return ids
}

// managed are the accounts of a target whose passwords are ours.
func (h *house) managed(target string) (list []string) {
	h.t.Helper()
	for _, a := range must(h.broker.FindTarget(h.t.Context(), h.by("root"), target)).Target.Accounts {
		if a.Managed != nil {
			list = append(list, a.Name+" "+a.Credential+" "+access.FormatDuration(a.Managed.Every))
		}
	}
	slices.Sort(list)
	return list
}

// TestManagePages: accounts are chosen, it is said of each what would become of it, and then
// it becomes so, of each by itself. Whoever may not is told nothing and changes nothing.
func TestManagePages(t *testing.T) {
	h := newHouse(t)
	ids := h.onboarding()
	form := url.Values{"account": {ids["deploy@db01"], ids["web@db01"], ids["deploy@db02"]}, "every": {"168h"}, "credential": {"password"}, "owner": {"bob"}}
	which := "/accounts/manage?" + url.Values{"account": form["account"]}.Encode()

	for _, c := range []struct {
		name, who, path string
		form            url.Values
		says            string
	}{
		{"alice asks", "alice", which, nil, "DB-"},
		{"alice does it", "alice", "/accounts/manage", form, "DB-"},
		{"nothing is chosen", "root", "/accounts/manage", url.Values{}, "DB-6505"},
		{"no time", "root", "/accounts/manage", url.Values{"account": {ids["web@db01"]}, "every": {"soon"}}, "one of the list"},
		{"each second", "root", "/accounts/manage", url.Values{"account": {ids["web@db01"]}, "every": {"1s"}}, "every hour at most"},
		{"an owner whom nobody knows", "root", "/accounts/manage", url.Values{"account": {ids["web@db01"]}, "owner": {"zoe"}}, "zoe"},
		{"what is no credential", "root", "/accounts/manage", url.Values{"account": {ids["web@db01"]}, "credential": {"certificate"}}, "a password or a key"},
		{"one that nobody found", "root", "/accounts/manage", url.Values{"account": {"FND-nothing"}}, "DB-6466"},
	} {
		status, page := http.StatusOK, ""
		if c.form == nil {
			page = h.read(c.who, c.path)
		} else {
			status, page = h.send(c.who, c.path, c.form)
		}
		if !strings.Contains(page, c.says) || c.who == "alice" && strings.Contains(page, "deploy") {
			t.Errorf("%s: %d, not %q\n%s", c.name, status, c.says, page)
		}
	}
	// Another site cannot have it done.
	resp := h.do(httpCall{method: "POST", path: "/accounts/manage", cookie: h.token("root"), header: map[string]string{"Sec-Fetch-Site": "cross-site"}, body: form.Encode()})
	if text(resp); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %d", resp.StatusCode)
	}
	if list := append(h.managed("db01"), h.managed("db02")...); len(list) > 0 {
		t.Fatalf("managed are %v", list)
	}

	page := h.read("root", which)
	if strings.Count(page, "it can be taken over") != 2 || strings.Count(page, "DB-6407") != 1 || !strings.Contains(page, "Take over and change") {
		t.Errorf("what would become of them:\n%s", page)
	}
	if status, page := h.send("root", "/accounts/manage", form); status != http.StatusOK || strings.Count(page, "taken over; it is being changed") != 2 || !strings.Contains(page, "DB-6407") {
		t.Errorf("what becomes of them: %d\n%s", status, page)
	}
	if got := strings.Join(append(h.managed("db01"), h.managed("db02")...), ", "); got != "deploy password 168h, web password 168h" {
		t.Errorf("managed are %s", got)
	}
	if page := h.read("root", "/accounts/"+ids["deploy@db01"]); !strings.Contains(page, "Its password is changed by drawbolt") || !strings.Contains(page, "bob") || strings.Contains(page, "Take over and change") {
		t.Errorf("the account's own page:\n%s", page)
	}
	if status, page := h.send("root", "/accounts/manage", url.Values{"account": {ids["deploy@db01"]}, "every": {"24h"}}); status != http.StatusConflict || !strings.Contains(page, "as it was") {
		t.Errorf("once more: %d\n%s", status, page)
	}
	// By the API, one at a time, and first for a look.
	in := api.OnboardInput{Credential: "key", Managed: api.Managed{EverySeconds: 86400}, DryRun: true}
	callJSON[api.FoundAccount](h, "root", "POST", "/v1/inventory/batch@db01/manage", in, 200)
	if len(h.managed("db01")) != 2 {
		t.Error("a look has changed something")
	}
	in.DryRun = false
	callJSON[api.FoundAccount](h, "root", "POST", "/v1/inventory/batch@db01/manage", in, 200)
	callJSON[api.Problem](h, "root", "POST", "/v1/inventory/batch@db01/manage", in, 409)
	callJSON[api.Problem](h, "alice", "POST", "/v1/inventory/batch@db01/manage", in, 403)
	if got := strings.Join(h.managed("db01"), ", "); got != "batch key 24h, deploy password 168h, web password 168h" {
		t.Errorf("managed are %s", got)
	}
}

// TestManageInABrowser chooses two accounts on a phone, in both themes and without scripts,
// and has their passwords changed.
func TestManageInABrowser(t *testing.T) {
	for _, c := range []struct {
		name, scheme string
		scripts      bool
	}{{"dark", "dark", true}, {"without scripts", "light", false}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			h.onboarding()
			srv := h.serve()
			ctx := browser(t, c.scheme, c.scripts)
			signIn(t, ctx, srv.URL, "root", "/accounts?target=db01")
			do(t, ctx, chromedp.Click(css(`input[aria-label="Choose deploy on db01"]`)), chromedp.Click(css(`input[aria-label="Choose web on db01"]`)))
			picture(t, ctx, "manage-1-choose-"+c.scheme)
			do(t, ctx, chromedp.Click(css(`button[form=choose]`)), chromedp.WaitVisible(css(`form[action="/accounts/manage"] select[name=every]`)))
			picture(t, ctx, "manage-2-how-"+c.scheme)
			if w := width(t, ctx); w > 360 {
				t.Errorf("the page is %v wide", w)
			}
			do(t, ctx, chromedp.SetValue(css(`select[name=every]`), "2160h"), chromedp.Click(css(`form[action="/accounts/manage"] button`)), chromedp.WaitNotPresent(css(`select[name=every]`)))
			picture(t, ctx, "manage-3-done-"+c.scheme)
			if shown := get(t, ctx, chromedp.Text(css(`main`))); strings.Count(shown, "taken over; it is being changed") != 2 {
				t.Errorf("the page says\n%s", shown)
			}
			if got := strings.Join(h.managed("db01"), ", "); got != "deploy password 2160h, web password 2160h" {
				t.Errorf("managed are %s", got)
			}
		})
	}
}
