// Package contract is a model of what docs/replay.md promises. From the record of what clients
// presented and were answered, and of what was broken meanwhile, it decides which answers the
// promises permit. It knows nothing of the product, of HTTP or of a clock.
//
// An answer is judged by two questions. Must it have been different, given all that certainly
// happened before? Then something was used twice. May it have been so, given all that possibly
// happened before? If not, somebody was logged out without cause. Between the two lies what the
// promises leave open: an operation without an answer may have taken effect or not, and two that
// overlap in time may have come in either order.
package contract

import (
	"cmp"
	"slices"
	"time"
)

// Guard is what tells the first use of a token from the second.
type Guard string

// A shared guard is Redis or DynamoDB; what a memory guard knows, it knows in one process only.
const (
	None   Guard = "none"
	Memory Guard = "memory"
	Shared Guard = "shared"
)

// Upstream is what the provider does about a refresh token of its own that was used before, or
// whose answer was lost.
type Upstream string

// Lenient takes it: it does not rotate, keeps old ones good, or has a leeway as long as the grace.
const (
	Lenient Upstream = ""
	Refuses Upstream = "refuses" // or takes it; the login goes on in any case
	Ends    Upstream = "ends"    // the login at the provider
	EndsAll Upstream = "endsall" // logins of the person
)

// Contract is what was promised in one installation.
type Contract struct {
	Guard    Guard
	Upstream Upstream
	Interval time.Duration // upstreamCheckInterval
	// the last used refresh token of a family gets the answer of its first use again for so long
	Grace time.Duration
	Life  time.Duration // of a family, counted from its code's redemption

	// CodeOnce says that the provider honours one of several simultaneous redemptions of its code.
	// Every provider here honours only one of several in sequence.
	CodeOnce bool
	// CodesByGuard says that the provider's codes are redeemed at the callback, so that nobody but
	// the guard counts ours.
	CodesByGuard bool

	// Claim is how long the others wait after a process died that was asking the provider about a
	// login.
	Claim time.Duration

	// Settle is how long after the end of an outage an answer may still be missing: a connection is
	// made anew, a back-off runs out.
	Settle time.Duration
}

// Action is what a client did.
type Action string

// The actions. Login is the way to a code, through browser and provider; Call uses the access token
// that came with a refresh token, or in the answer to an assertion or a workload's JWT.
const (
	Login   Action = "login"
	Redeem  Action = "redeem"
	Refresh Action = "refresh"
	Revoke  Action = "revoke"
	Call    Action = "call"
	Assert  Action = "assert" // brings an identity assertion
	Work    Action = "work"   // brings a workload's JWT, which counts as often as it is brought
)

// Outcome is how it was answered.
type Outcome string

// The outcomes. Unanswered may have taken effect all the same.
const (
	Granted    Outcome = "granted"
	Refused    Outcome = "refused"    // invalid_grant, or 401 to a call
	Unanswered Outcome = "unanswered" // no answer, or one of 5xx
	Broken     Outcome = "broken"     // any other answer: never permitted
)

// Op is one request of a client. Start and End are times since the beginning of the record, taken
// outside.
type Op struct {
	Start, End time.Duration
	Do         Action
	// the code, refresh token, assertion or JWT presented; for Call the one it came with, for Login
	// who logs in
	Value   string
	Outcome Outcome

	Gives   string        // the refresh token in the answer; empty when there was none
	Expires time.Duration // Call, Assert, Work: when the access token ends
	Process string        // which process answered, if known
	Login   string        // the id of the login that the access token in the answer names
	Who     string        // Redeem: whose login it is, if the contract asks for that
	Cut     bool          // the client hung up by itself
	// Redeem: with a verifier that is not the code's. Refresh and Call: of a token that is bound to
	// a key, without that key; Call also with a proof that was used. Assert: by another client than
	// the one it names. Work: at another server than it is for.
	Forged bool
}

// Part is a part of the installation that can be out of order.
type Part string

// The parts. Store is the guard's; Emptied means that it lost what it held.
const (
	Sidecar  Part = "sidecar"
	Store    Part = "store"
	Emptied  Part = "emptied"
	Provider Part = "provider"
	Lost     Part = "lost" // the provider does what it is asked, and its answer gets lost
)

