//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"sync"
)

// The tenants of one Traefik mostly differ in few labels (ownLabels). What the others say is read
// once for all of them, and again at the next load. That is not only faster: Traefik makes its
// rules and our middlewares in turn, so that what New leaves behind lies between them in memory.
// With 200 KB between one rule and the next, Traefik takes twice as long to try a thousand.

// ownLabels are the labels that a tenant is told apart by.
var ownLabels = map[string]bool{"resource": true, "publicURL": true, "pathPrefix": true, "audience": true, "clientID": true, "clientSecret": true, "displayName": true}

// ownFields are their fields. It is filled in init: see forgeable.
var ownFields []labelField

func init() {
	for _, f := range labelFields {
		if ownLabels[f.label] {
			ownFields = append(ownFields, f)
		}
	}
}

// alike is what was read of labels, of which ownLabels are left out: parseOwn reads them. It is
// never changed.
type alike struct {
	texts    *labelTexts
	settings *settings
	members  []hopMember
}

// maxAlike bounds what is remembered. Whoever has more kinds of tenants has each read anew.
const maxAlike = 64

var alikes = struct {
	sync.Mutex
	load  int64 // in which they were read
	known map[[32]byte]*alike
}{known: map[[32]byte]*alike{}}

// keyOfAlike says all labels but ownLabels, each with its value as Go writes it: 1, "1" and a list
// of one are three values. What would be written as an address in memory is refused by readLabels,
// and nothing that is refused is remembered.
func keyOfAlike(config *Config) [32]byte {
	other := *config
	other.Resource = nil
	other.PublicURL = nil
	other.PathPrefix = nil
	other.Audience = nil
	other.ClientID = nil
	other.ClientSecret = nil
	other.DisplayName = nil
	// The text is longer than all else that New makes, so it is not kept as a whole.
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%#v", other) // a hash takes every byte
	var key [32]byte
	copy(key[:], hash.Sum(nil))
	return key
}

func recallAlike(key [32]byte) *alike {
	load := currentLoad()
	alikes.Lock()
	defer alikes.Unlock()
	if alikes.load != load {
		alikes.load = load
		alikes.known = map[[32]byte]*alike{}
	}
	return alikes.known[key]
}

// rememberAlike is called when all labels of a tenant were read without a fault. A region of AWS
// comes from Traefik's environment, and is looked up for each tenant.
func rememberAlike(key [32]byte, c *labelTexts, s *settings, members []hopMember) {
	if s.signer != nil {
		return
	}
	texts := *c
	empty := reflect.ValueOf(&texts).Elem()
	for _, f := range ownFields {
		empty.Field(f.into).SetString("")
	}
	common := *s
	common.publicURL = ""
	common.host = ""
	common.prefix = ""
	common.inserted = nil
	common.resource = ""
	common.audience = ""
	common.clientID = ""
	alikes.Lock()
	defer alikes.Unlock()
	if len(alikes.known) >= maxAlike {
		alikes.known = map[[32]byte]*alike{}
	}
	shared := []hopMember{}
	for _, m := range members {
		if ownLabels[m.name] { // no secret of one tenant stays with the others
			shared = append(shared, hopMember{name: m.name})
			continue
		}
		shared = append(shared, m)
	}
	alikes.known[key] = &alike{texts: &texts, settings: &common, members: shared}
}

// parseAlike is parseLabels for a tenant whose other labels are known.
func parseAlike(config *Config, known *alike) (*settings, []hopMember, error) {
	texts := *known.texts
	if !readPlainly(config, &texts) {
		if err := readFields(config, ownFields, &texts); err != nil {
			return nil, nil, err
		}
	}
	if err := checkRequired(&texts); err != nil {
		return nil, nil, err
	}
	s := *known.settings
	members := append([]hopMember{}, known.members...)
	if err := s.parseOwn(&texts, members); err != nil {
		return nil, nil, err
	}
	return &s, members, nil
}

// readPlainly is readFields for ownLabels, without reflection. It says whether all of them are
// plain words.
func readPlainly(c *Config, l *labelTexts) bool {
	l.Resource = plainWord(c.Resource)
	l.PublicURL = plainWord(c.PublicURL)
	l.PathPrefix = plainWord(c.PathPrefix)
	l.Audience = plainWord(c.Audience)
	l.ClientID = plainWord(c.ClientID)
	l.ClientSecret = plainWord(c.ClientSecret)
	l.DisplayName = plainWord(c.DisplayName)
	return l.Resource != odd && l.PublicURL != odd && l.PathPrefix != odd && l.Audience != odd && l.ClientID != odd && l.ClientSecret != odd && l.DisplayName != odd
}

// odd is what plainWord returns for what has to be looked at more closely: labelReader.word tells a
// number and blanks by how they begin. It is no plain word itself.
const odd = " "

func plainWord(value any) string {
	if value == nil {
		return ""
	}
	word, ok := value.(string)
	if !ok || word == "" {
		return odd
	}
	first := word[0]
	if first >= 'a' && first <= 'z' || first == '/' {
		return word
	}
	return odd
}
