package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/objects"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/web/slack"
)

// Config is the file /etc/drawbolt/drawbolt.yaml: what the process needs to
// start. Policies, targets and people live in the database.
type Config struct {
	// Data is the folder of everything that has no other place.
	Data   string `yaml:"data" doc:"folder of the database, keys, recordings and journals"`
	Server struct {
		Name        string `yaml:"name" doc:"name of this server, unique among those that share a database (default: the host name)"`
		ExternalURL string `yaml:"external_url" doc:"what people open and log in to, such as https://gw.example.com:8443"`
		Listen      struct {
			HTTPS   string `yaml:"https" doc:"address of the web, API and CLI"`
			SSH     string `yaml:"ssh" doc:"address of the SSH bastion"`
			Metrics string `yaml:"metrics" doc:"address of /metrics, /metrics/targets, /healthz and /readyz; empty: none"`
		} `yaml:"listen"`
		TLS struct {
			Mode        string `yaml:"mode" doc:"self_signed or files"`
			Certificate string `yaml:"certificate" doc:"PEM file, with mode files"`
			Key         string `yaml:"key" doc:"PEM file, with mode files"`
		} `yaml:"tls"`
		TrustedProxies []string `yaml:"trusted_proxies" doc:"networks whose X-Forwarded-For is believed"`
	} `yaml:"server"`
	Database struct {
		URL string `yaml:"url" doc:"sqlite:///path or postgres://... (default: SQLite in the data folder); file:PATH reads it from a file"`
	} `yaml:"database"`
	Recordings struct {
		Folder     string   `yaml:"folder" doc:"where sealed recordings go (default: recordings in the data folder)"`
		Recipients []string `yaml:"recipients" doc:"post-quantum age recipients of auditors who may open sealed recordings with keys of their own"`
		Hidden     []string `yaml:"hidden_recipients" doc:"post-quantum age recipients who alone may open what was typed unseen, such as passwords (default: a key in the vault; drawboltd hidden)"`
		MinFree    string   `yaml:"min_free" doc:"free bytes below which no session starts, such as 1GiB (default: 1GiB, at most 5% of the disk)"`
		KeepDays   int      `yaml:"keep_days" doc:"days for which every recording is kept at least, whatever rules of retention or people say"`
		Search     bool     `yaml:"search" doc:"whether what was shown, typed and run is kept in the database too, in plain, so that it can be searched (default: true)"`
		Views      bool     `yaml:"views" doc:"whether views are made of recordings when their sessions have ended: what the player seeks with and the search finds (default: true)"`
		Workers    int      `yaml:"view_workers" doc:"views that are made at once"`
		ColdAfter  Days     `yaml:"cold_after" doc:"recordings that are older go to cold_folder or into s3.cold_class, such as 90d"`
		ColdFolder string   `yaml:"cold_folder" doc:"where recordings go that are older than cold_after, without s3"`
		S3         struct {
			Endpoint    string `yaml:"endpoint" doc:"https://host:port of an S3-compatible object store, to which sealed recordings are brought from folder (default: none; they stay in folder)"`
			Bucket      string `yaml:"bucket" doc:"name of the bucket"`
			Prefix      string `yaml:"prefix" doc:"what names in the bucket begin with, such as drawbolt/"`
			Region      string `yaml:"region" doc:"region of the bucket (default: the store is asked)"`
			AccessKeyID string `yaml:"access_key_id" doc:"id of the key to the bucket"`
			SecretFile  string `yaml:"secret_file" doc:"file that holds the secret of that key; it is read for each request, so that it can be replaced"`
			Addressing  string `yaml:"addressing" doc:"where the bucket's name stands: path, dns, or auto"`
			Class       string `yaml:"class" doc:"storage class of new objects (default: the bucket's)"`
			ColdClass   string `yaml:"cold_class" doc:"storage class of objects that are older than cold_after"`
			Lock        string `yaml:"lock" doc:"governance or compliance: the store keeps each object for lock_for (default: as the bucket says)"`
			LockFor     Days   `yaml:"lock_for" doc:"how long, with lock, such as 365d"`
		} `yaml:"s3"`
	} `yaml:"recordings"`
	Vault struct {
		MasterKey string `yaml:"master_key" doc:"what opens the vault: file:PATH of a key file, passphrase:PATH of a file that holds a passphrase, passphrase or shares, which people give after each start, tpm or tpm:PATH of the machine's TPM 2.0,, pkcs11:LABEL of a key in a PKCS#11 token, or transit:NAME of a key in the transit engine of HashiCorp Vault or OpenBao (default: what has wrapped the vault; a key file is master.key in the data folder)"`
		TPM       struct {
			PCRs []string `yaml:"pcrs" doc:"registers of the machine's TPM that must be as they were when it wrapped the vault, such as 7 (default: none; with some, an update of the firmware or boot loader takes drawboltd rekey before it)"`
		} `yaml:"tpm"`
		PKCS11 struct {
			Module  string `yaml:"module" doc:"library of the token's maker, which runs in the server; needs a program that was built with cgo and -tags pkcs11"`
			Token   string `yaml:"token" doc:"label of the token"`
			PINFile string `yaml:"pin_file" doc:"file with the PIN of the token's user; read at each start"`
		} `yaml:"pkcs11"`
		Transit struct {
			URL       string `yaml:"url" doc:"https address of the server with the transit engine"`
			Mount     string `yaml:"mount" doc:"where its transit engine is mounted (default: transit)"`
			Namespace string `yaml:"namespace" doc:"namespace there"`
			TokenFile string `yaml:"token_file" doc:"file with a token that may encrypt and decrypt with the key; read at each start"`
			CAFile    string `yaml:"ca_file" doc:"PEM file of the authority of its certificate (default: the system's)"`
		} `yaml:"transit"`
	} `yaml:"vault"`
	Auth struct {
		SessionTTL Duration `yaml:"session_ttl" doc:"how long a login lasts"`
	} `yaml:"auth"`
	SSH struct {
		ExternalAddress string   `yaml:"external_address" doc:"host:port of the bastion as clients reach it (default: host of external_url, port of listen.ssh)"`
		HoldTimeout     Duration `yaml:"hold_timeout" doc:"how long ssh waits for an approval"`
		BannerInterval  Duration `yaml:"banner_interval" doc:"between two lines while ssh waits"`
		IdleTimeout     Duration `yaml:"idle_timeout" doc:"a session without a byte of data ends after so long"`
		Sessions        struct {
			Total              int `yaml:"total" doc:"sessions on this server at once"`
			PerPerson          int `yaml:"per_person" doc:"sessions of one person at once, on all servers of the database"`
			PerTarget          int `yaml:"per_target" doc:"sessions on one target at once, on all servers of the database"`
			PerPersonAndTarget int `yaml:"per_person_and_target" doc:"sessions of one person on one target at once, on all servers of the database"`
		} `yaml:"sessions"`
		UserCertTTL Duration `yaml:"user_cert_ttl" doc:"life of the certificates for targets, at most 10m"`
	} `yaml:"ssh"`
	Requests struct {
		DefaultDuration  Duration `yaml:"default_duration" doc:"of a request that names none"`
		ActivationWindow Duration `yaml:"activation_window" doc:"an approved grant that is not used lapses after so long"`
		DecideWithin     Duration `yaml:"decide_within" doc:"a request without a decision expires after so long"`
	} `yaml:"requests"`
	Tickets struct {
		Kind        string   `yaml:"kind" doc:"ticket system that is asked whether tickets hold: webhook, jira or servicenow (default: none)"`
		URL         string   `yaml:"url" doc:"where it is, such as https://jira.example.com; of a webhook, all of it"`
		User        string   `yaml:"user" doc:"who logs in there with the token, as HTTP Basic (default: the token alone, as a Bearer)"`
		SecretFile  string   `yaml:"secret_file" doc:"file that holds the token, or the secret with which a webhook and its answers are signed"`
		Table       string   `yaml:"table" doc:"where servicenow looks for tickets"`
		Networks    []string `yaml:"networks" doc:"networks besides the public ones in which it may be"`
		Authorities string   `yaml:"authorities" doc:"PEM file of the authorities of its certificate (default: those of the machine)"`
	} `yaml:"tickets"`
	Policy struct {
		Bundle        string   `yaml:"bundle" doc:"policy bundle: a folder, a git checkout, or a .tar.gz, which is loaded anew when it changes (default: the one in the program)"`
		VerifyKeys    []string `yaml:"verify_keys" doc:"public keys of drawbolt policy key, one of which must have signed the bundle (default: it need not be signed)"`
		KeepDecisions Days     `yaml:"keep_decisions" doc:"how long decisions are kept so that a candidate can be asked the same, such as 90d; at most the newest million"`
	} `yaml:"policy"`
	OnCall struct {
		File     string   `yaml:"file" doc:"file that lists the schedules of who is on call; whoever is, is in the group oncall-NAME (default: none)"`
		Internal []string `yaml:"internal" doc:"networks inside that calendars and PagerDuty's address may lead to, such as 10.0.0.0/8"`
	} `yaml:"oncall"`
	BreakGlass struct {
		MaxDuration   Duration `yaml:"max_duration" doc:"longest that access without approval lasts, whatever the role allows"`
		RequireAlarms int      `yaml:"require_alarms" doc:"ways to raise the alarm that must be configured, or nobody breaks glass; the log of the server is one"`
		StopAfter     Days     `yaml:"stop_after" doc:"who has a break-glass case that waits for its review for so long breaks no glass again, such as 7d (default: it is only told)"`
	} `yaml:"breakglass"`
	Discovery struct {
		Daily   bool   `yaml:"daily" doc:"whether targets are scanned once a day, each at an hour of its own: those with a provisioner, databases and directories (default: true)"`
		AtOnce  int    `yaml:"at_once" doc:"targets that are scanned at the same time by themselves"`
		Profile string `yaml:"profile" doc:"folder of files *.json with what settings of targets are held against (default: the profile of the program)"`
	} `yaml:"discovery"`
	Rotation struct {
		Programs []ProgramConfig `yaml:"programs" doc:"that change passwords of systems which no other kind knows; targets of the kind plugin:NAME use them (default: none)"`
	} `yaml:"rotation"`
	Audit struct {
		CheckpointEvery Duration `yaml:"checkpoint_every" doc:"how often the head of the audit log is signed, at most 1m"`
		CheckpointFile  string   `yaml:"checkpoint_file" doc:"where the newest checkpoint is kept outside the database (default: checkpoint in the data folder)"`
	} `yaml:"audit"`
	Notifications struct {
		Internal []string        `yaml:"internal" doc:"networks inside that channels may call, such as 10.1.2.0/24 or 127.0.0.1/32 (default: none; addresses of private use, loopback and the like are refused)"`
		Channels []ChannelConfig `yaml:"channels" doc:"over which people are told (default: none)"`
		Digest   string          `yaml:"digest" doc:"time of the day at which channels are told what the policy approved without asking anybody, such as 17:00 Europe/Berlin (default: never)"`
		Slack    struct {
			Mode              string   `yaml:"mode" doc:"how Slack reaches this server: socket (over a connection that the server opens) or http (signed requests, for several servers)"`
			Channel           string   `yaml:"channel" doc:"id of the conversation that hears of requests, such as C0123456789"`
			Alerts            string   `yaml:"alerts" doc:"id of the one that hears of break-glass and of what is unusual (default: channel)"`
			Quiet             []string `yaml:"quiet" doc:"hours in which only what is urgent is told, and the rest when they are over, such as 22:00-07:00 Europe/Berlin or saturday sunday 00:00-24:00 (default: none)"`
			BotTokenFile      string   `yaml:"bot_token_file" doc:"file with the Bot User OAuth Token (xoxb-) of the app (default: no Slack)"`
			AppTokenFile      string   `yaml:"app_token_file" doc:"file with the App-Level Token (xapp-), with mode socket"`
			SigningSecretFile string   `yaml:"signing_secret_file" doc:"file with the Signing Secret, with mode http"`
			APIURL            string   `yaml:"api_url" doc:"address of Slack's API, where a proxy stands in front of it (default: https://slack.com/api/)"`
		} `yaml:"slack"`
	} `yaml:"notifications"`
	Log struct {
		Format string `yaml:"format" doc:"auto, json or text"`
		Level  string `yaml:"level" doc:"debug, info, warn or error"`
	} `yaml:"log"`
}

