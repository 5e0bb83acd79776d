package contract

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Fate is what the answers say of a login at the end of a record.
type Fate string

// The fates. MayLive is one that ended and was given a token all the same, or perhaps; or one that
// perhaps ended.
const (
	Living  Fate = "living"
	Ended   Fate = "ended"
	MayLive Fate = "may live"
)

// Cause is why a login ended.
type Cause string

// The causes.
const (
	ByReuse    Cause = "reuse"
	ByClient   Cause = "client"
	ByProvider Cause = "provider"
)

// Standing is where a login stands at the end of a record.
type Standing struct {
	Login  string // its id
	Fate   Fate
	Causes []Cause // Ended: one of these
	Tokens int     // how many refresh tokens clients were given for it
	Lost   int     // how many refreshes had no answer
	Last   *Op     // what was done with it last
	// Until is when it is over by itself, where it has no refresh tokens.
	Until time.Duration
	// Unheard says that a revocation had no answer: whoever ended the login may have died before it
	// wrote that down.
	Unheard bool
}

// Standings returns every login of which a client was told, by id. Nothing is in it that only the
// provider knows: a log does not have that either.
func (c Contract) Standings(h History) map[string]Standing {
	m := c.newModel(h)
	login := map[string]string{} // :: refresh token → id of its login
	of := map[string][]*Op{}     // :: id of a login → what was done with it
	for _, op := range m.ops {
		if op.Outcome == Granted && op.Login != "" {
			login[op.Gives] = op.Login
			of[op.Login] = append(of[op.Login], op)
		}
	}
	for _, op := range m.ops {
		if id := login[op.Value]; id != "" && !op.lacksKey() && !slices.Contains(of[id], op) {
			of[id] = append(of[id], op)
		}
	}
	standings := map[string]Standing{}
	for id, ops := range of {
		slices.SortStableFunc(ops, func(a, b *Op) int { return cmp.Compare(a.End, b.End) })
		s := Standing{Login: id, Fate: m.fate(ops), Last: ops[len(ops)-1]}
		tokens, causes := map[string]bool{}, map[Cause]bool{}
		for _, op := range ops {
			if op.Gives != "" {
				tokens[op.Gives] = true
			}
			if op.Do == Assert || op.Do == Work {
				s.Until = max(s.Until, op.Expires)
			}
			switch {
			case op.Outcome != Unanswered:
			case op.Do == Refresh:
				s.Lost++
			case op.Do == Revoke:
				s.Unheard = true
			}
			for _, cause := range m.causes(op) {
				causes[cause] = true
			}
		}
		s.Tokens, s.Causes = len(tokens), slices.Sorted(maps.Keys(causes))
		standings[id] = s
	}
	return standings
}

// fate says what the answers to all that was done with a login mean.
func (m *model) fate(ops []*Op) Fate {
	living := true
	for _, end := range ops {
		if !m.mayEnd(end) {
			continue
		}
		living = false
		certain := end.Do == Revoke && end.Outcome == Granted || end.Do == Refresh && end.Outcome == Refused
		if certain && !slices.ContainsFunc(ops, func(op *Op) bool {
			return op != end && op.Do == Refresh && (op.Outcome == Granted || op.Outcome == Unanswered) && op.End >= end.Start
		}) {
			return Ended
		}
	}
	if living {
		return Living
	}
	return MayLive
}

// mayEnd says whether a login certainly or possibly was over after an operation.
func (m *model) mayEnd(op *Op) bool {
	switch op.Do {
	case Revoke:
		return op.Outcome != Refused
	case Refresh:
		return op.Outcome == Refused || op.Outcome != Granted && (m.mayBeStale(op) || m.mayHaveEnded(op))
	}
	return false
}

// causes returns why a login possibly ended by such an operation, or had ended before.
func (m *model) causes(op *Op) (causes []Cause) {
	if !m.mayEnd(op) {
		return nil
	}
	if op.Do == Revoke {
		return []Cause{ByClient}
	}
	if m.Guard != None && m.mayBeStale(op) {
		causes = append(causes, ByReuse)
	}
	f := m.family[op.Value]
	revoked := slices.ContainsFunc(m.of[f], func(other *Op) bool { return other.Do == Revoke && other.Start <= op.End })
	// The guard keeps a login from the provider that it knows to be over.
	knows := m.Guard == Shared && !m.overlaps(Store, 0, op.End) && !m.overlaps(Emptied, 0, op.End)
	if m.Upstream != Lenient || revoked && !knows || slices.ContainsFunc(m.Endings, func(e Ending) bool { return m.isOf(e, f) && e.From <= op.End }) {
		causes = append(causes, ByProvider)
	}
	return causes
}
