package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
)

// maxBody bounds what is read of one answer, in bytes: the server may be hostile.
const maxBody = 256 << 10

// answer is what came, or why nothing did.
type answer struct {
	url    string
	status int
	proto  int // 1 or 2
	header http.Header
	body   []byte
	at     time.Time // when its headers were here
	ended  bool      // by the server, and not by our patience
	err    error
}

// maxHeader bounds the headers of one answer, in bytes.
const maxHeader = 64 << 10

// transport never goes through a proxy of the environment's: what a proxy answers says nothing of
// the server.
func (d *doctor) transport(config *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    d.Timeout,
		ResponseHeaderTimeout:  d.Timeout,
		MaxResponseHeaderBytes: maxHeader,
		// Else a stream that a middleware compresses would look like one that is not.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		DialContext:        d.dial,
	}
}

// dial goes to private addresses only where the MCP server itself has one, so that the documents of
// a stranger's server do not lead doctor around in the operator's network. Neither does its name:
// one that has a private address, beside a public one or at another time, is asked there alone.
func (d *doctor) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: d.Timeout}
	own := address == hostPort(d.mcp)
	switch {
	case own && d.Connect != "": // the operator's word
		address = d.Connect
	case !d.private:
		dialer.Control = publicOnly
	case own:
		dialer.Control = privateOnly
	}
	return dialer.DialContext(ctx, network, address)
}

var (
	errPrivate = errors.New("a private address, which is not asked for a server on the internet")
	errPublic  = errors.New("an address on the internet of a name that has a private one too: --connect HOST:PORT says which is meant")
)

// publicOnly refuses what a name has been resolved to, and so cannot be gone around by names.
func publicOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !isPublic(at.Addr()) {
		return errPrivate
	}
	return nil
}

func privateOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || isPublic(at.Addr()) {
		return errPublic
	}
	return nil
}

func isPublic(a netip.Addr) bool { return clientdoc.CheckPublicAddress(a) == nil }

// hostPort is the address that a URL is dialled at.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// origin is what tokens are bound to: scheme, host and port.
func origin(u *url.URL) string { return u.Scheme + "://" + strings.ToLower(hostPort(u)) }

func sameOrigin(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && origin(x) == origin(y)
}

// checkTarget says why an address that a server named is not asked. Plain http is for the
// computer's own addresses, and only when the MCP server is there too.
func (d *doctor) checkTarget(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return nil, errors.New("not a plain URL")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()) && isLoopback(d.mcp.Hostname()):
		return u, nil
	case u.Scheme == "http":
		return nil, errors.New("an address of plain http")
	}
	return nil, errors.New("an address of another scheme")
}

// isLoopback goes by the name, as clients do.
func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// ask sends one request and follows nothing.
func (d *doctor) ask(ctx context.Context, method, raw string, header http.Header, body string) *answer {
	return d.askWithProof(ctx, method, raw, header, body)
}

// askOnce is ask for a header that is whole. Every answer comes from here.
func (d *doctor) askOnce(ctx context.Context, method, raw string, header http.Header, body string) *answer {
	a := &answer{url: raw, header: http.Header{}}
	u, err := d.checkTarget(raw)
	if err != nil {
		a.err = err
		return a
	}
	d.say(method + " " + withoutQuery(u.Redacted()))
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		a.err = errors.New("not a plain URL")
		return a
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "mcpbouncer-doctor")
	resp, err := d.client.Do(req)
	if err != nil {
		a.err = plainError(err)
		return a
	}
	defer resp.Body.Close()
	a.status, a.proto, a.header, a.at = resp.StatusCode, resp.ProtoMajor, resp.Header, time.Now()
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	a.ended = err == nil
	if len(a.body) > maxBody {
		a.err = fmt.Errorf("%d, with more than %d KB", a.status, maxBody>>10)
	} else if err != nil && !isStream(a) { // a stream ends with our patience
		a.err = fmt.Errorf("%d, and then %w", a.status, plainError(err))
	}
	if a.status/100 != 2 { // its words are shown, and may repeat what was sent
		hide := hiding(header, body)
		a.body = []byte(hide.Replace(string(a.body)))
		for name, values := range a.header {
			for i := range values {
				a.header[name][i] = hide.Replace(values[i])
			}
		}
	}
	return a
}

