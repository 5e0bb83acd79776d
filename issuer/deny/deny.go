// Package deny is the operator's list of whom and what to refuse although it was sealed or signed
// here: the only revocations that there are without a store (docs/replay.md). Operators keep the
// document (mcpbouncer deny); every replica reads it, and the plugin is told its tenant's part.
//
// It promises that a document with a mistake is not taken; that one that was read once holds until
// a newer one is read; and that a nil *List denies nothing. It does not say how a refusal is
// worded: that is for its callers. It never writes the document.
package deny

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Document is a deny document, version 1.
type Document struct {
	Version int `json:"v"` // 1
	// Serial is one more with each change: a document with a smaller one is an old copy.
	Serial int64 `json:"serial"`
	// NotBefore maps "*" or a public URL to a mark: logins that began before it are over.
	NotBefore map[string]time.Time `json:"notBefore,omitzero"`
	// Clients has fingerprints of client_ids (sealing.Fingerprint).
	Clients Entries `json:"clients,omitzero"`
	// Users has the provider's issuer, "|" and the person's sub.
	Users Entries `json:"users,omitzero"`
	// Logins has ids as the log ("family") and access tokens ("sid") name them.
	Logins Entries `json:"families,omitzero"`
	// RedirectHosts has hosts, each with all hosts below it, and private-use schemes.
	RedirectHosts Entries `json:"redirectHosts,omitzero"`
	// Keys has the ids of bearer keys.
	Keys Entries `json:"keys,omitzero"`
}

// Entries maps what is denied to the time until when; the zero time means for ever.
type Entries map[string]Until

// Until is a time in JSON. The zero time is written as "".
type Until struct{ time.Time }

// MarshalJSON is for the encoder.
func (u Until) MarshalJSON() ([]byte, error) {
	if u.IsZero() {
		return []byte(`""`), nil
	}
	return u.Time.MarshalJSON()
}

// UnmarshalJSON is for the decoder.
func (u *Until) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		u.Time = time.Time{}
		return nil
	}
	return u.Time.UnmarshalJSON(b)
}

const (
	maxDocument = 1 << 20 // bytes
	maxEntries  = 10_000
	// bytes of one entry. Lengths stand in no pattern of this package: {1,800} would cost each
	// start milliseconds.
	maxEntry = 800
)

var (
	fingerprintForm = lazyregexp.Regexp{Text: `^[A-Za-z0-9_-]{16}$`}
	loginForm       = lazyregexp.Regexp{Text: `^[A-Za-z0-9_-]{22}$`}
	userForm        = lazyregexp.Regexp{Text: `^https?://[^| ]+\|[^\x00-\x1f]+$`}
	hostForm        = lazyregexp.Regexp{Text: `^[a-z0-9+_-]+(\.[a-z0-9+_-]+)*$`}
	keyForm         = lazyregexp.Regexp{Text: `^[A-Za-z0-9._~-]+$`}
)

// list is one of a document's lists: its JSON name and what an entry of it looks like.
type list struct {
	name    string
	entries *Entries
	looks   func(entry string) bool
}

func (d *Document) lists() []list {
	return []list{
		{"clients", &d.Clients, fingerprintForm.Get().MatchString}, {"users", &d.Users, userForm.Get().MatchString}, {"families", &d.Logins, loginForm.Get().MatchString},
		{"redirectHosts", &d.RedirectHosts, isHost}, {"keys", &d.Keys, keyForm.Get().MatchString},
	}
}

// isHost takes what can be a redirect URI's host, or its scheme: no port.
func isHost(entry string) bool {
	_, err := netip.ParseAddr(entry)
	return hostForm.Get().MatchString(entry) || err == nil
}

// HostEntry writes a host as entries of redirectHosts are, or says what to write instead.
func HostEntry(text string) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(text), ".")
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return "", fmt.Errorf("%q is a URI: give its host, %s", text, plainHostOf(u))
	}
	if ip, isIP := redirecturi.BrowserIP(host); isIP {
		if !ip.IsValid() {
			if name, _, err := net.SplitHostPort(host); err == nil {
				return "", fmt.Errorf("%q has a port: an entry is for all ports of %s", text, name)
			}
			return "", fmt.Errorf("%q is not an address that browsers open", text)
		}
		return ip.String(), nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
		return "", fmt.Errorf("%q must be written as in redirect URIs: in ASCII, as xn--…", text)
	}
	if strings.ContainsAny(host, "*%") {
		return "", fmt.Errorf("%q must be a plain name; it denies all hosts below it as well", text)
	}
	return host, nil
}

