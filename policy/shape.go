package policy

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// shape turns what index returns into OPA's own values. Two things are shaped
// as JSON cannot: label keys and positions are sets, and a table's keys are
// objects, so that the result of object.filter or of an intersection finds its
// entry by one hash.
func shape(v any) (ast.Value, error) {
	switch v := v.(type) {
	case map[string]any:
		return shapeObject(v)
	case map[string]positions:
		return shapeObject(v)
	case []any:
		items := make([]*ast.Term, len(v))
		for i := range v {
			item, err := shape(v[i])
			if err != nil {
				return nil, err
			}
			items[i] = ast.NewTerm(item)
		}
		return ast.NewArray(items...), nil
	case positions:
		items := make([]*ast.Term, len(v))
		for i := range v {
			items[i] = ast.InternedTerm(v[i])
		}
		return ast.NewSet(items...), nil
	case selector:
		keys := make([]*ast.Term, len(v.Keys))
		for i := range keys {
			keys[i] = ast.InternedTerm(v.Keys[i])
		}
		table := make([][2]*ast.Term, 0, len(v.Table))
		for values, roles := range v.Table {
			at, err := shape(roles)
			if err != nil {
				return nil, err
			}
			labels := make([][2]*ast.Term, len(keys))
			for i, value := range strings.SplitN(values, separator, len(keys)) {
				labels[i] = [2]*ast.Term{keys[i], ast.InternedTerm(value)}
			}
			table = append(table, [2]*ast.Term{ast.ObjectTerm(labels...), ast.NewTerm(at)})
		}
		return ast.NewObject(
			[2]*ast.Term{ast.InternedTerm("keys"), ast.SetTerm(keys...)},
			[2]*ast.Term{ast.InternedTerm("table"), ast.ObjectTerm(table...)},
		), nil
	case answers:
		fields := make([][2]*ast.Term, 0, len(v.Terms)+1)
		for name, field := range v.Terms {
			value, err := shape(field)
			if err != nil {
				return nil, err
			}
			fields = append(fields, [2]*ast.Term{ast.InternedTerm(name), ast.NewTerm(value)})
		}
		byAction := make([][2]*ast.Term, len(v.Actions))
		for i, a := range v.Actions { // the answers share their fields
			reason := ast.ObjectTerm(
				[2]*ast.Term{kRule, ast.InternedTerm(string(a) + ".role")},
				[2]*ast.Term{kText, ast.InternedTerm(v.Text)},
			)
			byAction[i] = [2]*ast.Term{
				ast.InternedTerm(string(a)),
				ast.ObjectTerm(append(fields, [2]*ast.Term{kReasons, ast.ArrayTerm(reason)})...),
			}
		}
		return ast.NewObject(byAction...), nil
	case string, bool, int:
		return ast.InterfaceToValue(v)
	default:
		return nil, fmt.Errorf("no shape for %T", v)
	}
}

func shapeObject[V any](m map[string]V) (ast.Value, error) {
	items := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		value, err := shape(v)
		if err != nil {
			return nil, err
		}
		items = append(items, [2]*ast.Term{ast.InternedTerm(k), ast.NewTerm(value)})
	}
	return ast.NewObject(items...), nil
}
