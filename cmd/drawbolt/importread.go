package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/drawbolt/drawbolt/web/api"
)

// What an inventory may be. They bound the work, not what is useful.
const (
	maxRows          = 10000 // targets in one file
	maxDepth         = 64    // of nested YAML
	maxInventoryLine = 64 << 10
)

// A row is one target as a file describes it. What a file does not say is empty,
// and stays as it is.
type row struct {
	line int
	in   api.TargetInput // Name, Address and what else is known
	bad  string          // why the row is refused
}

// readers are the formats that can be imported.
func readers() map[string]func([]byte) ([]row, error) {
	return map[string]func([]byte) ([]row, error){"yaml": readRegister, "ansible": readAnsible, "ssh-config": readSSHConfig}
}

// A registered is a server as it stands in a register.
type registered struct {
	Hostname     string   `yaml:"hostname"`
	Name         string   `yaml:"name"` // of the target; default: hostname
	Kind         string   `yaml:"kind"` // "": a machine with SSH
	Address      string   `yaml:"address"`
	OS           string   `yaml:"os"`
	Role         string   `yaml:"role"`
	Criticality  string   `yaml:"criticality"`
	Owner        string   `yaml:"owner"`
	Environment  string   `yaml:"environment"`
	Tier         string   `yaml:"tier"`
	Applications []string `yaml:"applications"`
	Accounts     []string `yaml:"accounts"`
	HostKeys     []string `yaml:"host_keys"`
	Via          []string `yaml:"via"`
}

