package issuertest

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Options are what a provider is; nil means the defaults.
type Options struct {
	TLS   bool // an https issuer; reach it with Provider.Transport
	HTTP2 bool // the same, over HTTP/2
	// its name instead of the address where it listens: https://accounts.google.com; reach it with
	// Provider.Transport
	Issuer       string
	Now          func() time.Time // nil: the real time
	ClientID     string           // default "bouncer"
	ClientSecret string           // default "upstream-secret-of-the-bouncer"
	Public       bool             // the client has no secret
}

// Behaviour is how a provider acts. The zero value is a kind one: every field is an unkindness seen
// in the wild, or a choice that real providers make differently.
type Behaviour struct {
	// Discovery
	DiscoveryStatus   int            // answers this instead of the document
	DiscoveryType     string         // of what it answers then,
	DiscoveryBody     string         // which is this, also with 200
	DiscoveryRedirect string         // or redirects there
	DiscoverySlash    bool           // serves it with a slash at the end only, and redirects there
	DiscoveryBreaks   bool           // hangs up in the middle of it
	DiscoveryBytes    int64          // or sends so many bytes that are not a document
	Discovery         map[string]any // members set over the document's own; nil removes one
	DiscoveryMembers  map[string]any // the same, but nil is null
	DiscoveryHang     bool           // answers when the asker has gone
	// Endpoints are paths by the usual ones, where they are others: "/token": "/oauth2/token".
	// Providers are known by them.
	Endpoints map[string]string

	// Key set
	KeysStatus int      // answers this status instead
	KeysBody   string   // or this, as KeysType
	KeysType   string   // of KeysBody; application/json if empty
	OddKeys    []string // JSON of more members of the set, which stand before the provider's own
	StaleKeys  int      // so many answers are as they were before the last RotateKeys
	ForgetKeys bool     // only the newest key is published

	// Authorization endpoint
	AuthError            string // answers this error instead of a code
	AuthErrorDescription string
	Iss                  *string // the iss parameter sent (RFC 9207)
	CodeLength           int     // pads codes to this length

	// Token endpoint
	// "basic", "post" or "private_key_jwt"; the first two if empty
	AcceptOnly string
	// "": refused with invalid_grant; "allowed"; else the error code that refuses it
	CodeReuse     string
	CodeReuseEnds bool // a code that comes twice ends the login that it gave (RFC 6749 §4.1.2)
	// the error code for every code that is worth nothing; "invalid_grant" if empty
	CodeRefusal       string
	CodeRefusalText   string  // and its error_description
	BurnOnWrongProof  bool    // a wrong code_verifier uses the code up
	IgnoreProof       bool    // any code_verifier will do
	BurnOnWrongClient bool    // a client that is refused uses the code up
	Status            int     // answers this status,
	Error             string  // with this error code
	Echo              bool    // whose description holds all that was sent
	Body              string  // or this body,
	BodyType          string  // of this Content-Type; application/json if empty
	Hang              bool    // answers when the asker has gone
	Reset             bool    // hangs up after reading the request
	OmitIDToken       bool    // missing id_token
	Scope             *string // the scope member of every token response; none if nil
	IDToken           string  // instead of the signed one
	Unsigned          bool    // alg none
	WrongKey          bool    // signed by somebody else under the published kid
	// of the signature: HS256 with the client's secret, or one of RSA; RS256 if empty
	Alg        string
	OmitKeyID  bool                 // the header has no kid
	Encrypted  bool                 // for a key of the client's
	Claims     func(map[string]any) // changes the claims before they are signed
	Payload    string               // instead of the claims
	Answer     map[string]any       // members set over every token response's own
	AnswerType string               // its Content-Type; application/json if empty

	// Userinfo endpoint
	// what it says, a sub of "*" being the person's own; the discovery document names the endpoint
	// only if this is set
	UserInfo       map[string]any
	UserInfoStatus int    // answers this status instead
	UserInfoBody   string // or this, as UserInfoType
	UserInfoType   string // of UserInfoBody; application/json if empty
	// answers a JWT (OpenID Connect Core §5.3.2), signed as id_tokens are
	UserInfoSigned bool

	// Exchange is the audience for which access tokens are exchanged (RFC 8693). If it is empty,
	// they are exchanged for none. Others are invalid_target.
	Exchange       string
	ExchangeStatus int            // answers this status,
	ExchangeError  string         // with this error code
	ExchangeAnswer map[string]any // members set over its own

	// Refresh "": rotates; "static": the same token for ever; "none": gives none; "keeps": a new
	// one at each use, and the old ones stay good; "half": so too, until the access token that came
	// with the new one is used at the userinfo endpoint.
	Refresh        string
	KillOnReuse    bool   // an old refresh token used again ends the family
	KillPerson     bool   // and all others of the person
	OmitNewRefresh bool   // the answer to a refresh holds no refresh token
	OmitNewIDToken bool   // nor an id_token
	SubOnRefresh   string // another person's id_token
	KeepKeyID      bool   // its id_token names the key of the login, whichever signs it (Hydra 2.3)
	RefreshLength  int    // pads refresh tokens to this length
	RefreshSeconds bool   // they look like JWTs, and two of one login and second are the same
	RefreshStatus  int    // as Status, for refreshes only
	RefreshError   string
	RefreshMessage string

	// a replaced refresh token works for so long, and gives the newest again
	Leeway        time.Duration
	Gone          bool   // the person may not come in any more
	RefusalStatus int    // how a refresh token that is worth nothing is refused; 400 if zero
	Refusal       string // "invalid_grant" if empty
	RefusalEmpty  bool   // with no body at all
	RefusalText   string // error_description
	// so often it does what a refresh asks for, and hangs up before it says so
	LoseResponses int
	Delay         time.Duration // before the token endpoint does anything
	// endpoints and errors of Dex, and its one refresh token for each person and client
	Dex          bool
	Revocation   bool // has a revocation endpoint (RFC 7009)
	RevokeStatus int  // which answers this
}

