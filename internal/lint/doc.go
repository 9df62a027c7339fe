// Package lint holds rules of this repository that no compiler checks, as tests
// with reasons: who may import whom, what library code may not do to its host,
// what the public API may not mention, which modules importers inherit, and that
// the documents show code that compiles.
//
// Each rule is a function over parsed sources, so that a second test can show
// it a planted violation: a rule that never fails is no rule.
package lint
