package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

// maxImport bounds a file that is imported, in bytes.
const maxImport = 16 << 20

// An imported is what became of a row.
type imported struct {
	Line   int    `json:"line"`
	Name   string `json:"name"`
	Result string `json:"result"` // added, changed, unchanged or refused
	Why    string `json:"why,omitempty"`
}

func (c *cli) targetImportCmd() *cobra.Command {
	var format string
	var dry bool
	formats := []string{"yaml", "ansible", "ssh-config", "known-hosts"}
	cmd := &cobra.Command{
		Use: "import FILE --format yaml|ansible|ssh-config|known-hosts", Short: "Add and change targets as a file describes them",
		Long: `Add and change targets as a file describes them: a server register in YAML, an Ansible
inventory (ini or yaml), an ssh_config, or a known_hosts, which pins host keys of targets
that are there. Each row is added, changed, unchanged or refused by itself, with its line;
a second import of the same file changes nothing. What a file does not say stays; accounts,
applications and host keys are added and never taken away. FILE may be -.

A register is a list of:  hostname, name, address, os, role, criticality, owner,
environment, tier, applications, accounts, host_keys, via.`,
		Example: "  drawbolt target import servers.yaml --format yaml --dry-run\n  ssh-keyscan db01 | drawbolt target import - --format known-hosts",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(formats, format) {
				return usage("--format is one of %s", strings.Join(formats, ", "))
			}
			b, err := c.readImport(args[0])
			if err != nil {
				return err
			}
			return c.runImport(cmd.Context(), b, args[0], format, dry)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", "what FILE is: "+strings.Join(formats, ", "))
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) readImport(name string) ([]byte, error) {
	r := io.Reader(c.stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxImport+1))
	if err == nil && len(b) > maxImport {
		err = usage("%s is longer than %d bytes", name, maxImport)
	}
	return b, err
}

func (c *cli) runImport(ctx context.Context, b []byte, name, format string, dry bool) error {
	cl, _, err := c.client([]imported{})
	if err != nil {
		return err
	}
	list, err := cl.Targets(ctx)
	if err != nil {
		return err
	}
	there := map[string]api.Target{}
	for _, t := range list.Items {
		there[t.Name] = t
	}
	var rows []row
	if format == "known-hosts" {
		rows, err = readKnownHosts(b, list.Items)
	} else {
		rows, err = readers()[format](b)
	}
	if err != nil {
		return usage("%s: %v", name, err)
	}
	if len(rows) > maxRows {
		return usage("%s describes %d targets, and at most %d are read at once", name, len(rows), maxRows)
	}
	results, refused := []imported{}, 0
	named := map[string]int{}
	for i, r := range rows {
		out := imported{Line: r.line, Name: r.in.Name}
		if first := named[r.in.Name]; r.bad == "" && first > 0 {
			r.bad = fmt.Sprintf("line %d describes it already", first)
		}
		out.Result, out.Why, err = importRow(ctx, cl, r, there, dry)
		if err != nil {
			return err
		}
		if out.Result == "refused" {
			refused++
		} else {
			named[r.in.Name] = r.line
		}
		results = append(results, out)
		if c.errTTY && (i+1)%100 == 0 {
			c.say("%d of %d", i+1, len(rows))
		}
	}
	if err := c.showImport(results); err != nil {
		return err
	}
	if refused > 0 {
		return &failure{code: exitError, text: fmt.Sprintf("%d of %d rows were refused", refused, len(rows)), next: "mend them and import the file again: what is done already is left alone"}
	}
	return nil
}

func (c *cli) showImport(results []imported) error {
	if ok, err := c.emit(results); ok {
		return err
	}
	var rows [][]string
	counts := map[string]int{}
	for _, r := range results {
		counts[r.Result]++
		if r.Result != "unchanged" {
			rows = append(rows, []string{fmt.Sprint(r.Line), r.Name, r.Result, r.Why})
		}
	}
	c.table("Nothing to do.", []string{"LINE", "TARGET", "RESULT", "WHY"}, rows)
	c.say("%d added, %d changed, %d unchanged, %d refused", counts["added"], counts["changed"], counts["unchanged"], counts["refused"])
	return nil
}

