package sshproxy

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

const secretWord = "Xyzzy-plugh-4711"

// A safe is a target that is no OpenSSH: it knows passwords, or one key, and
// writes down whatever it is offered.
type safe struct {
	addr   string
	key    gossh.PublicKey
	mu     sync.Mutex
	offers []string // of each connection that came to it, in order
	reject string   // what it says instead of opening a session
}

func (s *safe) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers = append(s.offers, text)
}

func (s *safe) offered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.offers...)
}

// newSafe starts one; config says how it lets in. Each command answers "done".
func newSafe(t testing.TB, config func(s *safe, c *gossh.ServerConfig)) *safe {
	t.Helper()
	signer := newSigner(t)
	s := &safe{key: signer.PublicKey()}
	c := &gossh.ServerConfig{}
	config(s, c)
	c.AddHostKey(signer)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	s.addr = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				_, channels, requests, err := gossh.NewServerConn(nc, c)
				if err != nil {
					return
				}
				go gossh.DiscardRequests(requests)
				for nc := range channels {
					if s.reject != "" {
						nc.Reject(gossh.Prohibited, s.reject)
						continue
					}
					ch, reqs, err := nc.Accept()
					if err != nil {
						return
					}
					for req := range reqs {
						if req.Reply(req.Type == "exec", nil); req.Type == "exec" {
							fmt.Fprint(ch, "done")
							ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{0}))
							ch.Close()
						}
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return s
}

// takesPassword lets in with the password, by each of the methods that are named.
func takesPassword(password string, methods ...string) func(*safe, *gossh.ServerConfig) {
	return func(s *safe, c *gossh.ServerConfig) {
		c.MaxAuthTries = 20
		check := func(by, got string) (*gossh.Permissions, error) {
			if s.note(by + " " + got); got != password {
				return nil, errors.New("no")
			}
			return nil, nil
		}
		for _, m := range methods {
			switch m {
			case "password":
				c.PasswordCallback = func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) { return check("password", string(p)) }
			case "keyboard-interactive":
				c.KeyboardInteractiveCallback = func(_ gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
					a, err := ask("", "Log in", []string{"Password: "}, []bool{false})
					if err != nil || len(a) != 1 {
						return nil, errors.New("no")
					}
					if _, err := ask("", "Welcome", nil, nil); err != nil {
						return nil, err
					}
					return check("keyboard-interactive", a[0])
				}
			}
		}
	}
}

// keepers lets bob set what accounts log in with.
func (h *house) keepers() {
	h.t.Helper()
	h.change(func(tx *store.Tx) error {
		return tx.AddRole(context.Background(), &access.Role{Name: "secret-keepers", Users: []string{h.people["bob"].ID}, Version: 1, Rules: []access.Rule{{ID: "set", Actions: []string{"secret.write"}}}})
	})
}

func (h *house) keep(target, credential, secret string) {
	h.t.Helper()
	err := h.broker.SetCredential(context.Background(), h.people["bob"].caller, target, me(h.t), credential, []byte(secret))
	check(h.t, err)
}

// run runs a command at a target and returns what a person reads.
func (h *house) run(target string) (string, error) {
	h.t.Helper()
	cmd := h.ssh("alice", me(h.t)+"@"+target, "id")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// everything is what is kept: the log, the audit log, the folder with the database
// and the recordings, and what the recordings hold.
func (h *house) everything() string {
	h.t.Helper()
	ctx := context.Background()
	var all strings.Builder
	all.WriteString(h.log.String())
	size := must(h.db.AuditSize(ctx))(h.t)
	for from := int64(0); from < size; {
		leaves := must(h.db.Leaves(ctx, store.LeafFilter{From: from, To: size, Limit: 1000}))(h.t)
		for _, leaf := range leaves {
			all.Write(leaf)
			from++
		}
	}
	for _, s := range h.sessions() {
		if s.Recording.Name != "" {
			for _, stream := range []recorder.Stream{recorder.Input, recorder.Output, recorder.Stderr, cast.Mark} {
				all.WriteString(h.recording(s, stream))
			}
		}
	}
	check(h.t, filepath.WalkDir(h.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			b, err := os.ReadFile(path)
			all.Write(b)
			return err
		}
		return err
	}))
	return all.String()
}

