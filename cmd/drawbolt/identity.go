package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/drawbolt/drawbolt/web/api"
)

// An identity is the key and the certificate that say who the person is.
type identity struct {
	key         ed25519.PrivateKey
	cert        *ssh.Certificate
	fingerprint string
	expires     time.Time
}

// renewIdentity gets a certificate for the key of the profile, which is made
// when it is not there, and writes the files that ssh reads.
func (c *cli) renewIdentity(ctx context.Context, cl *api.Client, p *profile) (*identity, error) {
	key, err := loadKey(p)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(p)
	}
	if err != nil {
		return nil, err
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	answer, err := cl.Certify(ctx, line)
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate([]byte(answer.Certificate))
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if cert.CertType != ssh.UserCert || !bytes.Equal(cert.Key.Marshal(), pub.Marshal()) {
		return nil, errors.New("the server sent a certificate for another key")
	}
	known, err := knownHosts(p, append(answer.HostAuthorities, answer.HostAuthority))
	if err != nil {
		return nil, err
	}
	if err := checkHost(answer.SSHHost, answer.SSHPort); err != nil {
		return nil, err
	}
	p.SSHHost, p.SSHPort = answer.SSHHost, answer.SSHPort
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"id.pub", []byte(line + " drawbolt " + p.name + "\n")},
		{"id-cert.pub", ssh.MarshalAuthorizedKey(cert)},
		{"known_hosts", known},
	} {
		if err := writeFile(p.path(f.name), f.data); err != nil {
			return nil, err
		}
	}
	if err := c.saveProfile(p); err != nil {
		return nil, err
	}
	return &identity{key: key, cert: cert, fingerprint: ssh.FingerprintSHA256(pub), expires: certExpiry(cert)}, nil
}

// maxAuthorities is more than a server has: two, while it rotates them.
const maxAuthorities = 8

// knownHosts is the known_hosts of the profile: the host authorities, each once.
// They may vouch for any name, but only in this file, which only the Host blocks
// of drawbolt read.
func knownHosts(p *profile, authorities []string) ([]byte, error) {
	if len(authorities) > maxAuthorities {
		return nil, errors.New("the server sent too many host authorities")
	}
	var known []byte
	for _, line := range authorities {
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("the server sent a host authority that is not one key")
		}
		entry := []byte("@cert-authority * " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " drawbolt " + p.name + "\n")
		if !bytes.Contains(known, entry) {
			known = append(known, entry...)
		}
	}
	return known, nil
}

// refreshKnownHosts takes over the host authorities as they are now.
func (c *cli) refreshKnownHosts(ctx context.Context, p *profile) error {
	cl, err := c.anybody()
	if err != nil {
		return err
	}
	a, err := cl.Authorities(ctx)
	if err != nil {
		return err
	}
	known, err := knownHosts(p, append(a.Hosts, a.Host))
	if err != nil {
		return err
	}
	return writeFile(p.path("known_hosts"), known)
}

// ensureIdentity renews the certificate when it is about to expire.
func (c *cli) ensureIdentity(ctx context.Context, cl *api.Client, p *profile) error {
	if b, err := readFile(p.path("id-cert.pub")); err == nil {
		if cert, err := parseCertificate(b); err == nil && certExpiry(cert).After(c.now().Add(2*time.Minute)) {
			if _, err := loadKey(p); err == nil && p.SSHHost != "" {
				return nil
			}
		}
	}
	_, err := c.renewIdentity(ctx, cl, p)
	return err
}

func makeKey(p *profile) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "drawbolt "+p.name)
	if err != nil {
		return nil, err
	}
	return key, writeFile(p.path("id"), pem.EncodeToMemory(block))
}

func loadKey(p *profile) (ed25519.PrivateKey, error) {
	b, err := readFile(p.path("id"))
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.path("id"), err)
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: it is not an Ed25519 key", p.path("id"))
	}
	return *key, nil
}

func parseCertificate(b []byte) (*ssh.Certificate, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one certificate")
	}
	return cert, nil
}

func certExpiry(cert *ssh.Certificate) time.Time {
	return time.Unix(int64(min(cert.ValidBefore, 1<<40)), 0)
}

// checkHost keeps what the server says from becoming a second line, an option
// or a command in an ssh_config.
func checkHost(host string, port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("the server sent the SSH port %d, which is none", port)
	}
	if net.ParseIP(host) != nil {
		return nil
	}
	if !plainHost(host) {
		return fmt.Errorf("the server sent the SSH host %q, which is not a host name", host)
	}
	return nil
}

// plainHost reports whether s is a host name and nothing else.
func plainHost(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

// addToAgent gives the identity to the running ssh-agent, which drops it when
// the certificate expires.
func (c *cli) addToAgent(p *profile, id *identity) error {
	sock := c.env("SSH_AUTH_SOCK")
	if sock == "" {
		return usage("--agent needs a running ssh-agent: SSH_AUTH_SOCK is not set")
	}
	conn, err := net.DialTimeout("unix", sock, 5*time.Second)
	if err != nil {
		return fmt.Errorf("reach the ssh-agent: %w", err)
	}
	defer conn.Close()
	left := id.expires.Sub(c.now()) / time.Second
	if left < 1 {
		return errors.New("the certificate has expired already: is the clock right?")
	}
	a := agent.NewClient(conn)
	for _, cert := range []*ssh.Certificate{nil, id.cert} {
		err := a.Add(agent.AddedKey{PrivateKey: id.key, Certificate: cert, Comment: "drawbolt " + p.name,
			LifetimeSecs: uint32(min(left, 30*24*3600))})
		if err != nil {
			return fmt.Errorf("add to the ssh-agent: %w", err)
		}
	}
	return nil
}
