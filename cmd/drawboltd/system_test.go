package main

import (
	"strings"
	"testing"
)

func TestWithoutSecret(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"server.name", "gw-1", "gw-1"},
		{"server.listen.https", ":8443", ":8443"},
		{"database.url", "postgres://drawbolt:hunter2@db:5432/drawbolt?sslpassword=hunter2", "postgres://drawbolt@db:5432/drawbolt?not-shown"},
		{"database.url", "host=db password=hunter2", "set, and not shown"},
		{"database.url", "sqlite:///var/lib/drawbolt/drawbolt.db", "sqlite:///var/lib/drawbolt/drawbolt.db"},
		{"database.url", "postgres://a:hunter2%zz@db", "set, and not shown"},
		{"database.url", "", ""},
		{"recordings.s3.access_key_id", "AKIA", "AKIA"},
		{"recordings.s3.secret_file", "/etc/drawbolt/s3", "/etc/drawbolt/s3"},
		{"chat.token", "hunter2", "set, and not shown"},
		{"chat.webhook", "https://chat.example/hunter2", "set, and not shown"},
		{"proxy.address", "https://me:hunter2@proxy.example", "https://me@proxy.example"},
	} {
		got := withoutSecret(c.name, c.value)
		if got != c.want || strings.Contains(got, "hunter2") {
			t.Errorf("%s %q is shown as %q, want %q", c.name, c.value, got, c.want)
		}
	}
}

// TestNoSettingIsSecret: what the page shows of a configuration holds none of the
// values that are somebody's alone.
func TestNoSettingIsSecret(t *testing.T) {
	c := defaultConfig()
	c.Database.URL = "postgres://drawbolt:hunter2@db/drawbolt"
	c.Vault.MasterKey = "file:/etc/hunter2"
	for _, s := range settings(&c) {
		if v := withoutSecret(s.name, strings.TrimSpace(s.value.String())); strings.Contains(v, "hunter2") {
			t.Errorf("%s is shown as %q", s.name, v)
		}
	}
}