func (h *house) unkept(secret string) {
	h.t.Helper()
	if strings.Contains(h.everything(), secret) {
		h.t.Errorf("the secret stands in the log, the audit log, a recording or a file")
	}
}

// lends counts the loans that are on record, and userCertificates the certificates
// for targets.
func (h *house) lends() int            { return h.count("secret.lend", "") }
func (h *house) userCertificates() int { return h.count("certificate.issue", "user") }

func (h *house) count(action, kind string) (n int) {
	h.t.Helper()
	ctx := context.Background()
	for _, leaf := range must(h.db.Leaves(ctx, store.LeafFilter{To: must(h.db.AuditSize(ctx))(h.t), Limit: 1000}))(h.t) {
		if e := must(audit.Parse(leaf))(h.t); e.Action == action && e.Details["kind"] == kind && e.Outcome == audit.Done {
			n++
		}
	}
	return n
}

// TestLentPassword: the password is given once, by whichever method the target
// has, and a wrong one is given once as well.
func TestLentPassword(t *testing.T) {
	for _, methods := range [][]string{{"password"}, {"keyboard-interactive"}, {"password", "keyboard-interactive"}} {
		t.Run(strings.Join(methods, " and "), func(t *testing.T) {
			h := newHouse(t)
			h.keepers()
			s := newSafe(t, takesPassword(secretWord, methods...))
			h.addTarget("db01", s.addr, s.key)
			h.grant("alice", "db01", time.Hour)
			h.keep("db01", "password", secretWord+"-mistyped")
			out, err := h.run("db01")
			if err == nil || strings.Count(out, "is not let in with the password that is kept for it") != 1 || strings.Contains(out, secretWord) {
				t.Errorf("%q, %v", out, err)
			}
			if got := s.offered(); len(got) != 1 || got[0] != methods[0]+" "+secretWord+"-mistyped" {
				t.Errorf("it was offered %q", got)
			}
			h.keep("db01", "password", secretWord)
			if out, err = h.run("db01"); err != nil || !strings.Contains(out, "done") {
				t.Errorf("%q, %v", out, err)
			}
			if got := s.offered(); len(got) != 2 || got[1] != methods[0]+" "+secretWord || h.lends() != 2 || h.userCertificates() != 0 {
				t.Errorf("it was offered %q; %d were lent; %d certificates", got, h.lends(), h.userCertificates())
			}
			steps := h.checked(t.Context(), "db01")
			if got := states(steps); !strings.Contains(got, "login=ok authority=unknown") || h.lends() != 3 || h.userCertificates() != 0 {
				t.Errorf("%s; %d were lent; %d certificates", got, h.lends(), h.userCertificates())
			}
			h.closed(2)
			h.unkept(secretWord)
		})
	}
}

