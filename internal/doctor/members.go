package doctor

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// members judges what the documents say by what each client needs of it.
func (d *doctor) members(ctx context.Context) {
	s := d.server
	wrong := func(member, expected, seen string, of []string) {
		d.found(&report.Finding{Check: "metadata " + member, Expected: expected, Seen: seen, Fault: d.fault(report.Sidecar), Breaks: breaks(of),
			Remedy: "correct the authorization server's metadata", Page: d.page("docs/clients.md")})
	}
	// RFC 8414 section 3.3
	if d.resource != nil && len(d.resource.Servers) > 0 && s.Issuer != d.resource.Servers[0] {
		wrong("issuer", d.resource.Servers[0]+", as the resource's document says", s.Issuer, allNames())
	} else {
		d.good("metadata issuer", s.Issuer)
	}
	if d.demandsProofs() {
		d.found(&report.Finding{Check: "metadata dpop_bound_access_tokens_required", Expected: "false, as none of the clients here proves a key", Seen: "true", Fault: d.fault(report.Label), Breaks: breaks(allNames()),
			Remedy: "the label dpop: accept lets them in, and binds those that can do it; leave it at require if only others are to come", Page: d.page("docs/dpop.md")})
	}
	for _, e := range []struct {
		name, value string
		optional    bool
	}{{"authorization_endpoint", s.Authorization, false}, {"token_endpoint", s.Token, false}, {"registration_endpoint", s.Registration, true}, {"revocation_endpoint", s.Revocation, true}} {
		if e.value == "" && e.optional {
			continue
		}
		if _, err := d.checkTarget(e.value); err != nil {
			wrong(e.name, "an https URL", e.value+": "+err.Error(), allNames())
		}
	}
	if !slices.Contains(s.Challenges, "S256") {
		wrong("code_challenge_methods_supported", "S256", seenList(s.Challenges), allNames())
	}
	if len(s.ResponseTypes) > 0 && !slices.Contains(s.ResponseTypes, "code") {
		wrong("response_types_supported", "code", seenList(s.ResponseTypes), allNames())
	}
	if len(s.AuthMethods) > 0 && !slices.Contains(s.AuthMethods, "none") {
		d.note("metadata token_endpoint_auth_methods_supported", seenList(s.AuthMethods)+": no public clients", "clients without a secret have to be refused or given one", "", names(func(p program) bool {
			return strings.Contains(p.registration, `"token_endpoint_auth_method":"none"`)
		})...)
	}
	if len(s.GrantTypes) > 0 && !slices.Contains(s.GrantTypes, "refresh_token") {
		d.note("metadata grant_types_supported", seenList(s.GrantTypes)+": no refresh, so people log in whenever a token ends", "", "")
	}
	if !s.Iss {
		d.note("metadata authorization_response_iss_parameter_supported", "not promised", "clients cannot tell two servers' answers apart (RFC 9207); ChatGPT takes another redirect URI, and Gemini CLI refuses an answer without iss", "", names(func(p program) bool { return p.wantsAnswerIss })...)
	}
	d.waysToRegister()
	if s.JWKS != "" {
		var keys struct {
			Keys []json.RawMessage `json:"keys"`
		}
		a := d.get(ctx, s.JWKS)
		if err := a.object(&keys); err != nil || len(keys.Keys) == 0 {
			f := d.explain(a)
			f.Check, f.Expected, f.Seen, f.Note = "keys", "a JSON object with keys at jwks_uri", a.String(), true
			d.found(&f)
		}
	}
}

func seenList(of []string) string {
	if len(of) == 0 {
		return "none"
	}
	return strings.Join(of, " ")
}

// usesDocument says whether a client comes with its metadata document.
func (d *doctor) usesDocument(p program) bool {
	return p.document != "" && d.server.Documents &&
		(!p.wantsNone || slices.Contains(d.server.AuthMethods, "none") || len(d.server.AuthMethods) == 0) && (!p.wantsIss || d.server.Iss)
}

// waysToRegister says who can get a client_id at all.
func (d *doctor) waysToRegister() {
	var without []string
	for _, p := range programs {
		if d.server.Registration == "" && !d.usesDocument(p) && !p.old {
			without = append(without, p.name)
		}
	}
	switch {
	case len(without) == 0:
		var ways []string
		if d.server.Documents {
			ways = append(ways, "metadata documents")
		}
		if d.server.Registration != "" {
			ways = append(ways, "dynamic registration")
		}
		d.good("ways to a client_id", strings.Join(ways, ", "))
	case d.ClientID != "":
		d.note("ways to a client_id", "none but the operator, for some", "give each person the client_id", "docs/connect/README.md#clients-without-a-person-and-clients-that-cannot-register", without...)
	default:
		f := report.Finding{Check: "ways to a client_id", Expected: "registration_endpoint, or metadata documents", Seen: "neither for some", Fault: d.fault(report.Label), Breaks: breaks(without),
			Remedy: "offer registration, or create a client for each and give people its client_id (--client-id looks at one)", Page: d.page("docs/clients.md#which-clients-may-come")}
		if d.ours {
			f.Remedy = "the label registration is \"documents\" or \"created\": if that is meant, create a client for each and give people its client_id (--client-id looks at one); else take the label away"
		}
		d.found(&f)
	}
}