// A Duration is written like 30m, 12h or 1h30m.
type Duration time.Duration

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (d *Duration) UnmarshalYAML(b []byte) error {
	v, err := access.ParseDuration(strings.Trim(strings.TrimSpace(string(b)), `"'`))
	*d = Duration(v)
	return err
}

// MarshalYAML implements yaml.BytesMarshaler.
func (d Duration) MarshalYAML() ([]byte, error) {
	return []byte(access.FormatDuration(time.Duration(d))), nil
}

// A Days is a time in days, written like 90d.
type Days int

const maxDays = 36500

func parseDays(s string) (Days, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(s, "d"))
	if err != nil || n < 0 || n > maxDays || s != fmt.Sprintf("%dd", n) {
		return 0, fmt.Errorf("%.32q is not a number of days such as 90d", s)
	}
	return Days(n), nil
}

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (d *Days) UnmarshalYAML(b []byte) (err error) {
	*d, err = parseDays(strings.Trim(strings.TrimSpace(string(b)), `"'`))
	return err
}

// MarshalYAML implements yaml.BytesMarshaler.
func (d Days) MarshalYAML() ([]byte, error) { return fmt.Appendf(nil, "%dd", d), nil }

func (d Days) duration() time.Duration { return time.Duration(d) * 24 * time.Hour }