// TestLentKey: a target that knows one key, and nothing of certificates.
func TestLentKey(t *testing.T) {
	h := newHouse(t)
	h.keepers()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	known := must(gossh.NewPublicKey(public))(t)
	s := newSafe(t, func(s *safe, c *gossh.ServerConfig) {
		c.PublicKeyCallback = func(_ gossh.ConnMetadata, k gossh.PublicKey) (*gossh.Permissions, error) {
			if s.note(gossh.FingerprintSHA256(k)); string(k.Marshal()) != string(known.Marshal()) {
				return nil, errors.New("no")
			}
			return nil, nil
		}
	})
	h.addTarget("db01", s.addr, s.key)
	h.grant("alice", "db01", time.Hour)
	text := func(key ed25519.PrivateKey) string {
		return string(pem.EncodeToMemory(must(gossh.MarshalPrivateKey(key, ""))(t)))
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	h.keep("db01", "key", text(other))
	if out, err := h.run("db01"); err == nil || strings.Count(out, "is not let in with the key that is kept for it") != 1 {
		t.Errorf("%q, %v", out, err)
	}
	h.keep("db01", "key", text(private))
	if out, err := h.run("db01"); err != nil || !strings.Contains(out, "done") {
		t.Errorf("%q, %v", out, err)
	}
	if steps := h.checked(t.Context(), "db01"); !strings.Contains(states(steps), "login=ok") {
		t.Errorf("%+v", steps)
	}
	h.closed(2)
	for _, key := range []ed25519.PrivateKey{private, other} {
		h.unkept(strings.Split(text(key), "\n")[2])
	}
}

// TestWrongHostIsToldNothing: the secret is not even opened for a target that
// does not show the key that is known, in a session or in a check.
func TestWrongHostIsToldNothing(t *testing.T) {
	for name, pinned := range map[string][]gossh.PublicKey{"another key is pinned": {newSigner(t).PublicKey()}, "none is pinned": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.keepers()
			s := newSafe(t, takesPassword(secretWord, "password", "keyboard-interactive"))
			h.addTarget("db01", s.addr, pinned...)
			h.grant("alice", "db01", time.Hour)
			h.keep("db01", "password", secretWord)
			if out, err := h.run("db01"); err == nil || !strings.Contains(out, "nothing was sent to it") {
				t.Errorf("%q, %v", out, err)
			}
			if steps := h.checked(t.Context(), "db01"); !strings.Contains(states(steps), "host-key=failed") {
				t.Errorf("%+v", steps)
			}
			if got := s.offered(); len(got) != 0 || h.lends() != 0 {
				t.Errorf("it was offered %q; %d were lent", got, h.lends())
			}
			h.unkept(secretWord)
		})
	}
}

