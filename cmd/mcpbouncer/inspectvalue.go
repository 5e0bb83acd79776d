//go:build !onlyserve

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	ofTheReplayGuard  = "whether it was used before: the replay guard and the provider know"
	ofTheDenyDocument = "the deny document"
)

// inspected are the kinds of sealed values.
var inspected = map[sealing.Kind]struct {
	name      string
	flags     []string // that say what it is bound to
	unchecked []string
}{
	sealing.KindClient:     {"client registration (client_id)", tenantNames, []string{ofTheDenyDocument}},
	sealing.KindConsent:    {"consent: a request that waits for the person's answer", append([]string{"cookie"}, tenantNames...), []string{ofTheDenyDocument}},
	sealing.KindFlow:       {"login in progress, in the browser's cookie", append([]string{"state"}, tenantNames...), []string{ofTheDenyDocument}},
	sealing.KindRemembered: {"consent that a browser remembers, in its cookie", append([]string{"client"}, tenantNames...), []string{ofTheDenyDocument, "the label rememberConsent, and what the client's document says now"}},
	sealing.KindCode:       {"authorization code", append([]string{"client"}, tenantNames...), []string{ofTheReplayGuard, ofTheDenyDocument}},
	sealing.KindRefresh:    {"refresh token", append([]string{"client"}, tenantNames...), []string{ofTheReplayGuard, ofTheDenyDocument}},
	sealing.KindSecret:     {"sealed client secret, for the label clientSecret", []string{"provider-issuer", "provider-client-id"}, []string{"whether the provider knows it"}},
	sealing.KindBearer:     {"bearer key", tenantNames, []string{ofTheDenyDocument}},
}

const noMaster = "there is no master secret: set BOUNCER_ENCRYPTION_KEY or BOUNCER_ENCRYPTION_KEY_FILE"

func (i *inspection) sealedValue(value string) *explanation {
	r := &explanation{What: "sealed value", Verdict: unexplained}
	kind, master, at, err := sealing.ReadValue(value)
	if err != nil {
		r.Why = []string{"it is damaged, or a part of it was not copied: a sealed value is one line of letters, digits, - and _, of at most 8192 characters, and begins with the letter of a kind that this version knows"}
		return r
	}
	about := inspected[kind]
	r.What = about.name
	r.Facts = []issuer.Fact{
		{Name: "kind", Value: fmt.Sprintf("%c", kind)},
		{Name: "sealed", At: at},
		{Name: "master", Value: master, Meaning: "id of the master secret that sealed it"},
	}
	if i.config.Ring == nil {
		r.Why = []string{noMaster}
		return r
	}
	if ids := i.config.Ring.MasterIDs(); !slices.Contains(ids, master) {
		r.Why = []string{fmt.Sprintf("it was sealed by another master secret (id %s; here: %s), or its beginning is damaged", master, strings.Join(ids, ", "))}
		return r
	}
	if missing := i.missing(about.flags...); len(missing) > 0 {
		r.Why = []string{"it is bound to what these flags say, and does not open without: " + strings.Join(missing, ", ")}
		return r
	}
	if kind != sealing.KindSecret {
		if _, _, err := i.id(); err != nil {
			r.Why = []string{err.Error()}
			return r
		}
	} else {
		i.beside.Tenant = i.tenant
	}
	opened, err := i.config.Inspect(kind, i.beside, value)
	if err != nil {
		if opened, err = i.openOtherwise(kind, value, r); err != nil {
			r.Why = i.whyNotOpened(kind)
			return r
		}
	}
	r.Verdict = good
	if kind != sealing.KindSecret {
		r.Facts = append(r.Facts, issuer.Fact{Name: "tenant", Value: i.tenant.PublicURL, Meaning: "resource " + i.tenant.Resource})
	}
	r.Facts = append(r.Facts, opened.Facts...)
	r.Unchecked = about.unchecked
	if opened.Refused != "" {
		r.Refused = append(r.Refused, opened.Refused)
	}
	r.Until = opened.Ends
	if life := kind.Life(); life > 0 {
		r.Until = at.Add(life + sealing.Skew)
		if i.now.After(r.Until) {
			r.Refused = append(r.Refused, fmt.Sprintf("it is too old: it was sealed %s, and is good for %v and %v more for clocks that differ", relative(at, i.now), life, sealing.Skew))
		}
	} else if !r.Until.IsZero() && !i.now.Before(r.Until) {
		r.Refused = append(r.Refused, "it is over: it ended "+relative(r.Until, i.now))
	}
	if at.After(i.now.Add(sealing.Skew)) {
		r.Refused = append(r.Refused, "it was sealed in the future, "+relative(at, i.now)+": the clock here is behind the sidecar's, or was set back")
	}
	return r
}

// otherTenant differs in one flag from what was given.
type otherTenant struct {
	flag   string
	tenant sealing.Tenant
}

const generationsTried = 100

// others are the tenants that the flags may mean, or that the tenant was before: a value of one of
// them tells the operator which label differs.
func others(t sealing.Tenant) (all []otherTenant) {
	add := func(flag, value string, change func(*sealing.Tenant)) {
		other := t
		if change(&other); other != t {
			all = append(all, otherTenant{"--" + flag + " " + value, other})
		}
	}
	slash := t.UpstreamIssuer + "/"
	if bare, cut := strings.CutSuffix(t.UpstreamIssuer, "/"); cut {
		slash = bare
	}
	add("provider-issuer", slash, func(o *sealing.Tenant) { o.UpstreamIssuer = slash })
	add("audience", t.Resource, func(o *sealing.Tenant) { o.Audience = t.Resource })
	for generation := range uint32(generationsTried) {
		add("generation", fmt.Sprint(generation), func(o *sealing.Tenant) { o.Generation = generation })
	}
	return all
}

