package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "drawbolt.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const least = "server:\n  external_url: https://gw.example.com:8443\n"

func TestConfigDefaults(t *testing.T) {
	c, err := loadConfig(writeConfig(t, least), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ name, got, want string }{
		{"data", c.Data, "/var/lib/drawbolt"},
		{"database", c.Database.URL, "sqlite:///var/lib/drawbolt/drawbolt.db"},
		{"ssh address", c.SSH.ExternalAddress, "gw.example.com:2222"},
		{"checkpoint", c.Audit.CheckpointFile, "/var/lib/drawbolt/checkpoint"},
		{"https", c.Server.Listen.HTTPS, ":8443"},
	} {
		if f.got != f.want {
			t.Errorf("%s is %q, want %q", f.name, f.got, f.want)
		}
	}
	if time.Duration(c.SSH.HoldTimeout) != 10*time.Minute {
		t.Errorf("hold %v", time.Duration(c.SSH.HoldTimeout))
	}
}

// The environment goes over the file, the file over the defaults.
func TestConfigPrecedence(t *testing.T) {
	path := writeConfig(t, least+"ssh:\n  hold_timeout: 5m\n  idle_timeout: 20m\n")
	c, err := loadConfig(path, []string{"DRAWBOLT_SSH_HOLD_TIMEOUT=3m", "DRAWBOLT_SERVER_TRUSTED_PROXIES=10.0.0.0/8,192.0.2.0/24", "DRAWBOLT_SSH_SESSIONS_PER_TARGET=7", "OTHER=x"})
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(c.SSH.HoldTimeout) != 3*time.Minute || time.Duration(c.SSH.IdleTimeout) != 20*time.Minute || time.Duration(c.SSH.UserCertTTL) != 5*time.Minute {
		t.Errorf("hold %v, idle %v, certificates %v", time.Duration(c.SSH.HoldTimeout), time.Duration(c.SSH.IdleTimeout), time.Duration(c.SSH.UserCertTTL))
	}
	if c.SSH.Sessions.PerTarget != 7 || c.SSH.Sessions.PerPerson != 200 {
		t.Errorf("sessions %+v", c.SSH.Sessions)
	}
	if _, err := loadConfig(path, []string{"DRAWBOLT_SSH_SESSIONS_TOTAL=lots"}); err == nil || !strings.Contains(err.Error(), "is not a number") {
		t.Errorf("a bad number in the environment: %v", err)
	}
	if p, err := c.proxies(); err != nil || len(p) != 2 {
		t.Errorf("proxies %v, %v", p, err)
	}
	if _, err := loadConfig(path, []string{"DRAWBOLT_SSH_HOLD_TIMEOUT=soon"}); err == nil || !strings.Contains(err.Error(), "DRAWBOLT_SSH_HOLD_TIMEOUT") {
		t.Errorf("a bad duration in the environment: %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no url", "data: /tmp/x\n", "server.external_url is missing"},
		{"http", "server:\n  external_url: http://gw.example.com\n", "must be https"},
		{"a path in the url", "server:\n  external_url: https://gw.example.com/x\n", "must be https"},
		{"unknown key", least + "  lisen:\n    ssh: :22\n", "lisen"},
		{"meant another", least + "ssh:\n  hold_timout: 5m\n", "did you mean ssh.hold_timeout?"},
		{"twice", least + least, "server"},
		{"not YAML", "server: [\n", "server"},
		{"negative duration", least + "ssh:\n  hold_timeout: -5m\n", "is not one"},
		{"fraction", least + "ssh:\n  hold_timeout: 1.5h\n", "is not one"},
		{"long certificates", least + "ssh:\n  user_cert_ttl: 1h\n", "at most 10m"},
		{"no session", least + "ssh:\n  sessions:\n    per_target: 0\n", "ssh.sessions.per_target is between 1 and"},
		{"sessions in words", least + "ssh:\n  sessions:\n    total: many\n", "total"},
		{"long login", least + "auth:\n  session_ttl: 2d\n", "between 1m and 24h"},
		{"rare checkpoints", least + "audit:\n  checkpoint_every: 1h\n", "at most 1m"},
		{"tls files without names", "server:\n  external_url: https://gw.example.com\n  tls:\n    mode: files\n", "needs server.tls.certificate"},
		{"tls mode", "server:\n  external_url: https://gw.example.com\n  tls:\n    mode: none\n", "server.tls.mode"},
		{"proxies", least + "  trusted_proxies: [everybody]\n", "trusted_proxies"},
		{"free space", least + "recordings:\n  min_free: lots\n", "is not a size"},
		{"days", least + "recordings:\n  cold_after: 90\n", "such as 90d"},
		{"cold nowhere", least + "recordings:\n  cold_after: 90d\n", "go together"},
		{"cold at no time", least + "recordings:\n  cold_folder: /mnt/cold\n", "go together"},
		{"s3 nowhere", least + "recordings:\n  s3:\n    bucket: b\n", "recordings.s3.endpoint is missing"},
		{"s3 without a secret", least + "recordings:\n  s3:\n    endpoint: https://s3.example.com\n    bucket: b\n", "a file with its secret"},
		{"a secret in plain", least + objectStore + "    secret_access_key: hunter2\n", "unknown field"},
		{"two cold places", least + objectStore + "  cold_folder: /mnt/cold\n  cold_after: 90d\n", "with s3 it is s3.cold_class"},
		{"cold and locked", least + objectStore + "    cold_class: GLACIER_IR\n    lock: compliance\n    lock_for: 365d\n  cold_after: 90d\n", "do not go together"},
		{"master key", least + "vault:\n  master_key: secret\n", "vault.master_key"},
		{"a transit engine nowhere", least + "vault:\n  master_key: transit:drawbolt\n", "vault.transit: transit: the address"},
		{"a transit engine in plain", least + "vault:\n  master_key: transit:drawbolt\n  transit:\n    url: http://vault.example.com\n    token_file: /run/token\n", "without TLS only"},
		{"log", least + "log:\n  level: loud\n", "log.level"},
		{"listen", least + "  listen:\n    ssh: \"22\"\n", "server.listen.ssh"},
		{"large", least + "#" + strings.Repeat("x", maxConfig), "larger than 1 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadConfig(writeConfig(t, test.text), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

// objectStore is one, as far as it has to be said.
const objectStore = "recordings:\n  s3:\n    endpoint: https://s3.example.com\n    bucket: b\n    access_key_id: id\n    secret_file: /etc/drawbolt/s3.secret\n"

func TestKeeping(t *testing.T) {
	c, err := loadConfig(writeConfig(t, least+objectStore+"    cold_class: GLACIER_IR\n  cold_after: 90d\n"), []string{"DRAWBOLT_RECORDINGS_COLD_AFTER=365d"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Recordings.ColdAfter != 365 || c.bucket().SecretFile != "/etc/drawbolt/s3.secret" || c.Recordings.S3.ColdClass != "GLACIER_IR" {
		t.Errorf("got %+v", c.Recordings)
	}
}

func TestMinFree(t *testing.T) {
	for _, test := range []struct {
		text string
		want uint64
	}{{"", 0}, {"512MiB", 512 << 20}, {"2GiB", 2 << 30}, {"4096", 4096}} {
		var c Config
		c.Recordings.MinFree = test.text
		if got, err := c.minFree(); got != test.want || err != nil {
			t.Errorf("%q is %d, %v; want %d", test.text, got, err, test.want)
		}
	}
}

// What config show prints is what config reads, and the schema takes it.
func TestConfigShowAndSchema(t *testing.T) {
	path := writeConfig(t, least)
	var shown, stderr bytes.Buffer
	if code := run(t.Context(), []string{"config", "show", "--config", path}, &shown, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	again, err := loadConfig(writeConfig(t, shown.String()), nil)
	if err != nil {
		t.Fatalf("what is shown does not load: %v\n%s", err, shown.String())
	}
	first, err := loadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(first)
	b, _ := json.Marshal(again)
	a = bytes.ReplaceAll(a, []byte("null"), []byte("[]")) // an empty list is an empty list
	if !bytes.Equal(a, b) {
		t.Errorf("shown and read again:\n%s\n%s", a, b)
	}

	compiler := jsonschema.NewCompiler()
	b, err = json.Marshal(configSchema())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("drawbolt.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("drawbolt.json")
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]any{"server": map[string]any{"external_url": "https://x"}, "ssh": map[string]any{"hold_timeout": "5m", "sessions": map[string]any{"per_target": 20}}}
	if err := schema.Validate(good); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]map[string]any{
		"unknown key": {"servr": map[string]any{}},
		"duration":    {"ssh": map[string]any{"hold_timeout": "soon"}},
		"number":      {"ssh": map[string]any{"sessions": map[string]any{"total": "20"}}},
		"none":        {"ssh": map[string]any{"sessions": map[string]any{"total": 0}}},
		"type":        {"server": map[string]any{"trusted_proxies": "all"}},
	} {
		if schema.Validate(bad) == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

// A demo clears the folder of an earlier demo and no other.
func TestDemoFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clearDemo(dir); err == nil {
		t.Error("a folder with other things was taken")
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, demoMarker), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clearDemo(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
}

func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	now := time.Now()
	make := func(host string, at time.Time) string {
		t.Helper()
		if err := selfSigned(crt, key, host, at); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(crt)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := make("gw.example.com", now)
	if make("gw.example.com", now.Add(300*24*time.Hour)) != first {
		t.Error("a good certificate was replaced")
	}
	if make("gw.example.com", now.Add(380*24*time.Hour)) == first {
		t.Error("a certificate that ends soon was kept")
	}
	if second := make("127.0.0.1", now); second == first {
		t.Error("a certificate for another host was kept")
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v (%v)", info.Mode(), err)
	}
}
