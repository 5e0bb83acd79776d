//go:build !onlyserve

package metrics

import (
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Served says whether this build can show metrics to Prometheus. The one for AWS Lambda cannot
// (noprometheus.go).
const Served = true

// set is what the library counts.
type set struct{ *metrics.Set }

func newSet() *set {
	metrics.ExposeMetadata(true) // of the library: TYPE lines, and empty HELP lines
	return &set{metrics.NewSet()}
}

func (s *set) add(series string, n uint64) { s.GetOrCreateCounter(series).AddInt64(int64(n)) }

func (s *set) took(series string, seconds float64) {
	s.GetOrCreatePrometheusHistogramExt(series, durations).Update(seconds)
}

func (s *set) gauge(series string, f func() float64) { s.NewGauge(series, f) }

// denied has the gauges of the deny document, which are there once one was read.
func (s *set) denied(read func() (serial uint64, age time.Duration, read bool)) {
	s.RegisterMetricsWriter(func(w io.Writer) {
		if serial, age, ok := read(); ok {
			metrics.WriteGaugeUint64(w, Declarations[denySerial].Name, serial)
			metrics.WriteGaugeFloat64(w, Declarations[denyAge].Name, age.Seconds())
		}
	})
}

func (s *set) write(w io.Writer) { s.WritePrometheus(w) }
