package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// resourceDocument is RFC 9728's, as far as clients read it.
type resourceDocument struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
	Bearer   []string `json:"bearer_methods_supported"`
	Bound    bool     `json:"dpop_bound_access_tokens_required"`

	at string
}

// serverDocument is RFC 8414's, so.
type serverDocument struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Registration  string   `json:"registration_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	JWKS          string   `json:"jwks_uri"`
	Scopes        []string `json:"scopes_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	GrantTypes    []string `json:"grant_types_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	Iss           bool     `json:"authorization_response_iss_parameter_supported"`
	Documents     bool     `json:"client_id_metadata_document_supported"`

	at string
}

// isOurs recognises MCPBouncer by where its endpoints are.
func (s *serverDocument) isOurs() bool {
	return s.Authorization == s.Issuer+"/oauth/authorize" && s.JWKS == s.Issuer+"/oauth/jwks.json"
}

// way is how far a client comes with the documents.
type way struct {
	resource *resourceDocument
	server   *serverDocument
	asked    []string // the places that failed it
	missed   []string // those that it went on without
	kind     string   // what it did not find
	ended    bool     // by a 401 that points to another origin
}

// readResource reads a protected resource's document.
func (d *doctor) readResource(ctx context.Context, at string) (*resourceDocument, error) {
	r := &resourceDocument{at: at}
	a := d.get(ctx, at)
	if err := a.object(r); err != nil {
		return nil, err
	}
	if r.Resource == "" {
		return nil, errors.New("a JSON object without `resource`")
	}
	return r, nil
}

func (d *doctor) readServer(ctx context.Context, at string) (*serverDocument, error) {
	s := &serverDocument{at: at}
	a := d.get(ctx, at)
	if err := a.object(s); err != nil {
		return nil, err
	}
	if s.Issuer == "" {
		return nil, errors.New("a JSON object without `issuer`")
	}
	return s, nil
}

const (
	nameResource = "oauth-protected-resource"
	nameServer   = "oauth-authorization-server"
	nameOpenID   = "openid-configuration"
)

// wellKnown is the inserted form of a document's address.
func wellKnown(u *url.URL, name, path string) string {
	return u.Scheme + "://" + u.Host + "/.well-known/" + name + path
}

// documents walks each client's way to the two documents, and reports each place once.
func (d *doctor) documents(ctx context.Context) {
	for _, p := range programs {
		d.ways[p.name] = d.walkOf(ctx, p)
	}
	for _, p := range programs {
		if w := d.ways[p.name]; w.resource != nil && d.resource == nil && !p.rootOnly {
			d.resource = w.resource
		}
		if w := d.ways[p.name]; w.server != nil && d.server == nil && !p.rootOnly {
			d.server = w.server
		}
	}
	d.ours = d.ours || d.server != nil && d.server.isOurs()
	// each place that was asked, in the order in which clients asked, with those whom it failed
	var places []string
	failed, kinds, old := map[string][]string{}, map[string]string{}, map[string]bool{}
	for _, p := range programs {
		w := d.ways[p.name]
		for _, at := range w.asked {
			if !slices.Contains(places, at) {
				places = append(places, at)
				old[at] = true
			}
			old[at] = old[at] && p.old
			failed[at] = append(failed[at], p.name)
			kinds[at] = w.kind
		}
	}
	reported := map[string]bool{}
	for _, p := range programs {
		w := d.ways[p.name]
		for _, at := range []string{atOf(w.resource), serverAt(w.server)} {
			if at != "" && !reported[at] {
				reported[at] = true
				d.good("document", report.Printable(at, 200))
			}
		}
	}
	for _, at := range places {
		a := d.got[at]
		f := report.Finding{Fault: d.fault(report.Traefik)}
		if a != nil {
			f = d.explain(a)
			f.Seen = a.String()
		}
		f.Check, f.Expected, f.Breaks = kinds[at]+" at "+report.Printable(withoutQuery(at), 200), "200 with a JSON object", breaks(failed[at])
		if old[at] {
			f.Note, f.Fault, f.Remedy, f.Page = true, "", "a host of its own, or the rule for the root, serves them too", "docs/clients.md#clients-that-look-at-the-root-only"
		}
		d.found(&f)
	}
	for _, p := range programs {
		for _, at := range d.ways[p.name].missed {
			if !reported[at] && failed[at] == nil {
				reported[at] = true
				d.note("the resource's document at "+withoutQuery(at), d.got[at].String(), "clients go on with what is at the root of the host, and send no `resource`", "")
			}
		}
	}
	d.compare(ctx)
	d.twoSlashes(ctx)
}

func atOf(r *resourceDocument) string {
	if r == nil {
		return ""
	}
	return r.at
}

func serverAt(s *serverDocument) string {
	if s == nil {
		return ""
	}
	return s.at
}

// walkOf is one client's way, in its order.
func (d *doctor) walkOf(ctx context.Context, p program) *way {
	w := &way{kind: "the resource's document"}
	if !p.rootOnly {
		d.findResource(ctx, p, w)
	}
	if w.ended {
		return w
	}
	issuer := d.mcp.Scheme + "://" + d.mcp.Host // MCP 2025-03-26: the server's own host
	if w.resource != nil {
		if len(w.resource.Servers) == 0 {
			w.kind, w.asked = "authorization_servers", []string{w.resource.at}
			return w
		}
		issuer = w.resource.Servers[0]
	} else if !p.rootOnly && len(w.asked) > 0 && d.mcp.Path != "" && d.mcp.Path != "/" {
		// It goes by the root of the host, as of MCP 2025-03-26, unless the 401 has led it astray.
		if c := d.challenges["POST"]; p.strict && c != nil && c.metadata != "" {
			return w
		}
		if s, err := d.readServer(ctx, wellKnown(d.mcp, nameServer, "")); err == nil {
			w.server, w.missed, w.asked = s, w.asked, nil
		}
		return w
	}
	d.findServer(ctx, p, w, issuer)
	return w
}