// PersonCookie names who is signed in at a provider, in the browser that has it.
const PersonCookie = "person"

// Provider is an OpenID provider at which somebody is always signed in: person-1, or whom a
// browser's PersonCookie names.
type Provider struct {
	Issuer    string
	ClientID  string
	Secret    string
	Transport http.RoundTripper // reaches it

	now    func() time.Time
	server *httptest.Server
	dying  *dyingListener
	done   chan struct{}

	mu          sync.Mutex // guards everything below for one access
	behaviour   Behaviour
	codes       map[string]*upstreamCode
	refreshes   map[string]*family
	replaces    map[string]*family // by access token: what its first use ends
	persons     map[string]string  // by access token
	discoveries int
	keyFetches  int
	authorized  int
	userinfos   int
	posts       []url.Values // each request at the token endpoint
	codePosts   map[string]int
	revoked     []string
	secrets     []string
	assertions  []string // of the client, in the order in which they came
	rotations   int      // how often RotateKeys was called
	exchanges   int
	lastAccess  string // the access token that was given last
}

type upstreamCode struct {
	form   url.Values // of the authorization request
	person string
	used   bool
	gave   *family // its refresh token; nil if none
}

type family struct {
	id       string
	current  string
	person   string
	keyID    string // that the login's id_token named
	dead     bool
	replaced time.Time // when current became it
	previous string
}

var providers sync.Map // host → *Provider: where browsers go on

func isProvider(u *url.URL) bool {
	_, ok := providers.Load(u.Host)
	return ok
}

// providerKeys are made when the first test wants them: number 0 is somebody else's, the others are
// what providers sign with, one after the other.
var providerKeys struct {
	sync.Mutex // guards keys for one access
	keys       []*rsa.PrivateKey
}

func providerKey(n int) *rsa.PrivateKey {
	providerKeys.Lock()
	defer providerKeys.Unlock()
	for len(providerKeys.keys) <= n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		providerKeys.keys = append(providerKeys.keys, key)
	}
	return providerKeys.keys[n]
}

// rotationsKept is how many keys there are; the next rotation uses the first again.
const rotationsKept = 4

// keyAfter is the key with which a provider signs after so many rotations, and its kid.
func keyAfter(rotations int) (*rsa.PrivateKey, string) {
	if rotations == 0 {
		return providerKey(1), "provider-key"
	}
	return providerKey(1 + rotations%rotationsKept), fmt.Sprint("provider-key-", rotations+1)
}

