// Package audit declares every event of the audit log: the decisions of the sidecar, by names that
// stay. docs/audit.md is generated from it.
package audit

import (
	"log/slog"
	"slices"
)

// An Event is one kind of decision. The log has one JSON line for each, in which the attribute
// "event" is Name.
type Event struct {
	// Name is what programs look for: a noun and a participle. It never changes.
	Name string
	// Message is the text of the line, for people. Several events may share one.
	Message string
	Level   slog.Level
	// Raised is the level where the operator has to act; the zero value means that it is not
	// raised.
	Raised  slog.Level
	Meaning string
	Fields  []Field
}

// A Field is an attribute of the line.
type Field struct {
	Name, Meaning string
	Optional      bool
}

// Field returns the field of that name; false if no line of this event has one.
func (e Event) Field(name string) (Field, bool) {
	i := slices.IndexFunc(e.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return e.Fields[i], true
}

// Meanings of fields that some events have only sometimes. What is joined from constants is made by
// the compiler, and not at each start.
const (
	ofClient  = "fingerprint of the `client_id`, as the deny document and `mcpbouncer inspect` name it; of a bearer key, the fingerprint of `key:` and the key's id"
	ofSubject = "pseudonym of the person or machine"
	ofLogin   = "id of the login: `sid` of its access tokens, `families` of the deny document"
	ofCause   = "the cause in words"
	ofUntil   = "until when the new refresh token is accepted if nobody uses it"
)

// These fields have one meaning in all events.
var (
	tenant   = Field{Name: "tenant", Meaning: "`resource` of the tenant's labels"}
	issuer   = Field{Name: "issuer", Meaning: "the tenant's public URL"}
	client   = Field{Name: "client", Meaning: ofClient}
	document = Field{Name: "document", Meaning: "the `client_id`, where it is the URL of a client metadata document", Optional: true}
	subject  = Field{Name: "subject", Meaning: ofSubject}
	sub      = Field{Name: "sub", Meaning: "the provider's subject, with `BOUNCER_LOG_SUBJECTS=true` only", Optional: true}
	login    = Field{Name: "family", Meaning: ofLogin}
	request  = Field{Name: "request", Meaning: "id of the authorization request. All lines of one request have the same, so that the client of each is known"}
	remote   = Field{Name: "remote", Meaning: "address of whoever asked, as `X-Forwarded-For` has it"}
	redirect = Field{Name: "redirect_uri", Meaning: "where the client wants the answer"}
	jti      = Field{Name: "jti", Meaning: "id of the access token"}
	scope    = Field{Name: "scope", Meaning: "scopes of the access token"}
	grant    = Field{Name: "grant", Meaning: "`grant_type` of the request; `key` for a bearer key"}
	seconds  = Field{Name: "seconds", Meaning: "life of the access token"}
	expires  = Field{Name: "expires", Meaning: "end of the access token"}
	until    = Field{Name: "refresh_until", Meaning: ofUntil}
	jkt      = Field{Name: "jkt", Meaning: "thumbprint of the key that the access token is bound to, where it is", Optional: true}
	upstream = Field{Name: "upstream_seconds", Meaning: "life of the provider's access token that the MCP server gets with it, where the label `upstreamToken` is on; -1 where the provider does not say", Optional: true}
	ends     = Field{Name: "ends", Meaning: "from when on the login cannot be refreshed, however often it is used"}
	because  = Field{Name: "because", Meaning: "the cause in words"}
	cause    = Field{Name: "cause", Meaning: ofCause}
	step     = Field{Name: "generation", Meaning: "how often the login had been refreshed"}
)

// refusal are the fields of a request that was refused.
var refusal = []Field{
	{Name: "endpoint", Meaning: "path of the request; `unknown` for one that does not exist"}, tenant, issuer,
	{Name: "status", Meaning: "HTTP status of the answer, also where a redirect carried the error"},
	{Name: "error", Meaning: "OAuth error code"}, {Name: "description", Meaning: "what the client or person was told"}, remote,
	{Name: "client", Meaning: ofClient + "; where it is known", Optional: true}, document, {Name: "subject", Meaning: ofSubject + "; where it is known", Optional: true}, sub, {Name: "family", Meaning: ofLogin + "; where a login was refused", Optional: true},
	{Name: "cause", Meaning: ofCause + "; not told to anybody else", Optional: true},
	{Name: "reference", Meaning: "what the error page shows, so that a person can report it", Optional: true},
}

var ended = []Field{because, tenant, issuer, client, document, subject, sub, login, step}

// The events. All has each of them.
var (
	ClientRegistered = Event{Name: "client.registered", Message: "client registered",
		Meaning: "A program has registered itself. Nobody has logged in.",
		Fields: []Field{tenant, issuer, client, {Name: "name", Meaning: "the name that it gave itself"},
			{Name: "redirect_uris", Meaning: "the first of those that it asked for"}, {Name: "auth", Meaning: "how it proves itself"}, remote}}
	AuthorizationAsked = Event{Name: "authorization.asked", Message: "consent asked",
		Meaning: "A client has sent a person here, who sees the consent page.",
		Fields: []Field{tenant, issuer, client, document, request, {Name: "redirect_host", Meaning: "host of the redirect URI, as the page shows it"},
			{Name: "resource", Meaning: "what the client wants to use"}, {Name: "scope", Meaning: "scopes that it asked for and can get"},
			{Name: "because", Meaning: "why a consent that the browser remembers does not count", Optional: true}}}
	ConsentGiven = Event{Name: "consent.given", Message: "consent given",
		Meaning: "The person has allowed the client to go on.",
		Fields: []Field{tenant, issuer, request, redirect, {Name: "scope", Meaning: "scopes that the person allowed: those that the client asked for, less what was left out"},
			{Name: "remember", Meaning: "`true` if the person wants the consent remembered ([`rememberConsent`](pages.md#consent-that-is-remembered))"}, remote}}
	ConsentRemembered = Event{Name: "consent.remembered", Message: "consent not asked",
		Meaning: "A client has sent a person here, who goes on to the provider without the consent page: they have allowed the same before, and had it remembered. Whoever logs in there as somebody else sees the page.",
		Fields: []Field{tenant, issuer, client, document, request, {Name: "subject", Meaning: "pseudonym of the person who gave the consent"}, sub, {Name: "redirect_host", Meaning: "host of the redirect URI"},
			{Name: "resource", Meaning: "what the client wants to use"}, {Name: "scope", Meaning: "scopes that it asked for and can get"}, {Name: "given", Meaning: "when the consent was given"}, remote}}
	ConsentDenied = Event{Name: "consent.denied", Message: "consent denied",
		Meaning: "The person has refused the client.", Fields: []Field{tenant, issuer, request, redirect, remote}}
	ProviderReturned = Event{Name: "provider.returned", Message: "code issued",
		Meaning: "The person is back from the provider, and the client gets a code. A page that is loaded again gives another line.",
		Fields: []Field{tenant, issuer, request, {Name: "exchange", Meaning: "where the provider's code is redeemed: `callback` or `token`"},
			{Name: "subject", Meaning: ofSubject + "; with `callback` only", Optional: true}, sub}}
	TokenIssued = Event{Name: "token.issued", Message: "token issued",
		Meaning: "A login begins: the client has the first access token.",
		Fields:  []Field{tenant, issuer, client, document, subject, sub, login, request, grant, jti, scope, seconds, expires, until, ends, jkt, upstream}}
	LoginPresented = Event{Name: "login.presented", Message: "access token presented",
		Meaning: "A client has come to the MCP server with an access token of this login. A process writes it once for each login, when a plugin tells it.",
		Fields:  []Field{tenant, issuer, {Name: "client", Meaning: ofClient + "; not where the `client_id` is longer than 2,048 characters", Optional: true}, document, login}}
	LoginRefreshed = Event{Name: "login.refreshed", Message: "token issued",
		Meaning: "A login goes on with another access token.",
		Fields: []Field{tenant, issuer, client, document, subject, sub, login, grant, jti, scope, seconds, expires,
			{Name: "refresh_until", Meaning: ofUntil + "; not where the refresh token stays as it is", Optional: true}, ends,
			{Name: "repeated", Meaning: "`true` where the answer to an earlier refresh was lost and is given again", Optional: true}, jkt, upstream}}
	MachineAdmitted = Event{Name: "machine.admitted", Message: "token issued",
		Meaning: "A machine gets an access token: by `client_credentials`, or with a bearer key.",
		Fields:  []Field{tenant, issuer, client, subject, sub, login, grant, jti, scope, seconds, expires, jkt}}
	AssertionRedeemed = Event{Name: "assertion.redeemed", Message: "token issued",
		Meaning: "A client gets an access token for a person by an identity assertion, and no refresh token. It is a login of its own, which lasts as long as the token.",
		Fields:  []Field{tenant, issuer, client, document, subject, sub, login, grant, jti, scope, seconds, expires, jkt}}
	LoginEnded = Event{Name: "login.ended", Message: "login ended", Level: slog.LevelWarn,
		Meaning: "A login is over because of what its refresh token or the provider said. Its last access token lives on until it expires.", Fields: ended}
	LoginRevoked = Event{Name: "login.revoked", Message: "login ended", Level: slog.LevelWarn,
		Meaning: "A client has ended its login, as at a logout. Its last access token lives on until it expires.", Fields: ended}
	RevocationIgnored = Event{Name: "revocation.ignored", Message: "revocation of what is no refresh token of this client",
		Meaning: "A client wanted to end what is not its login, or not any more.", Fields: []Field{tenant, issuer, client, document}}
	LoginBridged = Event{Name: "login.bridged", Message: "a short access token instead of a logout", Level: slog.LevelWarn,
		Meaning: "Nobody could be asked about a login, so it goes on in short access tokens.",
		Fields: []Field{tenant, issuer, subject, sub, login, {Name: "provider's last word", Meaning: "when the provider said last that the login may go on"},
			cause}}
	RequestRefused = Event{Name: "request.refused", Message: "request refused", Raised: slog.LevelError,
		Meaning: "A request was answered with an error. It is raised from status 500 on.", Fields: refusal}
	RequestDenied = Event{Name: "request.denied", Message: "request refused",
		Meaning: "The deny document refused a client, a redirect host, a login, a person or a key.", Fields: refusal}
	PersonRefused = Event{Name: "person.refused", Message: "request refused",
		Meaning: "An access rule refused a person or a workload, or the provider withheld a scope without which nothing can be done. The cause names the label.", Fields: refusal}
	ProofRefused = Event{Name: "proof.refused", Message: "request refused",
		Meaning: "A token request came without a DPoP proof that it needs, or with one that is not good. The cause says why.", Fields: refusal}
	BindingBroken = Event{Name: "binding.broken", Message: "request refused", Level: slog.LevelWarn,
		Meaning: "A refresh token or code that is bound to a key came without it. Somebody has a copy, or the client has lost its key. Nothing was used up: the login goes on with its key.", Fields: refusal}
	NonceAsked = Event{Name: "nonce.asked", Message: "request refused", Level: slog.LevelDebug,
		Meaning: "A DPoP proof came without a nonce, or with an old one. Clients then come again with the nonce of the answer.", Fields: refusal}
	HopRefused = Event{Name: "hop.refused", Message: "hop header refused", Level: slog.LevelWarn,
		Meaning: "A request did not come from the plugin, or holds labels that cannot be served. Each cause is written once in 10 seconds.",
		Fields:  []Field{cause, remote}}
	DenyRead = Event{Name: "deny.read", Message: "deny document read",
		Meaning: "Another version of the deny document counts from now on.", Fields: []Field{{Name: "serial", Meaning: "its serial number"}}}
	LabelChanged = Event{Name: "label.changed", Message: "label changed",
		Meaning: "A label of a tenant has another value than this process saw before.",
		Fields: []Field{tenant, issuer, {Name: "label", Meaning: "its name"}, {Name: "before", Meaning: "the value before; a secret is not shown"},
			{Name: "now", Meaning: "the value from now on; a secret is not shown"}}}
	ResourceMoved = Event{Name: "resource.moved", Level: slog.LevelWarn,
		Message: "another public URL for the same resource: after a change of publicURL clients log in anew; two middlewares of one resource do not accept each other's tokens",
		Meaning: "A resource has another public URL.", Fields: []Field{tenant, issuer, {Name: "before", Meaning: "the public URL before"}}}
	KeyChanged = Event{Name: "key.changed", Message: "signing key changed",
		Meaning: "Another signing key signs from now on.",
		Fields: []Field{{Name: "epoch", Meaning: "its number"}, {Name: "before", Meaning: "the number before"},
			{Name: "next key", Meaning: "when the next one begins to sign"}}}
	AccessAnnounced = Event{Name: "access.announced", Message: "who may come in", Raised: slog.LevelWarn,
		Meaning: "A tenant is seen for the first time, or its rules have changed. It is raised where everybody at the provider may come in, other than on Lambda.",
		Fields: []Field{tenant, issuer, {Name: "who", Meaning: "the rules in words"}, {Name: "client_id", Meaning: "the label `clientID`"},
			{Name: "redirect URI to register at the provider", Meaning: "as it says"},
			{Name: "JWKS URL to register at the provider", Meaning: "with `clientAuth: private_key_jwt` only", Optional: true},
			{Name: "provider", Meaning: "the label `providerIssuer`"}, {Name: "its discovery document", Meaning: "whether it can be used"},
			{Name: "tenant_id", Meaning: "what binds sealed values to the tenant"}}}
)

// All are the events, in the order of a login.
func All() []Event {
	return []Event{
		ClientRegistered, AuthorizationAsked, ConsentGiven, ConsentRemembered, ConsentDenied, ProviderReturned, TokenIssued, LoginPresented, LoginRefreshed, LoginBridged,
		LoginEnded, LoginRevoked, RevocationIgnored, MachineAdmitted, AssertionRedeemed, PersonRefused, RequestDenied, ProofRefused, BindingBroken, NonceAsked,
		RequestRefused, HopRefused,
		DenyRead, LabelChanged, ResourceMoved, AccessAnnounced, KeyChanged,
	}
}
