//go:build go1.21

package plugin

import "net/http"

// endpoint is a protected address that was asked for before, with what a request to it needs.
type endpoint struct {
	tenant    *tenant
	challenge string // scope and resource_metadata, the end of each challenge
}

// maxEndpoints and maxAddress bound what a stranger who invents paths can fill.
const (
	maxEndpoints = 256
	maxAddress   = 512 // bytes
)

// address is everything that decides whose a request is, except the method and RawPath. No header value holds a line break, and the
// path comes last, so no two different requests have the same address.
func address(req *http.Request) string {
	h := req.Header
	return h.Get("X-Forwarded-Proto") + "\n" + h.Get("X-Forwarded-Host") + "\n" + req.Host + "\n" + req.URL.Path
}

// recallEndpoint returns the protected endpoint at a request's address when it is known, and nil when the whole decision is due.
func (b *bouncer) recallEndpoint(req *http.Request) *endpoint {
	if req.URL.RawPath != "" || req.Method == http.MethodOptions {
		return nil
	}
	where := address(req)
	b.mu.RLock()
	e := b.endpoints[where]
	b.mu.RUnlock()
	return e
}

// addEndpoint remembers that an address is protected. path is relative to the prefix.
func (b *bouncer) addEndpoint(req *http.Request, t *tenant, path string) *endpoint {
	e := &endpoint{tenant: t, challenge: t.challenge}
	if own, ok := t.endpoints[path]; ok {
		e.challenge = own
	}
	where := address(req)
	// Without X-Forwarded-Proto the scheme depends on the connection, which is not part of the address.
	if len(where) > maxAddress || req.Header.Get("X-Forwarded-Proto") == "" {
		return e
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.endpoints) >= maxEndpoints {
		b.endpoints = map[string]*endpoint{}
	}
	b.endpoints[where] = e
	return e
}
