package main

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

func lent() api.Lease {
	return api.Lease{ID: "LEA-1", Request: "REQ-1", User: "alice", Target: "db01", Account: "root", Credential: "password", Managed: true, Reason: "INC-1234", At: noon, Until: noon.Add(time.Hour), Active: true, Known: true}
}

const (
	myGrants = "GET /v1/requests?limit=200&mine=true&state=approved"
	secret   = "correct horse battery"
)

// lending is a server on which alice has a grant, under which she may see the secret.
func lending() map[string]any {
	return map[string]any{
		myGrants:                           api.List[api.Request]{Items: []api.Request{approved()}},
		"POST /v1/requests/REQ-1/checkout": api.Checkout{Lease: lent(), Secret: secret},
	}
}

func TestCheckout(t *testing.T) {
	unmanaged, over := lent(), lent()
	unmanaged.Managed = false
	over.Active, over.Managed, over.User, over.EndReason = false, false, "bob", "checked-in"
	for _, tt := range []struct {
		name    string
		args    []string
		answers map[string]any
	}{
		{"checkout-stdout", []string{"checkout", "root@db01", "--stdout"}, lending()},
		{"checkout-stdout-json", []string{"checkout", "db01", "--as", "root", "--stdout", "--json=user,until,secret"}, lending()},
		{"checkout-no-terminal", []string{"checkout", "root@db01"}, nil},
		{"checkout-both", []string{"checkout", "root@db01", "--show", "--stdout"}, nil},
		{"checkout-asks", []string{"checkout", "root@db01", "--stdout", "--reason", "INC-7", "--no-wait"}, map[string]any{
			myGrants: api.List[api.Request]{}, "POST /v1/requests": func(b []byte) any {
				if want := `{"target":"db01","account":"root","reason":"INC-7"}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return pending()
			}}},
		{"checkout-denied", []string{"checkout", "root@db01", "--stdout", "--reason", "INC-7"}, map[string]any{myGrants: api.List[api.Request]{}, "POST /v1/requests": denied()}},
		{"checkout-taken", []string{"checkout", "root@db01", "--stdout"}, map[string]any{
			myGrants: lending()[myGrants], "POST /v1/requests/REQ-1/checkout": refuse{Title: "Conflict", Status: 409, Code: "DB-6431", Detail: "bob has checked root@db01 out until 2026-03-01T13:00:00Z, and nobody else uses it until then", Next: "ask bob to run: drawbolt checkin db01 --as root"}}},
		{"checkout-lost", []string{"checkout", "root@db01", "--stdout"}, map[string]any{myGrants: lending()[myGrants], "POST /v1/requests/REQ-1/checkout": []byte("<html>")}},
		{"checkout-ls", []string{"checkout"}, map[string]any{"GET /v1/checkouts": api.List[api.Lease]{Items: []api.Lease{lent(), over}}}},
		{"checkin", []string{"checkin", "db01", "--as", "root"}, map[string]any{
			"GET /v1/checkouts?active=true&limit=200&target=db01": api.List[api.Lease]{Items: []api.Lease{lent()}}, "POST /v1/requests/REQ-1/checkin": lent()}},
		{"checkin-known", []string{"checkin", "REQ-1", "--reason", "gone home"}, map[string]any{"POST /v1/requests/REQ-1/checkin": unmanaged}},
		{"checkin-none", []string{"checkin", "db01", "--as", "sa"}, map[string]any{"GET /v1/checkouts?active=true&limit=200&target=db01": api.List[api.Lease]{Items: []api.Lease{lent()}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, tt.answers)
			golden(t, tt.name+".txt", newPerson(t).signedIn(s).transcript(s, tt.args...))
		})
	}
}

// TestCheckoutOnTerminal: on a terminal the secret goes to the clipboard and is not
// printed, or onto a screen that is left; either is over when the program is.
func TestCheckoutOnTerminal(t *testing.T) {
	clip := func(s string) string {
		return "\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(s)) + "\x07"
	}
	run := func(stdin string, args ...string) (int, string, string) {
		p := newPerson(t).signedIn(newServer(t, lending()))
		p.terminal, p.stdin = true, stdin
		return p.run(append([]string{"checkout", "root@db01"}, args...)...)
	}
	for name, args := range map[string][]string{"at Enter": {"\n"}, "after a while": {"", "--clear", "1s"}, "with JSON": {"\n", "--json"}} {
		code, out, errs := run(args[0], args[1:]...)
		put, taken := strings.Index(errs, clip(secret)), strings.LastIndex(errs, clip(" "))
		if code != 0 || strings.Contains(out+errs, secret) || put < 0 || taken < put || strings.Contains(out, "secret\"") {
			t.Errorf("%s: exit %d\n%q\n%q", name, code, out, errs)
		}
	}
	code, out, errs := run("\n", "--show")
	on, at, off := strings.Index(errs, "\x1b[?1049h"), strings.Index(errs, secret), strings.Index(errs, "\x1b[?1049l")
	if code != 0 || strings.Contains(out, secret) || on < 0 || at < on || off < at || strings.Count(errs, secret) != 1 {
		t.Errorf("shown: exit %d\n%q\n%q", code, out, errs)
	}
}
