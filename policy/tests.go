package policy

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
)

// A TestResult is the outcome of one test_ rule of a bundle.
type TestResult struct {
	Name string // "data.drawbolt_test.test_request"
	File string // and line
	Err  error  // nil: passed
}

// Test runs the Rego tests of the bundle (rules named test_..., usually in
// *_test.rego files) over d, in the same cage as decisions. Use it before a
// changed bundle is put into service. The results are sorted by name; an error
// means that the tests could not be run.
func Test(ctx context.Context, bundle fs.FS, d Data) ([]TestResult, error) {
	modules, _, err := load(bundle, true)
	if err != nil {
		return nil, fmt.Errorf("load policy bundle: %w", err)
	}
	rules, err := newRuleset(d)
	if err != nil {
		return nil, fmt.Errorf("policy data: %w", err)
	}
	var functions []*tester.Builtin
	for _, f := range rules.functions() {
		call := func(_ rego.BuiltinContext, operands []*ast.Term) (*ast.Term, error) { return f.call(operands), nil }
		functions = append(functions, &tester.Builtin{
			Decl: f.decl,
			Func: rego.FunctionDyn(&rego.Function{Name: f.decl.Name, Decl: f.decl.Decl}, call),
		})
	}
	results, err := tester.NewRunner().
		SetCompiler(newCompiler()).
		SetModules(modules).
		AddCustomBuiltins(functions).
		RaiseBuiltinErrors(true).
		RunTests(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("compile policy tests: %w", err)
	}
	var out []TestResult
	for r := range results {
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
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b TestResult) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
