//go:build go1.21

package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// The deny document says which logins, clients, users and keys the operator has ended. The sidecar
// tells its tenant's part (GET /hop/deny, docs/hop.md). It is asked again when a request comes and
// the copy is older than denyPeriod; requests wait only when there is no copy, or when it is older
// than denyPatience and the sidecar is not known to be away.

const (
	denyPeriod   = 30      // seconds
	denyPatience = 60      // seconds
	maxDenyBody  = 8 << 20 // the document has 1 MB, and JSON may write a character of it in six
)

// denyList is a copy of the document.
type denyList struct {
	etag      string
	serial    int64   // one more with each change
	notBefore float64 // Unix seconds: logins that began earlier are over
	clients   map[string]bool
	users     map[string]bool
	families  map[string]bool
	keys      map[string]bool
}

var errDenied = errors.New("the login of the access token was ended by the operator")

// denies says whether the operator has ended the login that a token stands on. The mark is compared
// with the birth of the login, not of the token: a thief who refreshes would outrun it.
func (d *denyList) denies(c *claims) bool {
	born := c.AuthTime
	if born == 0 {
		born = c.Issued
	}
	if born < d.notBefore || d.users[c.Subject] || d.families[c.Session] || d.keys[c.Session] {
		return true
	}
	return len(d.clients) > 0 && d.clients[fingerprint(c.ClientID)]
}

// fingerprint names a client_id as docs/sealed-values.md says.
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

// parseDenyList reads the document. What it does not understand it does not take: an entry passed
// over would deny nothing.
func parseDenyList(body []byte, etag string) (*denyList, error) {
	var document struct {
		Version   int      `json:"v"`
		Serial    int64    `json:"serial"`
		NotBefore float64  `json:"notBefore"`
		Clients   []string `json:"clients"`
		Users     []string `json:"users"`
		Families  []string `json:"families"`
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
	d.families = setOf(document.Families)
	d.keys = setOf(document.Keys)
	return d, nil
}

// knownDenials are the members of the document. The decoder does not mind letter case, so what is
// spelt otherwise is not known.
var knownDenials = map[string]bool{"v": true, "serial": true, "notBefore": true, "clients": true, "users": true, "families": true, "keys": true}

// unknownDenial returns a member that is not known here and names something: passing over it would
// let in whom a later sidecar was told to shut out.
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

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return set
}

// findDenyList returns the copy to judge by. It waits when there is none, or an old one.
func findDenyList(ctx context.Context, k *keyset) (*denyList, error) {
	at := now().Unix()
	k.mu.RLock()
	d := k.denied
	calm := at < k.calm && at >= k.calmFrom
	k.mu.RUnlock()
	if d != nil && calm {
		return d, nil
	}
	k.mu.Lock()
	at = now().Unix()
	k.launchDeny(at)
	flight := k.denyFlight
	wait := k.denyOverdue(at)
	k.mu.Unlock()
	if wait && flight != nil && !landed(ctx, flight) {
		return nil, errKeysUnavailable
	}
	k.mu.RLock()
	d = k.denied
	k.mu.RUnlock()
	if d == nil {
		return nil, errKeysUnavailable
	}
	return d, nil
}

// denyOverdue says that a request may not be judged by the copy; k.mu is held.
func (k *keyset) denyOverdue(at int64) bool {
	// It failed, and nobody has had reason to ask since.
	away := k.denyFailures > 0 && at >= k.denyPause.from && at < k.denyPause.until+denyPatience
	return k.denied == nil || !away && !during(k.denyFresh, at)
}

// launchDeny starts a fetch when one is due and none is in the air; k.mu is held.
func (k *keyset) launchDeny(at int64) {
	if !during(k.denyPause, at) && k.denyFlight == nil {
		k.denyFlight = make(chan struct{})
		go k.fetchDeny(k.hop, k.denied)
	}
}

// fetchDeny runs in a goroutine of its own: its panic would end the Traefik process.
func (k *keyset) fetchDeny(hop *hopSealer, last *denyList) {
	var list *denyList
	err := errKeysUnavailable
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v", r)
		}
		k.landDeny(hop, list, err)
	}()
	list, err = k.downloadDeny(hop, last)
}

// landDeny ends a flight. A failure leaves the last copy in force, however old: dropping it would
// let in again whom it keeps out. When the document has changed, no verified token is remembered
// any more, so that each is judged anew.
func (k *keyset) landDeny(hop *hopSealer, list *denyList, err error) {
	if err != nil {
		complain(hop.name, "deny", "the deny document cannot be fetched from the sidecar "+k.sidecar+": "+reason(err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	close(k.denyFlight)
	k.denyFlight = nil
	if err != nil {
		k.denyFailures++
		k.denyPause = period{from: at, until: at + backoff(k.denyFailures)}
		k.calm = 0
		return
	}
	if list != k.denied {
		k.denied = list
		k.tokens = newTokenCache()
	}
	k.denyConfirmed = at
	k.denyFailures = 0
	k.denyPause = period{from: at, until: at + denyPeriod}
	k.denyFresh = period{from: at, until: at + denyPatience}
	k.settle()
}

// confirmedLately says whether the copy was said to be the current one within an hour. When the
// clock is set back, that hour begins anew: ended, it would let an old document in, and left alone
// it would last for as long as the clock had been ahead.
func (k *keyset) confirmedLately() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	if k.denyConfirmed > at {
		k.denyConfirmed = at
	}
	return at < k.denyConfirmed+maxStale
}

// downloadDeny returns the last copy itself when nothing has changed. One with a smaller serial is
// not taken until an hour has gone by in which nobody confirmed the last: then the operator has
// begun a new document.
func (k *keyset) downloadDeny(hop *hopSealer, last *denyList) (*denyList, error) {
	etag := ""
	if last != nil {
		etag = last.etag
	}
	got, err := askSidecar(hop, http.MethodGet, k.sidecar+"/hop/deny", "", etag, maxDenyBody)
	if err != nil {
		return nil, err
	}
	switch got.status {
	case http.StatusOK:
		if last != nil && etag != "" && got.etag == etag {
			return last, nil
		}
		list, err := parseDenyList(got.body, got.etag)
		if err == nil && last != nil && list.serial < last.serial && k.confirmedLately() {
			// A replica that cannot read the document has an old copy, or was started without one.
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
