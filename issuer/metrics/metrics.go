// Package metrics counts what the sidecar does, and shows it to Prometheus.
//
// It promises that no label grows without a bound, that nothing of a stranger becomes a label's
// value as it came, and that a nil *Metrics counts nothing. It does not know what a login is: the
// endpoints say what has happened. What it has counted is this process's own, and begins at zero
// when the process does.
package metrics

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

// Stages of a login, in their order.
const (
	Registered = "registered" // a client registered; not all do
	Authorized = "authorized" // the consent page was shown
	Consented  = "consented"  // the person allowed, and was sent to the provider
	Returned   = "returned"   // the person came back from the provider with a code
	Token      = "token"      // the first access token was issued
	Presented  = "presented"  // the plugin saw an access token of the login for the first time
	Refreshed  = "refreshed"  // a refresh gave another one
)

// A Declaration says what a metric is. docs/metrics.md is written from Declarations.
type Declaration struct {
	Name, Type string
	Meaning    string // one line, which is the HELP too
	Labels     []Label
}

// A Label has the values of a list, or else names that the operator gave. A value that the list
// does not have counts as Other, and so does a name beyond the first mostValues.
type Label struct {
	Name   string
	Values []string // nil: names
	Apart  bool     // in CloudWatch each value is a metric of its own (emf.go)
}

var (
	ofTenant   = Label{Name: "tenant"}
	ofProvider = Label{Name: "provider"}
	atStage    = Label{"stage", []string{Registered, Authorized, Consented, Returned, Token, Presented, Refreshed}, true}
	ofClient   = Label{"client", products, false}
	atStep     = Label{"step", []string{"discovery", "keys", "redeem", "refresh", "exchange", "userinfo", "revoke"}, false}
	atEndpoint = Label{"endpoint", []string{
		"/oauth/register", "/oauth/authorize", "/oauth/consent", "/oauth/callback", "/oauth/token", "/oauth/revoke", "/oauth/jwks.json",
		"/oauth/client-jwks.json", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/.well-known/oauth-protected-resource",
		"/hop/token", "/hop/assertion", "/hop/deny", "/hop/figures", "unknown",
	}, false}
)

// because is the label cause, whose list is another one for each metric.
func because(causes ...string) Label { return Label{"cause", causes, false} }

// Indices of Declarations.
const (
	logins = iota
	refusals
	loginsEnded
	providerDuration
	providerErrors
	guardAnswers
	guardFailures
	denyFailures
	denySerial
	denyAge
	hopRefusals
	keyEpoch
	keyNext
	pluginRefusals
	sidecarFailures
	documents
	buildInfo
	accessTokenTTL
)

// Declarations are all metrics, in the order of the page.
var Declarations = []Declaration{
	logins: {"mcpbouncer_logins_total", "counter", "how many logins and clients have come to each stage", []Label{ofTenant, ofClient, atStage}},
	refusals: {"mcpbouncer_refusals_total", "counter", "requests that the sidecar refused", []Label{ofTenant, atEndpoint, because(
		"invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "invalid_target", "invalid_redirect_uri", "invalid_client_metadata",
		"invalid_dpop_proof", "use_dpop_nonce",
		"unauthorized_client", "unsupported_grant_type", "unsupported_response_type", "unsupported_token_type", "access_denied", "consent_required", "unmet_authentication_requirements",
		"request_not_supported", "request_uri_not_supported", "registration_not_supported", "not_found", "server_error", "temporarily_unavailable",
		"denied", "client_not_allowed", "not_admitted", "scope_withheld", "binding_broken", "provider_away", "provider_set_up", "provider_refuses_us", "provider_answer", "provider_ended",
		"document_unreadable", "document_withdrawn",
	)}},
	loginsEnded:      {"mcpbouncer_logins_ended_total", "counter", "logins that ended before their time", []Label{ofTenant, {"cause", []string{"provider", "reused", "revoked"}, true}}},
	providerDuration: {"mcpbouncer_provider_request_duration_seconds", "histogram", "how long a provider took to begin its answer", []Label{ofProvider, {"step", atStep.Values, true}}},
	providerErrors: {"mcpbouncer_provider_errors_total", "counter", "requests to a provider without an answer, or with one of status 400 or more", []Label{ofProvider, atStep,
		because("refused", "busy", "server_error", "timeout", "unreachable", "paused", "canceled")}},
	guardAnswers:    {"mcpbouncer_guard_answers_total", "counter", "what the replay guard said of codes and refresh tokens", []Label{{"answer", []string{"code_fresh", "code_used", "fresh", "repeated", "reused", "over"}, true}}},
	guardFailures:   {"mcpbouncer_guard_failures_total", "counter", "times that the replay guard could not be asked", nil},
	denyFailures:    {"mcpbouncer_deny_failures_total", "counter", "times that the deny document could not be read", nil},
	denySerial:      {"mcpbouncer_deny_serial", "gauge", "serial of the deny document that serves; absent until it was read", nil},
	denyAge:         {"mcpbouncer_deny_age_seconds", "gauge", "time since the deny document was read or tried last; absent until it was read", nil},
	hopRefusals:     {"mcpbouncer_hop_refusals_total", "counter", "hop headers that were refused", []Label{because("missing", "malformed", "forged", "key", "clock", "version", "label", "value")}},
	keyEpoch:        {"mcpbouncer_signing_key_epoch", "gauge", "epoch of the key that signs", nil},
	keyNext:         {"mcpbouncer_signing_key_next_seconds", "gauge", "time until the next key begins to sign", nil},
	pluginRefusals:  {"mcpbouncer_plugin_refusals_total", "counter", "requests that the plugin did not let through", []Label{ofTenant, because(RefusalCauses...)}},
	sidecarFailures: {"mcpbouncer_plugin_sidecar_failures_total", "counter", "times that the plugin asked the sidecar in vain", []Label{ofTenant, because(FailureCauses...)}},
	documents:       {"mcpbouncer_client_documents_total", "counter", "client metadata documents and key sets that were fetched", []Label{{"result", []string{"read", "invalid", "withdrawn", "silent", "unreadable"}, true}}},
	buildInfo:       {"mcpbouncer_build_info", "gauge", "always 1; the version is in the label", []Label{{Name: "version"}}},
	accessTokenTTL:  {"mcpbouncer_access_token_ttl_seconds", "gauge", "life of an access token (BOUNCER_ACCESS_TOKEN_TTL)", nil},
}

