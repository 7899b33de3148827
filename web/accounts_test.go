package web

import (
	"encoding/csv"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/discovery"
)

// scanned has a scan of a target find an account deploy with the comment, and a key; it
// returns the account's id.
func (h *house) scanned(target, comment string) string {
	h.t.Helper()
	comment = strings.Map(func(r rune) rune {
		if r == ':' || r == '\t' {
			return ' '
		}
		return r
	}, comment)
	scan := must(discovery.ParseLinux([]byte("drawbolt\t1\nuid\t0\npasswd\troot\t0\t0\tlocked\t/root\t/bin/sh\t\npasswd\tdeploy\t1000\t1\tset\t/srv/deploy\t/bin/sh\t" + comment +
		"\nsshd\tpasswordauthentication\tyes\nsshd\tpermitrootlogin\tyes\nfact\tsecurity-updates\t3\nfact\tfirewall\tno\nshadow\troot\tlocked\t\t\t\nend\tof the scan\n")))
	ctx := h.t.Context()
	d := must(h.broker.BeginDiscovery(ctx, h.by("root"), target, "root"))
	found := must(h.broker.EndDiscovery(ctx, d, &scan, must(discovery.DefaultProfile()), nil))
	for _, f := range found.Found {
		if f.Name == "deploy" {
			return f.ID
		}
	}
	h.t.Fatalf("found %+v", found.Found)
	return ""
}

// TestAccountsPages finds accounts, says whose one is, and reads how its target stands.
func TestAccountsPages(t *testing.T) {
	h := newHouse(t)
	admin := must(h.broker.FindRole(t.Context(), h.by("root"), "administrator"))
	admin.Rules[0].Actions = append(admin.Rules[0].Actions, "account.read", "account.discover", "account.adopt")
	must(h.broker.SetRole(t.Context(), h.by("root"), admin))
	id := h.scanned("db02", "=cmd()")
	for path, want := range map[string][]string{
		"/accounts": {"deploy", "db02", "owner nobody"}, "/accounts?name=deploy&risk=low": {"deploy"}, "/accounts?class=orphaned": {"No such account"},
		"/accounts?risk=enormous": {"a risk is critical"}, "/accounts?class=none": {"there is no class of that name"}, "/accounts/ACC-none": {"no scan has found"},
		"/accounts/" + id: {"Whose it is", "What it is"}, "/targets/db02/posture": {"How", "Firewall", "db02"},
	} {
		page := h.read("root", path)
		for _, text := range want {
			if !strings.Contains(strings.ToLower(page), strings.ToLower(text)) {
				t.Errorf("%s does not say %q", path, text)
			}
		}
	}
	for _, path := range []string{"/accounts", "/accounts.csv", "/accounts/" + id, "/targets/db02/posture"} {
		if page := h.read("alice", path); strings.Contains(page, "deploy") || strings.Contains(page, "Firewall") {
			t.Errorf("alice is told on %s", path)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(h.read("root", "/accounts.csv?name=deploy"))).ReadAll()
	if err != nil || len(rows) != 2 || !slices.Contains(rows[1], "deploy") {
		t.Errorf("the table is %q, %v", rows, err)
	}

	if status, page := h.send("root", "/accounts/"+id, url.Values{"owner": {"nobody-of-that-name"}}); status < 400 || !strings.Contains(page, "Whose it is") {
		t.Errorf("an owner whom nobody knows: %d\n%s", status, page)
	}
	if status, _ := h.send("alice", "/accounts/"+id, url.Values{"owner": {"alice"}}); status < 400 {
		t.Errorf("alice makes it hers: %d", status)
	}
	if status, to := h.send("root", "/accounts/"+id, url.Values{"owner": {"bob"}, "declare": {"service"}, "note": {"runs the release"}}); status != 303 || !strings.HasPrefix(to, "/accounts/"+id) {
		t.Errorf("adopted: %d %s", status, to)
	}
	if status, page := h.send("root", "/accounts/"+id, url.Values{"note": {"nothing of the owner"}}); status != 422 && status != 400 || !strings.Contains(page, "nothing changed") {
		t.Errorf("a form without an owner: %d", status)
	}
	if page := h.read("root", "/accounts/"+id); !strings.Contains(page, "service") || !strings.Contains(page, "bob") || !strings.Contains(page, "runs the release") {
		t.Error("the page says nothing of its owner")
	}
}
