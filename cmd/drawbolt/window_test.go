package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

func TestWindowAdd(t *testing.T) {
	for _, tt := range []struct {
		name string
		args string
		code int
		want string // the call, or what is said
	}{
		{"once", "freeze --label env=prod --label tier=0 --from 2026-12-20T00:00:30Z --to 2027-01-04T00:00:30Z --reason year-end", 0,
			`POST /v1/windows {"kind":"freeze","reason":"year-end","targets":{"labels":{"environment":["prod"],"tier":["0"]}},"from":"2026-12-20T00:00:00Z","to":"2027-01-04T00:01:00Z"}`},
		{"for a time", "maintenance --target db* --from 2026-12-20T00:00:00Z --for 4h --reason disks", 0,
			`POST /v1/windows {"kind":"maintenance","reason":"disks","targets":{"names":["db*"]},"from":"2026-12-20T00:00:00Z","to":"2026-12-20T04:00:00Z"}`},
		{"weekly", "maintenance --target web* --hours 22:00-04:00 --on saturday,sunday --zone Europe/Berlin --reason patches", 0,
			`POST /v1/windows {"kind":"maintenance","reason":"patches","targets":{"names":["web*"]},"hours":"22:00-04:00","weekdays":["saturday","sunday"],"time_zone":"Europe/Berlin"}`},
		{"weekly until", "freeze --all --hours 00:00-24:00 --to 2027-01-04T00:00:00Z --reason year-end", 0,
			`POST /v1/windows {"kind":"freeze","reason":"year-end","targets":{},"to":"2027-01-04T00:00:00Z","hours":"00:00-24:00"}`},
		{"kind", "holiday --all --for 1h --reason x", 2, "neither maintenance nor freeze"}, {"no reason", "freeze --all --for 1h", 2, "Add --reason"},
		{"no targets", "freeze --for 1h --reason x", 2, "which targets?"}, {"all and some", "freeze --all --target db01 --for 1h --reason x", 2, "which targets?"},
		{"no end", "freeze --all --reason x", 2, "until when?"}, {"two ends", "freeze --all --for 1h --to 12:00 --reason x", 2, "say the same"},
		{"no time", "freeze --all --to tomorrow --reason x", 2, "is not one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, map[string]any{"POST /v1/windows": api.Window{ID: "WIN-1"}})
			p := newPerson(t).signedIn(s)
			code, out, errs := p.run(append([]string{"window", "add"}, strings.Fields(tt.args)...)...)
			if said := strings.Join(s.calls, "\n") + out + errs; code != tt.code || !strings.Contains(said, tt.want) {
				t.Errorf("exit %d: %s", code, said)
			}
		})
	}
}

func TestConditionCommands(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	window := api.Window{ID: "WIN-1", Open: true, By: "admin", WindowInput: api.WindowInput{Kind: api.Freeze, Reason: "year\x1bend", From: &at}}
	user := api.User{Name: "alice", Attributes: map[string]string{"site": "nyc", "tier": "0"}, Version: 3}
	target := api.Target{Name: "db01", Address: "db01:22", Facts: map[string]api.Fact{"patched": {Value: "yes", At: at, By: "scanner"}}, Version: 2}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"window ls", 0, "WIN-1"}, {"window ls --json=id,open", 0, `{"id":"WIN-1","open":true}`}, {"window rm WIN-1 --yes", 0, "DELETE /v1/windows/WIN-1"},
		{"network ls", 0, "10.8.0.0/16"}, {"network set vpn 10.9.0.0/16", 0, `PUT /v1/networks/vpn {"name":"vpn","ranges":["10.9.0.0/16"],"version":4}`},
		{"network set desks 10.9.0.0/16", 2, ""}, {"network rm vpn --yes", 0, "DELETE /v1/networks/vpn"}, {"network set vpn", 2, "something is missing"},
		{"user set alice --attribute tier=1 --attribute site=", 0, `PUT /v1/users/alice {"name":"alice","attributes":{"tier":"1"},"version":3}`},
		{"user set alice --attribute tier", 2, "write it like name=value"},
		{"target set db01 --fact patched=no --quiet", 0, `PUT /v1/targets/db01/facts {"facts":{"patched":"no"}}`},
		{"target show db01", 0, "patched=yes"}, {"target set db01 --fact =x", 2, "write it like name=value"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s := newServer(t, map[string]any{
				"GET /v1/windows": api.List[api.Window]{Items: []api.Window{window}}, "DELETE /v1/windows/WIN-1": api.Empty{},
				"GET /v1/networks":     api.List[api.Network]{Items: []api.Network{{Name: "vpn", Ranges: []string{"10.8.0.0/16"}, Version: 4}}},
				"PUT /v1/networks/vpn": api.Network{Name: "vpn"}, "PUT /v1/networks/desks": refuse{Status: 422, Detail: "no"}, "DELETE /v1/networks/vpn": api.Empty{},
				"GET /v1/users/alice": user, "PUT /v1/users/alice": user,
				"GET /v1/targets/db01": target, "PUT /v1/targets/db01": target, "PUT /v1/targets/db01/facts": target,
			})
			p := newPerson(t).signedIn(s)
			code, out, errs := p.run(strings.Fields(tt.args)...)
			calls := strings.Join(s.calls, "\n")
			if said := calls + out + errs; code != tt.code || !strings.Contains(said, tt.want) || strings.Contains(out, "\x1b") {
				t.Errorf("exit %d: %s", code, said)
			}
			// What a scanner may: facts alone change no target.
			if strings.Contains(tt.args, "--fact") && strings.Contains(calls, "PUT /v1/targets/db01 ") {
				t.Errorf("the target is changed: %s", calls)
			}
		})
	}
}
