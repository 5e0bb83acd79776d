// Package logins makes a list of logins of the sidecar's log. There is no database that has one.
package logins

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
)

// A Login is one sign-in of one person with one client, or a machine's client or key.
type Login struct {
	State   State  `json:"state"`
	Tenant  string `json:"tenant"`
	Issuer  string `json:"issuer"` // the tenant's public URL
	ID      string `json:"login,omitempty"`
	Subject string `json:"subject,omitempty"` // the pseudonym
	Sub     string `json:"sub,omitempty"`     // the provider's subject, where the log has it
	Client  string `json:"client,omitempty"`  // the fingerprint
	// Name is what the client calls itself, or the URL of its document, where the log has it.
	Name    string `json:"name,omitempty"`
	Machine bool   `json:"machine,omitempty"`

	Since time.Time `json:"since,omitzero"` // zero: before the log begins
	// Presented is when the MCP server saw it first, where a plugin told that.
	Presented time.Time `json:"presented,omitzero"`
	Refreshed time.Time `json:"refreshed,omitzero"`
	Refreshes int       `json:"refreshes"` // without answers that were given again
	Token     time.Time `json:"access_token_until,omitzero"`
	Until     time.Time `json:"refresh_until,omitzero"` // if it is not used before
	Ends      time.Time `json:"ends,omitzero"`          // however often it is used
	Over      time.Time `json:"over,omitzero"`          // when it was ended or refused
	Cause     string    `json:"cause,omitempty"`

	known    bool      // by more than that it was presented
	named    time.Time // when a line had Subject
	first    time.Time
	granted  []moment // the last that each source has given it a token
	ends     []ending // of each source
	refusals []ending // the same
}

// A State says whether a login goes on.
type State string

const (
	Living State = "living"
	// Unclear is one that the log calls over, and goes on with: the end was forgotten or taken
	// back, or the order of the two cannot be told.
	Unclear State = "unclear"
	Expired State = "expired" // nobody used it for too long, or it reached its end
	Ended   State = "ended"
	Refused State = "refused" // its client was told to log in again, or a rule kept the person out
)

// goesOn says whether a login in this state may be used.
func (s State) goesOn() bool { return s == Living || s == Unclear }

// A List is what logs say of logins.
type List struct {
	Now     time.Time `json:"now"`
	From    time.Time `json:"from,omitzero"` // of the first and last event
	To      time.Time `json:"to,omitzero"`
	Logins  []*Login  `json:"logins"`
	Events  int       `json:"events"`
	Skipped int       `json:"skipped"` // lines that are not events
	// Unreadable are pieces of events and events that lack something; UnreadableAt are the first
	// ones' places.
	Unreadable   int      `json:"unreadable"`
	UnreadableAt []string `json:"unreadable_at,omitempty"`
	// UnknownEvents are those of a newer version, with how often each came.
	UnknownEvents map[string]int `json:"unknown_events,omitempty"`
	// Apart is the longest time, in seconds, by which a line is older than one that must have come
	// before it.
	Apart int `json:"contradict_seconds,omitempty"`
}

// A Log is lines of one replica or of several. Name is for messages.
type Log struct {
	Name string
	Text io.Reader
}

// Unknown is what no log of the sidecar can tell.
var Unknown = []string{
	"logins from before the log begins that were not refreshed since, and what stood in lines that are lost",
	"whether a client still uses its login: it may have thrown its tokens away",
	"what the provider or the deny document has ended since the client came last; the log says so when it comes again",
	"whether a master secret was taken out of the ring, which ends all logins that it sealed",
}

const (
	// inFlight is longer than a request can take: what one was granted may be written behind the
	// end that another brought about.
	inFlight = 30 * time.Second
	// clocks is how far apart replicas' clocks may be: what a code is given for it.
	clocks = 5 * time.Minute
	// worthSaying is by how much lines must contradict one another for the list to say so.
	worthSaying = 5 * time.Second
	// maxUnknown is how many events of other names are told apart.
	maxUnknown = 20
)

