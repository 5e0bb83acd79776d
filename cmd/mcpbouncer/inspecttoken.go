//go:build !onlyserve

package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The plugin's limits, and what it says of a token that it refuses. The vectors of
// plugin/testdata/tokens hold this file and plugin/accesstoken.go together.
const (
	maxTokenInspected = 8 << 10
	expiryGrace       = time.Minute
	latestDate        = 1 << 40 // Unix seconds
)

// tokenClaims are the claims that the plugin judges.
type tokenClaims struct {
	Issuer    string  `json:"iss"`
	Subject   string  `json:"sub"`
	Audience  any     `json:"aud"`
	Expires   float64 `json:"exp"`
	Issued    float64 `json:"iat"`
	NotBefore float64 `json:"nbf"`
	ClientID  string  `json:"client_id"`
	Scope     string  `json:"scope"`
	Bound     any     `json:"cnf"`
}

var claimMeanings = []struct{ name, meaning string }{
	{"iss", "the server's public URL"},
	{"sub", "who"},
	{"aud", "audience and resource that it is for"},
	{"client_id", "the application"},
	{"scope", "what it allows"},
	{"exp", "it expires"},
	{"iat", "it was issued"},
	{"nbf", "it is good from"},
	{"auth_time", "the person signed in"},
	{"login_time", "the login began"},
	{"acr", "how the person signed in at the provider"},
	{"sid", `the login: "family" in the log`},
	{"jti", "its own name, in the log"},
	{"cnf", "the key that whoever presents it must prove (DPoP)"},
	{"email", "for identity headers"},
	{"name", "for identity headers"},
	{"groups", "for identity headers"},
	{"upstream_token", "the provider's access token for the MCP server, sealed for the plugin"},
}

var dates = []string{"exp", "iat", "nbf", "auth_time", "login_time"}

var strictBase64 = base64.RawURLEncoding.Strict()

// signer finds the key of a kid; where says which it is, and withdrawn why it is not published now.
type signer func(kid string, issued time.Time) (key ed25519.PublicKey, where, withdrawn string)

// accessToken explains a JWT; nil: it is none.
func (i *inspection) accessToken(text string) *explanation {
	parts := strings.Split(text, ".")
	head, err := strictBase64.DecodeString(parts[0])
	var any map[string]json.RawMessage
	if err != nil || json.Unmarshal(head, &any) != nil || any == nil {
		return nil
	}
	r := &explanation{What: "access token (RFC 9068)"}
	var key signer
	id, missing, err := i.id()
	switch {
	case i.config.Ring == nil:
		r.Unchecked = append(r.Unchecked, "the signature: "+noMaster)
	case err != nil:
		r.Unchecked = append(r.Unchecked, "the signature: "+err.Error())
	case len(missing) > 0:
		r.Unchecked = append(r.Unchecked, "the signature: its key follows from the labels too; give "+strings.Join(missing, ", "))
	default:
		key = func(kid string, issued time.Time) (ed25519.PublicKey, string, string) {
			return i.signingKey(id, kid, issued)
		}
	}
	i.judge(r, text, parts, head, key)
	r.Unchecked = append(r.Unchecked, ofTheDenyDocument)
	return r
}

