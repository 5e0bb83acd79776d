// Package weburl says what kind of address a URL is, as browsers see it. It makes no request, and
// does not judge whether an address may be used: that is for its callers.
package weburl

import (
	"net/url"
	"strings"
)

// HostOf returns the host and port of a URL in small letters, as browsers read it: cIaude.ai, with
// a capital i, is ciaude.ai. A text that cannot be parsed is returned as it is.
func HostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return strings.ToLower(u.Host)
}

// IsWeb says whether a browser itself shows what is at this address: its scheme is http or https.
// Schemes ignore case (RFC 3986 §3.1), so the parsed scheme is compared and not the text.
func IsWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http")
}

// IsLocalHTTP says whether u is plain http to this machine: the one place where a login may run
// without TLS, for development.
func IsLocalHTTP(u *url.URL) bool {
	host := u.Hostname()
	return u.Scheme == "http" && (IsLoopbackHost(host) || strings.HasSuffix(host, ".localhost"))
}

// IsLoopbackHost knows three spellings and no more: 127.1, 2130706433 or localhost.evil.example are
// not among them (RFC 8252 §7.3).
func IsLoopbackHost(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}
