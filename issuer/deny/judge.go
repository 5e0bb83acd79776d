package deny

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
)

func (e Entries) has(entry string, now time.Time) bool {
	until, ok := e[entry]
	return ok && !until.over(now)
}

// Client says whether the client with this fingerprint (sealing.Fingerprint) is denied.
func (d *Document) Client(fingerprint string, now time.Time) bool {
	return d.Clients.has(fingerprint, now)
}

// Key says whether the bearer key with this id is denied.
func (d *Document) Key(id string, now time.Time) bool { return d.Keys.has(id, now) }

// RedirectHost says whether the host of a redirect URI is denied. An entry denies its host and all
// hosts below it; of a private-use scheme also the scheme.
func (d *Document) RedirectHost(u *url.URL, now time.Time) bool {
	if len(d.RedirectHosts) == 0 {
		return false
	}
	if u.Scheme != "https" && u.Scheme != "http" && d.RedirectHosts.has(u.Scheme, now) {
		return true
	}
	for host := plainHostOf(u); host != ""; _, host, _ = strings.Cut(host, ".") {
		if d.RedirectHosts.has(host, now) {
			return true
		}
	}
	// Registrations from before redirect URIs were held to one spelling are still good.
	ip, isIP := redirecturi.BrowserIP(plainHostOf(u))
	if !isIP {
		return false
	}
	for entry := range d.RedirectHosts {
		if other, isIP := redirecturi.BrowserIP(entry); isIP && other == ip && d.RedirectHosts.has(entry, now) {
			return true
		}
	}
	return false
}

// plainHostOf returns the host of a redirect URI, without the parts that do not change where it
// leads: a port, capitals and the dot of a fully qualified name.
func plainHostOf(u *url.URL) string {
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// A Login is what entries may name a login by.
type Login struct {
	ID        string // as the log and access tokens name it
	Born      int64  // Unix seconds
	PublicURL string // of its tenant
	Provider  string // the issuer of its tenant's provider
	Subject   string // of the person, or of a machine
	// Client is the fingerprint of the client that the login began with; empty if it is not known.
	Client string
}

// Login says what denies a login: "notBefore", "family", "client" or "user"; it is empty for a
// login that is not denied. Marks are compared with the login's birth: compared with a token's age,
// a thief who refreshes would outrun them. A machine with a denied user's subject is that user to
// the MCP server, and to the plugin, so it is denied too.
func (d *Document) Login(l Login, now time.Time) (because string) {
	switch {
	case l.Born < d.mark(l.PublicURL):
		return "notBefore"
	case d.Logins.has(l.ID, now):
		return "family"
	case l.Client != "" && d.Clients.has(l.Client, now):
		return "client"
	case len(d.Users) > 0 && slices.ContainsFunc(usersOf(l.Provider), func(prefix string) bool { return d.Users.has(prefix+l.Subject, now) }):
		return "user"
	}
	return ""
}

// JudgesLogins says whether the document has anything that Login could find.
func (d *Document) JudgesLogins() bool {
	return len(d.NotBefore)+len(d.Logins)+len(d.Clients)+len(d.Users) > 0
}

// mark is the mark of a tenant, in Unix seconds: its own or that for all, whichever is later.
// Births are whole seconds, so a mark within one second means the logins of that second too.
func (d *Document) mark(publicURL string) int64 {
	mark := int64(0)
	for _, who := range []string{"*", publicURL} {
		if at, ok := d.NotBefore[who]; ok {
			mark = max(mark, at.Add(time.Second-1).Unix())
		}
	}
	return mark
}

// usersOf returns the beginnings of the entries for a provider's users. A slash at the end of a
// provider's issuer is easily forgotten or added, and the person would not be denied.
func usersOf(provider string) []string {
	provider = strings.TrimSuffix(provider, "/")
	return []string{provider + "|", provider + "/|"}
}

// Part is what of a document concerns one tenant (docs/hop.md). Its lists are sorted and never nil.
type Part struct {
	Version   int      `json:"v"`
	Serial    int64    `json:"serial"`
	NotBefore int64    `json:"notBefore"`
	Clients   []string `json:"clients"`
	Users     []string `json:"users"`
	Logins    []string `json:"families"`
	Keys      []string `json:"keys"`
}

// Part returns what the plugin of a tenant must not let pass until it expires by itself. People of
// the issuers of identity assertions that it believes have the issuer before their subject.
func (d *Document) Part(publicURL, provider string, believed []string, now time.Time) Part {
	list := func(entries Entries, prefixes ...string) []string {
		found := []string{} // not null in JSON
		for entry := range entries {
			for _, prefix := range prefixes {
				if rest, ok := strings.CutPrefix(entry, prefix); ok && entries.has(entry, now) {
					found = append(found, rest)
				}
			}
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	users := list(d.Users, usersOf(provider)...)
	for _, issuer := range believed {
		for _, subject := range list(d.Users, usersOf(issuer)...) {
			users = append(users, issuer+"|"+subject)
		}
	}
	slices.Sort(users)
	return Part{
		Version: 1, Serial: d.Serial, NotBefore: d.mark(publicURL),
		Clients: list(d.Clients, ""), Users: users, Logins: list(d.Logins, ""), Keys: list(d.Keys, ""),
	}
}
