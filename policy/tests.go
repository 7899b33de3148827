package policy

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A TestResult is the outcome of one test_ rule of a bundle.
type TestResult struct {
	Name string // "data.drawbolt_test.test_request"
	File string // and line
	Err  error  // nil: passed
	// Failed is the line of the test that did not hold, as it is written, and where: ""
	// when the test passed or ended in another way.
	Failed, FailedAt string
}

// A Report is the outcome of all tests of a bundle.
type Report struct {
	Tests []TestResult // by name
	// Rules is the number of the bundle's rules, default values aside. Untested are
	// those among them that held in no test: "drawbolt.rego:42 fresh".
	Rules    int
	Untested []string
}

// Failed returns the tests that did not pass.
func (r Report) Failed() []TestResult {
	return slices.DeleteFunc(slices.Clone(r.Tests), func(t TestResult) bool { return t.Err == nil })
}

// The limits of a bundle's tests. One that takes longer has failed.
const (
	maxTest  = time.Second
	maxTests = 20 * time.Second // all of them
)

// Test runs the Rego tests of the bundle as [RunTests] does, and returns only how they
// ended.
func Test(ctx context.Context, bundle fs.FS, d Data) ([]TestResult, error) {
	files, err := ReadFiles(bundle)
	if err != nil {
		return nil, fmt.Errorf("load policy bundle: %w", err)
	}
	r, err := RunTests(ctx, files, d)
	return r.Tests, err
}

// RunTests runs the Rego tests of the bundle (rules named test_..., usually in
// *_test.rego files) over d, in the same cage as decisions: one after the other, for a
// second each and 20 seconds in all. An error means that the tests could not be run.
func RunTests(ctx context.Context, files map[string][]byte, d Data) (Report, error) {
	modules, _, err := parse(files, true)
	if err != nil {
		return Report{}, fmt.Errorf("load policy bundle: %w", err)
	}
	rules, err := newRuleset(d)
	if err != nil {
		return Report{}, fmt.Errorf("policy data: %w", err)
	}
	var functions []*tester.Builtin
	for _, f := range rules.functions() {
		call := func(_ rego.BuiltinContext, operands []*ast.Term) (*ast.Term, error) { return f.call(operands), nil }
		functions = append(functions, &tester.Builtin{
			Decl: f.decl,
			Func: rego.FunctionDyn(&rego.Function{Name: f.decl.Name, Decl: f.decl.Decl}, call),
		})
	}
	ctx, cancel := context.WithTimeout(ctx, maxTests)
	defer cancel()
	seen := &testTracer{held: map[place]bool{}, failed: map[string][]*ast.Location{}}
	results, err := tester.NewRunner().
		SetCompiler(newCompiler()).
		SetModules(modules).
		AddCustomBuiltins(functions).
		RaiseBuiltinErrors(true).
		SetParallel(1). // the tracer is for one at a time
		SetTimeout(maxTest).
		SetCoverageQueryTracer(seen).
		RunTests(ctx, nil)
	if err != nil {
		return Report{}, fmt.Errorf("compile policy tests: %w", err)
	}
	var all []*tester.Result
	for r := range results { // the tracer writes until the last has come
		all = append(all, r)
	}
	var out Report
	for _, r := range all {
		t := TestResult{Name: r.Package + "." + r.Name, Err: r.Error}
		if r.Location != nil {
			t.File = fmt.Sprintf("%s:%d", r.Location.File, r.Location.Row)
		}
		switch {
		case r.Error != nil:
		case r.Skip:
			t.Err = fmt.Errorf("skipped")
		case !r.Pass():
			t.Err = fmt.Errorf("failed")
			if at := seen.failedIn(r.Location); at != nil {
				t.Failed, t.FailedAt = oneLine(string(at.Text)), fmt.Sprintf("%s:%d", at.File, at.Row)
			}
		}
		out.Tests = append(out.Tests, t)
	}
	if err := ctx.Err(); err != nil {
		return Report{}, fmt.Errorf("the tests of the policy bundle took longer than %s in all: %w", maxTests, err)
	}
	slices.SortFunc(out.Tests, func(a, b TestResult) int { return strings.Compare(a.Name, b.Name) })
	out.Rules, out.Untested = seen.untested(modules)
	return out, nil
}

// oneLine is the first line of a text.
func oneLine(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		line += " ..."
	}
	return line
}

// A place is where a rule is written.
type place struct {
	file string
	row  int
}

// A testTracer watches tests: which rules held, and which expressions did not. It is
// not safe for concurrent use.
type testTracer struct {
	held   map[place]bool
	failed map[string][]*ast.Location // by file
}

func (t *testTracer) Enabled() bool               { return true }
func (t *testTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (t *testTracer) TraceEvent(e topdown.Event) {
	if e.Location == nil {
		return
	}
	switch node := e.Node.(type) {
	case *ast.Rule:
		if e.Op == topdown.ExitOp && node.Location != nil {
			t.held[place{node.Location.File, node.Location.Row}] = true
		}
	case *ast.Expr:
		if list := t.failed[e.Location.File]; e.Op == topdown.FailOp && strings.HasSuffix(e.Location.File, "_test.rego") && len(list) < maxFailures {
			t.failed[e.Location.File] = append(list, e.Location)
		}
	}
}

// maxFailures bounds what is remembered of expressions that did not hold, in one file.
const maxFailures = 100_000

// failedIn returns the last line of a test, as it is written, that was come to and did
// not hold.
func (t *testTracer) failedIn(test *ast.Location) (last *ast.Location) {
	if test == nil {
		return nil
	}
	end := test.Row + strings.Count(string(test.Text), "\n")
	for _, at := range t.failed[test.File] {
		if at.Row >= test.Row && at.Row <= end && (last == nil || at.Row > last.Row) {
			last = at
		}
	}
	return last
}

// untested counts the rules outside the tests and names those that held in none.
func (t *testTracer) untested(modules map[string]*ast.Module) (rules int, list []string) {
	var places []place
	names := map[place]string{}
	for file, m := range modules {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		for _, r := range m.Rules {
			for ; r != nil; r = r.Else {
				at := place{file, r.Location.Row}
				if _, twice := names[at]; r.Default || twice {
					continue
				}
				rules++
				names[at] = r.Head.Ref().String()
				if !t.held[at] {
					places = append(places, at)
				}
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.row, b.row)) })
	for _, at := range places {
		list = append(list, fmt.Sprintf("%s:%d %s", at.file, at.row, names[at]))
	}
	return rules, list
}
