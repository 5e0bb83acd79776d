package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// table says which tenant a request is for, as the rules of Traefik's routers do for the plugin.
type table struct {
	byHost map[string][]*route // longest path first
	byName map[string]*route
}

// route is a tenant with the plugin's middleware before next.
type route struct {
	*Tenant
	handler http.Handler
}

// newTable makes the middlewares. next is what stands behind the one of a tenant.
func newTable(tenants []*Tenant, next func(*Tenant) http.Handler) (*table, error) {
	t := &table{byHost: map[string][]*route{}, byName: map[string]*route{}}
	for _, tenant := range tenants {
		handler, err := plugin.New(context.Background(), next(tenant), tenant.Labels, tenant.Name)
		if err != nil {
			return nil, fmt.Errorf("tenant %q: %w", tenant.Name, err)
		}
		r := &route{Tenant: tenant, handler: handler}
		t.byName[tenant.Name] = r
		t.byHost[tenant.host] = append(t.byHost[tenant.host], r)
	}
	for _, routes := range t.byHost {
		slices.SortFunc(routes, func(a, b *route) int { return len(b.prefix) - len(a.prefix) })
	}
	return t, nil
}

// find returns the tenant at a host and path. known says whether the host has any. Only the host
// that the request itself names counts, and never a header about it.
//
// Paths are compared by whole segments, as they are after decoding. A spelling that decoding has
// changed is refused by the plugin of whichever tenant it is led to.
func (t *table) find(host, path string) (r *route, known bool) {
	routes := t.at(host)
	for _, r := range routes {
		if isBelow(path, r.prefix) || isBelow(afterWellKnown(path), r.prefix) {
			return r, true
		}
	}
	// A server that has the host to itself also answers where clients look at the root.
	if len(routes) == 1 {
		return routes[0], true
	}
	return nil, len(routes) > 0
}

func (t *table) at(host string) []*route {
	host = strings.ToLower(host)
	for _, port := range []string{"", ":443", ":80"} {
		if routes := t.byHost[strings.TrimSuffix(host, port)]; routes != nil {
			return routes
		}
	}
	return nil
}

func isBelow(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// afterWellKnown is P of /.well-known/NAME + P, where clients look for the metadata of a server at
// the path P (RFC 8414 §3.1, RFC 9728 §3.1).
func afterWellKnown(path string) string {
	name, ok := strings.CutPrefix(path, "/.well-known/")
	i := strings.IndexByte(name, '/')
	if !ok || i < 0 {
		return "\x00" // below no prefix
	}
	return name[i:]
}

// vouch leaves in a request only what this process knows itself about the way that it came. The
// plugin and the MCP server believe such headers. behind says that whoever connects is a proxy of
// the operator: what it says of the client's address is kept.
func vouch(h http.Header, r *route, behind bool) {
	for name := range h {
		if len(name) < len("Forwarded") || name[0]|0x20 != 'x' && name[0]|0x20 != 'f' {
			continue
		}
		folded := fold(name)
		if behind && name == "X-Forwarded-For" {
			continue
		}
		if folded == "forwarded" || folded == "x-real-ip" || strings.HasPrefix(folded, "x-forwarded-") {
			delete(h, name)
		}
	}
	// The plugin shares what strangers can use up by this address. That of the proxy would be the
	// same for all.
	if said := h["X-Forwarded-For"]; behind && len(said) > 0 {
		last := said[len(said)-1]
		h["X-Real-Ip"] = []string{strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])}
	}
	h["X-Forwarded-Host"] = []string{r.host}
	h["X-Forwarded-Proto"] = []string{r.scheme}
}

// fold spells the name of a header as servers may read it that map names to variables:
// X_Forwarded_For is X-Forwarded-For to them.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}
