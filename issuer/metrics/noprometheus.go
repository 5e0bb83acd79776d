//go:build onlyserve

package metrics

import (
	"io"
	"time"
)

// Served is false in the build for AWS Lambda: nobody can ask a function for its metrics, and what
// the library makes at each cold start takes longer than all that this program makes itself.
const Served = false

// set is never made: Metrics of a function are lines.
type set struct{}

func newSet() *set { panic("metrics: this build serves none") }

func (*set) add(string, uint64)                          {}
func (*set) took(string, float64)                        {}
func (*set) gauge(string, func() float64)                {}
func (*set) denied(func() (uint64, time.Duration, bool)) {}
func (*set) write(io.Writer)                             {}
