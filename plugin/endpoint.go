//go:build go1.21

package plugin

import "net/http"

// endpoint is a protected address that was asked for before, with what a request to it needs.
type endpoint struct {
	tenant    *tenant
	sidecar   *sidecarState // of tenant: in Yaegi each step to a field costs
	metadata  string        // resource_metadata
	challenge string        // scope and resource_metadata, the end of each challenge
}

// maxEndpoints and maxAddress bound what a stranger who invents paths can fill.
const (
	maxEndpoints = 256
	maxAddress   = 512 // bytes
)

// recallEndpoint returns the protected endpoint that a request addresses, if it is known, and nil
// if the whole decision must be made.
//
// The key holds everything that the decision depends on. Method and RawPath are looked at here.
// Host does not count beside X-Forwarded-Host, which Traefik always sets. No header value holds a
// line break, and the path comes last, so no two different requests have the same key.
func recallEndpoint(b *bouncer, req *http.Request) *endpoint {
	if req.URL.RawPath != "" || req.Method == "OPTIONS" {
		return nil
	}
	where := req.Header.Get("X-Forwarded-Proto") + "\n" + req.Header.Get("X-Forwarded-Host") + "\n" + req.URL.Path
	b.mu.RLock()
	e := b.endpoints[where]
	b.mu.RUnlock()
	return e
}

// addEndpoint remembers that an address is protected. path is relative to the prefix.
func (b *bouncer) addEndpoint(req *http.Request, t *tenant, path string) *endpoint {
	e := &endpoint{tenant: t, sidecar: t.sidecar, metadata: t.metadata}
	if own, ok := t.endpoints[path]; ok {
		e.metadata = own
	}
	e.challenge = t.scope + e.metadata
	scheme := req.Header.Get("X-Forwarded-Proto")
	host := req.Header.Get("X-Forwarded-Host")
	where := scheme + "\n" + host + "\n" + req.URL.Path
	if len(where) > maxAddress || scheme == "" || host == "" {
		return e
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for other := range b.endpoints { // any one entry goes
		if len(b.endpoints) < maxEndpoints {
			break
		}
		delete(b.endpoints, other)
	}
	b.endpoints[where] = e
	return e
}
