// Package test holds the rules of the house and the stories: what is true of
// all the code and of what is written about it, and what people do with the
// real programs.
package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A line of table says which of our packages a package may import; "..." ends
// a prefix. Imports only point down. A package without a line fails, and so does
// a line without a package. Imports of tests do not count.
var table = map[string]string{
	// Leaves know nothing of the house.
	"broker/access":                     "",
	"broker/identity/mfa":               "",
	"broker/identity/mfa/mfatest":       "",
	"recorder/commandline":              "",
	"policy":                            "",
	"policy/pack":                       "",
	"rego":                              "",
	"vault":                             "",
	"recorder/audit":                    "",
	"recorder/cast":                     "",
	"recorder/screen":                   "",
	"broker/bastion/sshproxy/sftpwire":  "",
	"broker/bastion/sshproxy/rsyncwire": "",
	"web/api":                           "",
	"broker/discovery":                  "",

	"recorder":              "recorder/cast",
	"recorder/view":         "recorder/cast recorder/commandline recorder/screen",
	"recorder/video":        "recorder/cast recorder/screen recorder/view",
	"recorder/bundle":       "recorder/audit recorder/cast",
	"recorder/objects":      "recorder",
	"vault/keeper":          "vault",
	"vault/sshca":           "vault",
	"vault/rotate":          "vault",
	"vault/rotate/linux":    "vault vault/rotate vault/rotate/overssh",
	"vault/rotate/ldap":     "vault vault/rotate",
	"vault/rotate/mysql":    "vault vault/rotate",
	"vault/rotate/plugin":   "vault vault/rotate",
	"vault/rotate/postgres": "vault vault/rotate",
	"vault/rotate/sshkey":   "vault vault/rotate vault/rotate/overssh",
	"vault/rotate/overssh":  "vault vault/rotate",
	"vault/rotate/windows":  "vault vault/rotate vault/rotate/overssh",
	"broker/identity":       "broker/access",
	"broker/identity/local": "broker/access broker/identity broker/identity/mfa",

	// The store saves, and implements what identity and vault ask of a store.
	"broker/store": "broker/access broker/identity broker/identity/local recorder/audit recorder/view vault",

	// The verbs: the only place that decides and changes.
	"broker": "broker/access broker/discovery broker/store policy recorder/audit recorder/bundle recorder/view vault/...",

	// Work at targets: does what the verbs have begun.
	"broker/provision":      "broker broker/access",
	"broker/push":           "broker broker/access",
	"broker/rotation":       "broker broker/access vault vault/rotate vault/rotate/...",
	"broker/discovery/scan": "broker broker/access broker/discovery broker/rotation vault vault/rotate/...",

	// The way to others that a configuration names.
	"broker/oncall":   "broker/access broker/outbound",
	"broker/outbound": "vault",

	// Tells people what the log says.
	"broker/notify": "broker broker/access broker/outbound broker/store recorder/audit",

	"broker/notify/mail":       "broker/access broker/notify broker/outbound recorder/audit",
	"broker/notify/mattermost": "broker/notify broker/outbound",
	"broker/notify/pagerduty":  "broker/notify broker/outbound recorder/audit",
	"broker/notify/teams":      "broker/notify broker/outbound",
	"broker/notify/webhook":    "broker/access broker/notify broker/outbound",
	"broker/ticket":            "broker broker/access vault",

	// Work on recordings that nothing waits for.
	"broker/indexing": "broker/access broker/store recorder recorder/audit recorder/view",

	"broker/bastion": "broker broker/access recorder/commandline recorder vault",

	// Protocols translate and decide nothing.
	"broker/bastion/sshproxy": "broker broker/access broker/bastion broker/bastion/sshproxy/rsyncwire broker/bastion/sshproxy/sftpwire broker/identity recorder recorder/cast",
	"web/ui":                  "web/api",
	"web/slack":               "broker broker/access broker/notify broker/outbound vault",
	"web":                     "broker broker/access broker/discovery broker/identity/... policy policy/pack recorder recorder/audit recorder/bundle recorder/cast recorder/screen recorder/video recorder/view web/api web/ui",

	// The client links no server code.
	"cmd/drawbolt": "policy/pack web/api recorder/audit recorder/bundle recorder/cast",
	// The server wires everything.
	"cmd/drawboltd": "...",

	// For tests only: nobody else may import them.
	"broker/brokertest":            "broker broker/store policy recorder/audit rego vault vault/keeper vault/sshca",
	"broker/identity/identitytest": "broker/access broker/identity broker/identity/local",
	"broker/store/storetest":       "broker/store test/servers",
	"test/servers":                 "",
	"web/slack/slacktest":          "",
	"vault/rotate/rotatetest":      "vault vault/rotate vault/rotate/overssh",
}

