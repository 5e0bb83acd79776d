package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
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

// withCollector is a world whose sidecars send their spans to c, and whose Traefik does so too.
func withCollector(c *collector, o rig.Options) rig.Options {
	if o.Sidecar == nil {
		o.Sidecar = map[string]string{}
	}
	o.Sidecar["OTEL_EXPORTER_OTLP_ENDPOINT"] = c.url
	o.Static = map[string]any{"tracing": map[string]any{"otlp": map[string]any{"http": map[string]any{"endpoint": c.url + "/v1/traces"}}}}
	return o
}

// The whole of it on real parts: Traefik, the sidecar, Dex and a provider that does everything, a
// replay guard, a deny document, a client with a metadata document. Every span that the sidecar
// knows arrives in the collector, as the child of what it belongs to, and tells nothing.
func TestTraceGoesFromTraefikThroughTheSidecarToTheProvider(t *testing.T) {
	t.Parallel()
	c := startCollector(t, nil)
	host, server := rig.StartDocumentHost(t), startToolServer(t, true)
	everything := issuertest.NewProvider(t, nil)
	const email = "person-whom-no-span-names@example.com"
	good := issuertest.Behaviour{Revocation: true, UserInfo: map[string]any{"sub": "person-1", "email": email, "email_verified": true, "groups": []string{"staff"}}}
	everything.Be(issuertest.Behaviour{DiscoveryStatus: http.StatusServiceUnavailable})
	w := rig.New(t, withCollector(c, rig.Options{
		Sidecar: map[string]string{
			"BOUNCER_REPLAY_GUARD": rig.StartRedis(t, &rig.Logs{}).URL, "BOUNCER_DENY": "etc/deny.json",
			"BOUNCER_TRUSTED_METADATA_HOSTS": host.Addr, "SSL_CERT_FILE": "etc/documents.pem",
			"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20for-the-collector-alone",
		},
		Image: map[string][]byte{"etc/documents.pem": host.CA, "etc/deny.json": []byte(`{"v":1,"serial":1}`)},
		More:  []string{"every"},
		Labels: map[string]string{
			"wiki/toolScopes":      "search=wiki:read; *=wiki:write",
			"wiki/scopeRules":      "*=wiki:read",
			"wiki/identityHeaders": "assertion",
			"every/providerIssuer": everything.Issuer, "every/clientID": everything.ClientID, "every/clientSecret": everything.Secret,
			"every/allowedGroups": "staff", "every/refresh": "upstream", "every/upstreamCheckInterval": "0",
		},
		Servers: map[string]string{"wiki": server.port, "world": server.port},
	}))
	w.Front.Only("sidecar-a")
	w.Secrets.Add("header of the collector", "for-the-collector-alone")
	w.Secrets.Add("client secret", everything.Secret)

	client := w.Wiki.Client()
	tokens := client.Tokens(w.Wiki.Browser())
	key, _ := w.Wiki.CreateKey("ci", "wiki:read", "1h")
	for _, credential := range []string{tokens.Member("access_token"), key} {
		if answer := client.Do(http.MethodPost, client.Public+"/mcp", messageHeader(credential), []byte(toolCall("search"))); answer.Status != http.StatusOK {
			t.Fatalf("a call: %s", answer)
		}
	}
	reached, _ := server.seen()
	every := w.More["every"].Client()
	every.ClientID = host.Publish(t, "/every.json", map[string]any{
		"client_name": "Every", "redirect_uris": []string{every.Redirect}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	})
	// A sidecar reads the discovery document when it first hears of a tenant. So a request asks for
	// it only where that failed.
	rig.WaitFor(t, "a page without the discovery document", func() error {
		if len(c.named("provider discovery")) == 0 {
			every.Do(http.MethodGet, every.Begin().URL, nil, nil)
			return errors.New("it was not asked for")
		}
		return nil
	})
	everything.Be(good)
	rig.WaitFor(t, "a login with it", func() error {
		_, err := w.More["every"].Browser().Visit(t.Context(), every.Begin().URL, every.Redirect)
		return err
	})
	refreshed := every.Refresh(every.Tokens(w.More["every"].Browser()).Member("refresh_token"))
	form := url.Values{"token": {refreshed.Member("refresh_token")}, "client_id": {every.ClientID}}
	if answer := every.Do(http.MethodPost, every.Public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode())); answer.Status != http.StatusOK {
		t.Fatalf("%s, then the revocation: %s", refreshed, answer)
	}

	// The client takes part, and one sends what is not a traceparent.
	const clients = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for parent, path := range map[string]string{clients: "/oauth/a-client-takes-part", "garbage": "/oauth/garbage"} {
		client.Do(http.MethodGet, client.Public+path, http.Header{"Traceparent": {parent}, "Tracestate": {"congo=t61rcWkgMzE"}}, nil)
	}

	var spans []collected
	byID := map[string]collected{}
	want := []string{
		"GET /.well-known/oauth-authorization-server", "POST /oauth/register", "GET /oauth/authorize", "POST /oauth/consent", "GET /oauth/callback",
		"POST /oauth/token", "POST /oauth/revoke", "GET unknown", "GET /oauth/jwks.json", "GET /hop/deny", "POST /hop/token", "POST /hop/assertion", "POST /hop/figures",
		"provider discovery", "provider keys", "provider redeem", "provider userinfo", "provider refresh", "provider revoke",
		"client document", "deny document", "replay guard",
	}
	rig.WaitFor(t, "the spans in the collector", func() error {
		spans = c.spans()
		for _, s := range spans {
			byID[s.id] = s
		}
		for _, name := range want {
			if named(spans, name) == nil {
				return fmt.Errorf("there is no %s", name)
			}
		}
		for _, s := range spans {
			if _, ok := byID[s.parent]; !ok && s.parent != "" && s.parent != clients[36:52] {
				return fmt.Errorf("the parent of %s has not come", s.name)
			}
		}
		if len(named(spans, "GET unknown")) < 2 {
			return errors.New("there is one GET unknown")
		}
		return nil
	})
	for _, s := range spans {
		if s.service != "mcpbouncer" {
			continue
		}
		above, ok := byID[s.parent]
		switch {
		case s.name == "POST /hop/figures":
			if s.parent != "" {
				t.Errorf("%s, which no request waits for, has a parent", s.name)
			}
			continue
		case s.kind == "Server" && s.parent == "" && (s.name == "GET /oauth/jwks.json" || s.name == "GET /hop/deny"):
			continue // at the load, or by a request whose token was known
		case !ok || above.trace != s.trace || above.kind != "Server":
			t.Errorf("%s has the parent %+v", s.name, above)
		case s.kind == "Server" && above.service != "traefik":
			t.Errorf("%s is not a child of Traefik's span", s.name)
		case s.kind == "Client" && above.service != "mcpbouncer":
			t.Errorf("%s is not a child of the sidecar's span", s.name)
		// Nobody waits for the provider's keys when a login begins.
		case s.start.Before(above.start) || s.end.After(above.end) && s.name != "provider keys":
			t.Errorf("%s is not within its parent", s.name)
		}
		if route, isForwarded := strings.CutPrefix(s.facts["http.route"], "/oauth/"); isForwarded && s.name != "GET /oauth/jwks.json" && !strings.HasSuffix(above.facts["url.path"], "/oauth/"+route) {
			t.Errorf("%s is the child of the request of %s", s.name, above.facts["url.path"])
		}
		if wants := map[bool]string{true: "Client", false: "Server"}[s.facts["http.route"] == ""]; s.kind != wants {
			t.Errorf("%s: kind %s", s.name, s.kind)
		}
		// Nothing else has failed than what the provider's 503 makes fail.
		if failed := s.facts["http.response.status_code"] == "503"; failed != (s.status == "Error") || failed != (s.facts["error.type"] != "") {
			t.Errorf("%s: status %s, %v", s.name, s.status, s.facts)
		}
	}
	if discoveries := named(spans, "provider discovery"); discoveries[0].status != "Error" || discoveries[len(discoveries)-1].status != "Unset" {
		t.Errorf("the discoveries: %+v", discoveries)
	}
	// What the plugin asked for a call belongs to the trace of the call.
	for _, name := range []string{"GET /oauth/jwks.json", "GET /hop/deny", "POST /hop/token", "POST /hop/assertion"} {
		if !slices.ContainsFunc(named(spans, name), func(s collected) bool { return byID[s.parent].facts["url.path"] == "/wiki/mcp" }) {
			t.Errorf("no %s belongs to a call", name)
		}
	}
	// Traefik makes a span for the MCP server, which gets its id.
	parent := reached.Get("Traceparent")
	if len(parent) != 55 || byID[parent[36:52]].service != "traefik" || byID[parent[36:52]].kind != "Client" {
		t.Errorf("the MCP server got traceparent %q", parent)
	}
	for _, s := range named(spans, "GET unknown") {
		if s.trace == clients[3:35] && (s.state != "congo=t61rcWkgMzE" || byID[s.parent].parent != clients[36:52]) || s.trace != clients[3:35] && s.state != "" {
			t.Errorf("%+v", s)
		}
	}
	// The provider gets the id of the sidecar's span.
	got := map[string]bool{}
	for _, r := range w.Wiki.Provider.Requests() {
		if parent := r.Header.Get("Traceparent"); parent != "" {
			got[r.Path+" "+byID[parent[36:52]].name] = true
			if r.Header.Get("Tracestate") != "" {
				t.Errorf("the provider got tracestate at %s", r.Path)
			}
		}
	}
	if !got["/dex/token provider redeem"] || !got["/dex/keys provider keys"] {
		t.Errorf("the provider got traceparent for %v", got)
	}
	// Nobody's secrets are in it. Traefik puts REDACTED for each parameter of a query.
	for _, service := range []string{"mcpbouncer", "traefik"} {
		text := c.text(t, service)
		for _, found := range w.Secrets.In(text) {
			t.Errorf("%.200s", found)
		}
		for _, person := range []string{email, w.Wiki.Provider.Username, "person-1"} {
			if strings.Contains(text, person) {
				t.Errorf("%s names %s", service, person)
			}
		}
	}
	if text := c.text(t, "mcpbouncer"); strings.Contains(text, "code=") || strings.Contains(text, "state=") || strings.Contains(text, "url.") {
		t.Error("a span of the sidecar has a URL")
	}
	for _, s := range spans {
		if s.service == "traefik" && strings.HasSuffix(s.facts["url.path"], "/oauth/callback") && s.facts["url.query"] != "code=REDACTED&state=REDACTED" {
			t.Errorf("Traefik's span of the callback has the query %q", s.facts["url.query"])
		}
	}
	for _, name := range w.Logs.Names() {
		for _, found := range w.Secrets.In(w.Logs.Text(name)) {
			if strings.HasPrefix(found, "header of the collector") {
				t.Errorf("%s: %s", name, found)
			}
		}
	}
}