// judge makes the plugin's checks in the plugin's order, and goes on after the first that fails.
func (i *inspection) judge(r *explanation, text string, parts []string, head []byte, key signer) {
	refuse := func(why, more string, args ...any) {
		if more != "" {
			why += ": " + fmt.Sprintf(more, args...)
		}
		r.Refused = append(r.Refused, why)
	}
	const malformed = "the access token is malformed"
	if len(parts) != 3 {
		refuse(malformed, "it has %d parts, not 3; perhaps it was not copied as a whole", len(parts))
	} else if len(text) > maxTokenInspected {
		refuse(malformed, "it has more than %d characters", maxTokenInspected)
	}
	var members map[string]json.RawMessage
	json.Unmarshal(head, &members) // accessToken has read it
	for _, name := range slices.Sorted(maps.Keys(members)) {
		r.Facts = append(r.Facts, issuer.Fact{Name: "header " + name, Value: rawText(members[name])})
	}
	var header map[string]string
	if json.Unmarshal(head, &header) != nil {
		refuse(malformed, "its header has a parameter that is not a text")
		return
	}
	if header["typ"] != "at+jwt" {
		refuse("the token is not an access token", "typ is %q, not at+jwt; perhaps it is an ID token, or of another server", header["typ"])
	}
	if header["alg"] != "EdDSA" && header["alg"] != "RS256" {
		refuse("the token is signed with an algorithm that is not accepted", "%q", header["alg"])
	}
	kid := header["kid"]
	if kid == "" || len(kid) > 64 {
		refuse("the access token is signed with an unknown key", "kid must be there, and have at most 64 characters")
	}
	if len(header) != 3 {
		refuse("the token has a header parameter that is not accepted", "alg, kid and typ are all that the sidecar sends")
	}
	if len(parts) < 2 {
		return
	}
	body, err := strictBase64.DecodeString(parts[1])
	var c tokenClaims
	if err == nil {
		r.Facts = append(r.Facts, claimFacts(body)...)
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		refuse(malformed, "its claims cannot be read")
		return
	}
	i.judgeClaims(r, c, refuse)
	if c.Bound != nil {
		r.Unchecked = append(r.Unchecked, "the proof of its key, which each request brings beside it; without one it is refused")
	}
	signature, err := []byte(nil), error(nil)
	if len(parts) > 2 {
		signature, err = strictBase64.DecodeString(parts[2])
	}
	switch {
	case len(parts) != 3:
	case err != nil:
		refuse(malformed, "its signature is not base64url")
	case key != nil && kid != "" && len(kid) <= 64:
		i.judgeSignature(r, header["alg"], kid, parts, signature, time.Unix(int64(min(max(c.Issued, 0), latestDate)), 0), key, refuse)
	}
	if lacks := scopesLacking(c.Scope, i.required); lacks != "" {
		refuse("the access token lacks a required scope", "%s", lacks)
	}
}

func (i *inspection) judgeClaims(r *explanation, c tokenClaims, refuse func(why, more string, args ...any)) {
	const malformed = "the access token is malformed"
	if i.tenant.PublicURL == "" {
		r.Unchecked = append(r.Unchecked, "iss: give --public-url")
	} else if c.Issuer != i.tenant.PublicURL {
		refuse("the access token is from another issuer", "%q, not %q", c.Issuer, i.tenant.PublicURL)
	}
	if i.tenant.Audience == "" {
		r.Unchecked = append(r.Unchecked, "aud: give --audience, or --resource if there is no such label")
	} else if !namesAudience(c.Audience, i.tenant.Audience) {
		refuse("the access token is for another audience", "aud does not name %q", i.tenant.Audience)
	}
	if i.required == "" {
		r.Unchecked = append(r.Unchecked, "scope: give --required-scopes, if there is such a label")
	}
	if c.Expires < 1 || c.Expires > latestDate || c.Issued < 1 || c.Issued > latestDate || c.NotBefore > latestDate {
		refuse(malformed, "exp or iat is missing, or a date is out of bounds")
	} else {
		r.Until = time.Unix(int64(c.Expires), 0).Add(expiryGrace)
		if !i.now.Before(r.Until) {
			refuse("the access token has expired", "%s; a minute more is granted", relative(time.Unix(int64(c.Expires), 0), i.now))
		}
		latest := float64(i.now.Add(sealing.Skew).Unix())
		if c.Issued > latest || c.NotBefore > latest {
			refuse("the access token is not valid yet", "iat or nbf is more than 5 minutes ahead of the clock here")
		}
	}
	if c.Subject == "" {
		refuse("the access token names no subject", "")
	}
	if c.ClientID == "" {
		refuse("the access token names no client", "")
	}
	if strings.ContainsFunc(c.Scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		refuse(malformed, "scope has characters that RFC 6749 section 3.3 does not allow")
	}
}

func (i *inspection) judgeSignature(r *explanation, alg, kid string, parts []string, signature []byte, issued time.Time, find signer, refuse func(why, more string, args ...any)) {
	key, where, withdrawn := find(kid, issued)
	switch {
	case key == nil:
		refuse("the access token is signed with an unknown key", "%s", where)
		return
	case alg != "EdDSA":
		refuse("the token is signed with an algorithm that is not accepted", "its key is for EdDSA")
	case !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), signature):
		refuse("the signature of the access token is wrong", "it was changed, or is forged")
	default:
		r.Facts = append(r.Facts, issuer.Fact{Name: "signature", Value: "verified", Meaning: where})
	}
	if withdrawn != "" {
		refuse("the access token is signed with an unknown key", "%s", withdrawn)
	}
}