// Read makes the list. Lines may have the prefixes of docker compose, Kubernetes, AWS and Docker's
// files, may come from several replicas, and in any order. It keeps what it knows of each login,
// and no lines. Only reading fails.
func Read(now time.Time, logs ...Log) (*List, error) {
	l := &List{Now: now.UTC(), UnknownEvents: map[string]int{}, Logins: []*Login{}}
	r := reader{
		logins: map[[2]string]*Login{}, refused: map[[4]string]*Login{}, names: map[string]string{}, denied: map[[2]string]*[]ending{},
		changes: map[[2]string][]*line{},
	}
	for _, log := range logs {
		if err := l.readLines(log, func(e *line) {
			l.Events++
			if l.From.IsZero() || e.Time.Before(l.From) {
				l.From = e.Time
			}
			l.To = later(l.To, e.Time)
			if !known[e.Event] {
				l.count(e.Event)
				return
			}
			r.read(e)
		}); err != nil {
			return nil, err
		}
	}
	for _, changes := range r.changes {
		slices.SortStableFunc(changes, func(a, b *line) int { return a.Time.Compare(b.Time) })
	}
	for _, o := range r.logins {
		if o.known {
			r.judge(o)
			if o.State.goesOn() && !o.livesAt(now) {
				o.State, o.Over, o.Cause = Expired, later(o.Until, o.Token), ""
			}
			l.Logins = append(l.Logins, o)
		}
	}
	for _, o := range r.refused {
		l.Logins = append(l.Logins, o)
	}
	for _, o := range l.Logins {
		o.Name = cmp.Or(o.Name, r.names[o.Client])
	}
	slices.SortFunc(l.Logins, func(a, b *Login) int {
		return cmp.Or(a.first.Compare(b.first), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Cause, b.Cause))
	})
	if r.apart >= worthSaying {
		l.Apart = int(r.apart / time.Second)
	}
	return l, nil
}

// known are the names of all events; needsLogin those that say something of a login only.
var known, needsLogin = map[string]bool{}, map[string]bool{}

func init() {
	for _, e := range audit.All() {
		field, ok := e.Field("family")
		known[e.Name], needsLogin[e.Name] = true, ok && !field.Optional
	}
}

func (l *List) count(event string) {
	if l.UnknownEvents[event] == 0 && len(l.UnknownEvents) >= maxUnknown {
		event = "others"
	}
	l.UnknownEvents[event]++
}

// Of keeps the logins of a tenant, named as in its labels or by its public URL; and without all,
// those that go on, for certain or perhaps.
func (l *List) Of(tenant string, all bool) {
	l.Logins = slices.DeleteFunc(l.Logins, func(o *Login) bool {
		return !all && !o.State.goesOn() || tenant != "" && tenant != o.Tenant && strings.TrimSuffix(tenant, "/") != o.Issuer
	})
}