const module = "github.com/drawbolt/drawbolt"

// runners may start other programs. A view is made by the server's own program, in
// a process that has nothing; a video too, which starts the encoder below it.
var runners = []string{"cmd/...", "test/...", "recorder/video", "recorder/view", "vault/rotate/plugin"}

// unfit are the packages that the client must not link, however indirectly:
// each would make it a server's size or give it a server's powers.
var unfit = []string{"github.com/open-policy-agent", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/gliderlabs/ssh", "filippo.io/age", module + "/broker", module + "/vault"}

func within(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "...")
		return p == pkg || wild && (strings.HasPrefix(pkg, prefix) || pkg+"/" == prefix)
	})
}

func TestImports(t *testing.T) {
	packages := listed(t)
	for _, p := range packages {
		name := p.name()
		may, ok := table[name]
		if !ok {
			t.Errorf("the package %s has no line in the import table", name)
			continue
		}
		for _, i := range p.Imports {
			of, ours := strings.CutPrefix(i, module+"/")
			if ours && !within(of, strings.Fields(may)) {
				t.Errorf("%s imports %s, which its line of the import table does not name", name, of)
			}
			if i == "os/exec" && !within(name, runners) {
				t.Errorf("%s imports os/exec: nothing but %v starts other programs", name, runners)
			}
			if i == "log" || i == "unsafe" || i == "C" || i == "math/rand" {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
	for name := range table {
		if !slices.ContainsFunc(packages, func(p *pkg) bool { return p.name() == name }) {
			t.Errorf("the import table has a line for %s, which is no package", name)
		}
	}
}

// TestLinked compares what the two programs link outside the standard library
// with deps.txt, so that a new dependency shows in a review.
func TestLinked(t *testing.T) {
	for _, program := range []string{"cmd/drawbolt", "cmd/drawboltd"} {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+program)
		cmd.Dir = root(t)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
		out := output(t, cmd)
		list := strings.Fields(string(out))
		slices.Sort(list)
		golden(t, program+"/deps.txt", []byte(strings.Join(list, "\n")+"\n"))
		if program == "cmd/drawbolt" {
			for _, p := range list {
				if slices.ContainsFunc(unfit, func(u string) bool { return p == u || strings.HasPrefix(p, u+"/") }) {
					t.Errorf("the client links %s", p)
				}
			}
		}
	}
}

// TestPackageComments: one in each package, which says what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range listed(t) {
		var comments []string
		for _, f := range p.files(t) {
			if f.Doc != nil && !ast.IsGenerated(f) {
				comments = append(comments, f.Doc.Text())
			}
		}
		if len(comments) != 1 {
			t.Errorf("%s has %d package comments, not one", p.name(), len(comments))
			continue
		}
		begin := "Package " + path.Base(p.name()) + " "
		if p.Name == "main" {
			begin = path.Base(p.name()) + " "
		}
		if text := strings.TrimPrefix(comments[0], "Command "); !strings.HasPrefix(strings.ToLower(text), strings.ToLower(begin)) {
			t.Errorf("the comment of %s begins with %.40q", p.name(), text)
		}
	}
}