// defaultConfig is what holds where the file says nothing.
func defaultConfig() Config {
	var c Config
	c.Data = "/var/lib/drawbolt"
	c.Server.Listen.HTTPS, c.Server.Listen.SSH, c.Server.Listen.Metrics = ":8443", ":2222", "127.0.0.1:9090"
	c.Server.TLS.Mode = "self_signed"
	c.Recordings.KeepDays = 30
	c.Recordings.Search = true
	c.Recordings.Views, c.Recordings.Workers = true, 1
	c.Auth.SessionTTL = Duration(12 * time.Hour)
	c.SSH.HoldTimeout, c.SSH.BannerInterval = Duration(10*time.Minute), Duration(30*time.Second)
	c.SSH.Sessions.Total, c.SSH.Sessions.PerPerson = 2000, 200
	c.SSH.Sessions.PerTarget, c.SSH.Sessions.PerPersonAndTarget = 1000, 100
	c.SSH.IdleTimeout, c.SSH.UserCertTTL = Duration(15*time.Minute), Duration(5*time.Minute)
	c.Requests.DefaultDuration, c.Requests.ActivationWindow = Duration(time.Hour), Duration(4*time.Hour)
	c.Requests.DecideWithin = Duration(15 * time.Minute)
	c.BreakGlass.MaxDuration = Duration(time.Hour)
	c.Recordings.S3.Addressing = "auto"
	c.Discovery.Daily, c.Discovery.AtOnce = true, 4
	c.Tickets.Table = "task"
	c.Policy.KeepDecisions = 90
	c.Audit.CheckpointEvery = Duration(time.Minute)
	c.Notifications.Slack.Mode = slack.SocketMode
	c.Log.Format, c.Log.Level = "auto", "info"
	return c
}

