package servers

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// NewSamba starts a domain controller of Active Directory, Samba's, for the domain
// corp.test. Its ports are fixed, so it has an address of its own below 127/8. It takes ten
// seconds, needs root, and ends with the test.
func NewSamba(t testing.TB) *Directory {
	t.Helper()
	tool, err := program("samba-tool", "samba-ad-provision")
	check(t, err)
	daemon, err := program("samba", "samba-ad-dc", "/usr/sbin/samba")
	check(t, err)
	dir, err := newDir("samba")
	check(t, err)
	d, err := runSamba(dir, tool, daemon)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(fmt.Errorf("start Samba: %w", err))
	}
	t.Cleanup(d.stop)
	return d
}

func runSamba(dir, tool, daemon string) (*Directory, error) {
	d := &Directory{Base: "DC=corp,DC=test", Password: "Adm1n-Passw0rd!", Roots: x509.NewCertPool()}
	d.Admin = "CN=Administrator,CN=Users," + d.Base
	// One address for each process that runs tests.
	ip := fmt.Sprintf("127.77.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff|1)
	d.Address, d.Plain = ip+":636", ip+":389"
	empty, domain := filepath.Join(dir, "empty.conf"), filepath.Join(dir, "domain")
	if err := os.WriteFile(empty, []byte("[global]\n"), 0o600); err != nil {
		return nil, err
	}
	if err := run(exec.Command(tool, "domain", "provision", "-s", empty, "--realm=CORP.TEST", "--domain=CORP", "--server-role=dc", "--dns-backend=NONE",
		"--adminpass="+d.Password, "--host-name=dc1", "--host-ip="+ip, "--targetdir="+domain,
		"--option=interfaces="+ip+"/8", "--option=bind interfaces only=yes")); err != nil {
		return nil, err
	}
	conf := filepath.Join(domain, "etc", "smb.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		return nil, err
	}
	own := fmt.Sprintf(`[global]
	interfaces = %[2]s/8
	bind interfaces only = yes
	server services = ldap, cldap, kdc, rpc
	log file = %[1]s/log.samba
	pid directory = %[1]s
	ncalrpc dir = %[1]s/ncalrpc
	ntp signd socket directory = %[1]s/ntp
	winbindd socket directory = %[1]s/winbind
	old password allowed period = 60
`, dir, ip)
	if err := os.WriteFile(conf, []byte(strings.Replace(string(text), "[global]\n", own, 1)), 0o600); err != nil {
		return nil, err
	}
	// The certificate that it would make has a negative serial number, which Go refuses.
	if err := certificate(dir, d.Roots, ip); err != nil {
		return nil, err
	}
	private := filepath.Join(domain, "private", "tls")
	if err := os.MkdirAll(private, 0o700); err != nil {
		return nil, err
	}
	for to, from := range map[string]string{"ca.pem": "cert.pem", "cert.pem": "cert.pem", "key.pem": "key.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(private, to), b, 0o600); err != nil {
			return nil, err
		}
	}
	for _, setting := range [][]string{
		{"--min-pwd-age=0"}, {"--history-length=3"}, {"--min-pwd-length=8"}, {"--account-lockout-threshold=0"},
	} {
		sam := filepath.Join(domain, "private", "sam.ldb")
		if err := run(exec.Command(tool, append([]string{"domain", "passwordsettings", "set", "-s", conf, "-H", sam}, setting...)...)); err != nil {
			return nil, err
		}
	}
	if d.server, err = start(dir, "TERM", "pkill -TERM -f "+strconv.Quote("^samba.*"+conf)+" || true", daemon, "-s", conf, "-F", "-M", "single", "--no-process-group"); err != nil {
		return nil, err
	}
	if err := d.until(func() error { return answersAt(d.Address) }); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}