// scripts looks at CORS: what a page of a browser may read.
func (d *doctor) scripts(ctx context.Context) {
	pages := names(func(p program) bool { return p.page })
	const from = "http://localhost:5173" // a page of use-mcp
	allows := func(a *answer) bool {
		allowed := a.header.Values("Access-Control-Allow-Origin")
		return a.err == nil && len(allowed) == 1 && (allowed[0] == "*" || allowed[0] == from)
	}
	preflight := func(at, method, headers string) *answer {
		return d.ask(ctx, "OPTIONS", at, http.Header{"Origin": {from}, "Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {headers}}, "")
	}
	type one struct {
		what string
		a    *answer
		ok   bool
	}
	var all []one
	add := func(what string, a *answer, ok bool) { all = append(all, one{what, a, ok}) }
	p := preflight(d.mcp.String(), "POST", "authorization,content-type,mcp-protocol-version")
	asked := strings.ToLower(strings.Join(p.header.Values("Access-Control-Allow-Headers"), ","))
	// Fetch: a wildcard never stands for Authorization.
	add("preflight of the MCP server", p, allows(p) && p.status/100 == 2 && strings.Contains(asked, "authorization"))
	header := toMCP()
	header.Set("Origin", from)
	a := d.ask(ctx, "POST", d.mcp.String(), header, initialize)
	exposed := strings.ToLower(strings.Join(a.header.Values("Access-Control-Expose-Headers"), ","))
	add("401 of the MCP server", a, allows(a))
	hidden := allows(a) && !strings.Contains(exposed, "www-authenticate") && exposed != "*"
	for _, at := range []string{atOf(d.resource), serverAt(d.server)} {
		if at != "" {
			a := d.ask(ctx, "GET", at, http.Header{"Origin": {from}}, "")
			add(withoutQuery(at), a, allows(a))
		}
	}
	if d.server.Registration != "" {
		a := preflight(d.server.Registration, "POST", "content-type")
		add("preflight of registration", a, allows(a) && a.status/100 == 2)
	}
	t := preflight(d.server.Token, "POST", "content-type")
	add("preflight of the token endpoint", t, t.status/100 == 2 && allows(t))
	good := 0
	for _, o := range all {
		if o.ok {
			good++
		}
	}
	switch good {
	case len(all):
		if hidden { // RFC 9728 section 3.1 has the places that need no challenge
			d.note("CORS", "pages of browsers may read documents, registration and token, and of the 401 everything but WWW-Authenticate", "let the server expose it (Access-Control-Expose-Headers): they then go by the well-known places, and see no scope", d.page("docs/clients.md#clients-in-browsers"), pages...)
		} else {
			d.good("CORS", "pages of browsers may read challenge, documents, registration and token")
		}
	case 0:
		d.note("CORS", "no page of a browser may read this server's answers", "clients in browsers need it, others do not", d.page("docs/clients.md#clients-in-browsers"), pages...)
	default:
		remedy := "a middleware in front (headers) answers or changes CORS: take it out, or put it behind"
		if !d.ours {
			remedy = "let the server, or what stands in front of it, answer CORS here as it does elsewhere"
		}
		for _, o := range all {
			if o.ok {
				continue
			}
			seen := o.a.String()
			if n := len(o.a.header.Values("Access-Control-Allow-Origin")); n > 1 {
				seen = "two Access-Control-Allow-Origin, of which a browser takes none"
			} else if n == 1 {
				seen += ", allows " + o.a.header.Get("Access-Control-Allow-Origin")
			} else if o.a.err == nil {
				seen += ", without Access-Control-Allow-Origin"
			}
			d.found(&report.Finding{Check: "CORS of " + report.Printable(o.what, 200), Expected: "any origin is allowed", Seen: seen, Fault: d.fault(report.Traefik), Breaks: pages,
				Remedy: remedy, Page: d.page("docs/clients.md#clients-in-browsers")})
		}
	}
}

// stream looks, without a token, for what holds streams back.
func (d *doctor) stream(ctx context.Context) {
	header := toMCP()
	header.Set("Accept-Encoding", "gzip, br, zstd")
	a := d.ask(ctx, "POST", d.mcp.String(), header, initialize)
	coded := a.header.Get("Content-Encoding")
	if coded == "" && d.resource != nil {
		a = d.ask(ctx, "GET", d.resource.at, http.Header{"Accept-Encoding": {"gzip, br, zstd"}}, "")
		coded = a.header.Get("Content-Encoding")
	}
	if coded != "" {
		how := ""
		if d.ours {
			how = " (compress.excludedContentTypes)"
		}
		d.note("stream", "answers are compressed ("+coded+")", "let what compresses leave out text/event-stream"+how+": it may hold events back; --login measures it", d.page("docs/middlewares.md"))
		return
	}
	d.good("stream", "nothing compresses answers; with --login or --token an event stream is tried")
}