// maxSessions bounds what ssh.sessions may allow.
const maxSessions = 100_000

// maxConfig bounds the file, in bytes.
const maxConfig = 1 << 20

// loadConfig reads the file over the defaults, then the environment over the
// file. An unknown key is an error that shows its line.
func loadConfig(path string, environ []string) (Config, error) {
	c := defaultConfig()
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		if len(b) > maxConfig {
			return c, fmt.Errorf("%s is larger than 1 MiB", path)
		}
		if err := parseConfig(b, &c); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := c.fromEnvironment(environ); err != nil {
		return c, err
	}
	return c, c.complete()
}

func parseConfig(b []byte, c *Config) error {
	err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.DisallowUnknownField()).Decode(c)
	if err == nil || errors.Is(err, io.EOF) { // an empty file is all defaults
		return nil
	}
	return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)) + suggestion(err.Error()))
}

// suggestion finds the key that an unknown one was meant to be.
func suggestion(message string) string {
	_, rest, ok := strings.Cut(message, `unknown field "`)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, `"`)
	best, distance := "", 3
	for _, s := range settings(defaultConfig()) {
		key := s.name[strings.LastIndexByte(s.name, '.')+1:]
		if d := editDistance(name, key); d < distance {
			best, distance = s.name, d
		}
	}
	if best == "" {
		return ""
	}
	return "\ndid you mean " + best + "?"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// A setting is one key of the file.
