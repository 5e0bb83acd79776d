package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// The examples of W3C Trace Context, and what only looks like them.
func TestTraceparentIsReadStrictly(t *testing.T) {
	for _, c := range []struct {
		values  []string
		ok      bool
		sampled bool
	}{
		{[]string{given}, true, true},
		{[]string{given[:53] + "00"}, true, false},
		{[]string{given[:53] + "03"}, true, true},
		{[]string{"cc" + given[2:] + "-what-comes-later"}, true, true},
		{[]string{"cc" + given[2:] + ".what"}, false, false},
		{[]string{given + "-more"}, false, false},
		{[]string{"ff" + given[2:]}, false, false},
		{[]string{given, given}, false, false},
		{[]string{strings.ToUpper(given)}, false, false},
		{[]string{"00-00000000000000000000000000000000-b7ad6b7169203331-01"}, false, false},
		{[]string{"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}, false, false},
		{[]string{"00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01"}, false, false},
		{[]string{strings.ReplaceAll(given, "-", "_")}, false, false},
		{[]string{"cc" + given[2:] + "-" + strings.Repeat("a", 300)}, false, false},
		{[]string{""}, false, false},
		{nil, false, false},
	} {
		p, ok := parseParent(http.Header{"Traceparent": c.values})
		if ok != c.ok || p.sampled != c.sampled || !ok && p != (parent{}) {
			t.Errorf("%q: %v, sampled %v", c.values, ok, p.sampled)
		}
	}
}

func TestTracestateIsReadStrictly(t *testing.T) {
	var many, most []string
	for i := range 33 {
		many = append(many, "k"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+"=1")
	}
	most = many[:32]
	for _, c := range []struct {
		values []string
		want   string
	}{
		{[]string{"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"},
		{[]string{"congo=1", " rojo=2\t,"}, "congo=1,rojo=2"},
		{[]string{"fw529a3039@dt=FfAAAA"}, "fw529a3039@dt=FfAAAA"},
		{[]string{strings.Join(most, ",")}, strings.Join(most, ",")},
		{[]string{strings.Join(many, ",")}, ""},
		{[]string{"a=1,a=2"}, ""},
		{[]string{"A=1"}, ""},
		{[]string{"a=x=y"}, ""},
		{[]string{"a="}, ""},
		{[]string{"a"}, ""},
		{[]string{"a=\x01"}, ""},
		{[]string{"a=é"}, ""},
		{[]string{"a=" + strings.Repeat("x", 256)}, "a=" + strings.Repeat("x", 256)},
		{[]string{"a=" + strings.Repeat("x", 257)}, ""},
		{[]string{strings.Repeat("k", 256) + "=1"}, strings.Repeat("k", 256) + "=1"},
		{[]string{strings.Repeat("k", 257) + "=1"}, ""},
		{[]string{strings.Repeat("k", 241) + "@" + strings.Repeat("s", 14) + "=1"}, strings.Repeat("k", 241) + "@" + strings.Repeat("s", 14) + "=1"},
		{[]string{strings.Repeat("k", 242) + "@s=1"}, ""},
		{[]string{"k@" + strings.Repeat("s", 15) + "=1"}, ""},
		{[]string{"k@s@s=1"}, ""},
		{[]string{"a=" + strings.Repeat("x", 600)}, ""},
	} {
		if p, _ := parseParent(http.Header{"Traceparent": {given}, "Tracestate": c.values}); p.state != c.want {
			t.Errorf("%q: %q", c.values, p.state)
		}
	}
}

// opened returns a tracer to a collector, with a log.
func opened(t *testing.T, collector http.HandlerFunc, more map[string]string) (*Tracer, *bytes.Buffer) {
	t.Helper()
	s := httptest.NewServer(collector)
	t.Cleanup(s.Close)
	variables := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL}
	for name, value := range more {
		variables[name] = value
	}
	log := &bytes.Buffer{}
	tracer, err := Open(func(name string) string { return variables[name] }, slog.New(slog.NewTextHandler(log, nil)), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return tracer, log
}

func (t *Tracer) one(header string) *Span {
	r := httptest.NewRequest("POST", "/oauth/token?code=secret", nil)
	if header != "" {
		r.Header.Set("Traceparent", header)
	}
	w, _, s := t.Serve(httptest.NewRecorder(), r, "/oauth/token", "wiki")
	w.WriteHeader(200)
	s.End()
	return s
}

func TestTracesAreOffWithoutAnEndpoint(t *testing.T) {
	for _, variables := range []map[string]string{
		{}, {"OTEL_SERVICE_NAME": "x"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
	} {
		tracer, err := Open(func(name string) string { return variables[name] }, slog.New(slog.DiscardHandler), "")
		if tracer != nil || err != nil {
			t.Errorf("%v: %v, %v", variables, tracer, err)
		}
	}
	var off *Tracer
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	if allocated := testing.AllocsPerRun(10, func() {
		_, same, s := off.Serve(w, r, "/", "wiki")
		_, step := Step(same.Context(), "x")
		step.Note("a", "b")
		step.EndWith(nil)
		s.End()
		if same != r || s.TraceID() != "" {
			t.Error("something is traced")
		}
	}); allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
	off.Flush(t.Context())
	off.CloseIdleConnections()
}

// What cannot be done is named with its variable, and shows no header's value.
func TestTraceVariablesThatCannotBeMeantAreNamed(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "zipkin",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_HEADERS": "secret-without-name", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
		"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_TRACES_SAMPLER": "jaeger_remote",
		"OTEL_RESOURCE_ATTRIBUTES": "a", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem",
	} {
		_, err := Open(func(n string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", name: value}[n]
		}, slog.New(slog.DiscardHandler), "")
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	_, err := Open(func(n string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}[n]
	}, slog.New(slog.DiscardHandler), "")
	if err == nil {
		t.Error("a share that is not a number is taken")
	}
}

func TestTraceVariablesReachTheCollector(t *testing.T) {
	var got request
	var header http.Header
	var path string
	tracer, _ := opened(t, func(_ http.ResponseWriter, r *http.Request) {
		header, path = r.Header, r.URL.Path
		json.NewDecoder(r.Body).Decode(&got)
	}, map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20abc,x-team = a", "OTEL_SERVICE_NAME": "door",
		"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=live%2C1",
	})
	span := tracer.one(given)
	tracer.Flush(t.Context())
	if path != "/v1/traces" || header.Get("Authorization") != "Basic abc" || header.Get("X-Team") != "a" || header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", path, header)
	}
	about := map[string]string{}
	for _, a := range got.Resources[0].Resource.Attributes {
		about[a.Key] = *a.Value.Text
	}
	if about["service.name"] != "door" || about["service.version"] != "1.2.3" || about["deployment.environment.name"] != "live,1" {
		t.Error(about)
	}
	s := got.Resources[0].Scopes[0].Spans[0]
	if s.TraceID != given[3:35] || s.TraceID != span.TraceID() || s.Parent != given[36:52] || s.Kind != 2 || s.Name != "POST /oauth/token" {
		t.Errorf("%+v", s)
	}
}

func TestTraceSamplersDecide(t *testing.T) {
	no := given[:53] + "00"
	for _, c := range []struct {
		sampler, share            string
		none, sampled, notSampled bool
	}{
		{"", "", true, true, false},
		{"parentbased_always_on", "", true, true, false},
		{"always_on", "", true, true, true},
		{"always_off", "", false, false, false},
		{"traceidratio", "0", false, false, false},
		{"traceidratio", "1", true, true, true},
		{"parentbased_traceidratio", "0", false, true, false},
		{"parentbased_traceidratio", "1", true, true, false},
		{"parentbased_traceidratio", "", true, true, false},
	} {
		tracer, _ := opened(t, func(http.ResponseWriter, *http.Request) {}, map[string]string{"OTEL_TRACES_SAMPLER": c.sampler, "OTEL_TRACES_SAMPLER_ARG": c.share})
		for header, want := range map[string]bool{"": c.none, given: c.sampled, no: c.notSampled} {
			if got := tracer.one(header).TraceID() != ""; got != want {
				t.Errorf("%s %s, %q: %v", c.sampler, c.share, header, got)
			}
		}
	}
}

// A collector that refuses or hangs costs no request anything, holds no memory beyond the bound,
// and is said once in a while.
func TestTracesThatAreNotTakenAreLostAndSaid(t *testing.T) {
	tracer, log := opened(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		io.WriteString(w, "words of the collector")
	}, nil)
	for range 3 {
		tracer.one("")
		tracer.Flush(t.Context())
	}
	if text := log.String(); strings.Count(text, "traces are lost") != 1 || !strings.Contains(text, "503") || strings.Contains(text, "words") {
		t.Error(text)
	}

	asked, over := make(chan struct{}, 8), make(chan struct{})
	hangs, log := opened(t, func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-over }, nil)
	defer close(over)
	hangs.one("")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { hangs.Flush(ctx); close(ended) }()
	<-asked
	for range 3 * mostWaiting { // none of these waits
		hangs.one("")
	}
	hangs.mu.Lock()
	if len(hangs.waiting) > mostWaiting || hangs.lost == 0 {
		t.Errorf("%d wait, %d are lost", len(hangs.waiting), hangs.lost)
	}
	hangs.mu.Unlock()
	cancel()
	<-ended
	if strings.Count(log.String(), "traces are lost") != 1 {
		t.Error(log)
	}
}

