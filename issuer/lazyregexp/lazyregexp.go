// Package lazyregexp has patterns that are compiled at their first use. A process of AWS Lambda
// would otherwise wait at each start for the patterns of all the operator's tools.
//
// It promises what package regexp does, except that a pattern that is none shows at its first use.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is a pattern in the syntax of package regexp. It is safe for concurrent use, and must not
// be copied after its first.
type Regexp struct {
	Text string

	once     sync.Once
	compiled *regexp.Regexp
}

// Get compiles the pattern once. It panics at a text that is no pattern.
func (r *Regexp) Get() *regexp.Regexp {
	r.once.Do(func() { r.compiled = regexp.MustCompile(r.Text) })
	return r.compiled
}
