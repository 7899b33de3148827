package web

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// bootstrapBody is the part of the script that is the same for every target. All
// that differs is in variables, which are set before it.
//
//go:embed bootstrap.sh
var bootstrapBody string

// bootstrapTarget answers with the script. The values in it come out of the
// register of targets; each stands in quotes.
func (s *Server) bootstrapTarget(ctx context.Context, by access.Caller, in *ByName) (api.Bootstrap, error) {
	if !s.secure {
		return api.Bootstrap{}, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5030", Text: "a target is enrolled over HTTPS only, and this server's external URL has none"}
	}
	b, err := s.c.Broker.BeginBootstrap(ctx, by, in.Name)
	if err != nil {
		return api.Bootstrap{}, err
	}
	script, err := bootstrapScript(b, s.url, s.c.PinnedTLS)
	return api.Bootstrap{Target: b.Target.Name, Script: script, ExpiresAt: b.ExpiresAt}, err
}

func bootstrapScript(b broker.Bootstrapping, url string, pinned []byte) (string, error) {
	var keys, logins []string
	for _, k := range b.Authorities {
		keys = append(keys, keyText(k)+" drawbolt-user-ca")
	}
	for _, l := range b.Logins {
		logins = append(logins, l.Account+" "+l.Principal)
	}
	var out strings.Builder
	out.WriteString(bootstrapHead)
	for _, v := range []struct{ name, value string }{
		{"target", b.Target.Name},
		{"url", url},
		{"token", b.Token},
		{"authority_keys", strings.Join(keys, "\n")},
		{"logins", strings.Join(logins, "\n")},
		{"principals_folder", b.Target.PrincipalsFolder},
		{"pinned_certificate", strings.TrimSpace(string(pinned))},
	} {
		quoted, err := shellQuote(v.value)
		if err != nil {
			return "", access.Invalid("%s cannot be told to a target: %v", strings.ReplaceAll(v.name, "_", " "), err)
		}
		out.WriteString(v.name + "=" + quoted + "\n")
	}
	out.WriteString("\n" + bootstrapBody)
	return out.String(), nil
}

// shellFit is what a value may be made of: lines of printable ASCII.
var shellFit = regexp.MustCompile(`^[ -~\n]*$`)

// shellQuote writes a value so that a POSIX shell reads it as it is: there is
// nothing that means something in single quotes but their end.
func shellQuote(s string) (string, error) {
	if !shellFit.MatchString(s) {
		return "", fmt.Errorf("%.40q is not printable ASCII", s)
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

const bootstrapHead = `#!/bin/sh
# Makes this machine trust drawbolt. Run it as root:
#
#   sh FILE              set up; what is right already stays as it is
#   sh FILE --uninstall  take it all away again
#
# It shows drawbolt which host keys this machine has, tells sshd which authority
# signs certificates, for which accounts, and where the list of revoked ones is,
# and has that list fetched every minute. Keys, passwords and other ways in stay
# as they are. Once sshd has read its new configuration, drawbolt must be able to
# log in; when it cannot, the old configuration is put back.
#
# The token is worth nothing after that, or after an hour. For other places of
# things, set these in the environment:
#
#   DRAWBOLT_SSHD_CONFIG  sshd's configuration         (/etc/ssh/sshd_config)
#   DRAWBOLT_FOLDER       where drawbolt's files go    (/etc/ssh/drawbolt)
#   DRAWBOLT_SSHD         the program                  (sshd)
#   DRAWBOLT_RELOAD       how sshd is told to reload   (systemctl, or a signal)
#   DRAWBOLT_TIMER        systemd, cron or none        (what there is)
#   DRAWBOLT_TIMER_FOLDER where the timer's files go   (of systemd, or cron.d)
#   DRAWBOLT_WAIT         seconds to wait for a login  (120)

`

// useBootstrap checks the target of the script that asks, and answers in lines
// that a shell can read. The first is "proven" or "not proven".
func (s *Server) useBootstrap(ctx context.Context, by access.Caller, in *struct{ Body api.BootstrapUse }) (content, error) {
	done, err := s.mayCheck("bootstrap " + by.Source.String())
	if err != nil {
		return content{}, err
	}
	defer done()
	p, err := s.c.Broker.UseBootstrap(ctx, by.Source, in.Body.Token, in.Body.HostKeys)
	if err != nil {
		return content{}, err
	}
	steps := s.c.Check(ctx, p)
	proven, err := s.c.Broker.EndBootstrap(ctx, p, steps)
	if err != nil {
		return content{}, err
	}
	return content{media: "text/plain", file: p.Target.Name + ".txt", write: func(w io.Writer) error {
		_, err := io.WriteString(w, bootstrapAnswer(proven, steps))
		return err
	}}, nil
}

func bootstrapAnswer(proven bool, steps []access.CheckStep) string {
	out := "not proven\n"
	if proven {
		out = "proven\n"
	}
	for _, s := range steps {
		if s.State == access.CheckFailed {
			out += strings.TrimSpace(fmt.Sprintf("%s: %s", s.Step, s.Detail)) + "\n"
		}
	}
	return out
}