// Parse is strict: a word misspelt in a document would deny nothing, and nobody would notice. Its
// errors are for the operator.
func Parse(data []byte) (*Document, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("deny document: larger than %d bytes", maxDocument)
	}
	// go-jose's decoder refuses repeated members, and compares names to the byte
	var members map[string]json.RawMessage
	d := &Document{}
	if json.Unmarshal(data, &members) != nil || json.Unmarshal(data, d) != nil {
		return nil, errors.New("deny document: not a JSON object of this form, or a repeated member")
	}
	known := []string{"v", "serial", "notBefore"}
	for _, list := range d.lists() {
		known = append(known, list.name)
	}
	for name := range members {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("deny document: unknown member %q", name)
		}
	}
	return d, d.Check()
}

// Check says what is wrong with a document. Its errors name the entry.
func (d *Document) Check() error {
	if d.Version != 1 {
		return errors.New("deny document: v must be 1")
	}
	entries := len(d.NotBefore)
	for who, at := range d.NotBefore {
		if why := markFault(who, at); why != "" {
			return errors.New("deny document: notBefore: " + why)
		}
	}
	for _, list := range d.lists() {
		entries += len(*list.entries)
		for entry := range *list.entries {
			if why := list.fault(entry); why != "" {
				return fmt.Errorf("deny document: %s: %s", list.name, why)
			}
		}
	}
	if entries > maxEntries {
		return fmt.Errorf("deny document: more than %d entries; mcpbouncer deny prune removes those that are over", maxEntries)
	}
	return nil
}

// markFault says why a mark of notBefore cannot be one; it is empty for one that can.
func markFault(who string, at time.Time) string {
	switch {
	// a URL in another form is not any tenant's, and the mark would end nothing
	case who != "*" && !sealing.IsPublicURL(who):
		return fmt.Sprintf("%q is neither * nor a public URL as \"issuer\" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query", who)
	case at.IsZero():
		return fmt.Sprintf("%q has no time", who)
	}
	return ""
}

// fault says why an entry of the list cannot be one; it is empty for one that can.
func (l list) fault(entry string) string {
	if len(entry) > maxEntry || !l.looks(entry) {
		return fmt.Sprintf("%q cannot be one", entry)
	}
	return ""
}

// Ineffective says why an entry can deny nothing at all, in words for the operator; it is empty for
// an entry that can. name is the JSON name of the entry's list. Unlike what Check refuses, such an
// entry hides no other one, so a document that holds it is taken, and the log names it.
func Ineffective(name, entry string) string {
	switch ip, isIP := redirecturi.BrowserIP(entry); {
	case name == "notBefore" && strings.HasPrefix(entry, "http:"):
		if u, err := url.Parse(entry); err != nil || !weburl.IsLocalHTTP(u) {
			return "no server has a public URL with http, other than on localhost"
		}
	case name == "keys" && strings.HasPrefix(entry, "mbb1_"):
		return "this is the key itself, which must not stand in a list: give its key_id, which mcpbouncer key create printed and the log has as \"family\""
	case name == "keys" && !isID(entry):
		return "a key_id has 22 characters: mcpbouncer key create printed it, and the log has it as \"family\""
	case name == "families" && !isID(entry):
		return "this is not the whole name of a login: copy \"family\" from the log, or \"sid\" from an access token"
	case name == "redirectHosts" && isIP && !ip.IsValid():
		return "browsers open no such address"
	}
	return ""
}

// isID says whether a text is 16 bytes as ids are written: the last of 22 characters has two bits.
func isID(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == 16
}

// ineffective names up to 20 entries that can deny nothing, each with its reason.
func (d *Document) ineffective() (named []string) {
	add := func(name, entry string) {
		if why := Ineffective(name, entry); why != "" {
			if strings.HasPrefix(entry, "mbb1_") {
				entry = entry[:8] + "…" // a secret
			}
			named = append(named, fmt.Sprintf("%s: %q: %s", name, entry, why))
		}
	}
	for who := range d.NotBefore {
		add("notBefore", who)
	}
	for _, list := range d.lists() {
		for entry := range *list.entries {
			add(list.name, entry)
		}
	}
	slices.Sort(named)
	return named[:min(len(named), 20)]
}

// Prune removes the entries that are over, and says how many. Marks stay: a bearer key may be older
// than any of them.
func (d *Document) Prune(now time.Time) (removed int) {
	for _, list := range d.lists() {
		for entry, until := range *list.entries {
			if until.over(now) {
				delete(*list.entries, entry)
				removed++
			}
		}
	}
	return removed
}

func (u Until) over(now time.Time) bool { return !u.IsZero() && !now.Before(u.Time) }