// openOtherwise tries the other tenants. A value of one of them is refused by that of the flags.
func (i *inspection) openOtherwise(kind sealing.Kind, value string, r *explanation) (issuer.Inspection, error) {
	for _, other := range others(i.beside.Tenant) {
		beside := i.beside
		beside.Tenant = other.tenant
		if opened, err := i.config.Inspect(kind, beside, value); err == nil {
			r.Refused = []string{"it does not open with these labels, but with " + other.flag + ": the label was another one, or the flag is wrong"}
			return opened, nil
		}
	}
	return issuer.Inspection{}, sealing.ErrNotOpened
}

func (i *inspection) whyNotOpened(kind sealing.Kind) []string {
	why := []string{"it does not open with these flags, although this master secret is the one that it names"}
	if kind == sealing.KindSecret {
		return append(why, "likely: --provider-issuer or --provider-client-id is not the one that it was sealed for, to the letter; or a character of it is missing or changed")
	}
	why = append(why, fmt.Sprintf("tried as well: --provider-issuer with and without a slash at its end, the resource as audience, each generation below %d", generationsTried))
	likely := "likely: it is of another tenant: a label differs (publicURL, resource, audience, providerIssuer, clientID)"
	switch kind {
	case sealing.KindCode, sealing.KindRefresh:
		likely += "; or it was given to another --client"
	case sealing.KindConsent:
		likely += "; or --cookie is of another page"
	case sealing.KindFlow:
		likely += "; or --state is of another login"
	}
	return append(why, likely+"; or a character of it is missing or changed")
}

func (i *inspection) hopHeader(value string) *explanation {
	r := &explanation{What: "hop header (X-Mcpb-Hop)", Verdict: unexplained}
	keyID, at, err := sealing.ReadHop(value)
	if err != nil {
		r.Why = []string{"it is damaged, or a part of it was not copied"}
		return r
	}
	r.Facts = []issuer.Fact{{Name: "hop key", Value: keyID, Meaning: "id of the hop key that sealed it"}, {Name: "made", At: at}}
	if i.hopKey == "" && i.config.Ring == nil {
		r.Why = []string{"there is no hop key: set BOUNCER_HOP_KEY, or BOUNCER_ENCRYPTION_KEY from which it follows"}
		return r
	}
	var hop *sealing.Hop
	if i.hopKey != "" {
		if hop, err = sealing.OpenHopWith(i.hopKey, value, i.now); errors.Is(err, sealing.ErrHopKey) {
			r.Why = []string{"BOUNCER_HOP_KEY is not a hop key: `mcpbouncer hop-key` prints it"}
			return r
		}
	}
	if hop == nil && i.config.Ring != nil {
		hop, err = i.config.Ring.OpenHop(value, i.now)
	}
	if hop == nil {
		r.Why = []string{"it does not open: it was made with another hop key, or a character of it is missing or changed"}
		if i.config.Ring != nil {
			r.Why = append(r.Why, "ids of the hop keys of this master secret: "+strings.Join(i.config.Ring.HopKeyIDs(), ", "))
		}
		return r
	}
	r.Verdict = good
	facts, _, why := issuer.InspectHop(hop.Payload)
	r.Facts = append(r.Facts, facts...)
	r.Until = at.Add(time.Minute + sealing.Skew)
	if errors.Is(err, sealing.ErrHopClock) {
		r.Refused = append(r.Refused, "it was made "+relative(at, i.now)+": it is accepted from 5 minutes before to 6 minutes after. A header of now that says this comes from a wrong clock")
	}
	if why != "" {
		r.Refused = append(r.Refused, why)
	}
	if i.config.Ring != nil && !slices.Contains(i.config.Ring.HopKeyIDs(), keyID) {
		r.Refused = append(r.Refused, "BOUNCER_HOP_KEY opens it, but does not belong to this master secret: a sidecar with this one refuses it")
	}
	return r
}

func explainDeny(text string, now time.Time) *explanation {
	e := deny.Explain([]byte(text), now)
	r := &explanation{What: "deny document", Facts: []issuer.Fact{{Name: "serial", Value: fmt.Sprint(e.Serial)}}}
	if len(e.Faults) > 0 {
		r.Facts = nil // it says nothing as a whole
	}
	for _, entry := range e.Entries {
		f := issuer.Fact{Name: fmt.Sprintf("line %d, %s", entry.Line, entry.List), Value: entry.Name}
		switch {
		case entry.List == "notBefore":
			f.Meaning = "logins that began before " + dated(entry.Until, now) + " are over"
		case entry.Over:
			f.Meaning = "over since " + dated(entry.Until, now)
		case entry.Until.IsZero():
			f.Meaning = "for ever"
		default:
			f.Meaning = "until " + dated(entry.Until, now)
		}
		if entry.Ineffective != "" {
			f.Meaning += "; denies nothing: " + entry.Ineffective
		}
		r.Facts = append(r.Facts, f)
	}
	for _, fault := range e.Faults {
		why := fault.Why
		if fault.Line > 0 {
			why = fmt.Sprintf("line %d: %s", fault.Line, why)
		}
		r.Refused = append(r.Refused, why)
	}
	return r
}
