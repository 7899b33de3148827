package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drawbolt/drawbolt/test/servers"
)

// ears are a mail server and a receiver of webhooks, and what they have heard.
type ears struct {
	mail *servers.MailServer

	mu    sync.Mutex
	deaf  bool
	hooks []string
}

const hearSecret = "0123456789abcdef0123456789abcdef"

// hear starts both, and names them in the configuration of the server, with which
// serve starts it.
func (s *story) hear(ts *testscript.TestScript, _ []string) {
	e := &ears{}
	s.ears = e
	var err error
	var stop func()
	e.mail, stop, err = servers.NewMail(nil, false)
	ts.Check(err)
	s.ended = append(s.ended, stop)
	hooks := httptest.NewServer(http.HandlerFunc(e.hook))
	s.ended = append(s.ended, hooks.Close)
	secret := filepath.Join(s.work, "hook.secret")
	ts.Check(os.WriteFile(secret, []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte(hearSecret))), 0o600))
	s.writeConfig(ts, s.url, s.ssh)
	f, err := os.OpenFile(s.configFile(), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	defer f.Close()
	_, err = fmt.Fprintf(f, `notifications:
  internal: [127.0.0.1/32]
  channels:
    - {name: mails, type: mail, server: "smtp://%s", from: "drawbolt <drawbolt@example.com>", to: [security@example.com]}
    - {name: hooks, type: webhook, url: "%s/drawbolt", secret_file: %q}
`, e.mail.Address, hooks.URL, secret)
	ts.Check(err)
}

// hook is a receiver as docs/formats/webhook.md has it.
func (e *ears) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte(hearSecret))
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.deaf:
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil || r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)):
		e.hooks = append(e.hooks, "forged")
		w.WriteHeader(http.StatusUnauthorized)
	default:
		e.hooks = append(e.hooks, string(body))
		w.WriteHeader(http.StatusNoContent)
	}
}

// deafen: the receiver of webhooks is away, or, with "no", back.
func (s *story) deafen(ts *testscript.TestScript, args []string) {
	s.ears.mu.Lock()
	defer s.ears.mu.Unlock()
	s.ears.deaf = len(args) == 0
}

// heard waits until mails or hooks match, and prints all of these.
func (s *story) heard(ts *testscript.TestScript, args []string) {
	re, err := regexp.Compile("(?s)" + strings.Join(args[1:], " "))
	ts.Check(err)
	var all string
	ts.Check(eventuallyErr(60*time.Second, func() error {
		var list []string
		if args[0] == "mails" {
			for _, m := range s.ears.mail.Mails() {
				list = append(list, m.Text)
			}
		} else {
			s.ears.mu.Lock()
			list = append(list, s.ears.hooks...)
			s.ears.mu.Unlock()
		}
		all = strings.Join(list, "\n")
		for _, one := range list {
			if re.MatchString(one) {
				return nil
			}
		}
		return fmt.Errorf("%s do not say %s but\n%s", args[0], re, all)
	}))
	fmt.Fprintln(ts.Stdout(), all)
}
