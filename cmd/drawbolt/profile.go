package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// A profile is one server and one person there. Its files are in a folder of
// its own: token, id, id.pub, id-cert.pub, known_hosts, ssh_config.
type profile struct {
	Server      string    `json:"server"`
	Fingerprint string    `json:"fingerprint,omitempty"` // of the server's certificate; "": the system's roots
	User        string    `json:"user,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // of the login
	SSHHost     string    `json:"ssh_host,omitempty"`
	SSHPort     int       `json:"ssh_port,omitempty"`
	Transport   string    `json:"transport,omitempty"` // of ssh: "https", or "" for SSH's own port

	name  string
	dir   string
	token string
}

// config is config.json.
type config struct {
	Current  string              `json:"current,omitempty"` // the profile that is used when none is named
	Profiles map[string]*profile `json:"profiles"`
}

// maxFile bounds every file of the profile that is read, in bytes.
const maxFile = 1 << 20

var profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// configDir is where the client keeps its files.
func (c *cli) configDir() (string, error) {
	if c.folder != "" {
		return filepath.Abs(c.folder)
	}
	if dir := c.env("DRAWBOLT_CONFIG_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := c.env("XDG_CONFIG_HOME"); dir != "" && filepath.IsAbs(dir) {
		return filepath.Join(dir, "drawbolt"), nil
	}
	if runtime.GOOS == "windows" {
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "drawbolt"), err
	}
	home, err := c.home()
	return filepath.Join(home, ".config", "drawbolt"), err
}

func (c *cli) home() (string, error) {
	if h := c.env("HOME"); h != "" {
		return h, nil
	}
	return os.UserHomeDir()
}

func (c *cli) loadConfig() (*config, string, error) {
	dir, err := c.configDir()
	if err != nil {
		return nil, "", fmt.Errorf("find the folder of drawbolt: %w", err)
	}
	conf := &config{}
	b, err := readFile(filepath.Join(dir, "config.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	if err == nil {
		if err := json.Unmarshal(b, conf); err != nil {
			return nil, "", fmt.Errorf("read %s: %w", filepath.Join(dir, "config.json"), err)
		}
	}
	if conf.Profiles == nil {
		conf.Profiles = map[string]*profile{}
	}
	return conf, dir, nil
}

// loadProfile returns the profile that flags and environment name. It is empty
// but for its name when there is none yet. The token is there only when the
// server is the one that gave it: a token is never sent elsewhere.
func (c *cli) loadProfile() (*profile, error) {
	conf, dir, err := c.loadConfig()
	if err != nil {
		return nil, err
	}
	name := first(c.profile, c.env("DRAWBOLT_PROFILE"))
	server := first(c.server, c.env("DRAWBOLT_SERVER"))
	if server != "" {
		if server, err = normalServer(server); err != nil {
			return nil, err
		}
		if name == "" {
			for n, p := range conf.Profiles { // the current one first
				if p != nil && p.Server == server && (name == "" || n == conf.Current) {
					name = n
				}
			}
		}
	}
	name = first(name, conf.Current, "default")
	if !profileName.MatchString(name) {
		return nil, usage("the profile name %q is not valid: a-z, 0-9, dot, underscore and hyphen", name)
	}
	p := conf.Profiles[name]
	if p == nil {
		p = &profile{}
	}
	p.name, p.dir = name, filepath.Join(dir, name)
	same := server == "" || server == p.Server
	if !same {
		*p = profile{Server: server, name: p.name, dir: p.dir}
	}
	tokenFile := c.tokenFile
	if tokenFile == "" && same && p.Server != "" {
		tokenFile = p.path("token")
	}
	if tokenFile != "" {
		b, err := readFile(tokenFile)
		if err != nil && (c.tokenFile != "" || !errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		p.token = strings.TrimSpace(string(b))
	}
	return p, nil
}

func (p *profile) path(file string) string { return filepath.Join(p.dir, file) }

// saveProfile writes the profile into config.json. The first one becomes the
// current one.
func (c *cli) saveProfile(p *profile) error {
	conf, dir, err := c.loadConfig()
	if err != nil {
		return err
	}
	conf.Profiles[p.name] = p
	conf.Current = first(conf.Current, p.name)
	return writeConfig(dir, conf)
}

// makeCurrent makes a profile that was saved the one that is used when none is
// named.
func (c *cli) makeCurrent(name string) error {
	conf, dir, err := c.loadConfig()
	if err != nil {
		return err
	}
	conf.Current = name
	return writeConfig(dir, conf)
}

func writeConfig(dir string, conf *config) error {
	b, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "config.json"), append(b, '\n'))
}

// normalServer adds https:// to a bare host and checks the rest.
func normalServer(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	s, err := api.CheckServer(s)
	if err != nil {
		return "", usage("%v", err)
	}
	return s, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// readFile reads a small file; "-" is not special here.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxFile)
	}
	return b, err
}

// writeFile replaces a file as a whole, readable for its owner alone. The folder
// is made when it is not there.
func writeFile(name string, data []byte) error { return replaceFile(name, data, 0o600) }

func replaceFile(name string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".drawbolt-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = io.Copy(f, bytes.NewReader(data))
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
