package provider

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// idToken is what is used of a verified id_token, or of what the provider said in its place
// (people.go).
type idToken struct {
	subject, nonce string
	claims         claims // all of them
	whole          bool   // the provider says nothing more anywhere
}

// verifyLogin reads the id_token of a login, which must be the one that was asked for.
func (p *Provider) verifyLogin(ctx context.Context, seed sealing.LoginSeed, token *oauth2.Token) (idToken, error) {
	who, err := p.verifyIDToken(ctx, token)
	if err == nil && (who.nonce == "" || subtle.ConstantTimeCompare([]byte(who.nonce), []byte(seed.Nonce())) != 1) {
		err = loginRefused(errors.New("nonce of the id_token is not the one sent"))
	}
	return who, err
}

// verifyIDToken reads the id_token of a login. Whatever is wrong with it refuses the login, except
// for a key that cannot be read yet. The caller checks the nonce.
func (p *Provider) verifyIDToken(ctx context.Context, token *oauth2.Token) (idToken, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		why := "the provider sent no id_token"
		if v := token.Extra("id_token"); v != nil && v != "" {
			why = "the id_token that the provider sent is " + typeOf(v)
		}
		return idToken{}, loginRefused(errors.New(why))
	}
	who, err := p.readIDToken(ctx, raw, false)
	switch {
	case errors.Is(err, errKeysUnread):
		// Nothing was refused: the client may try again with what it holds.
		return idToken{}, unanswered(err)
	case errors.Is(err, errKeyNotThere):
		// The key may come: a set from before a rotation may be served for longer than is waited
		// here.
		return idToken{}, unanswered(notUsed{fmt.Errorf("id_token: %w", err)})
	case err != nil:
		return idToken{}, loginRefused(fmt.Errorf("id_token: %w", err))
	}
	return who, nil
}

// refreshedIDToken reads the id_token of a refresh (OpenID Connect Core §12.2). Another person's
// ends the login. Anything else that is wrong with it does not, for a while: the token endpoint has
// just said, over TLS and to a client that it knows, that the login may go on, and the id_token
// only says whose it is. Otherwise a new key under an old kid, a key set that lags behind, or a
// client that was set to another algorithm would log everybody out.
func (p *Provider) refreshedIDToken(ctx context.Context, raw, subject string) (idToken, error) {
	who, err := p.readIDToken(ctx, raw, true)
	said := who.subject
	if err != nil {
		said = unverifiedSubject(raw)
	}
	switch {
	case said != "" && said != subject:
		return idToken{}, loginRefused(errors.New("sub of the refreshed id_token is another person's"))
	case errors.Is(err, errKeysUnread):
		return idToken{}, unanswered(err)
	case err != nil:
		return idToken{}, unanswered(notUsed{fmt.Errorf("id_token: %w", err)})
	}
	return who, nil
}

// unverifiedSubject is the sub that a JWT names, without any check: it may end a login, and never
// begin one.
func unverifiedSubject(raw string) string {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	c, _ := readClaims(payload)
	subject, _ := c["sub"].(string)
	return subject
}

