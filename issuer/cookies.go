package issuer

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
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
	// of at most 3.9 KB each: with a hop header of 8 KB still below MaxHeaderBytes
	maxFlows = 6
	// maxConsents is how many pages of a browser can be answered, of 60 bytes each. Browsers keep
	// 50 cookies of a host, or 180, and then drop others: the logins of this host, or another
	// program's.
	maxConsents = 10
	// maxExpired is how many cookies one answer takes back: its header must not get too long.
	maxExpired = 20
)

// cookieTag is the part of an id that names its cookie.
func cookieTag(id string) string { return id[:min(6, len(id))] }

// cookieName adds __Host-, which makes browsers refuse the cookie from any other host or over plain
// http. Only development on localhost without TLS goes without.
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

// answeredCookie ends a consent page a moment after its answer. At a double click the browser
// abandons the answer to the first click, maybe with its cookies kept, and shows the answer to the
// second: that must not be "already answered". Nothing rests on the browser's clock: whoever holds
// the cookie is who was asked, and the sealed request has a life of its own.
func (t *tenant) answeredCookie(id, decision string) *http.Cookie {
	c := t.cookie(consentCookie, id, id+"."+decision) // no id has a dot
	c.MaxAge = int(secondTry / time.Second)
	return c
}

// reloadedCookie ends a login a minute after its answer, for which what was learnt is kept
// (unfinished.go): a page that offers to open the application is reloaded by whoever has missed
// that.
func (t *tenant) reloadedCookie(state, sealed string) *http.Cookie {
	c := t.cookie(flowCookie, state, sealed)
	c.MaxAge = int(unfinishedLife / time.Second)
	return c
}

// newConsentID names a rendering of the consent page: 16 random bytes, and when it was. The time
// only orders cookies.
func (s *Issuer) newConsentID() string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(random(16), uint32(s.Now().Unix())))
}

// staleConsents names the oldest consent pages of a browser that has opened too many.
func (t *tenant) staleConsents(r *http.Request) []*http.Cookie {
	return t.stale(r, consentCookie, maxConsents, func(c *http.Cookie) int64 {
		id, _, _ := strings.Cut(c.Value, ".")
		b, err := base64.RawURLEncoding.DecodeString(id)
		if err != nil || len(b) != 20 {
			return 0
		}
		return int64(binary.BigEndian.Uint32(b[16:]))
	})
}

// staleFlows names the oldest logins of a browser that has begun too many: its cookies must stay
// far below what servers take.
func (t *tenant) staleFlows(r *http.Request) []*http.Cookie {
	return t.stale(r, flowCookie, maxFlows, func(c *http.Cookie) int64 {
		// only orders; nothing is trusted by it
		at, _ := sealing.IssuedAt(sealing.KindFlow, c.Value)
		return at.Unix()
	})
}

// stale takes back the oldest cookies of a kind, so that with the one to come there are at most so
// many. Of the same age, the one that the browser sends first is the older (RFC 6265 §5.4).
func (t *tenant) stale(r *http.Request, kind string, most int, age func(*http.Cookie) int64) []*http.Cookie {
	prefix := t.cookieName(kind, "")
	var all []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, prefix) {
			all = append(all, c)
		}
	}
	if len(all) < most {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *http.Cookie) int { return cmp.Compare(age(a), age(b)) })
	stale := all[:min(len(all)-most+1, maxExpired)]
	for i, c := range stale {
		stale[i] = t.expiredCookie(kind, strings.TrimPrefix(c.Name, prefix))
	}
	return stale
}