// TestNoGlobals: nothing registers itself, and no package keeps what changes in
// a variable of its own: a server is what cmd/drawboltd wires together.
func TestNoGlobals(t *testing.T) {
	for _, p := range listed(t) {
		files := p.files(t)
		global := map[string]bool{}
		specs := map[any]bool{}
		for _, f := range files {
			for _, d := range f.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
					for _, s := range g.Specs {
						specs[s] = true
						for _, n := range s.(*ast.ValueSpec).Names {
							global[n.Name] = true
						}
					}
				}
			}
		}
		changed := func(e ast.Expr) {
			for {
				switch x := e.(type) {
				case *ast.IndexExpr:
					e = x.X
				case *ast.SelectorExpr:
					e = x.X
				case *ast.StarExpr:
					e = x.X
				case *ast.ParenExpr:
					e = x.X
				case *ast.Ident:
					// Without an object it stands in another file; with one
					// that is no package's variable it is a local.
					if x.Name != "_" && global[x.Name] && (x.Obj == nil || specs[x.Obj.Decl]) {
						t.Errorf("%s changes the package's variable %s", where(p, x), x.Name)
					}
					return
				default:
					return
				}
			}
		}
		for _, f := range files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || ast.IsGenerated(f) {
					continue
				}
				if fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s is an init function", where(p, fn))
				}
				ast.Inspect(fn, func(n ast.Node) bool {
					switch s := n.(type) {
					case *ast.AssignStmt:
						if s.Tok != token.DEFINE {
							for _, e := range s.Lhs {
								changed(e)
							}
						}
					case *ast.IncDecStmt:
						changed(s.X)
					case *ast.CallExpr:
						if id, ok := s.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(s.Args) > 0 {
							changed(s.Args[0])
						}
					}
					return true
				})
			}
		}
	}
}

// TestQuiet: only the programs talk and end; everything else returns.
func TestQuiet(t *testing.T) {
	loud := regexp.MustCompile(`^(fmt\.Print(f|ln)?|os\.(Exit|Stdout|Stderr)|print|println)$`)
	for _, p := range listed(t) {
		if p.Name == "main" || within(p.name(), []string{"test/..."}) {
			continue
		}
		for _, f := range p.files(t) {
			ast.Inspect(f, func(n ast.Node) bool {
				name := ""
				switch x := n.(type) {
				case *ast.SelectorExpr:
					if id, ok := x.X.(*ast.Ident); ok {
						name = id.Name + "." + x.Sel.Name
					}
				case *ast.CallExpr:
					if id, ok := x.Fun.(*ast.Ident); ok {
						name = id.Name
					}
				}
				if loud.MatchString(name) {
					t.Errorf("%s uses %s", where(p, n), name)
				}
				return true
			})
		}
	}
}

// skips may skip, for what a machine may lack and no package gives; programs are
// installed by .ci/packages, which fails when it cannot.
var skips = map[string]string{
	"cmd/drawbolt/run_test.go":     "Windows has no shell scripts",
	"cmd/drawbolt/login_test.go":   "Windows has neither ssh-agent's socket nor shell scripts",
	"recorder/disk_test.go":        "to mount a full disk takes root",
	"test/servers/servers_test.go": "to make a user takes root",
}

// TestSkips: a test that skips looks green, so each file that may is listed.
func TestSkips(t *testing.T) {
	skip := regexp.MustCompile(`\b(t|tb|b|f|h\.t)\.Skip(f|Now)?\(`)
	stale := maps.Clone(skips)
	for _, name := range tracked(t) {
		if b, err := os.ReadFile(filepath.Join(root(t), name)); err == nil && path.Ext(name) == ".go" && skip.Match(b) {
			if skips[name] == "" {
				t.Errorf("%s skips, and is not listed as one that may", name)
			}
			delete(stale, name)
		}
	}
	for name := range stale {
		t.Errorf("%s is listed as one that may skip, and does not", name)
	}
}