type setting struct {
	name  string // server.listen.ssh
	doc   string
	value reflect.Value
}

// settings lists every key, in order. c must be addressable for the values to
// be settable.
func settings(c any) []setting {
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return walk("", v)
}

func walk(prefix string, v reflect.Value) []setting {
	var list []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			list = append(list, walk(name+".", v.Field(i))...)
			continue
		}
		list = append(list, setting{name, f.Tag.Get("doc"), v.Field(i)})
	}
	return list
}

// environmentName of server.listen.ssh is DRAWBOLT_SERVER_LISTEN_SSH.
func (s setting) environmentName() string {
	return "DRAWBOLT_" + strings.ToUpper(strings.ReplaceAll(s.name, ".", "_"))
}

func (c *Config) fromEnvironment(environ []string) error {
	for _, s := range settings(c) {
		prefix := s.environmentName() + "="
		i := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, prefix) })
		if i < 0 {
			continue
		}
		if err := s.assign(environ[i][len(prefix):]); err != nil {
			return fmt.Errorf("%s: %w", s.environmentName(), err)
		}
	}
	return nil
}

// assign reads a value as the environment and flags give it; that of a list has
// commas.
func (s setting) assign(value string) error {
	switch p := s.value.Addr().Interface().(type) {
	case *string:
		*p = value
	case *[]string:
		*p = strings.Split(value, ",")
	case *bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		*p = value == "true"
	case *int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
		*p = n
	case *Duration:
		d, err := access.ParseDuration(value)
		if err != nil {
			return err
		}
		*p = Duration(d)
	case *Days:
		d, err := parseDays(value)
		if err != nil {
			return err
		}
		*p = d
	default:
		return errors.New("it is set in the file only")
	}
	return nil
}

