package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

type loginOptions struct {
	server        string
	user          string
	passwordStdin bool
	otp           string
	fingerprint   string
	noBrowser     bool
	agent         bool
	breakGlass    bool
	codesStdin    bool
	reason        string
}

func (c *cli) loginCmd() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [SERVER]",
		Short: "Sign in, and get an SSH identity",
		Long: `Sign in to a server, in the browser or with a password, and get an SSH identity:
a key and a certificate that say who you are. They open no target by themselves.

A server whose certificate no known authority signed is trusted by its SHA-256
fingerprint, which your administrator tells you.`,
		Example: `  drawbolt login https://gw.example.com
  drawbolt login https://gw.example.com --user alice
  drawbolt login gw.example.com:8443 --fingerprint 4f9a... --user bot --password-stdin < secret
  drawbolt login --break-glass --reason 'SSO is down'`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.server = args[0]
			}
			return c.runLogin(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "sign in with a password as this `name`")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from stdin")
	f.StringVar(&o.otp, "otp", "", "one-time `code`")
	f.StringVar(&o.fingerprint, "fingerprint", "", "SHA-256 `fingerprint` of the server's certificate")
	f.BoolVar(&o.noBrowser, "no-browser", false, "print the address only")
	f.BoolVar(&o.breakGlass, "break-glass", false, "emergency: sign in with the sealed codes, which are void after that")
	f.BoolVar(&o.codesStdin, "codes-stdin", false, "read the sealed codes from stdin, one a line")
	f.StringVar(&o.reason, "reason", "", "why, with --break-glass")
	f.BoolVar(&o.agent, "agent", false, "add the identity to the running ssh-agent too, until it expires")
	return cmd
}

func (c *cli) runLogin(ctx context.Context, o loginOptions) error {
	if o.passwordStdin && o.user == "" {
		return usage("--password-stdin needs --user NAME")
	}
	if o.otp != "" && o.user == "" {
		return usage("--otp needs --user NAME")
	}
	if (o.codesStdin || o.reason != "") && !o.breakGlass {
		return usage("--codes-stdin and --reason go with --break-glass")
	}
	if o.breakGlass && o.user != "" {
		return usage("--break-glass signs nobody else in: leave --user away")
	}
	if err := c.checkFields(loginJSON{}); err != nil {
		return err
	}
	p, err := c.loginProfile(o.server)
	if err != nil {
		return err
	}
	cl, err := c.meet(ctx, p, o.fingerprint)
	if err != nil {
		return err
	}
	var l api.Login
	switch {
	case o.breakGlass:
		l, err = c.codesLogin(ctx, cl, o)
	case o.user != "":
		l, err = c.passwordLogin(ctx, cl, o)
	default:
		l, err = c.browserLogin(ctx, cl, o.noBrowser)
	}
	if err != nil {
		return err
	}
	cl.Token, p.token = l.Token, l.Token
	p.User, p.ExpiresAt = l.User, l.ExpiresAt
	if err := writeFile(p.path("token"), []byte(l.Token+"\n")); err != nil {
		return err
	}
	if err := errors.Join(c.saveProfile(p), c.makeCurrent(p.name)); err != nil {
		return err
	}
	c.done("Signed in to %s as %s until %s", p.Server, p.User, c.when(l.ExpiresAt))
	id, err := c.renewIdentity(ctx, cl, p)
	if err != nil {
		return fmt.Errorf("signed in, but without an SSH identity: %w", err)
	}
	c.done("SSH identity until %s  %s", c.when(id.expires), id.fingerprint)
	if o.agent {
		if err := c.addToAgent(p, id); err != nil {
			return err
		}
		c.done("added to the ssh-agent")
	}
	if list, err := cl.Targets(ctx); err == nil {
		if _, err := writeSSHConfig(p, list.Items); err != nil {
			return err
		}
		usable, askable := 0, 0
		for _, t := range list.Items {
			u, a := standing(t)
			if u {
				usable++
			} else if a {
				askable++
			}
		}
		c.say("  %d targets: %d you can use now, %d you can ask for", len(list.Items), usable, askable)
	}
	if ok, err := c.emit(loginJSON{p.Server, p.name, p.User, l.ExpiresAt, id.fingerprint, id.expires}); ok {
		return err
	}
	if c.included(p) {
		c.next("drawbolt ls")
	} else {
		c.next("drawbolt ssh-config --install     (then plain  ssh TARGET  works)")
	}
	return nil
}

