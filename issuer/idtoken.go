package issuer

import (
	"bytes"
	"context"
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

// idToken is what is used of a verified id_token.
type idToken struct {
	subject, nonce string
	claims         claims // all of them
}

// verifyIDToken is for the id_token of a login: what is wrong with it refuses the login, but for a
// key that cannot be read yet. The nonce is the caller's.
func (s *Issuer) verifyIDToken(ctx context.Context, t *tenant, up *upstream, token *oauth2.Token) (idToken, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		why := "the provider sent no id_token"
		if v := token.Extra("id_token"); v != nil && v != "" {
			why = "the id_token that the provider sent is " + typeOf(v)
		}
		return idToken{}, loginRefused(errors.New(why))
	}
	who, err := s.readIDToken(ctx, t, up, raw, false)
	switch {
	case errors.Is(err, errKeysUnread):
		// nothing was refused: the client may try again with what it holds
		return idToken{}, unanswered(err)
	case errors.Is(err, errKeyNotThere):
		// yet: a key set may be served from before a rotation for longer than is waited here
		return idToken{}, unanswered(notUsed{fmt.Errorf("id_token: %w", err)})
	case err != nil:
		return idToken{}, loginRefused(fmt.Errorf("id_token: %w", err))
	}
	return who, nil
}

// errUnusable is in the chain of errors of what a provider said at a refresh that it granted, and
// that cannot be used. It may pass: keys rotate, and answers of the key set are late. What does not
// pass within staleWindow ends the login.
var errUnusable = errors.New("what the provider said cannot be used")

// notUsed is a cause with errUnusable in its chain.
type notUsed struct{ cause error }

func (n notUsed) Error() string   { return n.cause.Error() }
func (n notUsed) Unwrap() []error { return []error{errUnusable, n.cause} }

// refreshedIDToken is for the id_token of a refresh (OpenID Connect Core §12.2). It ends the login
// if it is another person's. Anything else that is wrong with it does not, for a while: that the
// login may go on is what the token endpoint has just said, over TLS and to a client that it knows,
// and the id_token only says who it is. A new key under an old kid, a key set that lags behind, and
// a client that was set to another algorithm would log everybody out.
func (s *Issuer) refreshedIDToken(ctx context.Context, t *tenant, up *upstream, raw, subject string) (idToken, error) {
	who, err := s.readIDToken(ctx, t, up, raw, true)
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

// unverifiedSubject is the sub that a JWT names, without any check: good for ending a login, never
// for beginning one.
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

// readIDToken is OpenID Connect Core §3.1.3.7: the signature, and then each claim that is needed.
// Its errors say what came in place of what was expected, but for the subject and the nonce. anyKey
// is for a refresh: any key of the provider may have signed, and not only the one that is named.
func (s *Issuer) readIDToken(ctx context.Context, t *tenant, up *upstream, raw string, anyKey bool) (idToken, error) {
	token, err := readSigned(raw, up.algorithms)
	if err != nil {
		return idToken{}, err
	}
	payload, err := up.keys.verify(ctx, token, anyKey)
	if err != nil {
		return idToken{}, err
	}
	c, err := readClaims(payload)
	if err != nil {
		return idToken{}, err
	}
	needed := reading{claims: c}
	iss, party, subject := needed.text("iss"), needed.text("azp"), needed.text("sub")
	expires, notBefore, audience := needed.seconds("exp"), needed.seconds("nbf"), needed.audience()
	now := float64(s.Now().UnixMilli()) / 1e3
	skew := sealing.Skew.Seconds()
	switch {
	case needed.odd != nil:
		return idToken{}, needed.odd
	case iss != up.issuer && !(up.issuer == googleIssuer && iss == strings.TrimPrefix(googleIssuer, "https://")):
		// which Google itself documents
		return idToken{}, fmt.Errorf("iss is %s, and the label providerIssuer is %q", issuerForm(iss), up.issuer)
	case !slices.Contains(audience, t.ClientID):
		return idToken{}, fmt.Errorf("aud does not name this client (label clientID), but %d others", len(audience))
	case party != "" && party != t.ClientID:
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
	if issued, ok := seconds(c["iat"]); ok { // which is not needed
		if apart := math.Abs(now - issued); apart > skew {
			s.Log.Warn("this clock and the provider's differ", "provider", up.issuer, "seconds", int(min(apart, 1e10)))
		}
	}
	s.Log.Debug("id_token verified", t.named(), "provider", up.issuer, "subject", s.Ring.Pseudonym(t.id, subject))
	nonce, _ := c["nonce"].(string) // which is not needed at a refresh
	return idToken{subject, nonce, c}, nil
}

// issuerForm is an iss as it may stand in a log: a URL, and nothing that a person could be named
// in.
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

// readClaims reads a JSON object. A claim that is null is as one that is missing. Numbers stay as
// they were written: a double would make one of two large ones.
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

// seconds is a NumericDate (RFC 7519 §2), with or without a fraction. Some write it as a string.
func seconds(v any) (float64, bool) {
	text, ok := v.(string)
	if number, is := v.(json.Number); is {
		text, ok = number.String(), true
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, ok && err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
}

// audience is aud: a string, or a list of them (RFC 7519 §4.1.3), each once.
func (r *reading) audience() (all []string) {
	list, isList := r.claims["aud"].([]any)
	if !isList {
		if one := r.text("aud"); one != "" {
			all = append(all, one)
		}
		return all
	}
	for _, entry := range list {
		text, ok := entry.(string)
		if !ok {
			r.isOdd("aud", "a list with "+typeOf(entry)+" in it, not of strings")
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
