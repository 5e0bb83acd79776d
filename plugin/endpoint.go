//go:build go1.21

package plugin

import "net/http"

// endpoint is a protected address that was asked for before, with what a request to it needs.
type endpoint struct {
	tenant    *tenant
	sidecar   *sidecarState // of tenant: in Yaegi each step to a field costs
	metadata  string        // resource_metadata
	challenge string        // scope and resource_metadata, the end of each challenge
	kept      bool          // a token was good there, or the labels name it
	proofs    bool          // label dpop is accept or require
	anonymous *int64        // counts requests without a token: see countRefusal
	sight     *sight        // of tenant
}

// maxEndpoints bounds what people whose tokens are good can fill, maxPassing what strangers can who
// invent hosts and paths, and maxAddress one entry.
const (
	maxEndpoints = 256
	maxPassing   = 64
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

// newEndpoint makes what a request to a protected address needs, and remembers it. path is relative
// to the prefix. A stranger may have invented path and host: such addresses push out only each
// other.
func (b *bouncer) newEndpoint(req *http.Request, t *tenant, path string) *endpoint {
	e := &endpoint{tenant: t, sidecar: t.sidecar, proofs: t.dpop != proofsOff, sight: t.sight, anonymous: counterOf(t.sidecar.figures, errNoToken.Error())}
	metadata, named := t.metadataOf(path)
	e.metadata = metadata
	e.challenge = t.scope + e.metadata
	host := req.Header.Get("X-Forwarded-Host")
	if named && b.settings.publicURL != "" && (host == b.settings.host || host == b.settings.host+defaultPort(b.settings.publicURL)) {
		keepEndpoint(b, req, e)
		e.kept = true
		return e
	}
	where := addressOfEndpoint(req)
	if where == "" {
		return e
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.passing) < maxPassing {
		b.passing = append(b.passing, where)
	} else {
		old := b.passing[b.nextPassing]
		if other := b.endpoints[old]; other != nil && !other.kept {
			delete(b.endpoints, old)
		}
		b.passing[b.nextPassing] = where
		b.nextPassing = (b.nextPassing + 1) % maxPassing
	}
	if b.endpoints[where] == nil {
		b.endpoints[where] = e
	}
	return e
}

// addressOfEndpoint is the key of recallEndpoint; empty for an address that is not remembered.
func addressOfEndpoint(req *http.Request) string {
	scheme := req.Header.Get("X-Forwarded-Proto")
	host := req.Header.Get("X-Forwarded-Host")
	where := scheme + "\n" + host + "\n" + req.URL.Path
	if len(where) > maxAddress || scheme == "" || host == "" {
		return ""
	}
	return where
}

// keepEndpoint keeps an address where a token was good or that the labels name, and its tenant.
func keepEndpoint(b *bouncer, req *http.Request, e *endpoint) {
	b.stay(e.tenant)
	where := addressOfEndpoint(req)
	if where == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for other := range b.endpoints { // any one entry goes
		if len(b.endpoints) < maxEndpoints {
			break
		}
		delete(b.endpoints, other)
	}
	// Another one: e may be in use already.
	b.endpoints[where] = &endpoint{tenant: e.tenant, sidecar: e.sidecar, metadata: e.metadata, challenge: e.challenge, kept: true, proofs: e.proofs, sight: e.sight, anonymous: e.anonymous}
}

// stay keeps a tenant for as long as the middleware: strangers who invent hosts push it out no
// more.
func (b *bouncer) stay(t *tenant) {
	b.mu.Lock()
	stays := b.byPublicURL[t.publicURL] != nil
	if !stays {
		b.byPublicURL[t.publicURL] = t
		delete(b.strangers, t.publicURL)
	}
	b.mu.Unlock()
	if !stays {
		proveState(t.sidecar)
	}
}