// set takes name=value, such as ssh.hold_timeout=30s.
func (c *Config) set(assignment string) error {
	name, value, ok := strings.Cut(assignment, "=")
	list := settings(c)
	i := slices.IndexFunc(list, func(s setting) bool { return s.name == name })
	if !ok || i < 0 {
		return usageError{fmt.Errorf("%q is not a setting and its value, such as ssh.hold_timeout=30s", assignment)}
	}
	if err := list[i].assign(value); err != nil {
		return usageError{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

// complete fills what depends on something else, and checks the whole.
func (c *Config) complete() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.Data) {
		abs, err := filepath.Abs(c.Data)
		if err != nil {
			return err
		}
		c.Data = abs
	}
	if c.Server.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		c.Server.Name = name
	}
	if c.Database.URL == "" {
		c.Database.URL = "sqlite://" + filepath.Join(c.Data, "drawbolt.db")
	}
	fallback := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	fallback(&c.Recordings.Folder, filepath.Join(c.Data, "recordings"))
	fallback(&c.Audit.CheckpointFile, filepath.Join(c.Data, "checkpoint"))

	u, err := url.Parse(c.Server.ExternalURL)
	switch {
	case c.Server.ExternalURL == "":
		bad("server.external_url is missing: what people open, such as https://gw.example.com:8443")
	case err != nil || u.Scheme != "https" || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil:
		bad("server.external_url must be https://host or https://host:port, not %q", c.Server.ExternalURL)
	case c.SSH.ExternalAddress == "":
		_, port, err := net.SplitHostPort(c.Server.Listen.SSH)
		if err != nil {
			bad("server.listen.ssh: %v", err)
		}
		c.SSH.ExternalAddress = net.JoinHostPort(u.Hostname(), port)
	}
	for _, l := range []struct{ name, address string }{
		{"server.listen.https", c.Server.Listen.HTTPS}, {"server.listen.ssh", c.Server.Listen.SSH}, {"server.listen.metrics", c.Server.Listen.Metrics},
	} {
		if _, _, err := net.SplitHostPort(l.address); err != nil && (l.address != "" || l.name != "server.listen.metrics") {
			bad("%s: %v", l.name, err)
		}
	}
	switch c.Server.TLS.Mode {
	case "self_signed":
	case "files":
		if c.Server.TLS.Certificate == "" || c.Server.TLS.Key == "" {
			bad("server.tls.mode files needs server.tls.certificate and server.tls.key")
		}
	default:
		bad("server.tls.mode must be self_signed or files, not %q", c.Server.TLS.Mode)
	}
	if _, err := c.proxies(); err != nil {
		bad("server.trusted_proxies: %v", err)
	}
	if _, err := prefixes(c.OnCall.Internal); err != nil {
		bad("oncall.internal: %v", err)
	}
	if _, err := c.minFree(); err != nil {
		bad("recordings.min_free: %v", err)
	}
	if n := c.Recordings.KeepDays; n < 0 || n > access.MaxKeepDays {
		bad("recordings.keep_days is between 0 and %d, not %d", access.MaxKeepDays, n)
	}
	if n := c.Recordings.Workers; n < 1 || n > 64 {
		bad("recordings.view_workers is between 1 and 64, not %d", n)
	}
	problems = append(problems, c.keeping()...)
	if t := c.Tickets; t.Kind == "" && (t.URL != "" || t.SecretFile != "") {
		bad("tickets.kind is missing: webhook, jira or servicenow")
	} else if t.Kind != "" && (t.URL == "" || t.SecretFile == "") {
		bad("tickets.kind needs tickets.url and tickets.secret_file")
	}
	problems = append(problems, c.programProblems()...)
	for _, problem := range c.masterProblems() {
		bad("%s", problem)
	}
	if d := time.Duration(c.SSH.UserCertTTL); d > 10*time.Minute {
		bad("ssh.user_cert_ttl is at most 10m")
	}
	for _, limit := range []struct {
		name string
		n    int
	}{
		{"total", c.SSH.Sessions.Total}, {"per_person", c.SSH.Sessions.PerPerson},
		{"per_target", c.SSH.Sessions.PerTarget}, {"per_person_and_target", c.SSH.Sessions.PerPersonAndTarget},
	} {
		if limit.n < 1 || limit.n > maxSessions {
			bad("ssh.sessions.%s is between 1 and %d, not %d", limit.name, maxSessions, limit.n)
		}
	}
	if d := time.Duration(c.Auth.SessionTTL); d < time.Minute || d > 24*time.Hour {
		bad("auth.session_ttl is between 1m and 24h")
	}
	if _, err := c.internal(); err != nil {
		bad("notifications.internal: %v", err)
	}
	if d := time.Duration(c.BreakGlass.MaxDuration); d < time.Minute || d > 24*time.Hour {
		bad("breakglass.max_duration is between 1m and 24h")
	}
	if n := c.BreakGlass.RequireAlarms; n < 0 || n > 16 {
		bad("breakglass.require_alarms is between 0 and 16, not %d", n)
	}
	if s := c.Notifications.Digest; s != "" {
		if _, err := broker.ParseDaily(s); err != nil {
			bad("notifications.digest: %v", err)
		}
	}
	for _, problem := range c.slackProblems() {
		bad("notifications.slack.%s", problem)
	}
	if d := time.Duration(c.Audit.CheckpointEvery); d > time.Minute {
		bad("audit.checkpoint_every is at most 1m")
	}
	if !slices.Contains([]string{"auto", "json", "text"}, c.Log.Format) {
		bad("log.format must be auto, json or text")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level must be debug, info, warn or error")
	}
	return errors.Join(problems...)
}

func (c *Config) proxies() ([]netip.Prefix, error) { return prefixes(c.Server.TrustedProxies) }