// Outage is a time in which a part was certainly or possibly out of order.
type Outage struct {
	Part     Part
	From, To time.Duration
}

// Ending is the end of a family by the operator's or the provider's will.
type Ending struct {
	Value string // the family's code,
	// or whose families end: those that began before From, and perhaps those before To
	Who  string
	To   time.Duration // with Who
	From time.Duration // it may be refused from here on
	By   time.Duration // it must be from here on; 0: no such time
}

// History is a record.
type History struct {
	Ops     []Op
	Outages []Outage
	Endings []Ending
}

// Violation is an answer that the contract does not permit.
type Violation struct {
	Op   Op
	Says string
}

func (v Violation) String() string { return v.Says + ": " + v.Op.String() }

// Check returns what the contract does not permit, in the order of the record.
func (c Contract) Check(h History) []Violation {
	m := c.newModel(h)
	var found []Violation
	for _, op := range m.ops {
		for _, says := range m.judge(op) {
			found = append(found, Violation{*op, says})
		}
	}
	return found
}

// model is a record with what follows from it.
type model struct {
	Contract
	History
	ops    []*Op
	family map[string]string // :: code or refresh token → code of its family
	number map[string]int    // :: refresh token → how many came before it in its family
	uses   map[string][]*Op  // :: code or refresh token → who presented it
	of     map[string][]*Op  // :: code of the family → everything done with it
	who    map[string]string // :: code of the family → whose it is
}

func (c Contract) newModel(h History) *model {
	m := &model{Contract: c, History: h, family: map[string]string{}, number: map[string]int{}, uses: map[string][]*Op{}, of: map[string][]*Op{}, who: map[string]string{}}
	for i := range h.Ops {
		m.ops = append(m.ops, &h.Ops[i])
	}
	// In the order of their ends whoever presents a token comes after the answer that it was in.
	slices.SortStableFunc(m.ops, func(a, b *Op) int { return cmp.Compare(a.End, b.End) })
	for _, op := range m.ops {
		switch op.Do {
		case Redeem:
			m.family[op.Value], m.who[op.Value] = op.Value, op.Who
		case Assert, Work:
			m.family[op.Value] = op.Value
		}
		f, known := m.family[op.Value]
		if _, old := m.family[op.Gives]; known && op.moves() && !old {
			m.family[op.Gives] = f
			if op.Do == Refresh {
				m.number[op.Gives] = m.number[op.Value] + 1
			}
		}
	}
	for _, op := range m.ops {
		if op.lacksKey() {
			continue
		}
		if op.Do == Redeem || op.Do == Refresh || op.Do == Assert {
			m.uses[op.Value] = append(m.uses[op.Value], op)
		}
		f := m.family[op.Value]
		m.of[f] = append(m.of[f], op)
	}
	return m
}

// judge applies the contract to one operation.
func (m *model) judge(op *Op) (says []string) {
	wrong := func(text string, when bool) {
		if when {
			says = append(says, text)
		}
	}
	_, known := m.family[op.Value]
	switch {
	case op.Outcome == Broken:
		wrong("an answer that is none", true)
	case op.Outcome == Unanswered:
		wrong("no answer, though everything worked", !m.mayBeUnanswered(op))
	case op.Do == Login:
		wrong("a login was refused", op.Outcome == Refused)
	case op.Do == Redeem && op.Outcome == Granted:
		wrong("a code was redeemed without its verifier", op.Forged)
		wrong("a code was redeemed twice", m.mustBeSecond(op))
	case op.Do == Redeem:
		wrong("a code was refused without cause", !op.Forged && !m.mayBeSecond(op))
	case op.Do == Assert && op.Outcome == Granted:
		wrong("an assertion was taken from a client that it does not name", op.Forged)
		wrong("an assertion was taken twice", m.mustBeKnown(op))
	case op.Do == Assert:
		wrong("an assertion was refused without cause", !op.Forged && !m.mayBeKnown(op))
	case op.Do == Work && op.Outcome == Granted:
		wrong("a workload's JWT was taken that is for another server", op.Forged)
	case op.Do == Work:
		wrong("a workload was refused without cause", !op.Forged)
	case op.lacksKey():
		wrong("a bound refresh token was taken without its key", op.Outcome == Granted)
	case op.Do == Refresh && op.Outcome == Granted && !known:
		wrong("a refresh token that was never given was accepted", true)
	case op.Do == Refresh && op.Outcome == Granted:
		wrong("a refresh token was used again beyond the grace", m.mustBeStale(op))
		wrong("a refresh token of a family that had ended was accepted", m.mustHaveEnded(op))
		wrong("one refresh token had two successors", m.forks(op))
	case op.Do == Refresh:
		wrong("logged out without cause", known && !m.mayBeStale(op) && !m.mayHaveEnded(op))
	case op.Do == Revoke:
		wrong("a revocation was refused", op.Outcome == Refused)
	case op.Do == Call && op.Forged:
		wrong("a bound access token was taken without its key, or with a proof that was used", op.Outcome == Granted)
	case op.Do == Call && op.Outcome == Granted:
		wrong("an access token worked after its end", op.Start > op.Expires+leeway)
	case op.Do == Call:
		wrong("an access token was refused without cause", op.End < op.Expires && !m.mayHaveEnded(op))
	}
	return says
}