// NewProvider starts a provider that ends with the test.
func NewProvider(t testing.TB, o *Options) *Provider {
	if o == nil {
		o = &Options{}
	}
	p := &Provider{
		ClientID: o.ClientID, Secret: o.ClientSecret, now: o.Now, Transport: http.DefaultTransport,
		done: make(chan struct{}), codes: map[string]*upstreamCode{}, refreshes: map[string]*family{}, replaces: map[string]*family{}, persons: map[string]string{}, codePosts: map[string]int{},
	}
	if p.ClientID == "" {
		p.ClientID = "bouncer"
	}
	if p.Secret == "" && !o.Public {
		p.Secret = "upstream-secret-of-the-bouncer"
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.server = httptest.NewUnstartedServer(p)
	p.dying = &dyingListener{Listener: p.server.Listener}
	p.server.Listener, p.server.EnableHTTP2 = p.dying, o.HTTP2
	if o.TLS || o.HTTP2 {
		p.server.StartTLS()
		p.Transport = p.server.Client().Transport
	} else {
		p.server.Start()
	}
	p.Issuer = p.server.URL
	if o.Issuer != "" {
		p.Transport = elsewhere{o.Issuer, p.Issuer, p.Transport}
		p.Issuer = o.Issuer
	}
	u, _ := url.Parse(p.Issuer)
	providers.Store(u.Host, p)
	t.Cleanup(func() {
		close(p.done)
		p.server.CloseClientConnections()
		p.server.Close()
		providers.Delete(u.Host)
	})
	return p
}

// Drop lets every connection that is open now die: the next byte that comes over it is not read,
// and it is closed without an answer. So does one that was closed while its user was asleep.
func (p *Provider) Drop() { p.dying.drop() }

// dyingListener knows its connections.
type dyingListener struct {
	net.Listener
	mu    sync.Mutex // guards conns for one access
	conns []*dyingConn
}

func (l *dyingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	dying := &dyingConn{Conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, dying)
	return dying, nil
}

func (l *dyingListener) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.dead.Store(true)
	}
	l.conns = nil
}

type dyingConn struct {
	net.Conn
	dead atomic.Bool
}

func (c *dyingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.dead.Load() {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// elsewhere takes requests for one origin and path to another.
type elsewhere struct {
	from, to string
	next     http.RoundTripper
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	rest, ok := strings.CutPrefix(r.URL.String(), strings.TrimSuffix(e.from, "/"))
	if !ok {
		return e.next.RoundTrip(r)
	}
	u, err := url.Parse(e.to + rest)
	if err != nil {
		return nil, err
	}
	moved := r.Clone(r.Context())
	moved.URL, moved.Host = u, u.Host
	return e.next.RoundTrip(moved)
}

// RotateKeys makes the provider sign with another key from now on. The one before is still
// published.
func (p *Provider) RotateKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rotations++
}

// EndLogins takes all that a person was given away from them. They can log in again.
func (p *Provider) EndLogins(person string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLogins(person)
}

func (p *Provider) endLogins(person string) {
	for _, f := range p.refreshes {
		f.dead = f.dead || f.person == person
	}
}

// Be changes how the provider acts from now on.
func (p *Provider) Be(b Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behaviour = b
}

// Posts is how often the token endpoint was asked.
func (p *Provider) Posts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.posts)
}

// PostsOf is how often this code was presented.
func (p *Provider) PostsOf(code string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.codePosts[code]
}

// LastPost is the last form at the token endpoint.
func (p *Provider) LastPost() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.posts) == 0 {
		return nil
	}
	return p.posts[len(p.posts)-1]
}

// Counts are the requests for the discovery document, for the keys, and at the authorization
// endpoint.
func (p *Provider) Counts() (discoveries, keys, authorizations int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.discoveries, p.keyFetches, p.authorized
}

// UserInfos is how often the userinfo endpoint was asked.
func (p *Provider) UserInfos() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.userinfos
}

// Refreshes is how often the token endpoint was asked for a refresh.
func (p *Provider) Refreshes() int { return len(p.RefreshTokens()) }

// RefreshTokens are those that were presented for a refresh, in the order in which they came.
func (p *Provider) RefreshTokens() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, form := range p.posts {
		if form.Get("grant_type") == "refresh_token" {
			all = append(all, form.Get("refresh_token"))
		}
	}
	return all
}

