package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// shown is a row as one line.
func shown(r row) string {
	var accounts []string
	for _, a := range r.in.Accounts {
		accounts = append(accounts, a.Name)
	}
	l := r.in.Labels
	return fmt.Sprintf("%d %s %s accounts=%s env=%s tier=%s crit=%s owner=%s apps=%s via=%s %s", r.line, r.in.Name, r.in.Address, strings.Join(accounts, ","),
		l.Environment, l.Tier, l.Criticality, l.Owner, strings.Join(r.in.Applications, ","), strings.Join(r.in.Via, ","), r.bad)
}

func TestReadInventories(t *testing.T) {
	for name, tt := range map[string]struct {
		format, text string
		want         []string
	}{
		"a register": {"yaml", `# the servers
- hostname: DB01.example.com
  name: db01
  address: 10.0.0.5
  os: debian-12
  role: database
  criticality: high
  owner: team data
  environment: prod
  tier: "1"
  applications: [billing]
  accounts: [root, postgres]
- hostname: web01
  address: "[2001:db8::1]:2222"
  via: [jump01]
`, []string{
			"2 db01 10.0.0.5:22 accounts=root,postgres env=prod tier=1 crit=high owner=team data apps=billing,os:debian-12,role:database via= ",
			"13 web01 [2001:db8::1]:2222 accounts= env= tier= crit= owner= apps= via=jump01 "}},
		"a register under a name": {"yaml", "servers:\n  - hostname: a\n  - hostname: b\n    colour: red\n", []string{
			"2 a a:22 accounts= env= tier= crit= owner= apps= via= ",
			`3   accounts= env= tier= crit= owner= apps= via= [4:5] unknown field "colour"`}},
		"ansible ini": {"ansible", `mail.example.com
[web]
web[01:03] ansible_user=deploy
[db]
db01 ansible_host=10.0.0.5 ansible_port=2222 owner='team data' # the big one
[prod:children]
web
db
[prod:vars]
environment=prod
ansible_user=admin
`, []string{
			"1 mail.example.com mail.example.com:22 accounts= env= tier= crit= owner= apps= via= ",
			"3 web01 web01:22 accounts=deploy env=prod tier= crit= owner= apps=prod,web via= ",
			"3 web02 web02:22 accounts=deploy env=prod tier= crit= owner= apps=prod,web via= ",
			"3 web03 web03:22 accounts=deploy env=prod tier= crit= owner= apps=prod,web via= ",
			"5 db01 10.0.0.5:2222 accounts=admin env=prod tier= crit= owner=team data apps=db,prod via= "}},
		"ansible yaml": {"ansible", `all:
  hosts:
    mail:
  children:
    prod:
      vars: {environment: prod}
      children:
        db:
          hosts:
            db01: {ansible_host: 10.0.0.5, ansible_port: 2222, tier: 0}
`, []string{
			"3 mail mail:22 accounts= env= tier= crit= owner= apps= via= ",
			"10 db01 10.0.0.5:2222 accounts= env=prod tier=0 crit= owner= apps=db,prod via= "}},
		"ssh_config": {"ssh-config", `Host *
    User nobody
Host db01
    HostName 10.0.0.5
    Port=2222
    User root
    ProxyJump hop@jump01,jump02
Host web* !web09
    User deploy
Match host x
    User y
Host jump01
    proxyjump none
`, []string{
			"3 db01 10.0.0.5:2222 accounts=root env= tier= crit= owner= apps= via=jump01,jump02 ",
			"12 jump01 jump01:22 accounts= env= tier= crit= owner= apps= via= "}},
		"nothing":      {"yaml", "", nil},
		"no hosts":     {"ansible", "# none\n", nil},
		"empty config": {"ssh-config", "\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := readers()[tt.format]([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				got = append(got, shown(r))
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// What is wrong is told with its line, and nothing takes long or much memory.
func TestHostileInventories(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
	for name, tt := range map[string]struct{ format, text, says string }{
		"an alias bomb":        {"yaml", bomb, "line 1: anchors"},
		"ansible alias bomb":   {"ansible", "---\n" + bomb, "anchors"},
		"a tag":                {"yaml", "- hostname: !!binary aGk=\n", "line 1: anchors, aliases and tags"},
		"no list":              {"yaml", "hostname: a\n", "line 1"},
		"broken":               {"yaml", "- hostname: a\n  - b\n", "[2:"},
		"deep":                 {"yaml", strings.Repeat("[", 5000), "too deeply"},
		"deeply indented":      {"yaml", strings.Repeat(" ", 5000) + "- a", "too deeply"},
		"two documents":        {"yaml", "- hostname: a\n---\n- hostname: b\n", "2 documents"},
		"a huge range":         {"ansible", "web[1:999999]\n", "line 1"},
		"two ranges":           {"ansible", "web[1:999][1:999]\n", "line 1"},
		"ranges upon ranges":   {"ansible", "a[1:9999]\nb[1:9999]\n", "line 2: more than 10000"},
		"an open quote":        {"ansible", "[a]\ndb01 owner='x\n", "line 2: a quote"},
		"no variable":          {"ansible", "db01 x\n", `line 1: "x" is not name=value`},
		"a strange section":    {"ansible", "[a:b]\n", "line 1"},
		"a long line":          {"ansible", "\n" + strings.Repeat("x", 100<<10), "line 2: longer"},
		"a group of no shape":  {"ansible", "all:\n  hosts: [a]\n", "line 2"},
		"a part that is none":  {"ansible", "all:\n  machines:\n", "line 2: a group has"},
		"an option of nothing": {"ssh-config", "Host a\nPort\n", "line 2: Port has no value"},
	} {
		t.Run(name, func(t *testing.T) {
			if rows, err := readers()[tt.format]([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %d rows, %v, want %q", len(rows), err, tt.says)
			}
		})
	}
}

func FuzzInventories(f *testing.F) {
	f.Add("yaml", "- hostname: a\n  accounts: [root]\n")
	f.Add("ansible", "[web]\nweb[01:03] ansible_user=deploy\n")
	f.Add("ansible", "all:\n  hosts:\n    a: {x: 1}\n")
	f.Add("ssh-config", "Host a\n  Port 22\n  ProxyJump b@c\n")
	f.Fuzz(func(t *testing.T, format, text string) {
		read := readers()[format]
		if read == nil || len(text) > 4096 {
			return
		}
		rows, err := read([]byte(text))
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for _, r := range rows {
			if r.line < 1 || r.line > lines {
				t.Errorf("line %d of %d: %+v", r.line, lines, r)
			}
			// What is read once and merged again changes nothing.
			in := r.in
			merge(&in, r.in)
			a, _ := json.Marshal(in)
			merge(&in, r.in)
			if b, _ := json.Marshal(in); string(a) != string(b) {
				t.Errorf("merged once %s, twice %s", a, b)
			}
		}
	})
}

func TestKnownHostsRows(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO2bDPcqYb9pwmjKJXbwM6xPhDvkNpkOSBZGBIgLOF5M"
	targets := []api.Target{{Name: "db01", Address: "10.0.0.5:22"}, {Name: "web01", Address: "10.0.0.6:2222"}}
	for name, tt := range map[string]struct{ text, want string }{
		"by name":          {"db01 " + key, "db01"},
		"by address":       {"x,10.0.0.5 " + key, "db01"},
		"by port":          {"[10.0.0.6]:2222 " + key, "web01"},
		"another port":     {"10.0.0.6 " + key, ""},
		"a pattern":        {"db0? " + key, "db01"},
		"not that one":     {"db0?,!db01 " + key, ""},
		"hashed":           {"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= " + key, ""},
		"an authority":     {"@cert-authority * " + key, ""},
		"a comment":        {"# db01 " + key, ""},
		"a broken hash":    {"|1|x|y " + key, ""},
		"only a pattern *": {"* " + key, "db01,web01"},
	} {
		rows, err := readKnownHosts([]byte(tt.text+"\n"), targets)
		var got []string
		for _, r := range rows {
			got = append(got, r.in.Name)
		}
		if err != nil || strings.Join(got, ",") != tt.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.want)
		}
	}
	for name, text := range map[string]string{"a revoked key": "@revoked db01 " + key, "no key": "db01 ssh-ed25519", "rubbish": "db01"} {
		if rows, err := readKnownHosts([]byte("\n"+text+"\n"), targets); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}
