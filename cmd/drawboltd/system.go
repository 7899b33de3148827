package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/drawbolt/drawbolt/web/ui"
)

// system is how this server is set up and how it does, for a page.
func (a *App) system(ctx context.Context) ui.System {
	s := ui.System{
		Version: version, Node: a.config.Server.Name, Since: a.since,
		Certificates: []ui.Certificate{{Name: "TLS certificate", Ends: certificateEnd(a.tls)}},
	}
	for _, f := range append(a.config.findings(a.tls), a.findings(ctx)...) {
		s.Findings = append(s.Findings, ui.Finding(f))
	}
	for _, x := range settings(&a.config) {
		s.Settings = append(s.Settings, ui.Setting{Name: x.name, Value: withoutSecret(x.name, fmt.Sprint(x.value.Interface()))})
	}
	return s
}

// withoutSecret is the value of a setting as it may be shown: of what may be a
// secret by its name only that it is set, of an address nothing that lets in.
// Secrets belong into files, but not everybody puts them there.
func withoutSecret(name, value string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, word := range []string{"secret", "password", "token", "webhook", "key"} {
		if strings.Contains(last, word) && !strings.HasSuffix(last, "_file") && !strings.HasSuffix(last, "_id") && value != "" {
			return "set, and not shown"
		}
	}
	if last != "url" && !strings.Contains(value, "://") {
		return value
	}
	u, err := url.Parse(value)
	switch {
	case value == "":
		return ""
	case err != nil || u.Scheme == "":
		return "set, and not shown" // of a form in which anything may be a password
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	if u.RawQuery != "" {
		u.RawQuery = "not-shown"
	}
	return u.String()
}
