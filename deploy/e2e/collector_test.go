package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// collector is the OTLP receiver of the OpenTelemetry Collector, in this process.
type collector struct {
	url  string
	sink *consumertest.TracesSink

	mu            sync.Mutex
	authorization []string // of the last request, where the configuration includes metadata
}

// startCollector starts a receiver with what stands under `http` in its configuration, besides the
// endpoint.
func startCollector(t *testing.T, http map[string]any) *collector {
	t.Helper()
	c := &collector{sink: new(consumertest.TracesSink)}
	endpoint := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	scheme := "http://"
	if http["tls"] != nil {
		scheme = "https://"
	}
	c.url = scheme + endpoint
	options := map[string]any{"endpoint": endpoint}
	for name, value := range http {
		options[name] = value
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": options}}).Unmarshal(config); err != nil {
		t.Fatal(err)
	}
	next, err := consumer.NewTraces(func(ctx context.Context, traces ptrace.Traces) error {
		c.mu.Lock()
		c.authorization = client.FromContext(ctx).Metadata.Get("authorization")
		c.mu.Unlock()
		return c.sink.ConsumeTraces(ctx, traces)
	})
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(factory.Type()), config, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		receiver.Shutdown(ctx)
	})
	return c
}

// collected is a span as the collector has read it.
type collected struct {
	service, name, kind string
	trace, id, parent   string
	state, status       string
	start, end          time.Time
	facts               map[string]string
}

// spans lists what has come so far.
func (c *collector) spans() []collected {
	var all []collected
	for _, batch := range c.sink.AllTraces() {
		for _, resource := range batch.ResourceSpans().All() {
			service, _ := resource.Resource().Attributes().Get("service.name")
			for _, scope := range resource.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					one := collected{
						service: service.AsString(), name: s.Name(), kind: s.Kind().String(),
						trace: s.TraceID().String(), id: s.SpanID().String(), parent: s.ParentSpanID().String(),
						state: s.TraceState().AsRaw(), status: s.Status().Code().String(),
						start: s.StartTimestamp().AsTime(), end: s.EndTimestamp().AsTime(), facts: map[string]string{},
					}
					for name, value := range s.Attributes().All() {
						one.facts[name] = value.AsString()
					}
					all = append(all, one)
				}
			}
		}
	}
	return all
}

// named lists the sidecar's spans of one name.
func (c *collector) named(name string) []collected { return named(c.spans(), name) }

// named returns the sidecar's spans of this name among those that had come at one time.
func named(spans []collected, name string) (all []collected) {
	for _, s := range spans {
		if s.service == "mcpbouncer" && s.name == name {
			all = append(all, s)
		}
	}
	return all
}

// text is everything that has come, in which a test looks for what must not be there.
func (c *collector) text(t *testing.T, service string) string {
	t.Helper()
	var all strings.Builder
	for _, batch := range c.sink.AllTraces() {
		for _, resource := range batch.ResourceSpans().All() {
			if name, _ := resource.Resource().Attributes().Get("service.name"); name.AsString() != service {
				continue
			}
			one := ptrace.NewTraces()
			resource.CopyTo(one.ResourceSpans().AppendEmpty())
			text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(one)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}