// signingKey looks among the keys that were published when the token says that it was issued, and
// now. where says why there is none.
func (i *inspection) signingKey(id sealing.TenantID, kid string, issued time.Time) (key ed25519.PublicKey, where, withdrawn string) {
	ring, schedule := i.config.Ring, i.config.Schedule
	find := func(id sealing.TenantID) (key ed25519.PublicKey, master string, epoch uint32, ok bool) {
		for _, at := range []time.Time{issued, i.now} {
			if key, master, epoch, ok = issuer.FindKey(ring, id, schedule, at, kid); ok {
				return key, master, epoch, true
			}
		}
		return nil, "", 0, false
	}
	key, master, epoch, ok := find(id)
	if !ok {
		for _, other := range others(i.beside.Tenant) {
			if _, master, _, ok := find(other.tenant.ID()); ok {
				return nil, fmt.Sprintf("its kid is that of a key with %s (master %s): the label was another one, or the flag is wrong", other.flag, master), ""
			}
		}
		return nil, fmt.Sprintf("its kid is that of no key of these labels and masters (%s), of its time or of now. Likely: another master secret, another label, or another BOUNCER_KEY_ROTATION_DAYS than %d",
			strings.Join(ring.MasterIDs(), ", "), schedule.Rotation/(24*time.Hour)), ""
	}
	begins := time.Unix(int64(epoch)*int64(schedule.Rotation/time.Second), 0)
	where = fmt.Sprintf("key of epoch %d (from %s for %d days), of master %s", epoch, begins.UTC().Format(time.DateOnly), schedule.Rotation/(24*time.Hour), master)
	if first, last := schedule.Published(i.now); epoch < first || epoch > last {
		withdrawn = fmt.Sprintf("epoch %d is not among the keys that are published now (%d to %d)", epoch, first, last)
	}
	return key, where, withdrawn
}

// claimFacts are all claims, those that are known first.
func claimFacts(body []byte) (facts []issuer.Fact) {
	var claims map[string]json.RawMessage
	if json.Unmarshal(body, &claims) != nil {
		return nil
	}
	add := func(name, meaning string) {
		f := issuer.Fact{Name: name, Value: rawText(claims[name]), Meaning: meaning}
		var seconds float64
		// a date that no calendar has is shown as the number that it is
		if slices.Contains(dates, name) && json.Unmarshal(claims[name], &seconds) == nil && seconds >= 1 && seconds < 250e9 {
			f.Value, f.At = "", time.Unix(int64(seconds), 0).UTC()
		}
		if f.Value == "" && f.At.IsZero() {
			f.Value = "none"
		}
		// It opens for whoever has the hop key, so it is not shown.
		if name == "upstream_token" && f.Value != "none" {
			f.Value = fmt.Sprintf("%d characters", len(f.Value))
			if id, err := strictBase64.DecodeString(rawText(claims[name])); err == nil && len(id) > 3 {
				f.Value += fmt.Sprintf(", for the hop key %x", id[:3])
			}
		}
		facts = append(facts, f)
		if name == "client_id" && f.Value != "" {
			facts = append(facts, issuer.Fact{Name: "client", Value: sealing.Fingerprint(f.Value[:min(len(f.Value), maxTokenInspected)]), Meaning: "fingerprint of the client_id, its name in the log"})
		}
	}
	known := map[string]bool{}
	for _, claim := range claimMeanings {
		known[claim.name] = true
		if _, there := claims[claim.name]; there {
			add(claim.name, claim.meaning)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if !known[name] {
			add(name, "not a claim of MCPBouncer")
		}
	}
	return facts
}

// rawText is a JSON text without its quotes, or another value as it is.
func rawText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func namesAudience(claim any, audience string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(audience))
	}
	return claim == audience
}

// scopesLacking are those of required that granted has not.
func scopesLacking(granted, required string) string {
	var lacks []string
	for _, scope := range strings.Fields(required) {
		if !slices.Contains(strings.Split(granted, " "), scope) {
			lacks = append(lacks, scope)
		}
	}
	return strings.Join(lacks, " ")
}