// TestPromptsAreNotAnswered that are not one for a password.
func TestPromptsAreNotAnswered(t *testing.T) {
	type round struct {
		questions []string
		echos     []bool
	}
	for name, c := range map[string]struct {
		rounds []round
		told   string // what it may have been told
	}{
		"shown":                 {[]round{{[]string{"Password: "}, []bool{true}}}, ""},
		"two at once":           {[]round{{[]string{"Password: ", "Code: "}, []bool{false, false}}}, ""},
		"one shown, one not":    {[]round{{[]string{"User: ", "Password: "}, []bool{true, false}}}, ""},
		"again":                 {[]round{{[]string{"Password: "}, []bool{false}}, {[]string{"Password: "}, []bool{false}}}, secretWord},
		"shown after the first": {[]round{{[]string{"Password: "}, []bool{false}}, {[]string{"Again: "}, []bool{true}}}, secretWord},
		"nothing, then shown":   {[]round{{nil, nil}, {[]string{"Name: "}, []bool{true}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.keepers()
			s := newSafe(t, func(s *safe, c2 *gossh.ServerConfig) {
				c2.KeyboardInteractiveCallback = func(_ gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
					for _, r := range c.rounds {
						answers, err := ask("", "", r.questions, r.echos)
						for _, a := range answers {
							s.note(a)
						}
						if err != nil {
							return nil, err
						}
					}
					return nil, nil
				}
			})
			h.addTarget("db01", s.addr, s.key)
			h.grant("alice", "db01", time.Hour)
			h.keep("db01", "password", secretWord)
			if out, err := h.run("db01"); err == nil || strings.Contains(out, secretWord) {
				t.Errorf("%q, %v", out, err)
			}
			if got := strings.Join(s.offered(), " "); got != c.told {
				t.Errorf("it was told %q, want %q", got, c.told)
			}
			h.unkept(secretWord)
		})
	}
}

// TestTargetRepeatsTheSecret: a target that says again what it was told, in
// whatever it may say when it lets nobody in, or nothing start.
func TestTargetRepeatsTheSecret(t *testing.T) {
	for name, config := range map[string]func(s *safe, c *gossh.ServerConfig){
		"in a banner before": func(s *safe, c *gossh.ServerConfig) {
			takesPassword("another", "password")(s, c)
			c.BannerCallback = func(gossh.ConnMetadata) string { return "the password was " + secretWord + "\r\n" }
		},
		"in a banner after": func(s *safe, c *gossh.ServerConfig) {
			c.PasswordCallback = func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) {
				return nil, &gossh.BannerError{Err: errors.New("no"), Message: string(p) + " is wrong\r\n"}
			}
		},
		"in a question": func(s *safe, c *gossh.ServerConfig) {
			c.KeyboardInteractiveCallback = func(_ gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
				a, err := ask("", "", []string{"Password: "}, []bool{false})
				if err == nil {
					_, err = ask(a[0], a[0], []string{a[0]}, []bool{true})
				}
				return nil, errors.Join(err, errors.New("no"))
			}
		},
		"by asking again": func(s *safe, c *gossh.ServerConfig) {
			c.PasswordCallback = func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) {
				return nil, &gossh.PartialSuccessError{Next: gossh.ServerAuthCallbacks{PasswordCallback: func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) {
					s.note("again " + string(p))
					return nil, errors.New("no")
				}}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.keepers()
			s := newSafe(t, config)
			h.addTarget("db01", s.addr, s.key)
			h.grant("alice", "db01", time.Hour)
			h.keep("db01", "password", secretWord)
			out, err := h.run("db01")
			if err == nil || strings.Contains(out, secretWord) {
				t.Errorf("%q, %v", out, err)
			}
			steps := h.checked(t.Context(), "db01")
			if text := fmt.Sprint(steps); strings.Contains(text, secretWord) || !strings.Contains(states(steps), "login=failed") {
				t.Errorf("%s", text)
			}
			if got := s.offered(); strings.Contains(strings.Join(got, " "), "again") {
				t.Errorf("it was told once more: %q", got)
			}
			h.unkept(secretWord)
		})
	}
	t.Run("when it opens no session", func(t *testing.T) {
		h := newHouse(t)
		h.keepers()
		s := newSafe(t, func(s *safe, c *gossh.ServerConfig) {
			takesPassword(secretWord, "password")(s, c)
			s.reject = secretWord
		})
		h.addTarget("db01", s.addr, s.key)
		h.grant("alice", "db01", time.Hour)
		h.keep("db01", "password", secretWord)
		if out, err := h.run("db01"); err == nil || !strings.Contains(out, "did not let the session in") || strings.Contains(out, secretWord) || h.lends() != 1 {
			t.Errorf("%q, %v", out, err)
		}
		h.unkept(secretWord)
	})
	for _, said := range []error{
		errors.New("ssh: disconnect, reason 2: " + secretWord),
		errors.New("ssh: unable to authenticate, " + secretWord),
		&gossh.AlgorithmNegotiationError{What: secretWord},
		&gossh.OpenChannelError{Reason: gossh.Prohibited, Message: secretWord},
	} {
		for _, taken := range []bool{false, true} {
			l := &lent{kind: access.CredentialPassword, taken: taken}
			if err := l.explain("root@db01", said); strings.Contains(err.Error(), secretWord) {
				t.Errorf("%v is explained as %v", said, err)
			}
		}
	}
}

// TestLentBehindHop: the hop is passed with a certificate, and hears no secret.
func TestLentBehindHop(t *testing.T) {
	h := newHouse(t)
	h.keepers()
	hop := h.startSSHD("hop01")
	jump := h.addTarget("hop01", hop.addr, hop.key)
	s := newSafe(t, takesPassword(secretWord, "password"))
	target := h.addTarget("db01", s.addr, s.key)
	h.change(func(tx *store.Tx) error {
		jump.HopAccount, target.Via = me(t), []string{"hop01"}
		return errors.Join(tx.SaveTarget(context.Background(), &jump), tx.SaveTarget(context.Background(), &target))
	})
	h.grant("alice", "db01", time.Hour)
	h.keep("db01", "password", secretWord)
	if out, err := h.run("db01"); err != nil || !strings.Contains(out, "done") {
		t.Errorf("%q, %v", out, err)
	}
	if h.lends() != 1 || h.userCertificates() != 1 {
		t.Errorf("%d were lent, %d certificates", h.lends(), h.userCertificates())
	}
	if b, err := os.ReadFile(hop.log); err != nil || !strings.Contains(string(b), "Accepted publickey") || strings.Contains(string(b), "Failed password") {
		t.Errorf("the hop says: %v\n%s", err, b)
	}
	h.unkept(secretWord)
}
