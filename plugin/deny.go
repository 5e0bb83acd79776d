//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// The deny document says which logins, clients, users and keys the operator has ended. The sidecar
// tells the part of each tenant (GET /hop/deny, docs/hop.md). A request that finds the copy older
// than denyPeriod has it fetched again. Requests wait for that only in two cases: there is no copy,
// or it is older than denyPatience and the sidecar is not known to be away.

const (
	denyPeriod   = 30      // seconds
	denyPatience = 60      // seconds
	denyMemory   = 3600    // seconds after a confirmation in which no older document counts
	maxDenyBody  = 8 << 20 // bytes; of the document 1 MB, of which JSON may write a byte in six
)

// denyUser is a tokenCache: see keyUser.
type denyUser interface {
	useDenied(list *denyList, due period)
}

// denyCache keeps a tenant's copy of the deny document, and fetches it as keySet fetches keys.
type denyCache struct {
	sidecar string   // base URL
	tokens  denyUser // judged by the copy
	figures *figures // count failures

	mu   sync.RWMutex // never held during a fetch
	list *denyList    // nil before the first success
	// Unix seconds: until nextDue no period here can end, unless the clock is set back to before
	// dueFrom. 0 after a failure.
	nextDue   int64
	dueFrom   int64
	hop       *hopSealer // of the middleware that asked last: its name stands in the log
	pause     period     // no fetch
	fresh     period     // requests are judged by list without waiting for a fetch
	confirmed int64      // Unix seconds at which list was last said to be the current one
	failures  int        // since the last success
	inflight  *flight    // nil when none runs
}

// denyList is a copy of the document.
type denyList struct {
	etag      string
	serial    int64   // one more with each change
	notBefore float64 // Unix seconds: logins that began earlier are over
	clients   map[string]bool
	users     map[string]bool
	logins    map[string]bool // by id: `families` of the document
	keys      map[string]bool
}

var errDenied = errors.New("the login of the access token was ended by the operator")

// denies says whether the operator has ended the login to which a token belongs. notBefore is
// compared with the beginning of the login, and not with that of the token, which a thief renews by
// refreshing.
func denies(d *denyList, c *claims) bool {
	born := c.AuthTime
	if born == 0 {
		born = c.Issued
	}
	if born < d.notBefore || d.users[c.Subject] || d.logins[c.Login] || d.keys[c.Login] {
		return true
	}
	return len(d.clients) > 0 && d.clients[fingerprint(c.ClientID)]
}

// isEmpty says that the document denies nobody.
func (d *denyList) isEmpty() bool {
	return d.notBefore == 0 && len(d.users)+len(d.logins)+len(d.keys)+len(d.clients) == 0
}

// fingerprint returns the name of a client_id in the document (docs/sealed-values.md).
func fingerprint(clientID string) string {
	const label = "mcpbouncer/v1/fingerprint"
	text := make([]byte, 0, 4+len(label)+len(clientID))
	text = binary.BigEndian.AppendUint16(text, uint16(len(label)))
	text = append(text, label...)
	text = binary.BigEndian.AppendUint16(text, uint16(len(clientID)))
	text = append(text, clientID...)
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// parseDenyList reads the document. It refuses a document with a part that it does not understand:
// an entry that is passed over would deny nothing.
func parseDenyList(body []byte, etag string) (*denyList, error) {
	var document struct {
		Version   int      `json:"v"`
		Serial    int64    `json:"serial"`
		NotBefore float64  `json:"notBefore"`
		Clients   []string `json:"clients"`
		Users     []string `json:"users"`
		Logins    []string `json:"families"`
		Keys      []string `json:"keys"`
	}
	if json.Unmarshal(body, &document) != nil || document.Version != 1 {
		return nil, errors.New("the deny document is not JSON of version 1")
	}
	if name := unknownDenial(body); name != "" {
		return nil, fmt.Errorf("the deny document has the member %s, which this version of the plugin does not know: upgrade the plugin too", strconv.Quote(name))
	}
	d := &denyList{etag: etag, serial: document.Serial, notBefore: document.NotBefore}
	d.clients = setOf(document.Clients)
	d.users = setOf(document.Users)
	d.logins = setOf(document.Logins)
	d.keys = setOf(document.Keys)
	return d, nil
}

// knownDenials are the members of the document. The decoder ignores letter case, so a member in
// another spelling is unknown here.
var knownDenials = map[string]bool{"v": true, "serial": true, "notBefore": true, "clients": true, "users": true, "families": true, "keys": true}

// unknownDenial returns a member that is not known here and is not empty. Passing over it would let
// in whom a later version of the sidecar was told to shut out.
func unknownDenial(body []byte) string {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(body, &members)
	for name, value := range members {
		text := string(value)
		if !knownDenials[name] && text != "[]" && text != "{}" && text != `""` && text != "0" && text != "null" && text != "false" {
			return name
		}
	}
	return ""
}

// setOf returns nil for an empty list.
func setOf(list []string) map[string]bool {
	if len(list) == 0 {
		return nil
	}
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return set
}

// findDenyList returns the copy to judge a request by. It waits when there is no copy, or only an
// old one.
func findDenyList(req *http.Request, t *tenant) (*denyList, error) {
	d := t.sidecar.deny
	at := now().Unix()
	d.mu.RLock()
	list := d.list
	settled := at < d.nextDue && at >= d.dueFrom
	d.mu.RUnlock()
	if list != nil && settled {
		return list, nil
	}
	return d.find(req, t.hop)
}

// find is findDenyList for the time when the document is due.
func (d *denyCache) find(req *http.Request, hop *hopSealer) (*denyList, error) {
	d.mu.Lock()
	at := now().Unix()
	d.hop = hop
	d.launch(at, req)
	inflight := d.inflight
	wait := d.overdue(at)
	d.mu.Unlock()
	if wait && inflight != nil && !inflight.wait(req.Context()) {
		return nil, errKeysUnavailable
	}
	d.mu.RLock()
	list := d.list
	d.mu.RUnlock()
	if list == nil {
		return nil, errKeysUnavailable
	}
	return list, nil
}

// alive says whether requests may be judged by the copy. It starts a fetch that is due.
func (d *denyCache) alive() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := now().Unix()
	d.launch(at, nil)
	return !d.overdue(at)
}