func prefixes(networks []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// minFree is recordings.min_free in bytes; 0 is the recorder's default.
func (c *Config) minFree() (uint64, error) {
	s := c.Recordings.MinFree
	if s == "" {
		return 0, nil
	}
	unit := uint64(1)
	for _, u := range []struct {
		suffix string
		bytes  uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = rest, u.bytes
			break
		}
	}
	var n uint64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || n == 0 || n > 1<<40 || fmt.Sprint(n) != s {
		return 0, fmt.Errorf("%q is not a size such as 512MiB", c.Recordings.MinFree)
	}
	return n * unit, nil
}

// bucket is recordings.s3.
func (c *Config) bucket() objects.BucketConfig {
	s := c.Recordings.S3
	return objects.BucketConfig{
		Endpoint: s.Endpoint, Bucket: s.Bucket, Prefix: s.Prefix, Region: s.Region, AccessKeyID: s.AccessKeyID, SecretFile: s.SecretFile,
		Addressing: s.Addressing, Class: s.Class, Lock: s.Lock, LockFor: s.LockFor.duration(),
	}
}

// keeping checks where recordings are kept.
func (c *Config) keeping() (problems []error) {
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("recordings."+format, args...))
	}
	r := &c.Recordings
	s3 := r.S3.Endpoint != ""
	switch {
	case s3:
		if _, err := objects.NewBucket(c.bucket()); err != nil {
			bad("s3: %v", err)
		}
		if r.ColdFolder != "" {
			bad("cold_folder is for recordings in folders; with s3 it is s3.cold_class")
		}
		if r.S3.ColdClass != "" && r.S3.Lock != "" {
			bad("s3.cold_class and s3.lock do not go together: an object that is locked is put into another class by a rule of the bucket")
		}
	case r.S3.Bucket != "" || r.S3.AccessKeyID != "" || r.S3.SecretFile != "":
		bad("s3.endpoint is missing: the object store, such as https://s3.eu-central-1.amazonaws.com")
	}
	if cold := r.ColdFolder != "" || r.S3.ColdClass != ""; cold != (r.ColdAfter > 0) {
		bad("cold_after, and cold_folder or s3.cold_class, go together: from when on, and to where")
	}
	return problems
}

// databaseURL resolves a reference to a file.
func (c *Config) databaseURL() (string, error) {
	path, ok := strings.CutPrefix(c.Database.URL, "file:")
	if !ok {
		return c.Database.URL, nil
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// masterProblems are those of vault.master_key.
func (c *Config) masterProblems() []string {
	kind, rest, named := strings.Cut(c.Vault.MasterKey, ":")
	bare := map[string]bool{"": true, keeper.KindPassphrase: true, keeper.KindShares: true, keeper.KindTPM: true}
	with := map[string]bool{keeper.KindFile: true, keeper.KindPassphrase: true, keeper.KindTransit: true, keeper.KindTPM: true, keeper.KindPKCS11: true}
	if named && (rest == "" || !with[kind]) || !named && !bare[kind] {
		return []string{"vault.master_key must be file:PATH, passphrase, passphrase:PATH, shares, tpm, tpm:PATH, pkcs11:LABEL or transit:NAME"}
	}
	if kind == keeper.KindTransit {
		if _, err := c.transit(rest); err != nil {
			return []string{"vault.transit: " + err.Error()}
		}
	}
	if _, err := c.tpm(rest); err != nil {
		return []string{"vault.tpm.pcrs: " + err.Error()}
	}
	return nil
}

// tpm is the machine's TPM.
func (c *Config) tpm(path string) (vault.Keeper, error) {
	t := keeper.TPM{Path: path}
	for _, text := range c.Vault.TPM.PCRs {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%q is not the number of a register", text)
		}
		t.PCRs = append(t.PCRs, uint(n))
	}
	return keeper.NewTPM(t)
}

// transit is where the root key is that another server keeps.
func (c *Config) transit(key string) (vault.Keeper, error) {
	t := c.Vault.Transit
	at := keeper.Transit{URL: t.URL, Mount: t.Mount, Key: key, Namespace: t.Namespace, TokenFile: t.TokenFile}
	if t.CAFile != "" {
		b, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		at.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		if !at.TLS.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s has no certificate", t.CAFile)
		}
	}
	return keeper.NewTransit(at)
}
