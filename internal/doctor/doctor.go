// Package doctor walks the way of MCP clients to a server and says where it ends, for which of
// them, and who can mend it.
//
// The server may be anybody's, and hostile. So what is read is bounded, redirects are followed
// within one origin only, and addresses that a server names are asked by https or on this computer.
// An access token goes to the MCP server, and to the revocation endpoint when the login is over; no
// text of a server reaches a terminal but through package report.
package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// Options say what is looked at.
type Options struct {
	URL     string        // of the MCP server, as a person types it into a client
	Timeout time.Duration // of one request; default 10 s
	// Connect is where the server's host is dialled: host:port. Empty: where its name leads.
	Connect  string
	CA       *x509.CertPool // authorities beside those of the system; nil: none
	Insecure bool           // any certificate

	Brief    bool // the connection and the challenge alone
	Register bool // register with the body of each client
	// A client that the operator has created, and where its answers go.
	ClientID, ClientSecret, RedirectURI string

	Login bool   // a whole login, in the person's browser
	Scope string // to ask for in the login; empty: what the server names
	Token string // an access token that exists
	Call  string // a tool to call with the token, without arguments
	// Visit brings the person to the login's first page. It returns at once.
	Visit func(url string)

	Found func(report.Finding) // told each line at once; may be nil
	Say   func(string)         // told what a slow step waits for; may be nil
}

// protocol is the revision of MCP that is spoken.
const protocol = "2025-11-25"

type doctor struct {
	Options
	*report.Report
	mcp     *url.URL
	client  *http.Client
	got     map[string]*answer
	private bool // the MCP server has a private address
	ours    bool // the server is MCPBouncer's
	trusted bool // the certificate is good, or there is none

	challenges map[string]*challenge // by method
	resource   *resourceDocument     // the first that was found
	server     *serverDocument       // so
	prover     prover
	ways       map[string]*way // by client
	registered map[string]*registered
	noIss      bool // an answer had none
}

// Run looks at one server. It never fails: what it could not do is in the report.
func Run(ctx context.Context, o Options) *report.Report {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	d := &doctor{Options: o, Report: &report.Report{Subject: o.URL}, got: map[string]*answer{},
		challenges: map[string]*challenge{}, ways: map[string]*way{}, registered: map[string]*registered{}}
	if d.address() && d.name(ctx) {
		d.walk(ctx)
	}
	d.say("")
	if d.Unable == "" && !d.Brief {
		d.Judge(allNames()...)
		d.judgeOld()
	}
	return d.Report
}

// judgeOld tells of old clients what is so, although nobody owes it to them.
func (d *doctor) judgeOld() {
	for i := range d.Verdicts {
		for _, p := range programs {
			if v := &d.Verdicts[i]; v.Client == p.name && p.old && v.Works && d.ways[p.name] != nil && d.ways[p.name].server == nil {
				v.Works, v.Why, v.But = false, v.But, nil
			}
		}
	}
}

func (d *doctor) walk(ctx context.Context) {
	if !d.connection(ctx) {
		return
	}
	if d.guarded(ctx); d.Brief {
		return
	}
	d.documents(ctx)
	d.stream(ctx)
	if d.server != nil {
		d.members(ctx)
		d.scripts(ctx)
		d.registrations(ctx)
		d.authorization(ctx)
		d.tokenEndpoint(ctx)
	}
	if d.Login || d.Token != "" {
		d.withToken(ctx)
	}
}

// What is marked so is called a hundred times: copies of it in each place would make the program 70
// KB larger.
//
//go:noinline
func (d *doctor) say(text string) {
	if d.Say != nil {
		d.Say(text)
	}
}

//go:noinline
func (d *doctor) found(f *report.Finding) {
	d.Add(*f)
	if d.Found != nil {
		d.say("")
		d.Found(*f)
	}
}

//go:noinline
func (d *doctor) good(check, seen string) { d.found(&report.Finding{Check: check, Seen: seen}) }

//go:noinline
func (d *doctor) note(check, seen, remedy, page string, of ...string) {
	d.found(&report.Finding{Check: check, Seen: seen, Note: true, Remedy: remedy, Page: page, Hinders: of})
}

// fault is f of what stands at the server: Traefik where it is ours, else whoever runs it.
//
//go:noinline
func (d *doctor) fault(f report.Fault) report.Fault {
	if d.ours {
		return f
	}
	return report.Server
}

// page is a page of ours where the server is.
//
//go:noinline
func (d *doctor) page(page string) string {
	if d.ours {
		return page
	}
	return ""
}