type loginJSON struct {
	Server               string    `json:"server"`
	Profile              string    `json:"profile"`
	User                 string    `json:"user"`
	ExpiresAt            time.Time `json:"expires_at"`
	SSHFingerprint       string    `json:"ssh_fingerprint"`
	CertificateExpiresAt time.Time `json:"certificate_expires_at"`
}

// standing reports whether some account of the target is usable now, and
// whether some may be asked for.
func standing(t api.Target) (usable, askable bool) {
	for _, a := range t.Accounts {
		usable = usable || a.Usable
		askable = askable || a.MayAsk
	}
	return usable, askable
}

var notName = regexp.MustCompile(`[^a-z0-9._-]+`)

// loginProfile picks the profile to sign in with. A second server gets a profile
// of its own, named after it, when no name is given.
func (c *cli) loginProfile(server string) (*profile, error) {
	if server != "" {
		if c.server != "" {
			return nil, usage("the server is given twice")
		}
		c.server = server
	}
	conf, _, err := c.loadConfig()
	if err != nil {
		return nil, err
	}
	p, err := c.loadProfile()
	if err != nil {
		return nil, err
	}
	if p.Server == "" {
		return nil, &failure{code: exitUsage, text: "which server?", next: "drawbolt login https://YOUR-SERVER"}
	}
	if was := conf.Profiles[p.name]; was != nil && was.Server != p.Server && first(c.profile, c.env("DRAWBOLT_PROFILE")) == "" {
		u, err := url.Parse(p.Server)
		if err != nil {
			return nil, err
		}
		c.profile = strings.Trim(notName.ReplaceAllString(strings.ToLower(u.Host), "-"), "-._")
		return c.loadProfile()
	}
	return p, nil
}

// meet reaches the server and settles how it is trusted.
func (c *cli) meet(ctx context.Context, p *profile, fingerprint string) (*api.Client, error) {
	if fingerprint != "" {
		fp, err := api.ParseFingerprint(fingerprint)
		if err != nil {
			return nil, usage("%v", err)
		}
		p.Fingerprint = fp
	}
	cl, err := c.dial(p.Server, p.Fingerprint)
	if err != nil {
		return nil, err
	}
	_, err = cl.Version(ctx)
	if err == nil || !api.Untrusted(err) {
		return cl, err
	}
	seen, perr := api.PeerFingerprint(ctx, p.Server)
	if perr != nil {
		return nil, perr
	}
	if p.Fingerprint != "" {
		return nil, &failure{code: exitError, cause: err,
			text: fmt.Sprintf("%s shows another certificate than the pinned one: it may have been renewed, or somebody stands between (seen SHA-256 %s, pinned %s)", p.Server, seen, p.Fingerprint),
			next: "ask your administrator for the fingerprint, then: drawbolt login " + p.Server + " --fingerprint FINGERPRINT"}
	}
	refusal := &failure{code: exitError, cause: err,
		text: fmt.Sprintf("no known authority signed the certificate of %s (SHA-256 %s)", p.Server, seen),
		next: "ask your administrator for the fingerprint, then: drawbolt login " + p.Server + " --fingerprint FINGERPRINT"}
	// --yes does not answer this one: it is about who the server is.
	if !c.interactive() {
		return nil, refusal
	}
	c.quiet = false
	c.say("No known authority signed the certificate of %s. Its SHA-256 fingerprint is\n  %s", p.Server, seen)
	answer, err := c.ask("Compare it with what your administrator told you. The same? Type yes: ")
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(answer) != "yes" {
		return nil, cancelled("the server is not trusted")
	}
	p.Fingerprint = seen
	return c.dial(p.Server, seen)
}