// After a failure the collector is left alone for a while, and the log is told again only after a
// longer one, with all that was lost meanwhile.
func TestTracesPauseAfterAFailure(t *testing.T) {
	asks := 0
	tracer, log := opened(t, func(w http.ResponseWriter, r *http.Request) { asks++; w.WriteHeader(503) }, nil)
	at := time.Unix(1800000000, 0)
	tracer.now = func() time.Time { return at }
	for _, c := range []struct {
		after       time.Duration
		asks, lines int
	}{{0, 1, 1}, {pause - time.Second, 1, 1}, {time.Second, 2, 1}, {sayAgain, 3, 2}} {
		at = at.Add(c.after)
		tracer.one("")
		tracer.Flush(t.Context())
		if lines := strings.Count(log.String(), "traces are lost"); asks != c.asks || lines != c.lines {
			t.Errorf("after %v more: asked %d times, said %d times", c.after, asks, lines)
		}
	}
	if !strings.Contains(log.String(), "spans=3") {
		t.Error(log)
	}
}

// Whatever is wrong between here and the collector, the log says what to do, and shows neither a
// header's value nor what was answered.
func TestTracesThatAreLostHaveARemedy(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer secure.Close()
	secure.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	answering := func(status int, body string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s
	}
	gone := answering(200, "")
	gone.Close()
	authority := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	late := secure.Certificate().NotAfter.Add(time.Hour)
	_, port, _ := net.SplitHostPort(secure.Listener.Addr().String())
	for _, c := range []struct {
		name, endpoint, certificate string
		at                          time.Time
		says                        string // empty: nothing is lost
	}{
		{"a good one", secure.URL, authority, time.Time{}, ""},
		{"another authority", secure.URL, "", time.Time{}, "set OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{"another name", "https://localhost:" + port, authority, time.Time{}, "the name that stands in the collector's certificate"},
		{"expired", secure.URL, authority, late, "renew the collector's certificate"},
		{"no TLS", strings.Replace(answering(200, "{}").URL, "http:", "https:", 1), "", time.Time{}, "begin with http://"},
		{"TLS", strings.Replace(secure.URL, "https:", "http:", 1), "", time.Time{}, "see scheme, port and path"},
		{"nobody", gone.URL, "", time.Time{}, "see whether the collector runs"},
		{"not allowed", answering(401, "secret words").URL, "", time.Time{}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{"another path", answering(404, "secret words").URL, "", time.Time{}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken with its path"},
		{"in need", answering(503, "secret words").URL, "", time.Time{}, "see the collector's log"},
		{"takes a part", answering(200, `{"partialSuccess":{"rejectedSpans":"1","errorMessage":"secret words"}}`).URL, "", time.Time{}, "took a part only"},
		{"takes all", answering(200, `{"partialSuccess":{"rejectedSpans":0}}`).URL, "", time.Time{}, ""},
		{"answers no JSON", answering(200, "secret words").URL, "", time.Time{}, ""},
	} {
		tracer, log := opened(t, nil, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": c.endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE": c.certificate, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20secret",
		})
		if !c.at.IsZero() {
			tracer.now = func() time.Time { return c.at }
		}
		tracer.one("")
		tracer.Flush(t.Context())
		text := log.String()
		if strings.Contains(text, "traces are lost") != (c.says != "") || !strings.Contains(text, c.says) || strings.Contains(text, "secret") {
			t.Errorf("%s: %s", c.name, text)
		}
	}
	many, log := opened(t, func(http.ResponseWriter, *http.Request) {}, nil)
	many.lost = 1
	many.one("")
	many.Flush(t.Context())
	if !strings.Contains(log.String(), "set OTEL_TRACES_SAMPLER to traceidratio") || !strings.Contains(log.String(), "more than 2048 spans waited") {
		t.Error(log)
	}
}

// A redirect would take the headers of the collector elsewhere.
func TestTraceExportFollowsNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
	defer other.Close()
	tracer, log := opened(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}, nil)
	tracer.one("")
	tracer.Flush(t.Context())
	if !strings.Contains(log.String(), "answered 307") {
		t.Error(log)
	}
}