// Values are what a label of a metric is one of; nil for names, and for what is not declared.
func Values(metric, label string) []string {
	for _, d := range Declarations {
		for _, l := range d.Labels {
			if d.Name == metric && l.Name == label {
				return l.Values
			}
		}
	}
	return nil
}

// mostValues is how many names a label takes; what comes later counts as Other. Names are those of
// the operator's labels, so this is for a mistake only. In CloudWatch each has its price.
const (
	mostValues       = 10_000
	mostLambdaValues = 100
)

// durations are the buckets: below a second nobody notices, and 8 s is the provider's timeout.
var durations = []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8}

// Metrics is safe for concurrent use. Nil counts nothing.
type Metrics struct {
	set   *set   // nil: lines
	lines *lines // nil: set

	mu       sync.Mutex                 // guards the maps for one access
	names    map[string]map[string]bool // label → its names
	products map[[32]byte]string        // hash of a client_id → its product
}

// New returns metrics that have counted nothing.
func New() *Metrics {
	return &Metrics{set: newSet(), names: map[string]map[string]bool{}}
}

// Stage counts a login that has come to a stage. client is of Products.
func (m *Metrics) Stage(tenant, client, stage string) { m.count(logins, tenant, client, stage) }

// Refused counts a request that was refused.
func (m *Metrics) Refused(tenant, endpoint, cause string) { m.count(refusals, tenant, endpoint, cause) }

// LoginEnded counts a login that ended before its time.
func (m *Metrics) LoginEnded(tenant, cause string) { m.count(loginsEnded, tenant, cause) }

// Provider counts a request to a provider: how long its answer took to begin, and what went wrong,
// if something did. A request that was not sent has no duration: took is negative.
func (m *Metrics) Provider(provider, step string, took time.Duration, cause string) {
	if m == nil {
		return
	}
	if took >= 0 {
		m.took(took.Seconds(), provider, step)
	}
	if cause != "" {
		m.count(providerErrors, provider, step, cause)
	}
}

// Guard counts an answer of the replay guard.
func (m *Metrics) Guard(answer string) { m.count(guardAnswers, answer) }

// GuardFailed counts that the replay guard could not be asked.
func (m *Metrics) GuardFailed() { m.count(guardFailures) }

// DenyFailed counts that the deny document could not be read.
func (m *Metrics) DenyFailed() { m.count(denyFailures) }

// HopRefused counts a hop header that was refused.
func (m *Metrics) HopRefused(cause string) { m.count(hopRefusals, cause) }

// Document counts a fetch of a client metadata document, or of its keys.
func (m *Metrics) Document(result string) { m.count(documents, result) }

// RefusalCauses are the causes for which the plugin refuses a request, and FailureCauses those for
// which it asks the sidecar in vain (docs/hop.md). What is in neither counts as Other.
var (
	RefusalCauses = []string{
		"no_token", "repeated", "malformed", "type", "header", "algorithm", "issuer", "audience", "expired", "not_yet_valid",
		"subject", "client", "unknown_key", "signature", "scope_required", "bearer_key", "ended", "sidecar_away", "sign_in",
		"upstream_missing", "upstream_key", "upstream_unreadable",
		"bound", "unbound", "only_bound", "only_proof", "proofs_off", "nonce_none", "nonce_old", "nonce_future", "nonce_foreign",
		"proof_none", "proof_repeated", "proof_size", "proof_malformed", "proof_type", "proof_header", "proof_algorithm",
		"proof_key", "proof_private_key", "proof_id", "proof_method", "proof_url", "proof_issued", "proof_token",
		"proof_signature", "proof_other_key", "proof_replayed",
		"scope_tool", "scope_resource", "scope_prompt", "scope_method", "scope_batch", "message", "media_type", "body",
		"not_found", "path", "other_host", "plain_http", "host", "headers", "query", "loop",
	}
	FailureCauses = []string{"hop_key", "hop_refused", "sidecar_fails", "not_sidecar", "signature", "timeout", "unreachable", "status"}
)

