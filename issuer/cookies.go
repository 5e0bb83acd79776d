package issuer

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Two cookies, one of each per login, so that logins in several tabs do not meet.
const (
	consentCookie = "mcpb-consent-" // the id that a consent page was rendered for
	flowCookie    = "mcpb-flow-"    // the sealed login, while the person is at the provider

	cookieLife = 15 * time.Minute // the life of the sealed values in them
	secondTry  = 10 * time.Second // of a person who clicks again
	maxFlows   = 6                // of at most 3.9 KB each: with a hop header of 8 KB still below MaxHeaderBytes
)

// cookieTag is the part of an id that names its cookie.
func cookieTag(id string) string { return id[:min(6, len(id))] }

// cookieName adds __Host-, which makes browsers refuse the cookie from any other host or over plain http. Only
// development on localhost without TLS goes without.
func (t *tenant) cookieName(kind, id string) string {
	if t.secure {
		return "__Host-" + kind + cookieTag(id)
	}
	return kind + cookieTag(id)
}

func (t *tenant) cookie(kind, id, value string) *http.Cookie {
	return &http.Cookie{
		Name: t.cookieName(kind, id), Value: value, Path: "/",
		MaxAge: int(cookieLife / time.Second), HttpOnly: true, Secure: t.secure,
		SameSite: http.SameSiteLaxMode, // the way back from the provider is a cross-site navigation
	}
}

func (t *tenant) expiredCookie(kind, id string) *http.Cookie {
	c := t.cookie(kind, id, "")
	c.MaxAge = -1
	return c
}

// answeredCookie ends a consent page a moment after its answer. At a double click the browser abandons the answer to the first click, maybe
// with its cookies kept, and shows the answer to the second: that must not be "already answered". Nothing rests on the browser's clock:
// whoever holds the cookie is who was asked, and the sealed request has a life of its own.
func (t *tenant) answeredCookie(id, decision string) *http.Cookie {
	c := t.cookie(consentCookie, id, id+"."+decision) // no id has a dot
	c.MaxAge = int(secondTry / time.Second)
	return c
}

// staleFlows names the oldest logins of a browser that has begun too many: its cookies must stay far below
// what servers take.
func (t *tenant) staleFlows(r *http.Request) []*http.Cookie {
	var flows []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, t.cookieName(flowCookie, "")) {
			flows = append(flows, c)
		}
	}
	if len(flows) < maxFlows {
		return nil
	}
	age := func(c *http.Cookie) int64 {
		at, _ := sealing.IssuedAt(sealing.KindFlow, c.Value) // only orders; nothing is trusted by it
		return at.Unix()
	}
	slices.SortFunc(flows, func(a, b *http.Cookie) int { return int(age(a) - age(b)) })
	stale := flows[:len(flows)-maxFlows+1]
	for i, c := range stale {
		stale[i] = t.expiredCookie(flowCookie, strings.TrimPrefix(c.Name, t.cookieName(flowCookie, "")))
	}
	return stale
}