func (c *cli) passwordLogin(ctx context.Context, cl *api.Client, o loginOptions) (api.Login, error) {
	in := api.LoginInput{User: o.user, OTP: o.otp}
	var err error
	switch {
	case o.passwordStdin:
		in.Password, err = c.readLine()
	case c.interactive():
		if in.Password, err = c.askSecret("Password: "); err == nil && in.OTP == "" {
			in.OTP, err = c.ask("One-time code (Enter for none): ")
			in.OTP = strings.TrimSpace(in.OTP)
		}
	default:
		return api.Login{}, usage("a password is needed: add --password-stdin")
	}
	if err != nil {
		return api.Login{}, err
	}
	return cl.Login(ctx, in)
}

// maxCodes is how many sealed codes are read.
const maxCodes = 16

// codesLogin signs in with sealed codes. They are asked for on the terminal, and
// shown there: who types them compares them with paper.
func (c *cli) codesLogin(ctx context.Context, cl *api.Client, o loginOptions) (api.Login, error) {
	in := api.BreakGlassLogin{Reason: o.reason}
	if !o.codesStdin && !c.interactive() {
		return api.Login{}, usage("the sealed codes are needed: add --codes-stdin")
	}
	if in.Reason == "" && o.codesStdin {
		return api.Login{}, usage("why? Add --reason")
	}
	for len(in.Codes) < maxCodes {
		if !o.codesStdin {
			fmt.Fprintf(c.stderr, "Code %d (Enter when there are no more): ", len(in.Codes)+1)
		}
		line, err := c.readLine()
		if line = strings.TrimSpace(line); err != nil && len(in.Codes) == 0 {
			return api.Login{}, err
		}
		if line == "" {
			break // the end of stdin, too
		}
		in.Codes = append(in.Codes, line)
	}
	if in.Reason == "" {
		var err error
		if in.Reason, err = c.ask("Why: "); err != nil {
			return api.Login{}, err
		}
	}
	return cl.LoginBreakGlass(ctx, in)
}

func (c *cli) browserLogin(ctx context.Context, cl *api.Client, noBrowser bool) (api.Login, error) {
	d, err := cl.BeginDeviceLogin(ctx)
	if err != nil {
		return api.Login{}, err
	}
	if u, err := url.Parse(d.URL); err != nil || u.Scheme != "https" && !sameOrigin(cl.Server, d.URL) {
		return api.Login{}, fmt.Errorf("the server sent an address that is not https: %q", d.URL)
	}
	// Without this nobody can sign in, so it is said in spite of --quiet.
	fmt.Fprintf(c.stderr, "Open %s and check that it shows the code %s\n", clean(d.URL), clean(d.Code))
	// A server may have several names; only the one that was checked is opened
	// without the person having looked.
	if !noBrowser && c.errTTY && sameOrigin(cl.Server, d.URL) {
		openBrowser(d.URL)
	}
	interval := max(time.Duration(min(d.IntervalSeconds, 60))*time.Second, 200*time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, min(max(d.ExpiresAt.Sub(c.now()), time.Minute), 30*time.Minute))
	defer cancel()
	for {
		l, ok, err := cl.FinishDeviceLogin(ctx, d.Device)
		if ok || err != nil {
			return l, err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return api.Login{}, &failure{code: exitLogin, text: "nobody confirmed the login in the browser in time", next: "drawbolt login"}
			}
			return api.Login{}, ctx.Err()
		}
	}
}

// sameOrigin reports whether address is a page of the server.
func sameOrigin(server, address string) bool {
	s, err1 := url.Parse(server)
	a, err2 := url.Parse(address)
	return err1 == nil && err2 == nil && s.Scheme == a.Scheme && s.Host == a.Host && a.User == nil
}

// openBrowser tries; the address is printed anyway. It has been checked to be
// a page of the server.
func openBrowser(address string) {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.Command("open", address)
	case "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", address)
	default:
		cmd = exec.Command("xdg-open", address)
	}
	if cmd.Start() == nil {
		go cmd.Wait() // not waited for: the browser may stay open for hours
	}
}