// livesAt says whether one of its tokens is accepted then, as far as times go.
func (o *Login) livesAt(now time.Time) bool { return now.Before(later(o.Until, o.Token)) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// reader holds what the lines so far have said. Nothing of it depends on their order.
type reader struct {
	logins  map[[2]string]*Login    // by public URL and id
	refused map[[4]string]*Login    // people without one, by public URL, pseudonym, client, cause
	names   map[string]string       // fingerprint → what the client calls itself
	denied  map[[2]string]*[]ending // by public URL and client
	changes map[[2]string][]*line   // by public URL and label
	apart   time.Duration
}

// endingLabels are those that are part of the tenant's identity: what was sealed under another
// value opens no more.
var endingLabels = []string{"generation", "audience", "resource", "providerIssuer", "clientID"}

func (r *reader) read(e *line) {
	switch e.Event {
	case audit.ClientRegistered.Name:
		r.names[e.Client] = e.Name
	case audit.TokenIssued.Name, audit.LoginRefreshed.Name, audit.MachineAdmitted.Name, audit.AssertionRedeemed.Name:
		r.token(e)
	case audit.LoginPresented.Name:
		o := r.loginOf(e)
		o.Presented = earlier(o.Presented, e.Time)
	case audit.LoginEnded.Name, audit.LoginRevoked.Name:
		note(&r.login(e).ends, e.from, e.Because)
	case audit.RequestRefused.Name, audit.RequestDenied.Name, audit.PersonRefused.Name:
		r.refusal(e)
	case audit.LabelChanged.Name:
		if slices.Contains(endingLabels, e.Label) {
			key := [2]string{e.Issuer, e.Label}
			r.changes[key] = append(r.changes[key], e)
		}
	}
}

// token counts a login once, whatever is said of it again.
func (r *reader) token(e *line) {
	o := r.login(e)
	o.grant(e.from)
	o.Token = later(o.Token, e.Expires)
	o.Ends = later(o.Ends, e.Ends)
	o.Until = later(o.Until, e.RefreshUntil)
	switch {
	case e.Event == audit.TokenIssued.Name, e.Event == audit.AssertionRedeemed.Name:
		o.Since = earlier(o.Since, e.Time)
	case e.Event == audit.MachineAdmitted.Name:
		o.Machine = true
		o.Since = earlier(o.Since, e.Time)
		o.Refreshed = later(o.Refreshed, e.Time)
	case !e.Repeated:
		o.Refreshes++
		o.Refreshed = later(o.Refreshed, e.Time)
	}
}

// refusal takes one for the end of a login only if its client was told so. Everything else may be
// tried again.
func (r *reader) refusal(e *line) {
	cause := cmp.Or(e.Cause, e.Description)
	person := e.Event == audit.PersonRefused.Name
	switch {
	case e.Family != "" && (e.Error == "invalid_grant" || person):
		note(&r.login(e).refusals, e.from, cause)
	case e.Event == audit.RequestDenied.Name && e.Client != "" && e.Error == "invalid_client":
		key := [2]string{e.Issuer, e.Client}
		if r.denied[key] == nil {
			r.denied[key] = &[]ending{}
		}
		note(r.denied[key], e.from, cause)
	case person: // there never was a login
		key := [4]string{e.Issuer, e.Subject, e.Client, cause}
		o := r.refused[key]
		if o == nil {
			o = &Login{State: Refused, Issuer: e.Issuer, Subject: e.Subject, Client: e.Client, Cause: cause, first: e.Time}
			r.refused[key] = o
		}
		o.Tenant, o.Sub, o.Name = cmp.Or(e.Tenant, o.Tenant), cmp.Or(e.Sub, o.Sub), cmp.Or(e.Document, o.Name)
		o.first, o.Over = earlier(o.first, e.Time), later(o.Over, e.Time)
	}
}

// login returns the login of a line, with what each line says of it.
func (r *reader) login(e *line) *Login {
	o := r.loginOf(e)
	o.known, o.first = true, earlier(o.first, e.Time)
	if e.Subject != "" && !e.Time.Before(o.named) { // by the master of today
		o.Subject, o.named = e.Subject, e.Time
	}
	o.Sub = cmp.Or(o.Sub, e.Sub)
	o.Client, o.Name = cmp.Or(o.Client, e.Client), cmp.Or(o.Name, e.Document)
	return o
}

func (r *reader) loginOf(e *line) *Login {
	key := [2]string{e.Issuer, e.Family}
	o := r.logins[key]
	if o == nil {
		o = &Login{Tenant: e.Tenant, Issuer: e.Issuer, ID: e.Family}
		r.logins[key] = o
	}
	return o
}

// grant keeps the last of each source.
func (o *Login) grant(m moment) {
	for i := range o.granted {
		if o.granted[i].from == m.from {
			o.granted[i] = moment{later(o.granted[i].at, m.at), m.from, m.place}
			return
		}
	}
	o.granted = append(o.granted, m)
}

// A reason is when something ended a login, and why.
type reason struct {
	moment
	because string
}

// An ending is what one source says of the end of a login: the first time and the last.
type ending struct{ first, last reason }

func note(of *[]ending, m moment, because string) {
	said := reason{m, because}
	for i := range *of {
		if e := &(*of)[i]; e.first.from == m.from {
			e.last = said
			return
		}
	}
	*of = append(*of, ending{said, said})
}

// judge says of a login, when all lines are read, whether it goes on.
//
// What its refresh token, its client or the provider has ended stays ended: a token that is given
// afterwards was on its way, or is a line of a replica whose clock is ahead. Where it can be
// neither, a guard may have lost what it held, and it is unclear. What was refused may be allowed
// again, so there the last word counts, and it is unclear where clocks may have it the other way
// round.
func (r *reader) judge(o *Login) {
	if o.Until.IsZero() { // the line that said it is not in this log
		o.Until = o.Ends
	}
	if o.Machine && !o.Refreshed.After(o.Since) {
		o.Refreshed = time.Time{}
	}
	if !o.Machine && !o.Since.IsZero() {
		r.apart = max(r.apart, o.Since.Sub(o.first), o.Since.Sub(cmp.Or(o.Presented, o.Since)))
	}
	o.State = Living
	end, doubt := o.endOf(o.ends, true)
	if end != nil {
		if last := o.lastGrant(); last.Sub(end.at) > inFlight {
			r.apart = max(r.apart, last.Sub(end.at))
		}
		o.over(Ended, end)
		return
	}
	refusals := o.refusals
	if denied := r.denied[[2]string{o.Issuer, o.Client}]; denied != nil {
		refusals = append(refusals, *denied...)
	}
	end, refusalDoubt := o.endOf(refusals, false)
	if end != nil {
		o.over(Refused, end)
		return
	}
	if change := r.changeAfter(o.Issuer, o.lastGrant()); change != nil {
		o.over(Ended, &reason{change.from, "the label " + change.Label + " was changed"})
		return
	}
	if doubt = cmp.Or(doubt, refusalDoubt); doubt != nil {
		o.over(Unclear, doubt)
		o.Cause += "; and yet a token was given at " + o.lastGrant().Format(time.RFC3339)
	}
}

func (o *Login) over(state State, by *reason) { o.State, o.Over, o.Cause = state, by.at, by.because }

// endOf returns the first of the endings that no token followed and, where there is none, the last
// of those that one may have followed.
func (o *Login) endOf(of []ending, final bool) (end, doubt *reason) {
	for _, e := range of {
		for _, m := range []reason{e.first, e.last} {
			surely, perhaps := o.grantedAfter(m.moment, final)
			switch {
			case !surely && !perhaps:
				if end == nil || m.at.Before(end.at) {
					end = &m
				}
			case !surely || final:
				if doubt == nil || m.at.After(doubt.at) {
					doubt = &m
				}
			}
		}
	}
	return end, doubt
}

// grantedAfter says whether a token was given after an end. What was on its way does not count for
// one that is final.
func (o *Login) grantedAfter(end moment, final bool) (surely, perhaps bool) {
	for _, m := range o.granted {
		behind := m.at.Sub(end.at)
		switch ordered := m.from == end.from && !m.from.mixed; {
		case ordered && m.place > end.place:
			surely = surely || !final || behind > inFlight
		case !ordered:
			surely = surely || behind > inFlight+clocks
			perhaps = perhaps || behind > 0 && !final
		}
	}
	return surely, perhaps
}

func (o *Login) lastGrant() (last time.Time) {
	for _, m := range o.granted {
		last = later(last, m.at)
	}
	return last
}

// changeAfter returns the first change at that time or later of a label without which nothing
// opens. Each replica says each change, which is one only if the label had another value before.
func (r *reader) changeAfter(issuer string, at time.Time) (first *line) {
	for _, label := range endingLabels {
		var now raw
		for _, change := range r.changes[[2]string{issuer, label}] {
			if change.Now != now && !change.Time.Before(at) && (first == nil || change.Time.Before(first.Time)) {
				first = change
			}
			now = change.Now
		}
	}
	return first
}
