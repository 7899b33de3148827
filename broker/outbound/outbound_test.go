package outbound

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func client(t *testing.T, c Config) *Client {
	o := New(c)
	t.Cleanup(o.Close)
	return o
}

func TestMayCall(t *testing.T) {
	outside := client(t, Config{})
	listed := client(t, Config{Internal: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00:1::/32")}})
	for _, c := range []struct {
		address      string
		open, listed bool
	}{
		{"93.184.215.14", true, true}, {"2606:2800:220:1::1", true, true},
		{"::ffff:93.184.215.14", true, true}, {"64:ff9b::5db8:d70e", true, true}, {"2002:5db8:d70e::1", true, true},
		{"10.1.2.3", false, true}, {"::ffff:10.1.2.3", false, true}, {"64:ff9b::a01:203", false, true}, {"2002:a01:203::1", false, true},
		{"fd00:1::1", false, true}, {"fd00:2::1", false, false},
		{"127.0.0.1", false, false}, {"127.9.9.9", false, false}, {"::1", false, false}, {"::ffff:127.0.0.1", false, false}, {"64:ff9b::7f00:1", false, false}, {"2002:7f00:1::", false, false},
		{"169.254.169.254", false, false}, {"::ffff:a9fe:a9fe", false, false}, {"64:ff9b::a9fe:a9fe", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false},
		{"192.168.1.1", false, false}, {"172.16.0.1", false, false}, {"100.100.100.200", false, false}, {"168.63.129.16", false, false}, {"192.0.0.192", false, false},
		{"fd00:ec2::254", false, false}, {"fd20:ce::254", false, false},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"::", false, false}, {"::93.184.215.14", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"ff02::1", false, false},
		{"2001:0:7f00:1::", false, false}, {"64:ff9b:1::7f00:1", false, false}, {"240.0.0.1", false, false}, {"198.18.0.1", false, false},
	} {
		a := netip.MustParseAddr(c.address)
		if got := outside.mayCall(a); got != c.open {
			t.Errorf("%s may be called: %v", a, got)
		}
		if got := listed.mayCall(a); got != c.listed {
			t.Errorf("%s may be called where networks are listed: %v", a, got)
		}
	}
	if outside.mayCall(netip.Addr{}) {
		t.Error("no address may be called")
	}
}

// Whatever a name leads to is checked when it is dialled: no connection is made.
func TestDialInside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan struct{}, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			reached <- struct{}{}
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	o := client(t, Config{})
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"} {
		if _, err := o.Do(t.Context(), Call{URL: "https://" + host + ":" + port + "/"}); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", host, err)
		}
	}
	select {
	case <-reached:
		t.Error("a connection was made")
	default:
	}
}

func TestCheckURL(t *testing.T) {
	for _, good := range []string{"https://chat.example.com/hooks/1", "https://192.0.2.1:8443", "http://127.0.0.1:8065/hooks/x?y=z", "http://[::1]:80"} {
		if err := CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "chat.example.com", "http://chat.example.com", "http://localhost:80", "http://10.0.0.1", "ftp://chat.example.com", "file:///etc/passwd", "https://", "https:chat",
		"https://user:secret@chat.example.com", "https://chat.example.com/#secret", "https://chat.example.com/\x00", "gopher://127.0.0.1:25/"} {
		err := CheckURL(bad)
		if err == nil {
			t.Errorf("%s is taken", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells %v", err)
		}
	}
}

func TestDo(t *testing.T) {
	var got *http.Request
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { got = r; fmt.Fprint(w, "taken") })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok?inside", http.StatusFound) })
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewTLSServer(mux)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o := client(t, Config{Internal: loopback, Roots: roots})
	defer o.Close()

	a, err := o.Do(t.Context(), Call{URL: s.URL + "/ok", Header: http.Header{"X-Own": {"1"}}, Body: []byte("x")})
	if err != nil || !a.OK() || string(a.Body) != "taken" || got.Method != "POST" || got.Header.Get("X-Own") != "1" || got.Header.Get("User-Agent") != "drawbolt" {
		t.Fatalf("%+v %v %+v", a, err, got)
	}
	got = nil
	if a, err := o.Do(t.Context(), Call{URL: s.URL + "/away"}); err != nil || a.OK() || a.ForGood() || a.Status != 302 || got != nil {
		t.Errorf("a redirect: %+v %v, followed: %v", a, err, got != nil)
	}
	if a, err := o.Do(t.Context(), Call{URL: s.URL + "/long"}); err != nil || len(a.Body) != DefaultAnswer {
		t.Errorf("%d bytes of a long answer were read, %v", len(a.Body), err)
	}
	if a, err := o.Do(t.Context(), Call{URL: s.URL + "/busy"}); err != nil || a.After() != 7*time.Second || a.ForGood() {
		t.Errorf("%+v %v", a, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := o.Do(ctx, Call{URL: s.URL + "/slow?token=hunter2"}); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a slow answer: %v", err)
	}
	// A certificate of somebody else.
	if _, err := client(t, Config{Internal: loopback}).Do(t.Context(), Call{URL: s.URL + "/ok?token=hunter2"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the certificate of a stranger: %v", err)
	}
	// The environment's proxy sees nothing.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if _, err := client(t, Config{Internal: loopback, Roots: roots}).Do(t.Context(), Call{URL: s.URL + "/ok"}); err != nil {
		t.Errorf("with a proxy in the environment: %v", err)
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"plain": {"hunter2\n", "hunter2"}, "empty": {" \n", ""}, "lines": {"a\nb", ""}, "long": {strings.Repeat("x", maxSecret+1), ""},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSecret(path)
		if string(s.Expose()) != c.want || (err != nil) != (c.want == "") || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", name, s.Expose(), err)
		}
	}
	if _, err := ReadSecret(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