// Without Traefik's tracing the client's trace goes on: past Traefik to the sidecar and the MCP
// server, in headers and in messages, with rules for tools and without.
func TestTraceOfAClientWhereTraefikTracesNothing(t *testing.T) {
	t.Parallel()
	c, server := startCollector(t, nil), startToolServer(t, true)
	o := withCollector(c, rig.Options{
		Labels:  map[string]string{"wiki/toolScopes": "search=wiki:read; *=wiki:write"},
		Servers: map[string]string{"wiki": server.port, "world": server.port},
	})
	o.Static = nil
	w := rig.New(t, o)
	parents := map[string]string{ // trace id → parent
		"00000000000000000000000000000001": "b7ad6b7169203331", "00000000000000000000000000000002": "b7ad6b7169203332",
	}
	for trace, id := range parents {
		tn := map[string]*rig.Tenant{"b7ad6b7169203331": w.Wiki, "b7ad6b7169203332": w.World}[id]
		client := tn.Client()
		key, _ := tn.CreateKey("ci", "wiki:read", "1h")
		header := messageHeader(key)
		parent := "00-" + trace + "-" + id + "-01"
		header.Set("Traceparent", parent)
		header.Set("Tracestate", "congo=t61rcWkgMzE")
		message := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{},"_meta":{"traceparent":"` + parent + `", "tracestate":"a=\u0031"}}}`
		if answer := client.Do(http.MethodPost, client.Public+"/mcp", header, []byte(message)); answer.Status != http.StatusOK {
			t.Fatalf("%s: %s", tn.Name, answer)
		}
		if got, body := server.seen(); body != message || got.Get("Traceparent") != parent || got.Get("Tracestate") != "congo=t61rcWkgMzE" {
			t.Errorf("%s: the MCP server got %v %s", tn.Name, got, body)
		}
		client.Do(http.MethodGet, client.Public+"/oauth/a-page", header, nil)
		header.Set("Traceparent", "garbage")
		client.Do(http.MethodGet, client.Public+"/oauth/garbage", header, nil)
		if answer := client.Do(http.MethodPost, client.Public+"/mcp", header, []byte(message)); answer.Status != http.StatusOK {
			t.Errorf("%s, with garbage: %s", tn.Name, answer)
		}
	}
	rig.WaitFor(t, "the spans in the collector", func() error {
		if got := len(c.named("GET unknown")); got != 4 {
			return fmt.Errorf("%d of the pages' spans have come", got)
		}
		return nil
	})
	found := map[string]bool{}
	for _, s := range c.spans() {
		if parent := parents[s.trace]; parent != "" && s.kind == "Server" {
			if s.parent != parent || s.name == "GET unknown" && s.state != "congo=t61rcWkgMzE" {
				t.Errorf("%+v", s)
			}
			found[s.trace+" "+s.name] = true
		} else if s.name == "GET unknown" && (s.parent != "" || s.state != "") {
			t.Errorf("garbage was continued: %+v", s)
		}
	}
	for trace := range parents {
		for _, name := range []string{"GET unknown", "POST /hop/token"} {
			if !found[trace+" "+name] {
				t.Errorf("no %s is in the trace of the client: %v", name, found)
			}
		}
	}
}

// The collector's certificate is verified, and its headers reach it alone.
func TestTracesGoOnlyToACollectorThatProvesItself(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil) // has a certificate and its key
	server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startCollector(t, map[string]any{
		"tls":              map[string]any{"cert_file": filepath.Join(dir, "cert.pem"), "key_file": filepath.Join(dir, "key.pem")},
		"include_metadata": true,
	})
	for authority, want := range map[string]int{"": 0, filepath.Join(dir, "cert.pem"): 1} {
		variables := map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, "OTEL_EXPORTER_OTLP_CERTIFICATE": authority,
			"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20for-the-collector-alone",
		}
		log := &bytes.Buffer{}
		tracer, err := trace.Open(func(name string) string { return variables[name] }, slog.New(slog.NewTextHandler(log, nil)), "1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		_, _, span := tracer.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "/", "wiki")
		span.End()
		tracer.Flush(t.Context())
		if got := len(c.spans()); got != want {
			t.Errorf("with authority %q: %d spans", authority, got)
		}
		if lost := strings.Contains(log.String(), "set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file"); lost == (want > 0) || strings.Contains(log.String(), "for-the-collector-alone") {
			t.Errorf("with authority %q: %s", authority, log)
		}
		c.sink.Reset()
	}
	if got := fmt.Sprint(c.authorization); got != "[Bearer for-the-collector-alone]" {
		t.Errorf("the collector got Authorization %s", got)
	}
}

// The plugin looks for OpenTelemetry's span among the contexts around a request, compiled and in
// Yaegi, and hands on exactly that. Where none is there, the client's header stands.
func TestSpanIsFoundInTheContextOfARequest(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	var got http.Header
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rig.MarkAnswer(benchHopKey, w, r)
		if r.URL.Path == "/oauth/x" { // the others come at the load
			got = r.Header.Clone()
		}
	}))
	defer sidecar.Close()
	both := handlers(t, (&authority{&rig.Authority{URL: sidecar.URL}}).labels(), http.NotFoundHandler())
	const clients = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	const ours = "00-11111111111111111111111111111111-2222222222222222-"
	state, err := oteltrace.ParseTraceState("congo=1")
	if err != nil {
		t.Fatal(err)
	}
	span := func(flags oteltrace.TraceFlags, state oteltrace.TraceState) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			return oteltrace.ContextWithSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
				TraceID: oteltrace.TraceID(bytes.Repeat([]byte{0x11}, 16)), SpanID: oteltrace.SpanID(bytes.Repeat([]byte{0x22}, 8)), TraceFlags: flags, TraceState: state,
			}))
		}
	}
	type key struct{}
	deep := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(span(1, oteltrace.TraceState{})(ctx))
		t.Cleanup(cancel)
		ctx, cancel = context.WithTimeout(context.WithoutCancel(context.WithValue(ctx, key{}, 1)), time.Minute)
		t.Cleanup(cancel)
		for i := range 30 {
			ctx = context.WithValue(ctx, key{}, i)
		}
		return ctx
	}
	for name, c := range map[string]struct {
		around        func(context.Context) context.Context
		parent, state string
	}{
		"none":    {func(ctx context.Context) context.Context { return ctx }, clients, "a=1"},
		"sampled": {span(1, oteltrace.TraceState{}), ours + "01", ""},
		"not":     {span(0, oteltrace.TraceState{}), ours + "00", ""},
		"state":   {span(1, state), ours + "01", "congo=1"},
		"deep":    {deep, ours + "01", ""},
		"invalid": {func(ctx context.Context) context.Context { return oteltrace.ContextWithSpan(ctx, nil) }, clients, "a=1"},
		"its text": {func(ctx context.Context) context.Context {
			return context.WithValue(ctx, key{}, "trace.traceContextKeyType")
		}, clients, "a=1"},
		"of others": {func(ctx context.Context) context.Context {
			return ownContext{context.WithValue(ctx, key{}, "trace.traceContextKeyType"), "trace.traceContextKeyType"}
		}, clients, "a=1"},
	} {
		for how, h := range both {
			r := get("")
			r.URL.Path = "/wiki/oauth/x"
			r.Header.Set("Traceparent", clients)
			r.Header.Set("Tracestate", "a=1")
			got = nil
			h.ServeHTTP(httptest.NewRecorder(), r.WithContext(c.around(r.Context())))
			if got.Get("Traceparent") != c.parent || got.Get("Tracestate") != c.state {
				t.Errorf("%s, %s: %q %q", name, how, got["Traceparent"], got["Tracestate"])
			}
		}
	}
}

// ownContext has a field with the name of one of the standard library's.
type ownContext struct {
	context.Context
	key string
}
