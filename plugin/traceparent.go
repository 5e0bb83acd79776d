//go:build go1.21

package plugin

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// A request to the sidecar belongs to the trace of the client's request for which it is made (W3C
// Trace Context, docs/traces.md). The plugin makes no span of its own: it hands on whose child the
// sidecar's is. A request that nobody waits for belongs to no trace.

const (
	parentHeader = "Traceparent"
	stateHeader  = "Tracestate"
)

// isParent says whether a value is a traceparent of any version (W3C Trace Context §3.2, §4.3). A
// stranger chooses it, and what it makes the plugin ask is asked for others too: a long or odd one
// must not make that fail.
func isParent(v string) bool {
	if len(v) < 55 || len(v) > 256 || v[2] != '-' || v[35] != '-' || v[52] != '-' || strings.Trim(v[:55], "0123456789abcdef-") != "" {
		return false
	}
	return len(v) == 55 || v[55] == '-' && strings.Trim(v[55:], alphanumeric+"-_.") == ""
}

// traceparentOf returns the traceparent for what is asked for a request: Traefik's span, else what
// the client sent, or nothing. No request, nil, has none.
func traceparentOf(req *http.Request) string {
	if req == nil {
		return ""
	}
	parent, _ := spanOfTraefik(req.Context())
	if parent != "" {
		return parent
	}
	values := req.Header[parentHeader]
	if len(values) != 1 || !isParent(values[0]) {
		return ""
	}
	return values[0]
}

// joinTrace puts Traefik's span into the headers of a request that is forwarded. Without one they
// stay as the client sent them, and the sidecar judges them.
func joinTrace(ctx context.Context, h http.Header) {
	parent, state := spanOfTraefik(ctx)
	if parent == "" {
		return
	}
	h[parentHeader] = []string{parent}
	delete(h, stateHeader) // of a parent that Traefik did not take over
	if state != "" {
		h[stateHeader] = []string{state}
	}
}

const (
	tracePackage = "go.opentelemetry.io/otel/trace"
	spanKeyName  = "trace.traceContextKeyType"
	maxContexts  = 100 // Traefik has about 20 around a request
)

// spanOfTraefik returns traceparent and tracestate of the span that Traefik has made for a request,
// or nothing if it makes none.
//
// Traefik writes its traceparent into the requests to services and to forwardAuth, and a plugin is
// neither: it has the span in the context only, under a key whose type a plugin cannot name. So the
// type is looked for in the context, and everything else is asked through OpenTelemetry's exported
// methods. When that fails in a later Traefik, the client's traceparent stands, as without tracing.
func spanOfTraefik(ctx context.Context) (parent, state string) {
	defer func() {
		if recover() != nil {
			parent = ""
			state = ""
		}
	}()
	key := spanKey(ctx)
	if key == nil {
		return "", ""
	}
	span := reflect.ValueOf(ctx.Value(key)).MethodByName("SpanContext").Call(nil)[0]
	if !span.MethodByName("IsValid").Call(nil)[0].Bool() {
		return "", ""
	}
	flags := "-00"
	if span.MethodByName("IsSampled").Call(nil)[0].Bool() {
		flags = "-01"
	}
	return "00-" + textOf(span.MethodByName("TraceID")) + "-" + textOf(span.MethodByName("SpanID")) + flags, textOf(span.MethodByName("TraceState"))
}

// textOf calls a method whose result has a method String. Methods are named by constants where they
// are looked up: for a name that it cannot read, Go's linker keeps every method of a whole program.
func textOf(method reflect.Value) string {
	return method.Call(nil)[0].MethodByName("String").Call(nil)[0].String()
}

// spanKey returns the key of OpenTelemetry's current span, which is the zero value of its type, or
// nil where no context around the request has it.
func spanKey(ctx context.Context) any {
	// A context's text names the types of its keys. That is one native call; in Yaegi the loop
	// costs more than all else of a refusal, and strangers' bearer keys come here too. A context
	// that makes no text of itself is not printed: what another middleware keeps in it, a map above
	// all, may be written meanwhile, and Go ends a process for that.
	if named, ok := ctx.(fmt.Stringer); ok && !strings.Contains(named.String(), spanKeyName) {
		return nil
	}
	at := reflect.ValueOf(ctx)
	for i := 0; i < maxContexts; i++ {
		for at.Kind() == reflect.Interface || at.Kind() == reflect.Ptr {
			at = at.Elem()
		}
		if at.Kind() != reflect.Struct {
			return nil
		}
		key := at.FieldByName("key")
		if key.IsValid() && key.Kind() == reflect.Interface && !key.IsNil() && key.Elem().Type().PkgPath() == tracePackage {
			return reflect.Zero(key.Elem().Type()).Interface()
		}
		around := at.FieldByName("Context")
		if !around.IsValid() {
			around = at.FieldByName("c") // context.WithoutCancel
		}
		if !around.IsValid() {
			return nil
		}
		at = around
	}
	return nil
}
