package web

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/test/servers"
)

// A fetching target is an sshd that heeds the list which the script of a
// bootstrap fetches from us.
type fetching struct {
	*house
	sshd    *servers.SSHD
	dir     string
	fetcher string
	answer  atomic.Pointer[http.HandlerFunc] // in the place of the list; nil: the list
}

func newFetching(t *testing.T) *fetching {
	f := &fetching{dir: t.TempDir()}
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := f.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		f.server.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	pinned := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	f.house = newHouse(t, func(c *Config) { c.ExternalURL = front.URL })
	script, err := bootstrapScript(broker.Bootstrapping{Target: access.Target{Name: "db03"}}, front.URL, pinned)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.TrimSuffix(script, "main \"$@\"\n") + "fetcher_text\nprintf '%s\\n' \"$pinned_certificate\" >\"$certificate\"\n"
	cmd := exec.Command("/bin/sh", "-c", parts)
	cmd.Env = append(os.Environ(), "DRAWBOLT_FOLDER="+f.dir)
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	f.fetcher = filepath.Join(f.dir, "fetch-revoked")
	if err := os.WriteFile(f.fetcher, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := f.fetch(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.sshd = servers.NewSSHD(t, servers.Config{UserCA: f.broker.Authorities().Users, Lines: []string{"RevokedKeys " + f.list()}})
	_, err = f.broker.AddTarget(t.Context(), f.by("root"), access.Target{Name: "db03", Address: f.sshd.Addr, HostKeys: []string{keyText(f.sshd.HostKey)},
		Accounts: []access.Account{{Name: f.sshd.User, Credential: access.CredentialCertificate}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.sshd.Allow(f.sshd.User, f.sshd.User+"@db03"); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fetching) list() string { return filepath.Join(f.dir, "revoked") }

func (f *fetching) fetch() (string, error) {
	cmd := exec.Command("/bin/sh", f.fetcher)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// certified is a key of the test's with a certificate for the target.
func (f *fetching) certified() (ssh.Signer, *ssh.Certificate) {
	f.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	key := must(ssh.NewSignerFromKey(private))
	p := must(f.broker.BeginCheck(f.t.Context(), f.by("root"), "db03", ""))
	cert := must(f.broker.CheckCredential(f.t.Context(), p, 0, f.sshd.User, key.PublicKey()))
	return must(ssh.NewCertSigner(cert, key)), cert
}

func (f *fetching) letsIn(s ssh.Signer) bool {
	c, err := ssh.Dial("tcp", f.sshd.Addr, &ssh.ClientConfig{User: f.sshd.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(s)},
		HostKeyCallback: ssh.FixedHostKey(f.sshd.HostKey), Timeout: time.Minute})
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// TestRevokedAtTarget: a certificate that is revoked is refused by the real sshd
// as soon as the target has fetched the list, and another is not.
func TestRevokedAtTarget(t *testing.T) {
	f := newFetching(t)
	bad, cert := f.certified()
	good, _ := f.certified()
	if !f.letsIn(bad) || !f.letsIn(good) {
		t.Fatal("sshd lets nobody in")
	}
	must(f.broker.RevokeCertificate(context.Background(), f.by("root"), strconv.FormatUint(cert.Serial, 10), "INC-7 lost"))
	if !f.letsIn(bad) {
		t.Error("sshd knows of it before it has the list")
	}
	if out, err := f.fetch(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if f.letsIn(bad) {
		t.Error("a revoked certificate is let in")
	}
	if !f.letsIn(good) {
		t.Error("another certificate is refused")
	}
}

// TestRubbishForAList: whatever comes in the place of the list, the old one stays
// and counts.
func TestRubbishForAList(t *testing.T) {
	f := newFetching(t)
	bad, cert := f.certified()
	must(f.broker.RevokeCertificate(context.Background(), f.by("root"), strconv.FormatUint(cert.Serial, 10), "INC-7 lost"))
	if out, err := f.fetch(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	good, _ := f.certified()
	list, err := os.ReadFile(f.list())
	if err != nil {
		t.Fatal(err)
	}
	send := func(b []byte) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) } }
	for name, answer := range map[string]http.HandlerFunc{
		"nothing":          send(nil),
		"a page":           send([]byte("<html>sign in to the network</html>")),
		"a list of keys":   send(ssh.MarshalAuthorizedKey(f.sshd.HostKey)),
		"half of the list": send(list[:len(list)/2]),
		"its head":         send([]byte("SSHKRL\n\x00")),
		"an error":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); w.Write(list) },
		"a way elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/v1/krl", http.StatusFound)
		},
		"a cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(list)*2))
			w.Write(list)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.answer.Store(&answer)
			out, err := f.fetch()
			now, rerr := os.ReadFile(f.list())
			if err == nil || rerr != nil || string(now) != string(list) {
				t.Errorf("%v, %v, %d bytes\n%s", err, rerr, len(now), out)
			}
			if f.letsIn(bad) || !f.letsIn(good) {
				t.Error("the old list does not count")
			}
			if left, _ := filepath.Glob(f.list() + ".*"); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestPushedMeanwhile: a list that was fetched does not take the place of one that
// was brought while it was on its way.
func TestPushedMeanwhile(t *testing.T) {
	f := newFetching(t)
	bad, cert := f.certified()
	before := must(f.broker.KRL(t.Context()))
	must(f.broker.RevokeCertificate(t.Context(), f.by("root"), strconv.FormatUint(cert.Serial, 10), "INC-7 lost"))
	after := must(f.broker.KRL(t.Context()))
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := errors.Join(os.WriteFile(f.list()+".pushed", after, 0o644), os.Rename(f.list()+".pushed", f.list())); err != nil {
			t.Error(err)
		}
		w.Write(before)
	})
	f.answer.Store(&answer)
	if out, err := f.fetch(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if now, err := os.ReadFile(f.list()); err != nil || string(now) != string(after) || f.letsIn(bad) {
		t.Errorf("the list from before counts: %d bytes, %v", len(now), err)
	}
	if left, _ := filepath.Glob(f.list() + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
