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

// The only thing that a connection is upgraded to is a WebSocket. Whatever else a server might be
// asked to speak (HTTP/2 without TLS, say) would be a way past this middleware: what comes then
// on the connection is judged by nobody, and could name any path and any identity.
//
// A WebSocket is judged when it opens, and again as long as it is open: it ends when its token
// expires, or its login was ended. With rules there are no WebSockets, because what passes
// through one cannot be judged.

const (
	watchPeriod   = 30 * time.Second // between two looks at an open WebSocket
	maxConnection = 256              // bytes of the header Connection that are looked at
)

// after is the timer of watch. Tests set it.
var after = time.After

// passConnection is pass for a request that says something of its connection, as one that asks
// for another protocol must.
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
	// Traefik's proxy ends an upgraded connection with the context of its request.
	b.next.ServeHTTP(rw, req.WithContext(ctx))
}

// opensWebSocket accepts the handshake of RFC 6455 §4.1 alone.
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

// dropUpgrade deletes what belongs to this connection, and what would make it another protocol's.
// "Connection: X-Mcp-Sub" makes a proxy behind this one delete the header (RFC 9110 §7.6.1), and
// the MCP server would serve an authenticated request without an identity.
func dropUpgrade(h http.Header) {
	delete(h, "Connection")
	delete(h, "Upgrade")
	delete(h, "Http2-Settings") // RFC 7540 §3.2.1
}

// watch ends a WebSocket when its credentials stop being good. It is a goroutine of the
// connection, and ends with it: a reload of Traefik's configuration leaves both as they are.
// expires is in Unix seconds. Its panic would end the Traefik process.
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
		// That the sidecar is away is no verdict on a token.
		if ctx.Err() != nil || errors.Is(err, errKeysUnavailable) && now().Unix() < expires {
			continue
		}
		complain(t.hop.name, "websocket", "an open WebSocket was ended: "+err.Error())
		return
	}
}

// stillGood judges credentials as ServeHTTP does.
func stillGood(ctx context.Context, t *tenant, credentials []string) (*identity, error) {
	id := recallIdentity(t.sidecar, credentials)
	if id != nil {
		return id, nil
	}
	req := (&http.Request{Header: http.Header{"Authorization": credentials}}).WithContext(ctx)
	id = reviveIdentity(t, req)
	if id != nil {
		return id, nil
	}
	return authenticate(t, req)
}