// Living is how many logins have a refresh token that is good.
func (p *Provider) Living() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	living := map[*family]bool{}
	for _, f := range p.refreshes {
		if !f.dead {
			living[f] = true
		}
	}
	return len(living)
}

// Revoked are the tokens that the revocation endpoint was given.
func (p *Provider) Revoked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.revoked)
}

// Forget loses all refresh tokens, as a provider does whose storage is not kept.
func (p *Provider) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.refreshes)
}

// Assertions are those by which the client proved itself (RFC 7523), in the order in which they
// came. They are not verified here.
func (p *Provider) Assertions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.assertions)
}

// Secrets are all values that must never stand in a log: codes and tokens that were made, and what
// came in to redeem them.
func (p *Provider) Secrets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.secrets)
}

func (p *Provider) secret(values ...string) {
	for _, v := range values {
		if v != "" {
			p.secrets = append(p.secrets, v)
		}
	}
}

// ServeHTTP holds the lock for the whole request: a provider that judges single use must. Hanging
// does not.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	if p.hangs(r) {
		select {
		case <-r.Context().Done():
		case <-p.done:
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.behaviour.usual(r.URL.Path) {
	case "/.well-known/openid-configuration":
		if p.behaviour.DiscoverySlash {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
			return
		}
		p.discovery(w, r)
	case "/.well-known/openid-configuration/":
		if !p.behaviour.DiscoverySlash {
			http.NotFound(w, r)
			return
		}
		p.discovery(w, r)
	case "/elsewhere":
		// where a discovery redirect may lead: the same document, in a place that nobody vouches
		// for
		p.behaviour.DiscoveryRedirect = ""
		p.discovery(w, r)
	case "/keys":
		p.keys(w)
	case "/authorize", "/auth":
		p.authorized++
		p.authorize(w, r)
	case "/token":
		p.token(w, r)
	case "/revoke":
		p.revoke(w, r)
	case "/userinfo":
		p.userinfo(w, r)
	default:
		http.NotFound(w, r)
	}
}

// at is where an endpoint is, by its usual path.
func (b Behaviour) at(usual string) string {
	if path, ok := b.Endpoints[usual]; ok {
		return path
	}
	return usual
}

// usual is the usual path of an endpoint.
func (b Behaviour) usual(path string) string {
	for usual, at := range b.Endpoints {
		if at == path {
			return usual
		}
	}
	return path
}

func (p *Provider) hangs(r *http.Request) bool {
	p.mu.Lock()
	delay, path := p.behaviour.Delay, p.behaviour.usual(r.URL.Path)
	p.mu.Unlock()
	if path == "/token" && delay > 0 {
		select {
		case <-time.After(delay):
		case <-p.done:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case path == "/token" && p.behaviour.Hang:
		p.count(r)
		return true
	case r.URL.Path == "/.well-known/openid-configuration" && p.behaviour.DiscoveryHang:
		p.discoveries++
		return true
	}
	return false
}

func (p *Provider) discovery(w http.ResponseWriter, r *http.Request) {
	p.discoveries++
	b := p.behaviour
	switch {
	case b.DiscoveryBreaks:
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte(`{"issuer":`))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case b.DiscoveryStatus != 0, b.DiscoveryBody != "":
		if b.DiscoveryType != "" {
			w.Header().Set("Content-Type", b.DiscoveryType)
		}
		w.WriteHeader(max(b.DiscoveryStatus, http.StatusOK))
		w.Write([]byte(b.DiscoveryBody))
		return
	case b.DiscoveryRedirect != "":
		http.Redirect(w, r, b.DiscoveryRedirect, http.StatusFound)
		return
	case b.DiscoveryBytes > 0:
		chunk := []byte(strings.Repeat(" ", 1<<16))
		for n := int64(0); n < b.DiscoveryBytes; n += int64(len(chunk)) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		return
	}
	base := strings.TrimSuffix(p.Issuer, "/")
	doc := map[string]any{
		"issuer":                                p.Issuer,
		"authorization_endpoint":                base + b.at("/authorize"),
		"token_endpoint":                        base + b.at("/token"),
		"jwks_uri":                              base + b.at("/keys"),
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}
	if b.UserInfo != nil {
		doc["userinfo_endpoint"] = base + b.at("/userinfo")
	}
	if b.Dex {
		doc["authorization_endpoint"] = p.Issuer + "/auth"
		doc["device_authorization_endpoint"] = p.Issuer + "/device/code"
		doc["scopes_supported"] = []string{"openid", "email", "groups", "profile", "offline_access"}
	}
	if b.Revocation {
		doc["revocation_endpoint"] = base + b.at("/revoke")
	}
	for name, v := range b.Discovery {
		doc[name] = v
		if v == nil {
			delete(doc, name)
		}
	}
	for name, v := range b.DiscoveryMembers {
		doc[name] = v
	}
	writeJSON(w, 200, doc)
}

