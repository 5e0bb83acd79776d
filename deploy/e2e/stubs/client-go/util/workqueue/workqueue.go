// Package workqueue has what Prometheus registers for queues of Kubernetes. There are none.
package workqueue

// GaugeMetric rises and falls.
type GaugeMetric interface {
	Inc()
	Dec()
}

// SettableGaugeMetric is set.
type SettableGaugeMetric interface{ Set(float64) }

// CounterMetric rises.
type CounterMetric interface{ Inc() }

// HistogramMetric is told of values.
type HistogramMetric interface{ Observe(float64) }

// SetProvider does nothing.
func SetProvider(any) {}
