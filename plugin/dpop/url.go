//go:build go1.21

package dpop

import (
	"net/url"
	"strings"
	"sync"
)

// sameURL compares two URLs as RFC 9449 §4.3 asks for htu: without query and fragment, and by the
// rules of RFC 3986 §6.2.2 and §6.2.3.
func sameURL(a, b string) bool {
	one := normalURL(a)
	return one != "" && one == normalURL(b)
}

// normalURL returns the one spelling of an http(s) URL: scheme and host in small letters, no
// default port, no dot segments, "/" for no path, no unreserved character percent-encoded and the
// digits of all others in capitals. It is empty for what is no such URL.
func normalURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	port := u.Port()
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":"+port)
	if port != "" && !(port == "443" && u.Scheme == "https") && !(port == "80" && u.Scheme == "http") {
		host += ":" + port
	}
	path := u.ResolveReference(u).EscapedPath() // without dot segments
	if path == "" {
		path = "/"
	}
	if strings.Contains(path, "%") {
		filled.Do(fillEscapes)
		path = escapes.Replace(path)
	}
	return u.Scheme + "://" + host + path
}

// escapes maps each percent-encoding to its one spelling, because a loop over a path in Yaegi costs
// more than this. It is filled for the first path that needs it: hardly any does, and each start
// would pay for it.
var (
	filled  sync.Once
	escapes *strings.Replacer
)

const (
	unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	capitals   = "0123456789ABCDEF"
	digits     = "0123456789abcdef"
)

func fillEscapes() {
	pairs := []string{}
	for i := 0; i < 256; i++ {
		to := "%" + capitals[i/16:i/16+1] + capitals[i%16:i%16+1]
		from := to
		if strings.Contains(unreserved, string([]byte{byte(i)})) {
			to = string([]byte{byte(i)})
		}
		pairs = append(pairs, from, to)
		first := digits[i/16 : i/16+1]
		second := digits[i%16 : i%16+1]
		for _, other := range []string{"%" + first + from[2:], from[:2] + second, "%" + first + second} {
			if other != from {
				pairs = append(pairs, other, to)
			}
		}
	}
	escapes = strings.NewReplacer(pairs...)
}