// importRow adds or changes one target. An error ends the import: the server
// cannot be reached, or does not know us; what is refused is a result.
func importRow(ctx context.Context, cl *api.Client, r row, there map[string]api.Target, dry bool) (result, why string, err error) {
	if r.bad != "" {
		return "refused", r.bad, nil
	}
	was, is := there[r.in.Name]
	in := r.in
	result = "added"
	if is {
		in = inputOf(&was)
		if merge(&in, r.in); reflect.DeepEqual(in, inputOf(&was)) {
			return "unchanged", "", nil
		}
		result = "changed"
	}
	if dry {
		return result, "", nil
	}
	var t api.Target
	if is {
		t, err = cl.SetTarget(ctx, in)
	} else {
		t, err = cl.AddTarget(ctx, in)
	}
	if p, ok := errors.AsType[*api.Problem](err); ok && (p.Status == 422 || p.Status == 409) {
		return "refused", p.Error(), nil
	}
	if err == nil {
		there[t.Name] = t
	}
	return result, "", err
}

// merge puts what a row says into what there is.
func merge(to *api.TargetInput, from api.TargetInput) {
	for _, f := range []struct{ to, from *string }{
		{&to.Address, &from.Address}, {&to.Labels.Environment, &from.Labels.Environment}, {&to.Labels.Tier, &from.Labels.Tier},
		{&to.Labels.Criticality, &from.Labels.Criticality}, {&to.Labels.Owner, &from.Labels.Owner},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	to.Applications = union(to.Applications, from.Applications)
	to.HostKeys = union(to.HostKeys, from.HostKeys)
	if len(from.Via) > 0 {
		to.Via = from.Via
	}
	for _, a := range from.Accounts {
		if !slices.ContainsFunc(to.Accounts, func(b api.AccountInput) bool { return b.Name == a.Name }) {
			to.Accounts = append(to.Accounts, a)
		}
	}
}

func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(slices.Clip(list), s)
		}
	}
	return list
}

// readKnownHosts finds the keys of targets that are there, by name or address.
// A row is one target with all its keys.
func readKnownHosts(b []byte, targets []api.Target) ([]row, error) {
	found := map[string]*row{}
	var order []*row
	err := eachLine(b, func(n int, line string) error {
		if line == "" || line[0] == '#' {
			return nil
		}
		marker, patterns, key, _, _, err := ssh.ParseKnownHosts([]byte(line))
		if err != nil {
			return fmt.Errorf("line %d: no host key: %w", n, err)
		}
		if marker == "revoked" {
			return fmt.Errorf("line %d: a revoked key: take it out of the target by hand, drawbolt target set", n)
		}
		if _, certificate := key.(*ssh.Certificate); marker != "" || certificate {
			return nil // an authority vouches for hosts; it is no host's key
		}
		text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		for _, t := range targets {
			if !knows(patterns, namesOf(t)) {
				continue
			}
			r := found[t.Name]
			if r == nil {
				r = &row{line: n, in: api.TargetInput{Name: t.Name}}
				found[t.Name], order = r, append(order, r)
			}
			r.in.HostKeys = union(r.in.HostKeys, []string{text})
		}
		return nil
	})
	rows := make([]row, 0, len(order))
	for _, r := range order {
		rows = append(rows, *r)
	}
	return rows, err
}

// namesOf are the names under which ssh looks a target up in known_hosts.
func namesOf(t api.Target) []string {
	names := []string{t.Name}
	host, port, err := net.SplitHostPort(t.Address)
	switch {
	case err != nil:
	case port == "22":
		names = append(names, host)
	default:
		names = []string{"[" + t.Name + "]:" + port, "[" + host + "]:" + port}
	}
	return names
}

// knows reports whether the hosts of a line are one of the names: written out,
// as patterns, or hashed (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
func knows(hosts []string, names []string) bool {
	if len(hosts) != 1 || !strings.HasPrefix(hosts[0], "|1|") {
		return matches(strings.Join(hosts, ","), names)
	}
	salt64, sum64, _ := strings.Cut(strings.TrimPrefix(hosts[0], "|1|"), "|")
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil {
		return false
	}
	sum, err := base64.StdEncoding.DecodeString(sum64)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		h := hmac.New(sha1.New, salt)
		h.Write([]byte(name))
		return bytes.Equal(h.Sum(nil), sum)
	})
}