// readIDToken checks an id_token as OpenID Connect Core §3.1.3.7 says: its signature, and then each
// claim that is needed. Its errors say what came in place of what was expected, except for the
// subject and the nonce. anyKey is for a refresh: any key of the provider may have signed, not only
// the one that the token names.
func (p *Provider) readIDToken(ctx context.Context, raw string, anyKey bool) (idToken, error) {
	token, err := readSigned(raw, p.algorithms)
	if err != nil {
		return idToken{}, err
	}
	payload, err := p.keys.verify(ctx, token, anyKey)
	if err != nil {
		return idToken{}, err
	}
	c, err := readClaims(payload)
	if err != nil {
		return idToken{}, err
	}
	needed := reading{claims: c}
	iss, party, subject := needed.text("iss"), needed.text("azp"), needed.text("sub")
	expires, notBefore, audience := needed.seconds("exp"), needed.seconds("nbf"), needed.list("aud")
	now := float64(p.all.Now().UnixMilli()) / 1e3
	skew := sealing.Skew.Seconds()
	switch {
	case needed.odd != nil:
		return idToken{}, needed.odd
	case iss != p.issuer && !(p.dialect.bareIss && iss == strings.TrimPrefix(p.issuer, "https://")):
		return idToken{}, fmt.Errorf("iss is %s, and the label providerIssuer is %q", issuerForm(iss), p.issuer)
	case !slices.Contains(audience, p.client.ID):
		return idToken{}, fmt.Errorf("aud does not name this client (label clientID), but %d others", len(audience))
	case party != "" && party != p.client.ID:
		return idToken{}, errors.New("azp names another client than this one (label clientID)")
	case party == "" && len(audience) > 1:
		return idToken{}, fmt.Errorf("aud names %d parties, and no azp says that it is for this client", len(audience))
	case c["exp"] == nil:
		return idToken{}, errors.New("exp is missing")
	case now > expires+skew:
		return idToken{}, fmt.Errorf("it expired %.0f seconds ago (exp), by this server's clock", min(now-expires, 1e10))
	case notBefore > now+skew:
		return idToken{}, fmt.Errorf("it is not valid before its nbf, in %.0f seconds by this server's clock", min(notBefore-now, 1e10))
	case subject == "":
		return idToken{}, errors.New("sub is empty or missing")
	case len(subject) > 255: // Core §2
		return idToken{}, errors.New("sub has more than 255 bytes")
	}
	if issued, ok := seconds(c["iat"]); ok { // iat is not needed
		if apart := math.Abs(now - issued); apart > skew {
			p.all.Log.Warn("this clock and the provider's differ", "provider", p.issuer, "seconds", int(min(apart, 1e10)))
		}
	}
	p.all.Log.Debug("id_token verified", p.client.Named, "provider", p.issuer, "subject", p.all.Ring.Pseudonym(p.client.Tenant, subject))
	nonce, _ := c["nonce"].(string) // not needed at a refresh
	return idToken{subject: subject, nonce: nonce, claims: c}, nil
}

// issuerForm is an iss as it may stand in a log: a URL without the parts that could name a person.
func issuerForm(iss string) string {
	u, err := url.Parse(iss)
	switch {
	case iss == "":
		return "missing"
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "no URL of a provider"
	}
	return fmt.Sprintf("%.200q", iss)
}

// readClaims reads a JSON object. A claim that is null counts as missing. Numbers stay as they were
// written: as floating point two large ones could become the same.
func readClaims(text []byte) (claims, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var c claims
	if err := decoder.Decode(&c); err != nil || c == nil {
		return nil, errors.New("it holds no JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than a JSON object")
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c, nil
}

// reading reads the claims that decide, and keeps what is wrong with the first that cannot be
// understood.
type reading struct {
	claims
	odd error
}

func (r *reading) isOdd(name, why string) {
	if r.odd == nil {
		r.odd = errors.New(name + " is " + why)
	}
}

func (r *reading) text(name string) string {
	text, ok := r.claims[name].(string)
	if !ok && r.claims[name] != nil {
		r.isOdd(name, typeOf(r.claims[name])+", not a string")
	}
	return text
}

func (r *reading) seconds(name string) float64 {
	n, ok := seconds(r.claims[name])
	if !ok && r.claims[name] != nil {
		r.isOdd(name, typeOf(r.claims[name])+", not a number of seconds")
	}
	return n
}

// seconds reads a NumericDate (RFC 7519 §2), with or without a fraction. Some providers write it as
// a string.
func seconds(v any) (float64, bool) {
	text, ok := v.(string)
	if number, is := v.(json.Number); is {
		text, ok = number.String(), true
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, ok && err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
}

// list reads a claim that is a string or a list of strings, as aud is (RFC 7519 §4.1.3): each once.
func (r *reading) list(name string) (all []string) {
	list, isList := r.claims[name].([]any)
	if !isList {
		if one := r.text(name); one != "" {
			all = append(all, one)
		}
		return all
	}
	for _, entry := range list {
		text, ok := entry.(string)
		if !ok {
			r.isOdd(name, "a list with "+typeOf(entry)+" in it, not of strings")
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