// leeway is how long the plugin accepts an access token after its end (docs/decisions/0002).
const leeway = time.Minute

// lacksKey says whether somebody presented a bound refresh token without its key. That is refused,
// and is no part of what happened: it uses nothing and ends nothing.
func (op *Op) lacksKey() bool { return op.Do == Refresh && op.Forged }

// moves says whether an operation certainly replaced what it presented: an answer without a new
// token, or with the one presented, leaves a client with what it had, which must stay good.
func (op *Op) moves() bool { return op.Outcome == Granted && op.Gives != "" && op.Gives != op.Value }

// mayMove says whether an operation possibly replaced what it presented.
func (op *Op) mayMove() bool { return op.moves() || op.Outcome == Unanswered }

// mayKnow says whether whoever answers op possibly knows of an earlier operation.
func (m *model) mayKnow(op, earlier *Op) bool {
	switch m.Guard {
	case Shared:
		return true
	case Memory:
		return op.Process == "" || earlier.Process == "" || op.Process == earlier.Process
	}
	return false
}

// mustKnow says whether whoever answers op certainly knows of an earlier operation.
func (m *model) mustKnow(op, earlier *Op) bool {
	switch m.Guard {
	case Shared:
		return !m.overlaps(Store, earlier.Start, earlier.End) && !m.overlaps(Store, op.Start, op.End) && !m.overlaps(Emptied, earlier.Start, op.End)
	case Memory:
		return op.Process != "" && op.Process == earlier.Process
	}
	return false
}

func (m *model) overlaps(part Part, from, to time.Duration) bool {
	return slices.ContainsFunc(m.Outages, func(o Outage) bool { return o.Part == part && o.From <= to && from <= o.To+m.Settle })
}

func (m *model) mayBeUnanswered(op *Op) bool {
	if op.Cut {
		return true
	}
	parts := []Part{Sidecar, Store, Emptied, Provider, Lost}
	switch op.Do {
	case Assert: // the tenant's provider is not asked
		parts = []Part{Sidecar, Store, Emptied}
	case Work: // nor is the guard
		parts = []Part{Sidecar}
	}
	for _, part := range parts {
		if m.overlaps(part, op.Start, op.End) {
			return true
		}
	}
	switch op.Do {
	case Redeem:
		// providers answer the losers of a race for one code in ways of their own, 500 among them
		return m.mayBeSecond(op)
	case Refresh: // somebody else may have been asking the provider for this login, and died
		return slices.ContainsFunc(m.of[m.family[op.Value]], func(other *Op) bool {
			return other != op && other.Outcome == Unanswered && m.overlaps(Sidecar, other.Start, other.End) && other.Start <= op.End && op.Start <= other.End+m.Claim
		})
	}
	return false
}

