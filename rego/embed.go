// Package rego holds the default policy bundle: the rules by which drawbolt
// decides when nobody has written others, and their tests. It trusts nothing and
// runs nothing; package policy does, with the roles that the administrators
// wrote. See docs/policy.md.
package rego

import "embed"

// Bundle is the default policy bundle.
//
//go:embed *.rego
var Bundle embed.FS