type asked func(*http.Request) (*http.Response, error)

func (a asked) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func TestTraceparentGoesToWhoIsAsked(t *testing.T) {
	var got []string
	transport := Transport{
		Next: asked(func(r *http.Request) (*http.Response, error) {
			got = append(got, r.Header.Get("Traceparent")+r.Header.Get("Tracestate"))
			return nil, errors.New("away")
		}),
		Name:  func(context.Context) string { return "step" },
		Wrong: func(*http.Response, error) string { return "unreachable" },
	}
	tracer, _ := opened(t, func(http.ResponseWriter, *http.Request) {}, nil)
	r := httptest.NewRequest("GET", "/", nil)
	transport.RoundTrip(r)
	r.Header.Set("Traceparent", given)
	r.Header.Set("Tracestate", "a=1")
	_, r, span := tracer.Serve(httptest.NewRecorder(), r, "/", "wiki")
	transport.RoundTrip(httptest.NewRequest("GET", "/", nil).WithContext(r.Context()))
	span.End()
	if got[0] != "" || !strings.HasPrefix(got[1], given[:36]) || got[1] == given || len(got[1]) != 55 {
		t.Error(got)
	}
}

// What a panic or a second caller ends again is sent once; nothing is sent before its delay.
func TestSpanEndsOnce(t *testing.T) {
	tracer, _ := opened(t, func(http.ResponseWriter, *http.Request) {}, nil)
	s := tracer.one("")
	s.End()
	if len(tracer.waiting) != 1 || batchDelay < time.Second {
		t.Error(len(tracer.waiting))
	}
}