// mustBeSecond says whether a code was certainly redeemed before, and somebody was there to tell.
func (m *model) mustBeSecond(op *Op) bool {
	return slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool {
		if other == op || other.Outcome != Granted || other.End > op.End {
			return false
		}
		simultaneous := op.Start <= other.End
		return !m.CodesByGuard && (m.CodeOnce || !simultaneous) || m.mustKnow(op, other)
	})
}

// mayBeSecond says whether a code was possibly redeemed before.
func (m *model) mayBeSecond(op *Op) bool {
	return slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool {
		return other != op && !other.Forged && (other.Outcome == Granted || other.Outcome == Unanswered) && other.Start <= op.End
	})
}

// mustBeKnown says whether an assertion was certainly taken before, by somebody who is remembered.
func (m *model) mustBeKnown(op *Op) bool {
	return slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool {
		return other != op && other.Outcome == Granted && other.End <= op.End && m.mustKnow(op, other)
	})
}

// mayBeKnown says whether that is possible.
func (m *model) mayBeKnown(op *Op) bool {
	return slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool {
		return other != op && !other.Forged && other.Start <= op.End && m.mayKnow(op, other)
	})
}

// mustBeStale says whether a refresh token was certainly used longer ago than the grace, or one
// that came after it was used.
func (m *model) mustBeStale(op *Op) bool {
	return slices.ContainsFunc(m.of[m.family[op.Value]], func(other *Op) bool {
		if m.ends() && m.Guard == None && op.moves() && other.Do == Refresh && other.moves() && m.number[other.Value] >= m.number[op.Value] &&
			other.End+m.Grace+m.Interval < op.Start {
			return true // the provider was asked, and tells
		}
		if other == op || other.Do != Refresh || !other.moves() || !m.mustKnow(op, other) {
			return false
		}
		newer := m.number[other.Value] > m.number[op.Value]
		return newer && other.End < op.Start || other.Value == op.Value && other.End+m.Grace < op.Start
	})
}

// mayBeStale says whether that is possible.
func (m *model) mayBeStale(op *Op) bool {
	return slices.ContainsFunc(m.of[m.family[op.Value]], func(other *Op) bool {
		if other == op || other.Do != Refresh || !other.mayMove() {
			return false
		}
		if m.Upstream != Lenient && m.number[other.Value] >= m.number[op.Value] && other.Start <= op.End {
			return true // it may be the provider that tells
		}
		if !m.mayKnow(op, other) {
			return false
		}
		switch n := m.number[op.Value]; {
		case m.number[other.Value] > n:
			return other.Start <= op.End
		case m.number[other.Value] < n:
			return false
		case other.Value != op.Value:
			// a twin, from when nobody could tell: there is one answer for both
			return other.Start <= op.End
		}
		return other.Start+m.Grace <= op.End
	})
}

// mustHaveEnded says whether the family had certainly ended: it was revoked, refused for reuse, or
// outlived.
func (m *model) mustHaveEnded(op *Op) bool {
	f := m.family[op.Value]
	if born, ok := m.born(f); ok && born.End+m.Life < op.Start {
		return true
	}
	if slices.ContainsFunc(m.Endings, func(e Ending) bool { return e.Value == f && e.By != 0 && e.By <= op.Start }) {
		return true
	}
	for _, e := range m.Endings {
		if m.isOf(e, f) && e.By != 0 && e.By <= op.Start && op.moves() && !m.anyOutage(op) && m.isFirstUse(op) {
			if born, ok := m.born(f); ok && born.End < e.From {
				return true
			}
		}
	}
	return slices.ContainsFunc(m.of[f], func(other *Op) bool {
		if m.ends() && m.Guard == None && op.moves() && other.Do == Refresh && other.Outcome == Refused && other.End+m.Interval+m.Settle < op.Start && !m.anyOutage(op) {
			return true // it was the provider that refused, and for good
		}
		ends := other.Do == Revoke && other.Outcome == Granted || other.Do == Refresh && other.Outcome == Refused
		return ends && other.End < op.Start && m.mustKnow(op, other)
	})
}

