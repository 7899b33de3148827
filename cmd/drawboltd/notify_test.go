package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

func TestChannels(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "hook.secret")
	if err := os.WriteFile(secret, []byte("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(writeConfig(t, least+`notifications:
  internal: [10.1.2.25/24, "fd00:1::/32"]
  channels:
    - {name: mail, type: mail, server: smtps://mail.example.com, from: "drawbolt <drawbolt@example.com>"}
    - {name: security, type: mail, server: smtps://mail.example.com, from: drawbolt@example.com, people: false, to: [security@example.com], kinds: [breakglass]}
    - {name: chat, type: mattermost, url_file: /etc/drawbolt/mattermost.url}
    - {name: teams, type: teams, url_file: /etc/drawbolt/teams.url}
    - {name: oncall, type: pagerduty, secret_file: /etc/drawbolt/pagerduty.key}
    - {name: siem, type: webhook, url: "https://hooks.example.com/drawbolt", secret_file: `+secret+`}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	out := outbound.New(outbound.Config{})
	defer out.Close()
	routes, err := c.routes(out)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range routes {
		names = append(names, r.Channel.Name()+":"+r.Type)
		if want := r.Channel.Name() != "siem" || slices.Equal(r.Kinds, notify.Kinds()); !want || !slices.Contains(r.Kinds, notify.BreakGlass) {
			t.Errorf("%s is told %v", r.Channel.Name(), r.Kinds)
		}
	}
	if want := []string{"mail:mail", "security:mail", "chat:mattermost", "teams:teams", "oncall:pagerduty", "siem:webhook"}; !slices.Equal(names, want) {
		t.Errorf("channels %q, want %q", names, want)
	}
	if !slices.Equal(routes[1].Kinds, []notify.Kind{notify.BreakGlass}) {
		t.Errorf("security is told %v", routes[1].Kinds)
	}
	if internal, err := c.internal(); err != nil || len(internal) != 2 || internal[0].String() != "10.1.2.0/24" {
		t.Errorf("internal %v, %v", internal, err)
	}
}

func TestChannelsRefused(t *testing.T) {
	for _, c := range []struct{ channels, says string }{
		{`[{name: x, type: pigeon}]`, `not "pigeon"`}, {`[{type: teams, url: "https://t.example.com"}]`, "number 1: name"}, {`[{name: "X y", type: teams, url: "https://t.example.com"}]`, "name"},
		{`[{name: x, type: teams}]`, "an address is needed"}, {`[{name: x, type: teams, url: "http://t.example.com/s3cr3t"}]`, "must be https"},
		{`[{name: x, type: teams, url: "https://t.example.com", url_file: /x}]`, "an address is needed"},
		{`[{name: x, type: teams, url: "https://t.example.com"}, {name: x, type: teams, url: "https://t.example.com"}]`, "another one of that name"},
		{`[{name: x, type: teams, url: "https://t.example.com", kinds: [request.ask]}]`, `no "request.ask"; there are request.asked`},
		{`[{name: x, type: webhook, url: "https://t.example.com"}]`, "secret_file is missing"}, {`[{name: x, type: webhook, url: "https://t.example.com", secret_file: /nothing/here}]`, "no such file"},
		{`[{name: x, type: pagerduty}]`, "secret_file is missing"}, {`[{name: x, type: mail, server: mail.example.com, from: a@example.com}]`, "smtps://"},
		{`[{name: x, type: mail, server: "smtp://m.example.com", from: a@example.com, people: false}]`, "nobody would get"},
		{`[{name: x, type: mail, server: "smtp://m.example.com", from: a@example.com, to: ["a@example.com, b@example.com"]}]`, "e-mail address"},
	} {
		conf, err := loadConfig(writeConfig(t, least+"notifications:\n  channels: "+c.channels+"\n"), nil)
		if err == nil {
			_, err = conf.routes(nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v, want %q", c.channels, err, c.says)
		}
	}
	for _, text := range []string{"notifications: {internal: [10.0.0.1]}", "notifications: {channels: [{name: x, tipe: mail}]}", "notifications: {channels: {name: x}}"} {
		if _, err := loadConfig(writeConfig(t, least+text+"\n"), nil); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	if _, err := loadConfig(writeConfig(t, least), []string{"DRAWBOLT_NOTIFICATIONS_CHANNELS=x"}); err == nil || !strings.Contains(err.Error(), "in the file only") {
		t.Errorf("channels in the environment: %v", err)
	}
}
