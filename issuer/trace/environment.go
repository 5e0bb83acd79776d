package trace

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// Variables are those of OpenTelemetry that are read. docs/configuration.md is written from them.
var Variables = []struct{ Name, Default, Meaning string }{
	{"OTEL_EXPORTER_OTLP_ENDPOINT", "none, so nothing is traced", "The collector's address, such as `http://collector:4318`; `/v1/traces` is added."},
	{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "none", "The same for traces, taken as it is. Each `OTEL_EXPORTER_OTLP_TRACES_…` goes before its `OTEL_EXPORTER_OTLP_…`."},
	{"OTEL_EXPORTER_OTLP_HEADERS", "none", "Headers for the collector: `name=value`, separated by commas, percent-encoded."},
	{"OTEL_EXPORTER_OTLP_TIMEOUT", "`10000` (milliseconds)", "How long the collector may take for a batch, 1 to 60,000."},
	{"OTEL_EXPORTER_OTLP_CERTIFICATE", "the system's", "A PEM file of the certificates that the collector's is verified with."},
	{"OTEL_EXPORTER_OTLP_PROTOCOL", "`http/json`", "No other protocol is supported: with another one nothing is traced, and the log says so."},
	{"OTEL_SERVICE_NAME", "`mcpbouncer`", "The name of the service."},
	{"OTEL_RESOURCE_ATTRIBUTES", "none", "More of the service: `name=value`, separated by commas, percent-encoded."},
	{"OTEL_TRACES_SAMPLER", "`parentbased_always_on`", "Which requests are traced: `parentbased_always_on`, `always_on`, `always_off`, `traceidratio` or `parentbased_traceidratio`."},
	{"OTEL_TRACES_SAMPLER_ARG", "`1`", "The share for the two with a ratio, 0 to 1."},
	{"OTEL_TRACES_EXPORTER", "`otlp`", "`otlp`, or `none` for no traces."},
	{"OTEL_SDK_DISABLED", "`false`", "With `true` nothing is traced."},
}

// unsupported are variables that would change what is sent if they were read.
var unsupported = []string{
	"COMPRESSION", "CLIENT_CERTIFICATE", "CLIENT_KEY",
}

// Open makes the tracer that the variables of OpenTelemetry describe; nil where they ask for none.
// It asks the network nothing. The errors name the variable and the remedy, and no header's value.
func Open(getenv func(string) string, log *slog.Logger, version string) (*Tracer, error) {
	get := func(name string) string { return strings.TrimSpace(getenv(name)) }
	// otlp reads a variable that there is for traces and for all.
	otlp := func(name string) (variable, value string) {
		for _, variable = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
			if value = get(variable); value != "" {
				break
			}
		}
		return variable, value
	}
	variable, endpoint := otlp("ENDPOINT")
	exporter := cmp.Or(get("OTEL_TRACES_EXPORTER"), "otlp")
	if endpoint == "" || exporter == "none" || strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	if exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%q is not supported: give otlp or none", exporter)
	}
	if variable, protocol := otlp("PROTOCOL"); protocol != "" && protocol != "http/json" {
		return nil, fmt.Errorf("%s=%q is not supported: give http/json, and the collector's address for HTTP, which has port 4318 as a rule", variable, protocol)
	}
	for _, name := range unsupported {
		if variable, value := otlp(name); value != "" && value != "none" {
			return nil, fmt.Errorf("%s is not supported: unset it", variable)
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New(variable + " is not an http or https address: give one such as http://collector:4318")
	}
	if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		u = u.JoinPath("v1/traces")
	}
	t := &Tracer{collector: collector{url: u.String(), header: http.Header{}, timeout: 10 * time.Second, version: version, log: log, now: time.Now, sending: make(chan struct{}, 1)}}
	variable, headers := otlp("HEADERS")
	pairs, ok := pairsOf(headers)
	if !ok {
		return nil, errors.New(variable + " cannot be read: give name=value, separated by commas, percent-encoded")
	}
	for _, pair := range pairs {
		t.header.Set(pair[0], pair[1])
	}
	if variable, text := otlp("TIMEOUT"); text != "" {
		milliseconds, err := strconv.Atoi(text)
		if err != nil || milliseconds < 1 || milliseconds > 60000 {
			return nil, fmt.Errorf("%s=%q is not a number of milliseconds from 1 to 60000", variable, text)
		}
		t.timeout = time.Duration(milliseconds) * time.Millisecond
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{Time: func() time.Time { return t.now() }}
	if variable, file := otlp("CERTIFICATE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM", variable, file)
		}
		base.TLSClientConfig.RootCAs = roots
	}
	t.client = outgoing.NewClient(base, 0) // post has the timeout
	if t.about, err = aboutService(get, version); err != nil {
		return nil, err
	}
	if t.samples, err = samplerOf(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return nil, err
	}
	log.Info("traces are sent", "to", u.Host)
	return t, nil
}

func aboutService(get func(string) string, version string) ([]attribute, error) {
	more, ok := pairsOf(get("OTEL_RESOURCE_ATTRIBUTES"))
	if !ok {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES cannot be read: give name=value, separated by commas, percent-encoded")
	}
	name := "mcpbouncer"
	var about []attribute
	for _, pair := range more {
		switch pair[0] {
		case "service.name":
			name = pair[1]
		case "service.version":
			version = pair[1]
		default:
			about = append(about, textAttribute(pair[0], pair[1]))
		}
	}
	name = cmp.Or(get("OTEL_SERVICE_NAME"), name)
	return append(about, textAttribute("service.name", name), textAttribute("service.version", version)), nil
}

// pairsOf reads name=value,… with percent-encoded values.
func pairsOf(text string) (pairs [][2]string, ok bool) {
	for member := range strings.SplitSeq(text, ",") {
		if member = strings.TrimSpace(member); member == "" {
			continue
		}
		name, encoded, found := strings.Cut(member, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(encoded))
		if !found || name == "" || err != nil || strings.ContainsAny(name+value, "\r\n\x00") || strings.Contains(name, " ") {
			return nil, false
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, true
}

// samplerOf returns what decides whether a request is traced. given says whether the request's
// headers named a trace.
func samplerOf(name, argument string) (func(p parent, given bool) bool, error) {
	ratio := 1.0
	if argument != "" && strings.Contains(name, "ratio") {
		var err error
		if ratio, err = strconv.ParseFloat(argument, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%q is not a number from 0 to 1", argument)
		}
	}
	// As the SDKs do it, so that all parts of one trace decide alike.
	bound := uint64(ratio * math.MaxInt64)
	share := func(p parent) bool {
		return ratio == 1 || binary.BigEndian.Uint64(p.trace[8:])>>1 < bound
	}
	switch name {
	case "", "parentbased_always_on":
		return func(p parent, given bool) bool { return !given || p.sampled }, nil
	case "always_on":
		return func(parent, bool) bool { return true }, nil
	case "always_off":
		return func(parent, bool) bool { return false }, nil
	case "traceidratio":
		return func(p parent, _ bool) bool { return share(p) }, nil
	case "parentbased_traceidratio":
		return func(p parent, given bool) bool {
			if given {
				return p.sampled
			}
			return share(p)
		}, nil
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER=%q is not supported: give parentbased_always_on, always_on, always_off, traceidratio or parentbased_traceidratio", name)
}
