package policy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Config says how to make an Engine.
type Config struct {
	Bundle fs.FS // *.rego below it, without *_test.rego; must be given. Use puts another in its place
	// Timeout of one evaluation, on the wall clock; 0: 50 ms. One that takes
	// longer is tried again some times, because on a busy machine it is not the
	// policy that is slow, and a decision that fails ends sessions.
	Timeout time.Duration
}

// Limits of a bundle.
const (
	maxFiles      = 1_000
	maxFileBytes  = 1 << 20
	maxReasons    = 32
	maxReasonText = 2_000
)

// query is the whole interface to a bundle: one value, data.drawbolt.decision.
const query = "data.drawbolt.decision"

// answer is the variable of the query that the decision is bound to.
const answer = ast.Var("decision")

// An Engine holds one compiled bundle and the current roles. It is safe for
// concurrent use.
type Engine struct {
	timeout time.Duration
	// Beside the bundle's own rules, data is empty. Nothing is ever written, so
	// one transaction serves all decisions.
	data    storage.Store
	txn     storage.Transaction
	program atomic.Pointer[Program]
	state   atomic.Pointer[state]
}

// A Program is a bundle, compiled. It never changes.
type Program struct {
	compiler *ast.Compiler
	question ast.Body // binds the answer to the variable decision
	digest   string
	files    []File
}

// A File is a file of a bundle.
type File struct{ Name, Text string }

// Files returns the files of the bundle by their names, without its tests.
func (p *Program) Files() []File { return p.files }

// Digest returns the hex SHA-256 over the names and bytes of the bundle's files,
// without its tests.
func (p *Program) Digest() string { return p.digest }

// A state is one Data made ready for the bundle. It never changes, so a decision
// sees either all of the old roles or all of the new ones.
type state struct {
	data      Data
	rules     *ruleset
	functions map[string]*topdown.Builtin
	// The answers that are ready with the rules, taken apart.
	ready  map[ast.Object]Decision
	digest string
}

// New compiles the bundle. The Engine has no roles yet, so the default bundle
// refuses everything until SetData.
func New(c Config) (*Engine, error) {
	if c.Timeout < 0 {
		return nil, errors.New("policy: timeout is negative")
	}
	files, err := ReadFiles(c.Bundle)
	if err != nil {
		return nil, fmt.Errorf("load policy bundle: %w", err)
	}
	p, err := Compile(files)
	if err != nil {
		return nil, err
	}
	return NewEngine(p, c.Timeout)
}

// NewEngine makes an engine of a compiled bundle, without roles; timeout as in Config.
func NewEngine(p *Program, timeout time.Duration) (*Engine, error) {
	if timeout == 0 {
		timeout = 50 * time.Millisecond
	}
	data := inmem.New()
	txn, err := data.NewTransaction(context.Background())
	if err != nil {
		return nil, fmt.Errorf("prepare policy: %w", err)
	}
	e := &Engine{timeout: timeout, data: data, txn: txn}
	e.Use(p)
	return e, e.SetData(Data{})
}

// Compile compiles a bundle: its *.rego files by their names, of which the tests are
// left aside.
func Compile(files map[string][]byte) (*Program, error) {
	modules, digest, err := parse(files, false)
	if err != nil {
		return nil, fmt.Errorf("load policy bundle: %w", err)
	}
	compiler := newCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		return nil, fmt.Errorf("compile policy bundle: %w", compiler.Errors)
	}
	if len(compiler.GetRules(ast.MustParseRef(query))) == 0 {
		return nil, fmt.Errorf("policy bundle has no rule %s", query)
	}
	question, err := compiler.QueryCompiler().Compile(ast.MustParseBody(query + " = " + string(answer)))
	if err != nil {
		return nil, fmt.Errorf("prepare policy: %w", err)
	}
	p := &Program{compiler: compiler, question: question, digest: digest}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		p.files = append(p.files, File{name, string(files[name])})
	}
	return p, nil
}

// Use puts another bundle in the place of the one that decides. Decisions under way
// end with the old one.
func (e *Engine) Use(p *Program) { e.program.Store(p) }

// Program returns the bundle that decides.
func (e *Engine) Program() *Program { return e.program.Load() }

func newCompiler() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true)
}

// ReadFiles reads the *.rego files of a bundle.
func ReadFiles(bundle fs.FS) (map[string][]byte, error) {
	if bundle == nil {
		return nil, errors.New("no bundle given")
	}
	files := map[string][]byte{}
	return files, fs.WalkDir(bundle, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		if len(files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		info, err := d.Info()
		if err == nil && info.Size() > maxFileBytes {
			err = fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
		}
		if err != nil {
			return err
		}
		files[path], err = fs.ReadFile(bundle, path)
		return err
	})
}

