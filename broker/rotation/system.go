package rotation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/ldap"
	"github.com/drawbolt/drawbolt/vault/rotate/linux"
	"github.com/drawbolt/drawbolt/vault/rotate/mysql"
	"github.com/drawbolt/drawbolt/vault/rotate/overssh"
	"github.com/drawbolt/drawbolt/vault/rotate/plugin"
	"github.com/drawbolt/drawbolt/vault/rotate/postgres"
	"github.com/drawbolt/drawbolt/vault/rotate/sshkey"
	"github.com/drawbolt/drawbolt/vault/rotate/windows"
)

// Machines is the way to machines with SSH, through those that stand before them.
type Machines interface {
	// SetPassword runs a command at the target of a step, as one of its accounts, with
	// a certificate or with what is given for it. began says that it may have run.
	SetPassword(ctx context.Context, s broker.RotationStep, as access.Account, with broker.Loan, command string, input []byte) (output []byte, began bool, err error)
	// Dial connects to the target's sshd.
	Dial(ctx context.Context, s broker.RotationStep) (net.Conn, error)
	// HostKey says which host keys the target may show, and of which algorithms.
	HostKey(s broker.RotationStep) (ssh.HostKeyCallback, []string)
}

// Linux is the System of Unix machines with SSH, whose accounts have a password or a key.
func Linux(m Machines) System {
	return func(s broker.RotationStep) (rotate.Rotator, error) {
		way := machine{m, s}
		hostKey, algorithms := m.HostKey(s)
		if s.Account.Credential == access.CredentialKey {
			return overSSH{way, func(run overssh.Runner) rotate.Rotator {
				return sshkey.Rotator{Account: s.Account.Name, Run: run, Dial: way.dial, HostKey: hostKey, Algorithms: algorithms}
			}}, nil
		}
		return overSSH{way, func(run overssh.Runner) rotate.Rotator {
			return linux.Rotator{Account: s.Account.Name, Run: run, Dial: way.dial, HostKey: hostKey, Algorithms: algorithms}
		}}, nil
	}
}

// Windows is the System of machines with OpenSSH for Windows.
func Windows(m Machines) System {
	return func(s broker.RotationStep) (rotate.Rotator, error) {
		way := machine{m, s}
		hostKey, algorithms := m.HostKey(s)
		return overSSH{way, func(run overssh.Runner) rotate.Rotator {
			return windows.Rotator{Account: s.Account.Name, Run: run, Dial: way.dial, HostKey: hostKey, Algorithms: algorithms}
		}}, nil
	}
}

// A machine is the way to the machine of a step.
type machine struct {
	way  Machines
	step broker.RotationStep
}

func (m machine) dial(ctx context.Context) (net.Conn, error) { return m.way.Dial(ctx, m.step) }

// runner runs commands as the account that sets the password or key, or as the account
// itself, with what it has now.
func (m machine) runner(current vault.Secret) overssh.Runner {
	as, with := m.step.Account, broker.Loan{Secret: current}
	if m.step.Reset != nil {
		as, with.Secret = *m.step.Reset, m.step.ResetSecret
	}
	return func(ctx context.Context, command string, input []byte) ([]byte, error) {
		output, began, err := m.way.SetPassword(ctx, m.step, as, with, command, input)
		if err != nil && !began {
			err = errors.Join(rotate.ErrUnreachable, err)
		}
		return output, err
	}
}

// overSSH sets what an account of a machine logs in with by commands that are run there.
type overSSH struct {
	machine
	with func(overssh.Runner) rotate.Rotator
}

// Set implements rotate.Rotator.
func (o overSSH) Set(ctx context.Context, current, secret vault.Secret) error {
	return o.with(o.runner(current)).Set(ctx, current, secret)
}

// Check implements rotate.Rotator.
func (o overSSH) Check(ctx context.Context, secret vault.Secret) error {
	return o.with(nil).Check(ctx, secret)
}

// Program is the System of a kind whose passwords a program of the operator's changes: by
// its absolute path, with its first arguments.
func Program(command []string) System {
	return func(s broker.RotationStep) (rotate.Rotator, error) {
		if err := plugin.CheckProgram(command[0]); err != nil {
			return nil, err
		}
		return plugin.Rotator{Command: command, Target: s.Target.Name, Address: s.Target.Address, Account: knownAs(s.Account)}, nil
	}
}

// Postgres is the System of PostgreSQL.
func Postgres(s broker.RotationStep) (rotate.Rotator, error) {
	secure, err := transport(s.Target, true)
	r := postgres.Rotator{Address: s.Target.Address, TLS: secure, Role: knownAs(s.Account)}
	if s.Reset != nil {
		r.Admin, r.AdminPassword = knownAs(*s.Reset), s.ResetSecret
	}
	return r, err
}

// MySQL is the System of MySQL and MariaDB. An account is known as user, or as user@host
// as in the table of users.
func MySQL(s broker.RotationStep) (rotate.Rotator, error) {
	secure, err := transport(s.Target, true)
	r := mysql.Rotator{Address: s.Target.Address, TLS: secure}
	r.User, r.Host = userHost(s.Account)
	if s.Reset != nil {
		r.Admin, _ = userHost(*s.Reset)
		r.AdminPassword = s.ResetSecret
	}
	return r, err
}

func userHost(a access.Account) (user, host string) {
	name := knownAs(a)
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// LDAP is the System of directories, Active Directory among them. At port 389 (and 3268,
// the global catalog) a connection begins without TLS and then goes over to it.
func LDAP(s broker.RotationStep) (rotate.Rotator, error) {
	_, port, err := net.SplitHostPort(s.Target.Address)
	if err != nil {
		return nil, err
	}
	scheme := "ldaps://"
	if port == "389" || port == "3268" {
		scheme = "ldap://"
	}
	secure, err := transport(s.Target, false)
	r := ldap.Rotator{URL: scheme + s.Target.Address, TLS: secure, DN: s.Account.KnownAs, ActiveDirectory: s.Target.Kind == access.KindActiveDirectory}
	if s.Reset != nil {
		r.Admin, r.AdminPassword = s.Reset.KnownAs, s.ResetSecret
	}
	return r, err
}

func knownAs(a access.Account) string {
	if a.KnownAs != "" {
		return a.KnownAs
	}
	return a.Name
}

// transport is the TLS with which a target is reached: with a certificate that one of
// those signed that are pinned for it, or one that this server's system trusts. plain
// says that a server on this machine that has none pinned is reached without.
func transport(t access.Target, plain bool) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(t.Address)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if len(t.HostKeys) == 0 {
		if ip := net.ParseIP(host); plain && ip != nil && ip.IsLoopback() {
			return nil, nil
		}
		return c, nil
	}
	c.RootCAs = x509.NewCertPool()
	for _, k := range t.HostKeys {
		der, err := base64.StdEncoding.DecodeString(k)
		if err != nil {
			return nil, fmt.Errorf("a certificate that is pinned for %s: %w", t.Name, err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("a certificate that is pinned for %s: %w", t.Name, err)
		}
		c.RootCAs.AddCert(cert)
	}
	return c, nil
}
