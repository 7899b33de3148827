package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check this side: server, login, clock, ssh, configuration", Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runDoctor(cmd.Context()) },
	}
}

// A check is one line of the doctor.
type check struct {
	Check  string `json:"check"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to type
}

// maxSkew is how far the clock may be off: certificates live for minutes.
const maxSkew = 30 * time.Second

func (c *cli) runDoctor(ctx context.Context) error {
	p, err := c.loadProfile()
	if err != nil {
		return err
	}
	checks := append(c.checkServer(ctx, p), c.checkFiles(p)...)
	checks = append(checks, c.checkSSH(ctx, p)...)
	failed := 0
	for _, k := range checks {
		if !k.Passed {
			failed++
		}
	}
	if ok, err := c.emit(checks); err != nil {
		return err
	} else if !ok {
		for _, k := range checks {
			word := "PASSED"
			if !k.Passed {
				word = "FAILED"
			}
			c.print("%s  %-12s %s", word, k.Check, k.Detail)
			if k.Fix != "" && !k.Passed {
				c.print("        Next: %s", k.Fix)
			}
		}
	}
	if failed > 0 {
		return silent(exitError)
	}
	return nil
}

func (c *cli) checkServer(ctx context.Context, p *profile) []check {
	if p.Server == "" {
		return []check{{Check: "server", Detail: "none is set", Fix: "drawbolt login https://YOUR-SERVER"}}
	}
	cl, err := c.dial(p.Server, p.Fingerprint)
	if err != nil {
		return []check{{Check: "server", Detail: err.Error()}}
	}
	before := c.now()
	v, err := cl.Version(ctx)
	took := c.now().Sub(before)
	if err != nil {
		k := check{Check: "server", Detail: err.Error(), Fix: "is the address right, and the network up? " + p.Server}
		if api.Untrusted(err) {
			k.Fix = "drawbolt login " + p.Server + " --fingerprint FINGERPRINT, from your administrator"
		}
		return []check{k}
	}
	out := []check{{Check: "server", Passed: true, Detail: fmt.Sprintf("%s answers, version %s, %d ms", p.Server, v.Version, took.Milliseconds())}}
	if !v.Time.IsZero() {
		skew := before.Add(took / 2).Sub(v.Time).Abs().Truncate(time.Second)
		out = append(out, check{Check: "clock", Passed: skew <= maxSkew, Detail: fmt.Sprintf("%s apart from the server", formatDuration(skew)),
			Fix: "set the clock of this machine by NTP"})
	}
	if p.token == "" {
		return append(out, check{Check: "login", Detail: "not logged in", Fix: "drawbolt login"})
	}
	cl.Token = p.token
	me, err := cl.Me(ctx)
	if err != nil {
		return append(out, check{Check: "login", Detail: err.Error(), Fix: "drawbolt login"})
	}
	return append(out, check{Check: "login", Passed: true, Detail: fmt.Sprintf("%s, until %s", me.User, c.when(me.LoginExpiresAt))})
}

// checkFiles looks at what login wrote.
func (c *cli) checkFiles(p *profile) []check {
	k := check{Check: "identity", Fix: "drawbolt login"}
	b, err := readFile(p.path("id-cert.pub"))
	if err != nil {
		k.Detail = "there is no SSH certificate"
		return []check{k}
	}
	cert, err := parseCertificate(b)
	if err != nil {
		k.Detail = "the SSH certificate cannot be read: " + err.Error()
		return []check{k}
	}
	expires := certExpiry(cert)
	k.Passed = expires.After(c.now())
	k.Detail = "SSH certificate until " + c.when(expires)
	k.Fix = "drawbolt ssh-config --install"
	return []check{k}
}

func (c *cli) checkSSH(ctx context.Context, p *profile) []check {
	k := check{Check: "ssh", Fix: "install OpenSSH 8.0 or newer"}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, "ssh", "-V").CombinedOutput()
	line, _, _ := bytes.Cut(b, []byte("\n"))
	k.Detail = strings.TrimSpace(string(line))
	if err != nil {
		k.Detail = "ssh does not run: " + err.Error()
		return []check{k}
	}
	k.Passed = sshMajor(k.Detail) >= 8
	config := check{Check: "ssh-config", Passed: c.included(p), Detail: "~/.ssh/config includes the profile", Fix: "drawbolt ssh-config --install"}
	if !config.Passed {
		config.Detail = "~/.ssh/config does not include the profile; drawbolt ssh works all the same"
	}
	if runtime.GOOS != "windows" && config.Passed {
		out, err := exec.CommandContext(ctx, "ssh", "-G", "drawbolt-"+p.name).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("certificatefile ")) {
			config.Passed, config.Detail = false, "ssh does not take the configuration: "+strings.TrimSpace(string(out[:min(len(out), 200)]))
		}
	}
	return []check{k, config}
}

// sshMajor reads the first number of OpenSSH_9.2p1; 0 when there is none.
func sshMajor(version string) int {
	_, rest, ok := strings.Cut(version, "OpenSSH_")
	if !ok {
		if _, rest, ok = strings.Cut(version, "OpenSSH_for_Windows_"); !ok {
			return 0
		}
	}
	rest = strings.TrimPrefix(rest, "for_Windows_")
	var n int
	fmt.Sscanf(rest, "%d", &n)
	return n
}