// TestNoTraces: nothing in the project tells of the machine it was written on.
func TestNoTraces(t *testing.T) {
	trace := regexp.MustCompile(strings.Join([]string{
		"/" + `root/`, "/" + `home/[a-z]`, "/" + `work/`, "/" + `Users/`, "registry" + `\.npm`, "registry" + `\.yarn`, "proxy" + `\.golang`, "goproxy" + `\.`,
	}, "|"))
	for _, name := range tracked(t) {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0 {
			continue
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			if found := trace.Find(line); found != nil {
				t.Errorf("%s:%d has %q", name, i+1, found)
			}
		}
	}
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```[ \t]*$")
	inline   = regexp.MustCompile("`[^`\n]+`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	pathLike = regexp.MustCompile(`^[A-Za-z0-9_.*-]+(/[A-Za-z0-9_.*-]+)*/?$`)
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*\b`)
	symbol   = regexp.MustCompile(`^([a-z0-9]+)((?:\.[A-Z][A-Za-z0-9]*)+)(?:\(.*\))?$`)
)

// TestDocuments: what the documents point at exists. That are their links with
// their anchors, the paths, and the exported names and tests that stand in
// backticks.
func TestDocuments(t *testing.T) {
	names, tests := symbols(t), testNames(t)
	top := map[string]bool{}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		top[e.Name()] = true
	}
	for _, name := range documents(t) {
		text := read(t, name)
		prose := fence.ReplaceAllString(text, "")
		for _, m := range link.FindAllStringSubmatch(inline.ReplaceAllString(prose, ""), -1) {
			if problem := broken(t, name, m[1]); problem != "" {
				t.Errorf("%s links to %s: %s", name, m[1], problem)
			}
		}
		for _, quoted := range inline.FindAllString(prose, -1) {
			quoted = strings.Trim(quoted, "`")
			for _, test := range testName.FindAllString(quoted, -1) {
				if len(tests[test]) == 0 {
					t.Errorf("%s names the test %s, which does not exist", name, test)
				}
			}
			if m := symbol.FindStringSubmatch(quoted); m != nil && names[m[1]] != nil {
				for part := range strings.SplitSeq(m[2][1:], ".") {
					if !names[m[1]][part] {
						t.Errorf("%s names %s, but package %s has no %s", name, quoted, m[1], part)
					}
				}
			}
			quoted = strings.TrimSuffix(strings.TrimPrefix(quoted, "./"), "/...")
			first, _, deep := strings.Cut(quoted, "/")
			if !pathLike.MatchString(quoted) || !deep && path.Ext(quoted) != ".md" || !top[first] && path.Ext(quoted) != ".md" {
				continue
			}
			if found, err := filepath.Glob(filepath.Join(root(t), quoted)); err != nil || len(found) == 0 {
				if _, err := os.Stat(filepath.Join(root(t), path.Dir(name), quoted)); err != nil {
					t.Errorf("%s names %s, which does not exist", name, quoted)
				}
			}
		}
	}
}

// broken says what is wrong with a link of a document.
func broken(t *testing.T, from, to string) string {
	if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(to, "#")
	if file == "" {
		file = path.Base(from)
	}
	file = path.Join(path.Dir(from), file)
	if _, err := os.Stat(filepath.Join(root(t), file)); err != nil {
		return "it does not exist"
	}
	if anchor == "" || path.Ext(file) != ".md" {
		return ""
	}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(read(t, file), ""), -1) {
		if slug(m[1]) == anchor {
			return ""
		}
	}
	return "it has no such heading"
}

// slug is the anchor that renderers give a heading.
func slug(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(s)) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || r > 127:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestThreatModel: each threat names a test that shows its control to hold.
// That the tests exist is what TestDocuments sees to.
func TestThreatModel(t *testing.T) {
	rows := 0
	for line := range strings.Lines(read(t, "docs/threat-model.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 || !regexp.MustCompile(`^ *T\d+ *$`).MatchString(cells[1]) {
			continue
		}
		rows++
		proof := cells[len(cells)-2]
		if !testName.MatchString(proof) && !strings.Contains(proof, ".txtar`") {
			t.Errorf("the threat%sis shown by no test: %s", cells[1], proof)
		}
	}
	if rows < 15 {
		t.Errorf("the threat model has %d threats", rows)
	}
}

// TestSettings: every key of the configuration file stands in its manual.
func TestSettings(t *testing.T) {
	manual := read(t, "docs/operating.md")
	keys := 0
	var walk func(prefix string, s *ast.StructType)
	walk = func(prefix string, s *ast.StructType) {
		for _, f := range s.Fields.List {
			tag, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			name := prefix + regexp.MustCompile(`yaml:"([^"]*)"`).FindStringSubmatch(tag)[1]
			if inner, ok := f.Type.(*ast.StructType); ok {
				walk(name+".", inner)
				continue
			}
			if keys++; !strings.Contains(manual, "`"+name+"`") {
				t.Errorf("docs/operating.md does not tell of %s", name)
			}
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), "cmd/drawboltd/config.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSpec); ok && s.Name.Name == "Config" {
			walk("", s.Type.(*ast.StructType))
		}
		return true
	})
	if keys == 0 {
		t.Error("no settings were found")
	}
}