// readRegister reads a list of servers, at the top or under "servers".
func readRegister(b []byte) ([]row, error) {
	root, err := yamlRoot(b)
	if err != nil || root == nil {
		return nil, err
	}
	if m, ok := root.(*ast.MappingNode); ok && len(m.Values) == 1 && m.Values[0].Key.String() == "servers" {
		root = m.Values[0].Value
	}
	list, ok := root.(*ast.SequenceNode)
	if !ok {
		return nil, fmt.Errorf("line %d: a server register is a list, or a list under the key servers", lineOf(root))
	}
	var rows []row
	for _, node := range list.Values {
		r := row{line: lineOf(node)}
		var s registered
		if err := yaml.NodeToValue(node, &s, yaml.Strict()); err != nil {
			r.bad = yamlError(err)
		} else {
			r.in = s.target()
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (s registered) target() api.TargetInput {
	in := api.TargetInput{
		Name: strings.ToLower(first(s.Name, s.Hostname)), Kind: s.Kind, Address: withPort(first(s.Address, s.Hostname), portOf(s.Kind)), HostKeys: s.HostKeys, Via: s.Via,
		Labels:       api.Labels{Environment: s.Environment, Tier: s.Tier, Criticality: s.Criticality, Owner: s.Owner},
		Applications: s.Applications, Accounts: accountsOf(s.Accounts...),
	}
	// There is no label for what a server runs on and what it is for; policies
	// find both among the applications.
	for name, value := range map[string]string{"os": s.OS, "role": s.Role} {
		if value != "" {
			in.Applications = append(in.Applications, name+":"+value)
		}
	}
	slices.Sort(in.Applications)
	return in
}

// portOf is where a system of that kind listens; "": that of SSH.
func portOf(kind string) string {
	return map[string]string{"postgres": "5432", "mysql": "3306", "ldap": "636", "ad": "636"}[kind]
}

func accountsOf(names ...string) (list []api.AccountInput) {
	for _, n := range names {
		if n != "" {
			list = append(list, api.AccountInput{Name: n})
		}
	}
	return list
}

// withPort makes host:port of an address that may have its port already.
func withPort(address, port string) string {
	if address == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), first(port, "22"))
}

// yamlRoot parses one document. Aliases are refused: a short file could stand
// for more than memory holds.
func yamlRoot(b []byte) (ast.Node, error) {
	depth := 0
	for _, t := range lexer.Tokenize(string(b)) {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
			return nil, fmt.Errorf("line %d: anchors, aliases and tags are not taken", t.Position.Line)
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxDepth {
				return nil, fmt.Errorf("line %d: nested too deeply", t.Position.Line)
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
		if t.Position.IndentNum > 16*maxDepth {
			return nil, fmt.Errorf("line %d: nested too deeply", t.Position.Line)
		}
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, fmt.Errorf("%s", yamlError(err))
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("it has %d documents, and one is read", len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	return file.Docs[0].Body, nil
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 { // its own token is a colon
		return m.Values[0].Key.GetToken().Position.Line
	}
	return n.GetToken().Position.Line
}

// yamlError is the first line of an error of the YAML library: "[line:column] why".
func yamlError(err error) string {
	text, _, _ := strings.Cut(strings.TrimSpace(yaml.FormatError(err, false, false)), "\n")
	return text
}

// A host is what an Ansible inventory says of one machine.
type host struct {
	line   int
	vars   map[string]string
	groups []string
}

// An inventory is the hosts of an Ansible inventory and the variables of its
// groups. A host's own variables count before those of its groups.
type inventory struct {
	order  []string
	hosts  map[string]*host
	vars   map[string]map[string]string // by group
	parent map[string][]string          // the groups that a group is in
}

func newInventory() *inventory {
	return &inventory{hosts: map[string]*host{}, vars: map[string]map[string]string{}, parent: map[string][]string{}}
}

func (v *inventory) add(name, group string, line int, vars map[string]string) error {
	h := v.hosts[name]
	if h == nil {
		if len(v.order) == maxRows {
			return fmt.Errorf("line %d: more than %d hosts", line, maxRows)
		}
		h = &host{line: line, vars: map[string]string{}}
		v.hosts[name], v.order = h, append(v.order, name)
	}
	for key, value := range vars {
		h.vars[key] = value
	}
	if group != "" && !slices.Contains(h.groups, group) {
		h.groups = append(h.groups, group)
	}
	return nil
}

// groupsOf are the groups of a host, the nearest first. A circle ends by itself.
func (v *inventory) groupsOf(h *host) []string {
	list := slices.Clone(h.groups)
	for i := 0; i < len(list); i++ {
		for _, p := range v.parent[list[i]] {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

func (v *inventory) rows() (rows []row) {
	for _, name := range v.order {
		h := v.hosts[name]
		groups := v.groupsOf(h)
		get := func(keys ...string) string {
			for _, where := range append([]string{""}, append(groups, "all")...) {
				vars := h.vars
				if where != "" {
					vars = v.vars[where]
				}
				for _, key := range keys {
					if vars[key] != "" {
						return vars[key]
					}
				}
			}
			return ""
		}
		in := api.TargetInput{
			Name: strings.ToLower(name), Address: withPort(first(get("ansible_host", "ansible_ssh_host"), name), get("ansible_port", "ansible_ssh_port")),
			Accounts: accountsOf(get("ansible_user", "ansible_ssh_user")),
			Labels:   api.Labels{Environment: get("environment", "env"), Tier: get("tier"), Criticality: get("criticality"), Owner: get("owner")},
		}
		for _, g := range groups {
			if g != "all" && g != "ungrouped" {
				in.Applications = append(in.Applications, g)
			}
		}
		slices.Sort(in.Applications)
		rows = append(rows, row{line: h.line, in: in})
	}
	return rows
}

// readAnsible reads an inventory as Ansible's ini or yaml plugin does, as far as
// it says where machines are and what groups they are in. Nothing is evaluated.
func readAnsible(b []byte) ([]row, error) {
	v := newInventory()
	text := bytes.TrimSpace(b)
	isYAML := bytes.HasPrefix(text, []byte("---")) || regexp.MustCompile(`(?m)\A(?:#.*\n|\s*\n)*[A-Za-z_][\w-]*:\s*(?:#.*)?$`).Match(text)
	var err error
	if isYAML {
		err = v.readYAML(b)
	} else {
		err = v.readINI(b)
	}
	if err != nil {
		return nil, err
	}
	return v.rows(), nil
}

func (v *inventory) readINI(b []byte) error {
	section, kind := "ungrouped", ""
	return eachLine(b, func(n int, line string) error {
		if line == "" || line[0] == '#' || line[0] == ';' {
			return nil
		}
		if line[0] == '[' {
			name, rest, ok := strings.Cut(line[1:], "]")
			if rest = strings.TrimSpace(rest); !ok || name == "" || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return fmt.Errorf("line %d: %q is no section", n, line)
			}
			section, kind, _ = strings.Cut(name, ":")
			if kind != "" && kind != "vars" && kind != "children" {
				return fmt.Errorf("line %d: a section is [group], [group:vars] or [group:children]", n)
			}
			return nil
		}
		words, err := shellWords(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		switch kind {
		case "children":
			v.parent[words[0]] = append(v.parent[words[0]], section)
			return nil
		case "vars":
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				return fmt.Errorf("line %d: a variable is name=value", n)
			}
			v.setGroup(section, strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"'`))
			return nil
		}
		vars := map[string]string{}
		for _, w := range words[1:] {
			key, value, ok := strings.Cut(w, "=")
			if !ok {
				return fmt.Errorf("line %d: %q is not name=value", n, w)
			}
			vars[key] = value
		}
		names, err := expand(words[0])
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		for _, name := range names {
			if err := v.add(name, section, n, vars); err != nil {
				return err
			}
		}
		return nil
	})
}

func (v *inventory) setGroup(group, key, value string) {
	if v.vars[group] == nil {
		v.vars[group] = map[string]string{}
	}
	v.vars[group][key] = value
}

// readYAML reads groups with their hosts, children and vars.
func (v *inventory) readYAML(b []byte) error {
	root, err := yamlRoot(b)
	if err != nil || root == nil {
		return err
	}
	return v.group(root, "", 0)
}

func pairs(n ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	default:
		return nil, fmt.Errorf("line %d: names with values are expected here", lineOf(n))
	}
}

// group reads the groups under a node; parent is the group that they are in.
func (v *inventory) group(n ast.Node, parent string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: nested too deeply", lineOf(n))
	}
	groups, err := pairs(n)
	if err != nil {
		return err
	}
	for _, g := range groups {
		name := g.Key.String()
		if parent != "" && parent != "all" {
			v.parent[name] = append(v.parent[name], parent)
		}
		parts, err := pairs(g.Value)
		if err != nil {
			return err
		}
		for _, part := range parts {
			switch part.Key.String() {
			case "children":
				err = v.group(part.Value, name, depth+1)
			case "vars":
				var vars map[string]string
				if vars, err = scalars(part.Value); err == nil {
					for key, value := range vars {
						v.setGroup(name, key, value)
					}
				}
			case "hosts":
				err = v.yamlHosts(part.Value, name)
			default:
				err = fmt.Errorf("line %d: a group has hosts, children and vars, and no %s", lineOf(part.Key), part.Key)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *inventory) yamlHosts(n ast.Node, group string) error {
	hosts, err := pairs(n)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		vars, err := scalars(h.Value)
		if err != nil {
			return err
		}
		names, err := expand(h.Key.String())
		if err != nil {
			return fmt.Errorf("line %d: %w", lineOf(h.Key), err)
		}
		for _, name := range names {
			if err := v.add(name, group, lineOf(h.Key), vars); err != nil {
				return err
			}
		}
	}
	return nil
}

// scalars are the plain values under a node; lists and the like are not ours.
func scalars(n ast.Node) (map[string]string, error) {
	list, err := pairs(n)
	out := map[string]string{}
	for _, p := range list {
		if s, ok := p.Value.(ast.ScalarNode); ok && p.Value.Type() != ast.NullType {
			out[p.Key.String()] = fmt.Sprint(s.GetValue())
		}
	}
	return out, err
}

var ranges = regexp.MustCompile(`\[([0-9]{1,6}|[a-z]):([0-9]{1,6}|[a-z])\]`)

// expand writes out a range of hosts, such as web[01:10]: numbers keep their
// leading zeros. One range a name, at most maxRows names.
func expand(pattern string) ([]string, error) {
	at := ranges.FindStringSubmatchIndex(pattern)
	if at == nil {
		return []string{pattern}, nil
	}
	before, from, to, after := pattern[:at[0]], pattern[at[2]:at[3]], pattern[at[4]:at[5]], pattern[at[1]:]
	if strings.ContainsAny(after, "[]") {
		return nil, fmt.Errorf("%q has more than one range", pattern)
	}
	var names []string
	if a, err := strconv.Atoi(from); err == nil {
		z, err := strconv.Atoi(to)
		if err != nil || z < a || z-a >= maxRows {
			return nil, fmt.Errorf("%q is no range, or one of more than %d", pattern, maxRows)
		}
		for ; a <= z; a++ {
			names = append(names, fmt.Sprintf("%s%0*d%s", before, len(from), a, after))
		}
		return names, nil
	}
	if len(to) != 1 || to[0] < from[0] {
		return nil, fmt.Errorf("%q is no range", pattern)
	}
	for c := from[0]; c <= to[0]; c++ {
		names = append(names, before+string(c)+after)
	}
	return names, nil
}

// shellWords splits a line at blanks; quotes hold words together, and a # ends it.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	var quote rune
	in := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, in = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		case quote == 0 && r == '#' && !in:
			return words, nil
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// readSSHConfig reads the Host blocks of an ssh_config that name one machine
// each: patterns, Match blocks and includes say nothing of a single one.
func readSSHConfig(b []byte) ([]row, error) {
	var rows []row
	open := -1
	port := map[int]string{}
	err := eachLine(b, func(n int, line string) error {
		words, err := shellWords(strings.Replace(line, "=", " ", 1))
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if len(words) == 0 {
			return nil
		}
		if len(words) == 1 {
			return fmt.Errorf("line %d: %s has no value", n, words[0])
		}
		switch key, value := strings.ToLower(words[0]), words[1]; key {
		case "host":
			open = -1
			if len(words) == 2 && !strings.ContainsAny(value, "*?!") {
				if len(rows) == maxRows {
					return fmt.Errorf("line %d: more than %d hosts", n, maxRows)
				}
				rows = append(rows, row{line: n, in: api.TargetInput{Name: strings.ToLower(value)}})
				open = len(rows) - 1
			}
		case "match":
			open = -1
		default:
			if open < 0 {
				return nil
			}
			in := &rows[open].in
			switch key {
			case "hostname":
				in.Address = first(in.Address, value)
			case "port":
				port[open] = first(port[open], value)
			case "user":
				in.Accounts = accountsOf(value)
			case "proxyjump":
				if value != "none" {
					for _, hop := range strings.Split(value, ",") {
						_, name, ok := strings.Cut(hop, "@")
						if !ok {
							name = hop
						}
						in.Via = append(in.Via, strings.ToLower(name))
					}
				}
			}
		}
		return nil
	})
	for i := range rows {
		rows[i].in.Address = withPort(first(rows[i].in.Address, rows[i].in.Name), port[i])
	}
	return rows, err
}

func eachLine(b []byte, do func(n int, line string) error) error {
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxInventoryLine)
	n := 0
	for s.Scan() {
		n++
		if err := do(n, strings.TrimSpace(s.Text())); err != nil {
			return err
		}
	}
	if s.Err() != nil {
		return fmt.Errorf("line %d: longer than %d bytes", n+1, maxInventoryLine)
	}
	return nil
}

// matches reports whether a known_hosts pattern list names one of the names.
func matches(patterns string, names []string) bool {
	found := false
	for _, p := range strings.Split(patterns, ",") {
		not := strings.HasPrefix(p, "!")
		p = strings.TrimPrefix(p, "!")
		for _, n := range names {
			// path.Match knows brackets, which stand for a port here.
			if ok, err := path.Match(strings.NewReplacer("[", `\[`, "]", `\]`).Replace(p), n); err == nil && ok {
				if not {
					return false
				}
				found = true
			}
		}
	}
	return found
}