// parse parses the bundle's modules and returns the hex SHA-256 over their names
// and bytes, without the tests.
func parse(files map[string][]byte, tests bool) (map[string]*ast.Module, string, error) {
	modules, h := map[string]*ast.Module{}, sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		test := strings.HasSuffix(path, "_test.rego")
		if !strings.HasSuffix(path, ".rego") || test && !tests {
			continue
		}
		text := files[path]
		switch {
		case len(modules) == maxFiles:
			return nil, "", fmt.Errorf("more than %d files", maxFiles)
		case len(text) > maxFileBytes:
			return nil, "", fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
		}
		m, err := ast.ParseModuleWithOpts(path, string(text), ast.ParserOptions{
			RegoVersion: ast.RegoV1, Capabilities: capabilities(),
		})
		if err != nil {
			return nil, "", err
		}
		modules[path] = m
		if !test {
			// Lengths keep name and text apart.
			fmt.Fprintf(h, "%d %s %d\n", len(path), path, len(text))
			h.Write(text)
		}
	}
	if len(modules) == 0 {
		return nil, "", errors.New("no *.rego file in it")
	}
	return modules, hex.EncodeToString(h.Sum(nil)), nil
}

// Digest returns the digest of the bundle that decides; see Program.
func (e *Engine) Digest() string { return e.Program().digest }

// DataDigest returns the hex SHA-256 of the JSON of the current Data.
func (e *Engine) DataDigest() string { return e.state.Load().digest }

// SetData replaces all roles. If d is not sound it returns an error that names
// the place, and the old roles stay. Decisions under way end with the old ones.
func (e *Engine) SetData(d Data) error {
	rules, err := newRuleset(d)
	if err != nil {
		return fmt.Errorf("policy data: %w", err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("policy data: %w", err)
	}
	sum := sha256.Sum256(text)
	ready, err := rules.ready()
	if err != nil {
		return fmt.Errorf("policy data: %w", err)
	}
	e.state.Store(&state{data: d, rules: rules, functions: rules.builtins(), ready: ready, digest: hex.EncodeToString(sum[:])})
	return nil
}

// Decide asks the bundle. An error means that there is no decision: the Input
// is not sound, the bundle gave none, took too long, or gave something that is
// not a decision. The Decision is then one that refuses, so that even a caller
// who forgets the error lets nothing through.
func (e *Engine) Decide(ctx context.Context, in Input) (d Decision, err error) {
	p, st := e.Program(), e.state.Load()
	stamp := Decision{ID: rand.Text(), PolicyDigest: p.digest, DataDigest: st.digest}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("policy panicked: %v", v)
		}
		if err != nil {
			d = stamp
			d.Reasons = []Reason{{"engine.failed", "the policy could not decide, so nothing is allowed; tell the administrators the decision id"}}
			err = fmt.Errorf("decide %s: %w", stamp.ID, err)
		}
	}()
	if err := in.check(); err != nil {
		return d, fmt.Errorf("input: %w", err)
	}
	in = in.filled()
	sum := sha256.Sum256(in.appendJSON(make([]byte, 0, 1<<10)))
	stamp.InputHash = hex.EncodeToString(sum[:])

	if !in.Action.Known() {
		d = stamp
		d.Reasons = []Reason{{"action.unknown", fmt.Sprintf("there is no action %.100q", in.Action)}}
		return d, nil
	}

	var answers []ast.Value
	for try := 1; ; try++ {
		answers, err = e.evaluate(ctx, p, st, in.value())
		if !topdown.IsCancel(err) || ctx.Err() != nil || try == maxTries {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return d, context.Cause(ctx)
	case topdown.IsCancel(err):
		return d, fmt.Errorf("no decision within %s, %d times", e.timeout, maxTries)
	case err != nil:
		return d, err
	case len(answers) != 1:
		return d, fmt.Errorf("%s is undefined", query)
	}
	if d, err = st.decision(answers[0]); err != nil {
		return d, fmt.Errorf("%s: %w", query, err)
	}
	d.ID, d.InputHash, d.PolicyDigest, d.DataDigest = stamp.ID, stamp.InputHash, stamp.PolicyDigest, stamp.DataDigest
	return d, nil
}

// decision takes an answer of the bundle apart.
func (st *state) decision(answer ast.Value) (d Decision, err error) {
	if o, ok := answer.(ast.Object); ok {
		if ready, ok := st.ready[o]; ok { // the very object, not one like it
			return ready.clone(), nil
		}
	}
	return d, parseDecision(answer, &d)
}

// maxTries bounds how often an evaluation that takes too long is tried.
const maxTries = 5

// evaluate asks the bundle once, for at most the timeout.
func (e *Engine) evaluate(ctx context.Context, p *Program, st *state, input ast.Value) (answers []ast.Value, err error) {
	// OPA would start a goroutine a decision to watch ctx; a timer is cheaper.
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(e.timeout, cancel.Cancel)
	defer timer.Stop()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	err = topdown.NewQuery(p.question).
		WithCompiler(p.compiler).
		WithStore(e.data).
		WithTransaction(e.txn).
		WithBuiltins(st.functions).
		WithInput(ast.NewTerm(input)).
		WithCancel(cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		Iter(ctx, func(r topdown.QueryResult) error {
			answers = append(answers, r[answer].Value)
			return nil
		})
	return answers, err
}
