package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

// In OTLP's JSON the ids are in hexadecimal, and protocol buffers' own JSON has base64 there.
var otlpID = regexp.MustCompile(`"(traceId|spanId|parentSpanId)":"([0-9a-f]+)"`)

// OpenTelemetry's own Go package reads what is sent, and knows each member of it.
func TestTracesAreReadByOpenTelemetry(t *testing.T) {
	var sent []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent, _ = io.ReadAll(r.Body)
	}))
	defer collector.Close()
	variables := map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.URL, "OTEL_RESOURCE_ATTRIBUTES": "team=a"}
	tracer, err := trace.Open(func(name string) string { return variables[name] }, slog.New(slog.DiscardHandler), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/oauth/token", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Header.Set("Tracestate", "congo=t61rcWkgMzE")
	w, r, span := tracer.Serve(httptest.NewRecorder(), r, "/oauth/token", "wi\xffki")
	_, step := trace.Step(r.Context(), "replay guard")
	step.EndWith(errors.New("away"))
	w.WriteHeader(http.StatusOK)
	span.End()
	tracer.Flush(t.Context())

	text := otlpID.ReplaceAllFunc(sent, func(found []byte) []byte {
		m := otlpID.FindSubmatch(found)
		id, err := hex.DecodeString(string(m[2]))
		if err != nil {
			t.Error(err)
		}
		return []byte(`"` + string(m[1]) + `":"` + base64.StdEncoding.EncodeToString(id) + `"`)
	})
	var data tracepb.TracesData
	if err := protojson.Unmarshal(text, &data); err != nil { // which refuses unknown members
		t.Fatalf("%v: %s", err, sent)
	}
	spans := data.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()
	if len(spans) != 2 {
		t.Fatal(len(spans))
	}
	inner, outer := spans[0], spans[1]
	if hex.EncodeToString(outer.GetTraceId()) != "0af7651916cd43dd8448eb211c80319c" || hex.EncodeToString(outer.GetParentSpanId()) != "b7ad6b7169203331" ||
		outer.GetTraceState() != "congo=t61rcWkgMzE" || outer.GetKind() != tracepb.Span_SPAN_KIND_SERVER || outer.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_UNSET {
		t.Error(outer)
	}
	if string(inner.GetParentSpanId()) != string(outer.GetSpanId()) || len(inner.GetSpanId()) != 8 || inner.GetKind() != tracepb.Span_SPAN_KIND_CLIENT ||
		inner.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR || inner.GetName() != "replay guard" {
		t.Error(inner)
	}
	if inner.GetStartTimeUnixNano() < outer.GetStartTimeUnixNano() || inner.GetEndTimeUnixNano() > outer.GetEndTimeUnixNano() {
		t.Error("the step is not within its request")
	}
	facts := map[string]string{}
	for _, a := range append(outer.GetAttributes(), data.GetResourceSpans()[0].GetResource().GetAttributes()...) {
		facts[a.GetKey()] = a.GetValue().String()
	}
	for _, name := range []string{"http.request.method", "http.route", "http.response.status_code", "mcpbouncer.tenant", "service.name", "service.version", "team"} {
		if facts[name] == "" {
			t.Errorf("%s is absent: %v", name, facts)
		}
	}
}