// A pkg is one of our packages, as go list tells of it.
type pkg struct {
	ImportPath, Name, Dir   string
	Imports                 []string
	GoFiles, IgnoredGoFiles []string

	parsed []*ast.File
	set    *token.FileSet
}

func (p *pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// files parses the package's files, those for other systems too.
func (p *pkg) files(t *testing.T) []*ast.File {
	if p.set == nil {
		p.set = token.NewFileSet()
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(p.set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			p.parsed = append(p.parsed, f)
		}
	}
	return p.parsed
}

func where(p *pkg, n ast.Node) string {
	at := p.set.Position(n.Pos())
	return fmt.Sprintf("%s/%s:%d", p.name(), filepath.Base(at.Filename), at.Line)
}

var list = sync.OnceValues(func() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,GoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	var packages []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		if len(p.GoFiles) > 0 { // not only tests
			packages = append(packages, p)
		}
	}
})

func listed(t *testing.T) []*pkg {
	t.Helper()
	packages, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// symbols gives, by the name of a package, what it declares: its exported
// types, functions, methods, fields, variables and constants.
func symbols(t *testing.T) map[string]map[string]bool {
	names := map[string]map[string]bool{}
	for _, p := range listed(t) {
		if p.Name == "main" {
			continue
		}
		if names[p.Name] == nil {
			names[p.Name] = map[string]bool{}
		}
		add := func(id *ast.Ident) {
			if id.IsExported() {
				names[p.Name][id.Name] = true
			}
		}
		for _, f := range p.files(t) {
			ast.Inspect(f, func(n ast.Node) bool {
				switch d := n.(type) {
				case *ast.BlockStmt:
					return false
				case *ast.FuncDecl:
					add(d.Name)
				case *ast.TypeSpec:
					add(d.Name)
				case *ast.ValueSpec:
					for _, id := range d.Names {
						add(id)
					}
				case *ast.Field:
					for _, id := range d.Names {
						add(id)
					}
				}
				return true
			})
		}
	}
	return names
}

// testNames gives the files of each test.
func testNames(t *testing.T) map[string][]string {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	names := map[string][]string{}
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			continue
		}
		for _, m := range declared.FindAllSubmatch(b, -1) {
			names[string(m[1])] = append(names[string(m[1])], name)
		}
	}
	return names
}

// documents are the files written for people.
func documents(t *testing.T) []string {
	var list []string
	for _, name := range tracked(t) {
		if path.Ext(name) == ".md" && (path.Dir(name) == "." || strings.HasPrefix(name, "docs/")) {
			list = append(list, name)
		}
	}
	for _, name := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		if !slices.Contains(list, name) {
			t.Errorf("there is no %s", name)
		}
	}
	return list
}

// tracked are the project's files, those not yet committed too.
func tracked(t *testing.T) []string {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil { // an unpacked archive
		files := map[string]bool{}
		if err := filepath.WalkDir(root(t), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				rel, _ := filepath.Rel(root(t), name)
				files[filepath.ToSlash(rel)] = true
				return err
			}
			if n := d.Name(); n == "bin" || n == "node_modules" || n == "demo-data" || n == ".git" {
				return filepath.SkipDir
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(files))
	}
	list := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.SortFunc(list, cmp.Compare[string])
	return slices.Compact(list)
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	return out
}

// golden compares got with a file of the project, or rewrites it when
// UPDATE_GOLDEN is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join(root(t), name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		have := strings.Split(string(got), "\n")
		had := strings.Split(string(want), "\n")
		for _, line := range have {
			if !slices.Contains(had, line) {
				t.Errorf("%s: new: %s", name, line)
			}
		}
		for _, line := range had {
			if !slices.Contains(have, line) {
				t.Errorf("%s: gone: %s", name, line)
			}
		}
		t.Errorf("%s is not current; UPDATE_GOLDEN=1 rewrites it", name)
	}
}