// hiding takes what a request proves itself with out of a text.
func hiding(header http.Header, body string) *strings.Replacer {
	scheme, text, _ := strings.Cut(header.Get("Authorization"), " ")
	secrets := []string{text}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil && scheme == "Basic" {
		_, password, _ := strings.Cut(string(plain), ":")
		secrets = append(secrets, password)
	}
	if header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		form, _ := url.ParseQuery(body)
		for _, name := range []string{"client_secret", "code", "code_verifier", "refresh_token", "token"} {
			secrets = append(secrets, form.Get(name))
		}
	}
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= 8 { // a shorter one is made up, or would hide words
			pairs = append(pairs, secret, "…", url.QueryEscape(secret), "…")
		}
	}
	return strings.NewReplacer(pairs...)
}

func isStream(a *answer) bool { return a.mediaType() == "text/event-stream" }

var errNoAnswer = errors.New("no answer in time (--timeout)")

// plainError leaves out the URL, which the line has anyway.
func plainError(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	// The transport's own limit may come first, with an error of its own for HTTP/1 and HTTP/2.
	if late := (interface{ Timeout() bool })(nil); errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return errNoAnswer
	}
	return err
}

// get fetches a document, once.
func (d *doctor) get(ctx context.Context, raw string) *answer {
	if a := d.got[raw]; a != nil {
		return a
	}
	a := d.ask(ctx, "GET", raw, http.Header{"Accept": {"application/json"}, "Mcp-Protocol-Version": {protocol}}, "")
	// As clients do, but never to another server. A document that moved within its server is read.
	for hops := 0; hops < 3 && a.err == nil && a.status/100 == 3; hops++ {
		to, err := url.Parse(a.header.Get("Location"))
		base, _ := url.Parse(a.url)
		if err != nil || a.header.Get("Location") == "" || origin(base.ResolveReference(to)) != origin(base) {
			break
		}
		a = d.ask(ctx, "GET", base.ResolveReference(to).String(), http.Header{"Accept": {"application/json"}}, "")
	}
	d.got[raw] = a
	return a
}

func (a *answer) mediaType() string {
	name, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return name
}

// object reads a JSON object.
func (a *answer) object(v any) error {
	switch {
	case a.err != nil:
		return a.err
	case a.status != http.StatusOK:
		return errors.New(a.String())
	}
	if err := json.Unmarshal(a.body, v); err != nil || !bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
		return errors.New(a.String() + ", which is not a JSON object")
	}
	return nil
}

// oauthError is the code of an error answer (RFC 6749 section 5.2).
func (a *answer) oauthError() (code, description string) {
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if a.err == nil && json.Unmarshal(a.body, &e) == nil {
		return e.Error, e.Description
	}
	return "", ""
}

// String is what a line says of an answer: status, type, the first words of it. A page's text says
// less than its title.
func (a *answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	text := fmt.Sprint(a.status)
	if kind := a.mediaType(); kind != "" {
		text += " " + kind
	}
	if a.status/100 == 3 {
		return text + " to " + report.Printable(withoutQuery(a.header.Get("Location")), 120)
	}
	words := strings.TrimSpace(string(a.body))
	if title := between(words, "<title>", "</title>"); title != "" {
		words = title
	}
	if words != "" && a.status/100 != 2 { // a 201 may hold a token or a client's secret
		text += ` "` + report.Printable(words, 120) + `"`
	}
	return text
}

// withoutQuery leaves out what may be a code, a state or a token.
func withoutQuery(raw string) string {
	before, _, _ := strings.Cut(raw, "?")
	before, _, _ = strings.Cut(before, "#")
	return before
}

func between(text, from, to string) string {
	_, after, ok := strings.Cut(text, from)
	inside, _, closed := strings.Cut(after, to)
	if !ok || !closed {
		return ""
	}
	return strings.TrimSpace(inside)
}