func (d *doctor) findResource(ctx context.Context, p program, w *way) {
	for _, where := range p.resource {
		at := ""
		switch where {
		case pointed:
			c := d.challenges[p.first]
			if c == nil || c.metadata == "" {
				c = d.challenges["POST"]
			}
			if c == nil || c.metadata == "" {
				continue
			}
			if at = c.metadata; !sameOrigin(at, d.mcp.String()) {
				if p.ownOrigin {
					w.ended = true
					return
				}
				if p.sameOrigin {
					continue
				}
			}
		case inserted:
			at = wellKnown(d.mcp, nameResource, strings.TrimSuffix(d.mcp.Path, "/"))
			if strings.HasSuffix(d.mcp.Path, "/") && d.mcp.Path != "/" {
				at += "/"
			}
		case atRoot:
			if at = wellKnown(d.mcp, nameResource, ""); len(w.asked) > 0 && w.asked[len(w.asked)-1] == at {
				continue
			}
		}
		r, err := d.readResource(ctx, at)
		if err == nil {
			w.resource, w.asked = r, nil
			return
		}
		// A server below a path owes nobody the root: the place before it is the one to mend.
		if where != atRoot || len(w.asked) == 0 {
			w.asked = append(w.asked, at)
		}
		if where == pointed && p.strict {
			return
		}
	}
}

func (d *doctor) findServer(ctx context.Context, p program, w *way, issuer string) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		w.kind, w.asked = "authorization_servers", []string{w.resource.at}
		return
	}
	path := strings.TrimSuffix(u.Path, "/")
	forms := []string{wellKnown(u, nameServer, path), wellKnown(u, nameOpenID, path)}
	if path != "" {
		forms = append(forms, u.Scheme+"://"+u.Host+path+"/.well-known/"+nameOpenID)
	}
	if p.rootOnly {
		forms = forms[:1]
	}
	w.kind = "the authorization server's document"
	for _, at := range forms {
		s, err := d.readServer(ctx, at)
		if err == nil {
			w.server, w.asked = s, nil
			return
		}
	}
	w.asked = forms[:1]
}

// compare compares `resource` as each client does.
func (d *doctor) compare(ctx context.Context) {
	typed := d.mcp.String()
	var others []string
	failed, hindered := map[string][]string{}, map[string][]string{} // by `resource`
	for _, p := range programs {
		w := d.ways[p.name]
		if w.resource == nil {
			continue
		}
		got := w.resource.Resource
		// RFC 3986 section 6.2.3: at the root a slash makes no difference.
		root := d.mcp.Path == "" || d.mcp.Path == "/"
		ok := p.compares == anything || got == typed || root && strings.TrimSuffix(got, "/") == strings.TrimSuffix(typed, "/")
		if p.compares == above {
			g, err := url.Parse(got)
			ok = err == nil && origin(g) == origin(d.mcp) && len(g.Path) <= max(1, len(d.mcp.Path)) && strings.HasPrefix(strings.TrimSuffix(d.mcp.Path, "/")+"/", strings.TrimSuffix(g.Path, "/")+"/")
		}
		if ok {
			continue
		}
		if !slices.Contains(others, got) {
			others = append(others, got)
		}
		if s, err := d.readServer(ctx, wellKnown(d.mcp, nameServer, "")); err == nil && p.goesOn {
			w.resource, w.server = nil, s
			hindered[got] = append(hindered[got], p.name)
			continue
		}
		failed[got] = append(failed[got], p.name)
	}
	for _, got := range others {
		remedy := "let the document say the URL that clients use"
		switch g, err := url.Parse(got); {
		case err == nil && strings.TrimSuffix(got, "/") == strings.TrimSuffix(typed, "/"):
			remedy = "give clients the URL as it is here, to the last slash"
		case err == nil && d.ours && origin(g) == origin(d.mcp) && d.mcp.Path == strings.TrimSuffix(g.Path, "/mcp"):
			remedy = "give clients the endpoint's URL: " + got
		case err == nil && d.ours && origin(g) == origin(d.mcp):
			remedy = "the label mcpPaths has not got this path: add it, or give clients " + got
		case err == nil && d.ours:
			remedy = "make the host of publicURL that of the URL that clients use"
		}
		fault := d.fault(report.Label)
		d.found(&report.Finding{Check: "resource", Expected: typed, Seen: got, Fault: fault, Breaks: breaks(failed[got]), Hinders: hindered[got], Remedy: remedy, Page: d.page("docs/labels.md")})
	}
	if d.resource != nil && len(others) == 0 {
		d.good("resource", d.resource.Resource)
	}
}

// twoSlashes looks whether the URL with a slash more or less is served as well: people type both.
func (d *doctor) twoSlashes(ctx context.Context) {
	if d.resource == nil || d.mcp.Path == "" || d.mcp.Path == "/" {
		return
	}
	other := strings.TrimSuffix(d.mcp.Path, "/")
	if other == d.mcp.Path {
		other += "/"
	}
	r, err := d.readResource(ctx, wellKnown(d.mcp, nameResource, other))
	switch want := d.mcp.Scheme + "://" + d.mcp.Host + other; {
	case err != nil:
		d.note("slash", "the same URL with a slash more or less at its end has no document", "clients need the URL exactly as it is", "")
	case r.Resource != want:
		d.note("slash", fmt.Sprintf("the document of %s says %s", want, r.Resource), "clients need the URL exactly as it is", "")
	default:
		d.good("slash", "the URL works with one at its end and without")
	}
}
