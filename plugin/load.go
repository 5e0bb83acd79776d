//go:build go1.21

package plugin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"
)

// When a middleware is loaded, the log says whether hop key and sidecar answer. Otherwise the first
// person who signs in would find out. New does not wait for it.

// checksAtLoad is false in tests that count requests to the sidecar.
var checksAtLoad = true

const maxChecked = 256

// checked holds the configurations that were looked at. Traefik calls New once for each router and
// again at each reload, mostly for a configuration that has not changed.
var checked = struct {
	sync.Mutex
	seen map[[32]byte]bool // bounded by maxChecked
}{seen: map[[32]byte]bool{}}

// firstCheck says whether a configuration is new.
func firstCheck(name string, s *settings) bool {
	payload := encodePayload(payloadFor(s, s.publicURL))
	id := sha256.Sum256([]byte(strconv.Quote(name) + keysFrom(s, s.publicURL) + string(payload)))
	checked.Lock()
	defer checked.Unlock()
	if checked.seen[id] {
		return false
	}
	if len(checked.seen) >= maxChecked {
		checked.seen = map[[32]byte]bool{}
	}
	checked.seen[id] = true
	return true
}

// check runs in a goroutine of its own, in which a panic would end the Traefik process.
func (b *bouncer) check() {
	defer func() {
		if r := recover(); r != nil {
			complain(b.name, "internal", fmt.Sprintf("internal error: %v", r))
		}
	}()
	if b.settings.publicURL != "" {
		t := b.tenantAt(b.settings.publicURL)
		t.sidecar.keys.greet(t.hop)
		return
	}
	// Without publicURL only a request tells the tenant, so the sidecar cannot be asked in its
	// name.
	_, err := readHopKey(b.settings.hopKeyFile)
	if err != nil {
		complain(b.name, "hop key", err.Error())
		return
	}
	err = askHealth(b.settings)
	if err != nil {
		complain(b.name, "sidecar", "the sidecar "+b.settings.sidecar.String()+" does not answer (label sidecarURL): "+reason(err))
		return
	}
	log.Printf("mcpbouncer: middleware %q: the sidecar %s answers; the first request will show whether it accepts the hop key", b.name, b.settings.sidecar.String())
}

// askHealth asks for what the sidecar tells without a hop header.
func askHealth(s *settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.sidecar.String()+"/healthz", nil)
	if err != nil {
		return err
	}
	hop := &hopSealer{signer: s.signer}
	resp, err := hop.transport().RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Without a hop header there is nothing that only the sidecar could know, so the mark is a
	// plain one.
	if resp.StatusCode != http.StatusOK || resp.Header.Get(markHeader) != "1" {
		return fmt.Errorf("%w: what answers there is not the sidecar (%d %s)", errNotSidecar, resp.StatusCode, mediaTypeOf(resp))
	}
	return nil
}
