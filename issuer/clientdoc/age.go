package clientdoc

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// cacheAge returns how long an answer may be kept (RFC 9111 §4.2), within our bounds.
func cacheAge(h http.Header, now time.Time) time.Duration {
	age, explicit := defaultAge, false
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return minAge
		case "max-age":
			// An overflowing max-age means the maximum (§1.2.2); a malformed one means 0.
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				seconds = 0
			}
			age, explicit = time.Duration(seconds)*time.Second, true
		}
	}
	if expires := h.Get("Expires"); expires != "" && !explicit {
		date, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			date = now
		}
		at, err := http.ParseTime(expires)
		if err != nil {
			at = date // §5.3: a text that is not a date counts as past
		}
		age, explicit = at.Sub(date), true
	}
	if seconds, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil && explicit {
		age -= time.Duration(seconds) * time.Second
	}
	return min(max(age, minAge), maxAge)
}