// keys answers the key set: the newest key first, and the one before it.
func (p *Provider) keys(w http.ResponseWriter) {
	p.keyFetches++
	b, newest := p.behaviour, p.rotations
	switch {
	case b.KeysStatus != 0:
		w.WriteHeader(b.KeysStatus)
		return
	case b.KeysBody != "":
		writeText(w, b.KeysType, b.KeysBody)
		return
	case b.StaleKeys > 0 && newest > 0:
		p.behaviour.StaleKeys--
		newest--
	}
	set := []json.RawMessage{}
	for _, odd := range b.OddKeys {
		set = append(set, json.RawMessage(odd))
	}
	for n := newest; n >= max(0, newest-1) && !(b.ForgetKeys && n < newest); n-- {
		key, kid := keyAfter(n)
		own := jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
		if b.Alg == "" {
			own.Algorithm = "RS256"
		}
		text, err := own.MarshalJSON()
		if err != nil {
			panic(err)
		}
		set = append(set, text)
	}
	writeJSON(w, 200, map[string]any{"keys": set})
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	b, q := p.behaviour, r.URL.Query()
	if q.Get("client_id") != p.ClientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" {
		http.Error(w, "the provider does not understand: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "redirect_uri", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {q.Get("state")}}
	if b.Iss != nil {
		answer.Set("iss", *b.Iss)
	}
	if b.AuthError != "" {
		answer.Set("error", b.AuthError)
		if b.AuthErrorDescription != "" {
			answer.Set("error_description", b.AuthErrorDescription)
		}
	} else {
		code := pad("upstream-code-"+rand.Text(), b.CodeLength)
		person := "person-1"
		if cookie, err := r.Cookie(PersonCookie); err == nil {
			person = cookie.Value
		}
		p.codes[code] = &upstreamCode{form: q, person: person}
		p.secret(code)
		answer.Set("code", code)
	}
	p.secret(q.Get("state"), q.Get("nonce"))
	back.RawQuery = answer.Encode()
	w.Header().Set("Location", back.String())
	w.WriteHeader(http.StatusSeeOther)
}

func (p *Provider) count(r *http.Request) {
	p.posts = append(p.posts, r.PostForm)
	p.codePosts[r.PostForm.Get("code")]++
	p.secret(r.PostForm.Get("code_verifier"))
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.count(r)
	b := p.behaviour
	refreshing := r.PostForm.Get("grant_type") == "refresh_token"
	switch {
	case b.Reset:
		panic(http.ErrAbortHandler)
	case refreshing && b.RefreshStatus != 0:
		writeJSON(w, b.RefreshStatus, map[string]string{"error": b.RefreshError, "error_description": b.RefreshMessage})
		return
	case b.Body != "":
		w.Header().Set("Content-Type", cmp.Or(b.BodyType, "application/json"))
		w.WriteHeader(max(b.Status, 200))
		w.Write([]byte(b.Body))
		return
	case b.Status != 0:
		words := "the provider's own words"
		if b.Echo {
			_, secret, _ := r.BasicAuth()
			words += ": " + r.PostForm.Encode() + " " + secret
			for _, values := range r.PostForm {
				words += " '" + values[0] + "'"
			}
		}
		writeJSON(w, b.Status, map[string]string{"error": b.Error, "error_description": words})
		return
	case !p.authenticated(r):
		if code := p.codes[r.PostForm.Get("code")]; code != nil && b.BurnOnWrongClient {
			code.used = true
		}
		writeJSON(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	switch {
	case refreshing:
		p.refresh(w, r)
	case r.PostForm.Get("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange":
		p.exchange(w, r)
	default:
		p.redeem(w, r)
	}
}

// exchange gives an access token for another audience (RFC 8693 §2).
func (p *Provider) exchange(w http.ResponseWriter, r *http.Request) {
	const accessToken = "urn:ietf:params:oauth:token-type:access_token"
	b, form := p.behaviour, r.PostForm
	person, known := p.persons[form.Get("subject_token")]
	switch {
	case b.ExchangeStatus != 0:
		writeJSON(w, b.ExchangeStatus, map[string]string{"error": b.ExchangeError, "error_description": "no exchange of " + form.Get("subject_token")})
		return
	case b.Exchange == "":
		writeJSON(w, 400, map[string]string{"error": "unsupported_grant_type"})
		return
	case !known || form.Get("subject_token_type") != accessToken || form.Get("requested_token_type") != accessToken:
		writeJSON(w, 400, map[string]string{"error": "invalid_request"})
		return
	case form.Get("audience") != b.Exchange:
		writeJSON(w, 400, map[string]string{"error": "invalid_target"})
		return
	}
	answer := map[string]any{"access_token": "exchanged-access-" + rand.Text(), "issued_token_type": accessToken, "token_type": "Bearer", "expires_in": 3600}
	p.exchanges++
	for name, v := range b.ExchangeAnswer {
		answer[name] = v
		if v == nil {
			delete(answer, name)
		}
	}
	p.lastAccess = fmt.Sprint(answer["access_token"])
	p.persons[p.lastAccess] = person
	p.secret(p.lastAccess)
	writeJSON(w, 200, answer)
}

// AccessToken is the last access token that was given, and Exchanges how often one was exchanged.
func (p *Provider) AccessToken() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastAccess
}

func (p *Provider) Exchanges() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exchanges
}

func (p *Provider) authenticated(r *http.Request) bool {
	assertion := r.PostForm.Get("client_assertion")
	if p.behaviour.AcceptOnly == "private_key_jwt" {
		if assertion == "" || slices.Contains(p.assertions, assertion) {
			return false
		}
		p.assertions = append(p.assertions, assertion)
		return r.PostForm.Get("client_id") == p.ClientID && !r.PostForm.Has("client_secret") && r.Header.Get("Authorization") == ""
	}
	id, secret, basic := r.BasicAuth()
	if basic { // RFC 6749 §2.3.1
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	if basic && p.behaviour.AcceptOnly == "post" || !basic && p.behaviour.AcceptOnly == "basic" {
		return false
	}
	if !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	return id == p.ClientID && secret == p.Secret
}

func (p *Provider) redeem(w http.ResponseWriter, r *http.Request) {
	b := p.behaviour
	code, ok := p.codes[r.PostForm.Get("code")]
	refusal := cmp.Or(b.CodeRefusal, "invalid_grant")
	refuse := func(code string) {
		answer := map[string]string{"error": code}
		if b.CodeRefusalText != "" {
			answer["error_description"] = b.CodeRefusalText
		}
		writeJSON(w, 400, answer)
	}
	if !ok || code.form.Get("redirect_uri") != r.PostForm.Get("redirect_uri") {
		refuse(refusal)
		return
	}
	if code.used && b.CodeReuseEnds && code.gave != nil {
		code.gave.dead = true
	}
	if code.used && b.CodeReuse != "allowed" {
		refuse(cmp.Or(b.CodeReuse, refusal))
		return
	}
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if base64.RawURLEncoding.EncodeToString(sum[:]) != code.form.Get("code_challenge") && !b.IgnoreProof {
		code.used = code.used || b.BurnOnWrongProof
		refuse(refusal)
		return
	}
	code.used = true
	answer := map[string]any{"access_token": "upstream-access-" + rand.Text(), "token_type": "Bearer", "expires_in": 3600}
	if b.Dex { // a new login deletes the refresh token of the one before
		for _, f := range p.refreshes {
			f.dead = true
		}
	}
	if b.Refresh != "none" && (!b.Dex || slices.Contains(strings.Fields(code.form.Get("scope")), "offline_access")) {
		_, kid := keyAfter(p.rotations)
		code.gave = &family{person: code.person, keyID: kid, id: rand.Text()}
		token := p.refreshToken(code.gave)
		code.gave.current, p.refreshes[token] = token, code.gave
		answer["refresh_token"] = token
	}
	if !b.OmitIDToken {
		answer["id_token"] = p.idToken(code.person, code.form.Get("nonce"), "")
	}
	p.answer(w, answer, code.person)
}

func (p *Provider) refreshToken(f *family) string {
	if p.behaviour.RefreshSeconds {
		return fmt.Sprintf("upstream-refresh.%s.%d", f.id, p.now().Unix())
	}
	return pad("upstream-refresh-"+rand.Text(), p.behaviour.RefreshLength)
}

func (p *Provider) refresh(w http.ResponseWriter, r *http.Request) {
	b, token := p.behaviour, r.PostForm.Get("refresh_token")
	f, ok := p.refreshes[token]
	again := ok && token != f.current && token == f.previous && b.Leeway > 0 && p.now().Sub(f.replaced) <= b.Leeway
	if ok && f.current != token && !again && b.KillOnReuse {
		f.dead = true
	}
	if ok && f.current != token && !again && b.KillPerson {
		p.endLogins(f.person)
	}
	if !ok || f.dead || f.current != token && !again || b.Gone {
		p.refuse(w)
		return
	}
	answer := map[string]any{"access_token": "upstream-access-" + rand.Text(), "token_type": "Bearer", "expires_in": 3600}
	if b.Refresh == "" && !b.OmitNewRefresh && !again {
		f.previous, f.replaced = f.current, p.now()
		f.current = p.refreshToken(f)
		p.refreshes[f.current] = f
	}
	if b.Refresh == "half" || b.Refresh == "keeps" {
		if b.Refresh == "half" {
			p.replaces[answer["access_token"].(string)] = f
		}
		f = &family{current: pad("upstream-refresh-"+rand.Text(), b.RefreshLength), person: f.person, keyID: f.keyID}
		p.refreshes[f.current] = f
	}
	if !b.OmitNewRefresh {
		answer["refresh_token"] = f.current
	}
	if !b.OmitNewIDToken {
		sub := cmp.Or(b.SubOnRefresh, f.person)
		kid := ""
		if b.KeepKeyID {
			kid = f.keyID
		}
		answer["id_token"] = p.idToken(sub, "", kid)
	}
	if b.LoseResponses > 0 {
		p.behaviour.LoseResponses--
		p.secret(f.current)
		panic(http.ErrAbortHandler)
	}
	p.answer(w, answer, f.person)
}

// userinfo wants an access token of this provider, in the header.
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.userinfos++
	if old := p.replaces[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; old != nil && p.behaviour.UserInfoStatus == 0 {
		old.dead = true
	}
	switch {
	case p.behaviour.UserInfoStatus != 0:
		w.WriteHeader(p.behaviour.UserInfoStatus)
	case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer upstream-access-"):
		w.WriteHeader(http.StatusUnauthorized)
	case p.behaviour.UserInfoBody != "":
		writeText(w, p.behaviour.UserInfoType, p.behaviour.UserInfoBody)
	case p.behaviour.UserInfoSigned:
		payload, err := json.Marshal(p.behaviour.UserInfo)
		if err != nil {
			panic(err)
		}
		writeText(w, "application/jwt", p.sign(payload, ""))
	default:
		said := maps.Clone(p.behaviour.UserInfo)
		if said["sub"] == "*" {
			said["sub"] = p.persons[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		}
		writeJSON(w, 200, said)
	}
}

// refuse says that a refresh token is worth nothing, in the provider's own way.
func (p *Provider) refuse(w http.ResponseWriter) {
	b := p.behaviour
	status, code := http.StatusBadRequest, "invalid_grant"
	if b.Dex {
		code = "invalid_request"
		if b.Gone { // the connector fails, for this person
			status = http.StatusInternalServerError
		}
	}
	if b.Refusal != "" {
		code = b.Refusal
	}
	if b.RefusalStatus != 0 {
		status = b.RefusalStatus
	}
	if b.RefusalEmpty {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, map[string]string{"error": code, "error_description": cmp.Or(b.RefusalText, "the provider's own words")})
}

func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	token := r.PostForm.Get("token")
	p.revoked = append(p.revoked, token)
	switch {
	case p.behaviour.RevokeStatus != 0:
		w.WriteHeader(p.behaviour.RevokeStatus)
		return
	case !p.authenticated(r):
		writeJSON(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	if f, ok := p.refreshes[token]; ok {
		f.dead = true
	}
	w.WriteHeader(http.StatusOK) // RFC 7009 §2.2: also for a token that it does not know
}

func (p *Provider) answer(w http.ResponseWriter, answer map[string]any, person string) {
	p.persons[answer["access_token"].(string)] = person
	if p.behaviour.Scope != nil {
		answer["scope"] = *p.behaviour.Scope
	}
	for name, v := range p.behaviour.Answer {
		answer[name] = v
		if v == nil {
			delete(answer, name)
		}
	}
	p.lastAccess, _ = answer["access_token"].(string)
	p.persons[p.lastAccess] = person
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		if v, ok := answer[name].(string); ok {
			p.secret(v)
		}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	writeText(w, p.behaviour.AnswerType, string(text))
}

// idToken names the key kid, or the one that signs it if there is none.
func (p *Provider) idToken(sub, nonce, kid string) string {
	b := p.behaviour
	if b.IDToken != "" {
		return b.IDToken
	}
	claims := map[string]any{
		"iss": p.Issuer, "sub": sub, "aud": p.ClientID,
		"iat": p.now().Unix(), "exp": p.now().Add(time.Hour).Unix(),
		"email": "person@example.com",
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if b.Claims != nil {
		b.Claims(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	if b.Payload != "" {
		payload = []byte(b.Payload)
	}
	if b.Unsigned {
		_, kid := keyAfter(p.rotations)
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	return p.sign(payload, kid)
}

// Assertion returns an identity assertion (ID-JAG) about the person person-1, for one client at one
// authorization server. Claims and members of the header replace the usual ones; nil removes one.
func (p *Provider) Assertion(audience, client string, claims, header map[string]any) string {
	now := p.now().Unix()
	whole := map[string]any{
		"iss": p.Issuer, "sub": "person-1", "aud": audience, "client_id": client,
		"jti": rand.Text(), "iat": now, "exp": now + 300,
	}
	p.mu.Lock()
	key, kid := keyAfter(p.rotations)
	p.mu.Unlock()
	headers := map[string]any{"typ": "oauth-id-jag+jwt", "kid": kid}
	for part, changes := range map[*map[string]any]map[string]any{&whole: claims, &headers: header} {
		for name, v := range changes {
			(*part)[name] = v
			if v == nil {
				delete(*part, name)
			}
		}
	}
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, v := range headers {
		options.ExtraHeaders[jose.HeaderKey(name)] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, options)
	if err != nil {
		panic(err)
	}
	payload, err := json.Marshal(whole)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	return serialized(signed.CompactSerialize())
}

// sign makes a JWT of a payload, in the provider's own way.
func (p *Provider) sign(payload []byte, kid string) string {
	b := p.behaviour
	key, own := keyAfter(p.rotations)
	if kid == "" {
		kid = own
	}
	if b.Encrypted { // to the client's key, which here nobody has
		encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: key.Public(), KeyID: "client-key"}, nil)
		if err != nil {
			panic(err)
		}
		encrypted, err := encrypter.Encrypt(payload)
		if err != nil {
			panic(err)
		}
		return serialized(encrypted.CompactSerialize())
	}
	signing := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(b.Alg), Key: jose.JSONWebKey{Key: key, KeyID: kid}}
	switch {
	case b.Alg == "":
		signing.Algorithm = jose.RS256
	case strings.HasPrefix(b.Alg, "HS"):
		signing.Key = []byte(strings.Repeat(p.Secret, 3)) // long enough for each of them
	}
	if b.WrongKey {
		signing.Key = jose.JSONWebKey{Key: providerKey(0), KeyID: kid}
	}
	if b.OmitKeyID {
		signing.Key = key
	}
	signer, err := jose.NewSigner(signing, nil)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	return serialized(signed.CompactSerialize())
}

func serialized(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

func pad(s string, length int) string {
	if n := length - len(s); n > 0 {
		return s + strings.Repeat("x", n)
	}
	return s
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(fmt.Sprintf("issuertest: %v", err))
	}
}

// writeText answers 200; JSON if no other media type is named.
func writeText(w http.ResponseWriter, mediaType, text string) {
	if mediaType == "" {
		mediaType = "application/json"
	}
	w.Header().Set("Content-Type", mediaType)
	if _, err := w.Write([]byte(text)); err != nil {
		panic(fmt.Sprintf("issuertest: %v", err))
	}
}
