//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A connection is upgraded to a WebSocket and to nothing else. Any other protocol that a server
// might speak (HTTP/2 without TLS, say) would be a way past this middleware: the requests that
// follow on the connection would not be judged, and could name any path and any identity.
//
// A WebSocket is judged when it opens and as long as it is open: it ends when its token expires or
// its login is ended. Where labels have rules there are no WebSockets, because the messages in one
// cannot be judged.

const (
	watchPeriod   = 30 * time.Second // between two looks at an open WebSocket
	maxConnection = 256              // bytes of a Connection header that is looked at
)

// after is the timer of watch. Tests set it.
var after = time.After

// passConnection is pass for a request with a Connection header. A request for another protocol has
// one.
func passConnection(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) {
	opens := opensWebSocket(req) && b.settings.rules == nil
	dropUpgrade(req.Header)
	if !opens {
		pass(b, rw, req, e, id)
		return
	}
	credentials := req.Header["Authorization"]
	if id.assertion == nil && b.settings.backend == nil {
		identify(req.Header, id)
	} else if !credentialize(b, rw, req, e, id) {
		return
	}
	req.Header["Connection"] = []string{"Upgrade"}
	req.Header["Upgrade"] = []string{"websocket"}
	ctx, cancel := context.WithCancel(req.Context())
	defer func() { cancel() }() // ends watch
	go watch(ctx, cancel, after, e.tenant, credentials, id.expires)
	// The proxy of Traefik ends an upgraded connection with the context of its request.
	b.next.ServeHTTP(rw, req.WithContext(ctx))
}

// opensWebSocket accepts the handshake of RFC 6455 §4.1 and no other.
func opensWebSocket(req *http.Request) bool {
	kinds := req.Header["Upgrade"]
	if len(kinds) != 1 || kinds[0] != "websocket" || req.Method != http.MethodGet || req.ContentLength != 0 {
		return false
	}
	options := strings.Join(req.Header["Connection"], ",")
	if len(options) > maxConnection {
		return false
	}
	for _, option := range strings.Split(options, ",") {
		if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
			return true
		}
	}
	return false
}

// dropUpgrade deletes the headers that belong to this connection, or ask for another protocol.
// "Connection: X-Mcp-Sub" would make a proxy behind this one delete that header (RFC 9110 §7.6.1),
// and the MCP server would serve an authenticated request without an identity.
func dropUpgrade(h http.Header) {
	delete(h, "Connection")
	delete(h, "Upgrade")
	delete(h, "Http2-Settings") // RFC 7540 §3.2.1
}

// watch ends a WebSocket when its credentials stop being good. It runs in a goroutine that ends
// with the connection; a reload of Traefik's configuration leaves both as they are. expires is in
// Unix seconds. A panic here would end the Traefik process.
func watch(ctx context.Context, cancel context.CancelFunc, after func(time.Duration) <-chan time.Time, t *tenant, credentials []string, expires int64) {
	defer func() {
		if r := recover(); r != nil {
			complain(t.hop.name, "internal", fmt.Sprintf("internal error: %v", r))
		}
		cancel()
	}()
	for {
		wait := watchPeriod
		left := time.Duration(expires-now().Unix()) * time.Second
		if left < wait {
			wait = left
		}
		select {
		case <-ctx.Done():
			return
		case <-after(wait):
		}
		if ctx.Err() != nil {
			return
		}
		id, err := stillGood(ctx, t, credentials)
		if err == nil {
			expires = id.expires
			continue
		}
		// An outage of the sidecar says nothing about a token.
		if ctx.Err() != nil || errors.Is(err, errKeysUnavailable) && now().Unix() < expires {
			continue
		}
		complain(t.hop.name, "websocket", "an open WebSocket was ended: "+err.Error())
		return
	}
}

// stillGood judges credentials as ServeHTTP does.
func stillGood(ctx context.Context, t *tenant, credentials []string) (*identity, error) {
	req := (&http.Request{Header: http.Header{"Authorization": credentials}}).WithContext(ctx)
	if t.dpop != proofsOff && comesWithProof(credentials) { // its proof came with the handshake
		return identityOfBound(t, req, boundToken(credentials))
	}
	id := recallIdentity(t.sidecar, credentials)
	if id != nil {
		return id, nil
	}
	id = reviveIdentity(t, req, credentials)
	if id != nil {
		return id, nil
	}
	return authenticate(t, req)
}