// PluginRefused counts requests that the plugin did not let through.
func (m *Metrics) PluginRefused(tenant, cause string, n uint64) {
	m.add(pluginRefusals, n, tenant, cause)
}

// SidecarFailed counts how often the plugin asked the sidecar in vain.
func (m *Metrics) SidecarFailed(tenant, cause string, n uint64) {
	m.add(sidecarFailures, n, tenant, cause)
}

func (m *Metrics) count(metric int, values ...string) { m.add(metric, 1, values...) }

func (m *Metrics) add(metric int, n uint64, values ...string) {
	if m == nil {
		return
	}
	if m.lines != nil {
		m.note(metric, values, n)
		return
	}
	m.set.add(m.series(metric, values), n)
}

func (m *Metrics) took(seconds float64, values ...string) {
	if m.lines != nil {
		m.note(providerDuration, values, 0, seconds)
		return
	}
	m.set.took(m.series(providerDuration, values), seconds)
}

// Standing is what is not counted but read when somebody asks.
type Standing struct {
	Version        string
	AccessTokenTTL time.Duration
	// Key returns the epoch that signs, and the time until the next.
	Key func() (epoch uint32, next time.Duration)
	// Deny returns serial and age of the deny document that serves; false if none was read.
	Deny func() (serial uint64, age time.Duration, read bool)
}

// Show makes the gauges. It is called once. Lines have none: they say what has happened.
func (m *Metrics) Show(s Standing) {
	if m == nil || m.set == nil {
		return
	}
	gauge := func(metric int, f func() float64, values ...string) {
		m.set.gauge(m.series(metric, values), f)
	}
	gauge(buildInfo, func() float64 { return 1 }, s.Version)
	gauge(accessTokenTTL, s.AccessTokenTTL.Seconds)
	gauge(keyEpoch, func() float64 { epoch, _ := s.Key(); return float64(epoch) })
	gauge(keyNext, func() float64 { _, next := s.Key(); return next.Seconds() })
	m.set.denied(s.Deny)
}

// series writes a metric with its labels, whose values it bounds.
func (m *Metrics) series(metric int, values []string) string {
	d := &Declarations[metric]
	if len(d.Labels) == 0 {
		return d.Name
	}
	var b strings.Builder
	b.WriteString(d.Name)
	for i, label := range d.Labels {
		b.WriteByte(",{"[boolIndex(i == 0)])
		b.WriteString(label.Name)
		b.WriteString(`="`)
		b.WriteString(m.bounded(metric, label, values[i]))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

func boolIndex(first bool) int {
	if first {
		return 1
	}
	return 0
}

// bounded returns the value, or Other where the label has no room for it. It holds whatever an
// endpoint gives it: a path or a cause may follow what a stranger sent.
func (m *Metrics) bounded(metric int, label Label, value string) string {
	if label.Values != nil {
		if slices.Contains(label.Values, value) {
			return value
		}
		return Other
	}
	name, key := plain(value), Declarations[metric].Name+label.Name
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.names[key]
	if known[name] {
		return name
	}
	if len(known) >= mostValues || m.lines != nil && len(known) >= mostLambdaValues {
		return Other
	}
	if known == nil {
		known = map[string]bool{}
		m.names[key] = known
	}
	known[name] = true
	return name
}

// plain keeps quotes, backslashes, braces and line breaks out of the exposition.
func plain(value string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || strings.ContainsRune("\"\\{}\u2028\u2029\ufffd", c) {
			return '_'
		}
		return c
	}, strings.ToValidUTF8(value[:min(len(value), 100)], "_"))
}

// ContentType is Prometheus' text format: the library knows no OpenMetrics
// (docs/decisions/0031-metrics.md).
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler serves GET /metrics and nothing else.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/metrics":
			http.NotFound(w, r)
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
		default:
			w.Header().Set("Content-Type", ContentType)
			w.Write(m.exposition())
		}
	})
}

// exposition is what the library writes, with our words in its HELP lines.
func (m *Metrics) exposition() []byte {
	var b bytes.Buffer
	m.set.write(&b)
	text := b.Bytes()
	for _, d := range Declarations {
		text = bytes.Replace(text, []byte("# HELP "+d.Name+"\n"), []byte("# HELP "+d.Name+" "+d.Meaning+"\n"), 1)
	}
	return text
}

// productsKept is how many clients' products are remembered between consent page and callback.
const productsKept = 2048

// Remember notes the product of a client, whose sealed login holds no more than the hash of its id.
func (m *Metrics) Remember(client [32]byte, product string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	forget.Put(&m.products, client, product, productsKept)
}

// ProductOf returns what was remembered; or else, at another replica, what the redirect URI says.
func (m *Metrics) ProductOf(client [32]byte, redirectURI string) string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	product, ok := m.products[client]
	m.mu.Unlock()
	if ok {
		return product
	}
	return Product("", []string{redirectURI}, "")
}
