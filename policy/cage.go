package policy

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// permitted are the built-in functions that a bundle may call: all are pure
// functions of their arguments, and cheap. A list of what is permitted rather
// than of what is not, so that a function which a later OPA brings is out until
// somebody has looked at it. (A list of forbidden names could be walked around
// with the "with" keyword, CVE-2022-36085.)
//
// Not here, and why: http.send, net.lookup_ip_addr (network); opa.runtime
// (environment, configuration); time.now_ns, rand.intn, uuid.rfc4122 (the same
// input must give the same decision; the time is in the input); time.clock and
// the like (read time zone files); rego.parse_module, trace (print is erased);
// numbers.range, walk, regex.replace and the parsers (can be made slow).
var permitted = []string{
	"abs", "and", "array.concat", "array.reverse", "array.slice", "assign", "ceil", "concat", "contains",
	"count", "div", "endswith", "eq", "equal", "floor", "format_int", "glob.match", "gt", "gte", "indexof",
	"internal.member_2", "internal.member_3", "internal.template_string", "intersection", "is_array", "is_boolean",
	"is_null", "is_number", "is_object", "is_set", "is_string", "lower", "lt", "lte", "max", "min", "minus", "mul",
	"neq", "net.cidr_contains", "object.filter", "object.get", "object.keys", "object.remove", "object.subset",
	"object.union", "or", "plus", "regex.match", "rem", "round", "sort", "split", "sprintf", "startswith",
	"strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "substring", "sum",
	"time.parse_duration_ns", "time.parse_rfc3339_ns", "to_number", "trim", "trim_left", "trim_prefix", "trim_right",
	"trim_space", "trim_suffix", "type_name", "union", "upper",
}

// capabilities is the cage that bundles are compiled in, in tests as in production.
func capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	functions := slices.DeleteFunc(slices.Clone(all.Builtins), func(b *ast.Builtin) bool {
		_, ok := slices.BinarySearchFunc(permitted, b.Name, cmp.Compare)
		return !ok
	})
	return &ast.Capabilities{
		Builtins:       append(functions, rolesFunction, excludedFunction, rulesFunction),
		FutureKeywords: all.FutureKeywords,
		Features:       all.Features,
		AllowNet:       []string{}, // not nil: nil would mean every host
	}
}