// mayHaveEnded says whether the family possibly had ended. An access token ends with it only by the
// operator's will.
func (m *model) mayHaveEnded(op *Op) bool {
	f := m.family[op.Value]
	if slices.ContainsFunc(m.Endings, func(e Ending) bool { return e.Value == f && e.From <= op.End }) {
		return true
	}
	if op.Do == Call {
		return false
	}
	if slices.ContainsFunc(m.Endings, func(e Ending) bool { return m.isOf(e, f) && e.From <= op.End }) {
		return true
	}
	if m.ends() && m.mayHaveEndedUpstream(f, op.End) {
		return true
	}
	if born, ok := m.born(f); ok && born.Start+m.Life <= op.End {
		return true
	}
	return slices.ContainsFunc(m.of[f], func(other *Op) bool {
		if other == op || other.Start > op.End {
			return false
		}
		switch other.Do {
		case Revoke:
			return other.Outcome == Granted || other.Outcome == Unanswered
		case Refresh:
			return other.Outcome != Granted && m.mayBeStale(other) && m.mayKnow(op, other)
		}
		return false
	})
}

// isFirstUse says whether nobody has presented the same before: a client that comes again gets the
// first answer.
func (m *model) isFirstUse(op *Op) bool {
	return !slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool { return other != op && other.Start <= op.End })
}

// ends says whether the provider ends a login of which it sees a refresh token twice.
func (m *model) ends() bool { return m.Upstream == Ends || m.Upstream == EndsAll }

// isOf says whether an ending is one of the families of the person whose family this is.
func (m *model) isOf(e Ending, family string) bool {
	if e.Who == "" || e.Who != m.who[family] {
		return false
	}
	born, ok := m.born(family)
	return !ok || born.Start <= e.To
}

func (m *model) anyOutage(op *Op) bool {
	return slices.ContainsFunc([]Part{Sidecar, Store, Emptied, Provider, Lost}, func(p Part) bool { return m.overlaps(p, op.Start, op.End) })
}

// mayHaveEndedUpstream says whether the provider has possibly seen, until then, a refresh token
// twice that ends this family: its own, or one of the person's.
func (m *model) mayHaveEndedUpstream(family string, until time.Duration) bool {
	if m.mayBeReused(family, until) || m.mayBeLost(family, until) {
		return true
	}
	if m.Upstream != EndsAll || m.who[family] == "" {
		return false
	}
	for other, who := range m.who {
		if other != family && who == m.who[family] && m.mayBeReused(other, until) {
			return true
		}
	}
	return false
}

// mayBeLost says whether the provider's answer to a family's refresh was possibly lost. Others of
// the person do not suffer from it: it must not be asked for again where all would end.
func (m *model) mayBeLost(family string, until time.Duration) bool {
	return slices.ContainsFunc(m.of[family], func(op *Op) bool {
		return op.Do == Refresh && op.Start <= until && m.overlaps(Lost, op.Start, op.End)
	})
}

// mayBeReused says whether the provider has possibly seen one of its refresh tokens of a family
// twice, because a client presented an old one and nobody stopped it.
func (m *model) mayBeReused(family string, until time.Duration) bool {
	for _, a := range m.of[family] {
		if a.Do != Refresh || a.Start > until || !a.mayMove() {
			continue
		}
		for _, b := range m.of[family] {
			if b != a && b.Do == Refresh && b.Start <= until && b.End >= a.Start && m.number[b.Value] <= m.number[a.Value] && !m.isStopped(b, a) {
				return true
			}
		}
	}
	return false
}

// isStopped says whether the guard certainly kept a second use from the provider.
func (m *model) isStopped(second, first *Op) bool {
	broken := m.overlaps(Sidecar, first.Start, first.End) || m.overlaps(Store, first.Start, first.End) || m.overlaps(Provider, first.Start, first.End)
	return m.mustKnow(second, first) && (first.Outcome == Granted || !broken)
}

func (m *model) born(family string) (*Op, bool) {
	for _, op := range m.uses[family] {
		if op.Outcome == Granted {
			return op, true
		}
	}
	return nil, false
}

// forks says whether another use of the same token was answered with another successor.
func (m *model) forks(op *Op) bool {
	return op.moves() && slices.ContainsFunc(m.uses[op.Value], func(other *Op) bool {
		return other != op && other.moves() && other.Gives != op.Gives && other.End <= op.End && m.mustKnow(op, other)
	})
}