// address judges what was typed.
func (d *doctor) address() bool {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		d.Unable = "not the URL of an MCP server: give it as a client has it, https://mcp.example.com/wiki/mcp"
		return false
	}
	d.mcp = u
	if u.Fragment != "" || u.RawQuery != "" {
		d.note("address", "a query or a fragment in the URL", "leave it out: documents are found by the path", "")
		u.Fragment, u.RawQuery = "", ""
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		d.found(&report.Finding{Check: "address", Expected: "https", Seen: "plain http beyond this computer, which anybody on the way reads", Fault: report.Traefik,
			Breaks: []string{report.EveryClient}, Remedy: "give the router an entry point with TLS, and clients the https address", Page: "docs/routes.md"})
		return false
	}
	return true
}

// name resolves the host.
func (d *doctor) name(ctx context.Context) bool {
	host := d.mcp.Hostname()
	if d.Connect != "" {
		at, err := netip.ParseAddrPort(d.Connect)
		d.private = err != nil || !isPublic(at.Addr())
		d.note("name", host+" is dialled at "+d.Connect, "", "")
		return true
	}
	d.say("resolving " + host)
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	var addresses []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addresses = []netip.Addr{a}
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		if !isLoopback(host) {
			d.found(&report.Finding{Check: "name", Expected: "an address for " + host, Seen: plainError(err).Error(), Fault: report.Traefik, Breaks: []string{report.EveryClient},
				Remedy: "add the name to DNS, or correct it; --connect HOST:PORT looks at a server before its name is there"})
			d.Unable = "the name " + host + " has no address"
			return false
		}
		// RFC 6761 section 6.3: what ends in .localhost is this computer; not every resolver knows.
		addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		d.Connect = net.JoinHostPort("127.0.0.1", portOf(d.mcp))
	}
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.Unmap().String())
		d.private = d.private || !isPublic(a)
	}
	seen := host + " is " + strings.Join(texts, ", ")
	if d.private {
		d.note("name", seen+", which the internet does not reach", "hosted clients need a public address", "docs/connect/claude-ai.md", names(func(p program) bool { return p.hosted })...)
	} else {
		d.good("name", seen)
	}
	return true
}

func portOf(u *url.URL) string {
	_, port, _ := net.SplitHostPort(hostPort(u))
	return port
}