// overdue says that a request may not be judged by the copy; d.mu is held.
func (d *denyCache) overdue(at int64) bool {
	// The last fetch failed. After a quiet time that counts no more: nobody has asked since.
	away := d.failures > 0 && at >= d.pause.from && at < d.pause.until+denyPatience
	return d.list == nil || !away && !during(d.fresh, at)
}

// launch starts a fetch when one is due and none is in the air; d.mu is held. req is the request
// that may wait for it, or nil.
func (d *denyCache) launch(at int64, req *http.Request) {
	if during(d.pause, at) || d.inflight != nil {
		return
	}
	d.inflight = newFlight()
	hop := d.hop
	last := d.list
	parent := traceparentOf(req)
	var list *denyList
	fly(func() error {
		got, err := d.download(hop, last, parent)
		list = got
		return err
	}, func(err error) { d.land(hop, list, err) })
}

// land takes the outcome of a fetch. After a failure the last copy stays in force, however old it
// is: dropping it would let in again whom it keeps out.
func (d *denyCache) land(hop *hopSealer, list *denyList, err error) {
	if err != nil {
		complain(hop.name, "deny", "the deny document cannot be fetched from the sidecar "+d.sidecar+": "+reason(err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := now().Unix()
	d.inflight.done(err)
	d.inflight = nil
	if err != nil {
		d.failures++
		d.pause = period{from: at, until: at + backoff(d.failures)}
		d.settle()
		return
	}
	d.list = list
	d.confirmed = at
	d.failures = 0
	d.pause = period{from: at, until: at + denyPeriod}
	d.fresh = period{from: at, until: at + denyPatience}
	d.settle()
}

// settle finds the time in which nothing is due, and tells the tokens; d.mu is held.
func (d *denyCache) settle() {
	due := period{}
	if d.failures == 0 {
		due = d.pause
	}
	d.nextDue = due.until
	d.dueFrom = due.from
	d.tokens.useDenied(d.list, due)
}

// adopt takes over the copy of another tenant of the same origin where it is newer. Nobody else
// knows d yet.
func (d *denyCache) adopt(other *denyCache) {
	other.mu.RLock()
	defer other.mu.RUnlock()
	if other.list == nil || other.confirmed < d.confirmed {
		return
	}
	d.list = other.list
	d.pause = other.pause
	d.fresh = other.fresh
	d.confirmed = other.confirmed
	d.failures = other.failures
	d.settle()
}

// confirmedLately says whether a sidecar confirmed the copy within denyMemory. When the clock is
// set back, that time begins anew. If it ended instead, an old document would come in; if it went
// on, it would last for as long as the clock had been ahead.
func (d *denyCache) confirmedLately() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := now().Unix()
	if d.confirmed > at {
		d.confirmed = at
	}
	return at < d.confirmed+denyMemory
}

// download returns the last copy itself when nothing has changed. It refuses a document with a
// smaller serial, until nobody has confirmed the last copy for denyMemory: then the operator has
// begun a new document.
func (d *denyCache) download(hop *hopSealer, last *denyList, parent string) (*denyList, error) {
	etag := ""
	if last != nil {
		etag = last.etag
	}
	got, err := askSidecar(hop, &question{method: http.MethodGet, url: d.sidecar + "/hop/deny", etag: etag, limit: maxDenyBody, parent: parent, figures: d.figures})
	if err != nil {
		return nil, err
	}
	switch got.status {
	case http.StatusOK:
		if last != nil && etag != "" && got.etag == etag {
			return last, nil
		}
		list, err := parseDenyList(got.body, got.etag)
		if err == nil && last != nil && list.serial < last.serial && d.confirmedLately() {
			// The replica that answers cannot read the document and has an old copy, or was started
			// without one.
			err = errors.New("it is older than the one before")
		}
		return list, err
	case http.StatusNotModified:
		if last != nil {
			return last, nil
		}
	}
	return nil, fmt.Errorf("status %d", got.status)
}
