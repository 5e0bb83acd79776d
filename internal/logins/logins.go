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

	Since     time.Time `json:"since,omitzero"` // zero: before the log begins
	Refreshed time.Time `json:"refreshed,omitzero"`
	Refreshes int       `json:"refreshes"` // without answers that were given again
	Token     time.Time `json:"access_token_until,omitzero"`
	Until     time.Time `json:"refresh_until,omitzero"` // if it is not used before
	Ends      time.Time `json:"ends,omitzero"`          // however often it is used
	Over      time.Time `json:"over,omitzero"`          // when it was ended or refused
	Cause     string    `json:"cause,omitempty"`
}

// A State says whether a login goes on.
type State string

const (
	Living  State = "living"
	Expired State = "expired" // nobody used it for too long, or it reached its end
	Ended   State = "ended"
	Refused State = "refused" // its client was told to log in again, or a rule kept the person out
)

// A List is what a log says of logins.
type List struct {
	Now     time.Time `json:"now"`
	From    time.Time `json:"from,omitzero"` // of the first and last event
	To      time.Time `json:"to,omitzero"`
	Logins  []*Login  `json:"logins"`
	Events  int       `json:"events"`
	Skipped int       `json:"skipped"` // lines that are not events
}

// Unknown is what no log of the sidecar can tell.
var Unknown = []string{
	"logins from before the log begins that were not refreshed since, and what stood in lines that are lost",
	"whether a client still uses its login: it may have thrown its tokens away",
	"what the provider or the deny document has ended since the client came last; the log says so when it comes again",
	"whether a master secret was taken out of the ring, which ends all logins that it sealed",
}

// Read makes the list. Lines may have the prefixes of docker compose, Kubernetes and Docker's
// files, and may come from several replicas. Only reading fails.
func Read(log io.Reader, now time.Time) (*List, error) {
	l := &List{Now: now.UTC()}
	lines, skipped, err := readLines(log)
	if err != nil {
		return nil, err
	}
	l.Skipped = skipped
	slices.SortStableFunc(lines, func(a, b *line) int { return a.Time.Compare(b.Time) })
	r := reader{logins: map[[2]string]*Login{}, names: map[string]string{}, changes: map[line]bool{}}
	for _, line := range lines {
		r.read(line)
	}
	if l.Events = len(lines); l.Events > 0 {
		l.From, l.To = lines[0].Time, lines[l.Events-1].Time
	}
	for _, login := range r.all {
		if login.State == Living && !login.livesAt(now) {
			login.State, login.Over = Expired, later(login.Until, login.Token)
		}
		login.Name = cmp.Or(login.Name, r.names[login.Client])
	}
	l.Logins = r.all
	return l, nil
}

// Of keeps the logins of a tenant, named as in its labels or by its public URL; and without all,
// those that go on.
func (l *List) Of(tenant string, all bool) {
	l.Logins = slices.DeleteFunc(l.Logins, func(o *Login) bool {
		return !all && o.State != Living || tenant != "" && tenant != o.Tenant && strings.TrimSuffix(tenant, "/") != o.Issuer
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

// reader holds what the lines so far have said.
type reader struct {
	all     []*Login
	logins  map[[2]string]*Login // by public URL and id
	names   map[string]string    // fingerprint → what the client calls itself
	changes map[line]bool        // of labels; each replica says each
}

// endingLabels are those that are part of the tenant's identity: what was sealed under another
// value opens no more.
var endingLabels = []string{"generation", "audience", "resource", "providerIssuer", "clientID"}

func (r *reader) read(e *line) {
	switch e.Event {
	case audit.ClientRegistered.Name:
		r.names[e.Client] = e.Name
	case audit.TokenIssued.Name, audit.LoginRefreshed.Name, audit.MachineAdmitted.Name:
		r.token(e)
	case audit.LoginBridged.Name:
		r.login(e)
	case audit.LoginEnded.Name, audit.LoginRevoked.Name:
		r.login(e).over(Ended, e.Time, e.Because)
	case audit.RequestRefused.Name, audit.RequestDenied.Name, audit.PersonRefused.Name:
		r.refused(e)
	case audit.LabelChanged.Name:
		change := line{Issuer: e.Issuer, Label: e.Label, Before: e.Before, Now: e.Now}
		if !slices.Contains(endingLabels, e.Label) || r.changes[change] {
			return
		}
		r.changes[change] = true
		for _, o := range r.all {
			if o.Issuer == e.Issuer {
				o.over(Ended, e.Time, "the label "+e.Label+" was changed")
			}
		}
	}
}

// token counts a login once, whatever is said of it again.
func (r *reader) token(e *line) {
	o := r.login(e)
	o.State, o.Over, o.Cause = Living, time.Time{}, ""
	o.Client, o.Name = e.Client, e.Document
	o.Token = later(o.Token, e.Expires)
	o.Ends = later(o.Ends, e.Ends)
	switch {
	case !e.RefreshUntil.IsZero():
		o.Until = later(o.Until, e.RefreshUntil)
	case o.Until.IsZero(): // the line that said it is not in this log
		o.Until = e.Ends
	}
	switch {
	case e.Event == audit.TokenIssued.Name:
		o.Since = e.Time
	case e.Event == audit.MachineAdmitted.Name:
		o.Machine = true
		if o.Since.IsZero() {
			o.Since = e.Time
		} else {
			o.Refreshed = e.Time
		}
	case !e.Repeated:
		o.Refreshes++
		o.Refreshed = e.Time
	}
}

// refused takes a refusal for the end of a login only if its client was told so. Everything else
// may be tried again.
func (r *reader) refused(e *line) {
	cause := cmp.Or(e.Cause, e.Description)
	person := e.Event == audit.PersonRefused.Name
	switch {
	case e.Family != "" && (e.Error == "invalid_grant" || person):
		r.login(e).over(Refused, e.Time, cause)
	case e.Event == audit.RequestDenied.Name && e.Client != "" && e.Error == "invalid_client":
		for _, o := range r.all {
			if o.Client == e.Client && o.Issuer == e.Issuer {
				o.over(Refused, e.Time, cause)
			}
		}
	case person: // there never was a login
		r.all = append(r.all, &Login{State: Refused, Tenant: e.Tenant, Issuer: e.Issuer, Subject: e.Subject, Sub: e.Sub, Client: e.Client,
			Name: e.Document, Over: e.Time, Cause: cause})
	}
}

// login returns the login of a line, with what each line says of it.
func (r *reader) login(e *line) *Login {
	key := [2]string{e.Issuer, e.Family}
	o := r.logins[key]
	if o == nil {
		o = &Login{State: Living, ID: e.Family}
		r.logins[key] = o
		r.all = append(r.all, o)
	}
	o.Tenant, o.Issuer = e.Tenant, e.Issuer
	o.Subject, o.Sub = cmp.Or(e.Subject, o.Subject), cmp.Or(e.Sub, o.Sub)
	o.Client, o.Name = cmp.Or(e.Client, o.Client), cmp.Or(e.Document, o.Name)
	return o
}

// over keeps the first cause: clients that were not told come again.
func (o *Login) over(state State, at time.Time, cause string) {
	if o.State == Living {
		o.State, o.Over, o.Cause = state, at.UTC(), cause
	}
}