// connection judges TLS, and leaves a client that can ask. With a bad certificate it goes on
// without looking at it, so that the other faults show as well; then nothing secret is sent.
func (d *doctor) connection(ctx context.Context) bool {
	d.trusted = true
	config := &tls.Config{InsecureSkipVerify: d.Insecure, RootCAs: d.CA}
	if d.mcp.Scheme == "https" {
		d.trusted = d.certificate(ctx)
		if !d.trusted {
			config.InsecureSkipVerify = true
		}
	}
	d.client = &http.Client{Transport: d.transport(config), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a := d.ask(ctx, "GET", d.mcp.String(), http.Header{"Accept": {"text/event-stream"}}, "")
	if a.err != nil {
		d.found(&report.Finding{Check: "connection", Expected: "an answer", Seen: a.err.Error(), Fault: report.Traefik, Breaks: []string{report.EveryClient},
			Remedy: "see whether the server runs, and whether its port is published and open"})
		d.Unable = "the server does not answer"
		return false
	}
	if d.mcp.Scheme == "https" && a.proto < 2 {
		d.note("HTTP/2", "HTTP/1.1 only: each open stream takes one of a browser's six connections", "let the proxy offer h2", "")
	}
	d.clock(a)
	d.plainHTTP(ctx)
	return true
}

// endsSoon is when a certificate should have been renewed: Traefik does that 30 days ahead.
const endsSoon = 7 * 24 * time.Hour

// certificate judges the server's chain as clients would.
func (d *doctor) certificate(ctx context.Context) bool {
	d.say("TLS with " + d.mcp.Hostname())
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	plain, err := d.dial(ctx, "tcp", hostPort(d.mcp))
	var conn *tls.Conn
	if err == nil {
		defer plain.Close()
		conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true, ServerName: d.mcp.Hostname(), NextProtos: []string{"h2", "http/1.1"}})
		err = conn.HandshakeContext(ctx)
	}
	if err != nil {
		d.found(&report.Finding{Check: "certificate", Expected: "a TLS connection", Seen: plainError(err).Error(), Fault: report.Traefik, Breaks: []string{report.EveryClient},
			Remedy: "see whether the server runs, whether its port is open, and whether it speaks TLS there"})
		return false
	}
	chain := conn.ConnectionState().PeerCertificates
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	verify := func(roots *x509.CertPool, name string) error {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
		return err
	}
	until := leaf.NotAfter.UTC().Format(time.DateOnly)
	wrong := func(expected, seen, remedy string) {
		d.found(&report.Finding{Check: "certificate", Expected: expected, Seen: seen, Fault: report.Traefik, Breaks: []string{report.EveryClient}, Remedy: remedy, Page: "docs/connect/README.md#a-certificate-that-no-public-authority-signed"})
	}
	now := time.Now()
	if err := leaf.VerifyHostname(d.mcp.Hostname()); err != nil {
		wrong("one for "+d.mcp.Hostname(), "one for "+strings.Join(append(leaf.DNSNames, leaf.Subject.CommonName), " "), "give the router a certificate of this name (tls.certresolver); Traefik shows its own default where it has none")
		return d.Insecure
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		wrong("one that is valid now", "good from "+leaf.NotBefore.UTC().Format(time.DateOnly)+" until "+until, "renew it; Traefik's log says why its resolver did not")
		return d.Insecure
	}
	if verify(nil, d.mcp.Hostname()) == nil {
		if left := leaf.NotAfter.Sub(now); left < endsSoon {
			d.note("certificate", fmt.Sprintf("it ends on %s, in %d hours", until, int(left.Hours())), "see why it was not renewed", "")
		} else {
			d.good("certificate", "of a public authority, until "+until)
		}
		return true
	}
	err = verify(d.CA, d.mcp.Hostname())
	if d.CA != nil && err == nil {
		seen := "of the authority that --ca names, which no client knows by itself"
		if left := leaf.NotAfter.Sub(now); left < endsSoon {
			seen += fmt.Sprintf("; it ends on %s, in %d hours", until, int(left.Hours()))
		}
		d.note("certificate", seen,
			"programs on Node.js take NODE_EXTRA_CA_CERTS, others SSL_CERT_FILE or the system's list; hosted clients need a public authority",
			"docs/connect/README.md#a-certificate-that-no-public-authority-signed", names(func(p program) bool { return p.hosted })...)
		return true
	}
	if _, isUnknown := err.(x509.UnknownAuthorityError); isUnknown || err == nil {
		wrong("one that clients trust", "signed by "+leaf.Issuer.String()+", which is not trusted here, or its chain is not whole", "let a public authority sign it, send the whole chain, or give clients the authority (--ca FILE tries it)")
	} else {
		wrong("one that clients trust", err.Error(), "renew it")
	}
	return d.Insecure
}

// maxSkew is what tokens and hop headers bear without anybody noticing.
const maxSkew = 2 * time.Minute

func (d *doctor) clock(a *answer) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		d.note("clock", "no Date header", "", "")
		return
	}
	skew := a.at.Sub(date).Round(time.Second)
	if skew.Abs() > maxSkew {
		which := "behind"
		if skew < 0 {
			which = "ahead of"
		}
		d.found(&report.Finding{Check: "clock", Expected: "that of this computer", Seen: fmt.Sprintf("the server's clock is %s %s it", skew.Abs(), which), Fault: d.fault(report.Traefik), Breaks: []string{report.EveryClient},
			Remedy: "set both clocks by NTP: tokens are over too early, or not good yet", Page: "docs/troubleshooting.md#500-to-508"})
		return
	}
	d.good("clock", fmt.Sprintf("%s off", skew.Abs()))
}

// plainHTTP looks whether the same server answers without TLS.
func (d *doctor) plainHTTP(ctx context.Context) {
	if d.mcp.Scheme != "https" || d.mcp.Port() != "" || d.Connect != "" {
		return
	}
	u := *d.mcp
	u.Scheme = "http"
	// checkTarget would refuse it: this one address is asked all the same, with nothing in it.
	ctx, cancel := context.WithTimeout(ctx, min(d.Timeout, 5*time.Second))
	defer cancel()
	d.say("GET " + u.String())
	req, err := http.NewRequestWithContext(ctx, "GET", u.String(), nil)
	if err != nil {
		return
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.good("plain http", "not answered")
		return
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 3 && strings.HasPrefix(resp.Header.Get("Location"), "https://"):
		d.good("plain http", "redirected to https")
	case resp.StatusCode == http.StatusOK:
		d.found(&report.Finding{Check: "plain http", Expected: "a redirect to https, or nothing", Seen: "200 without a token", Fault: d.fault(report.Traefik), Breaks: []string{report.EveryClient},
			Remedy: "the router of the plain entry point lacks the middleware: redirect it to https", Page: d.page("docs/routes.md")})
	default:
		d.good("plain http", fmt.Sprint(resp.StatusCode))
	}
}
