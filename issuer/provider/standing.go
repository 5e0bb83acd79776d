package provider

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

// What a provider's refusal means depends on whether it takes anything from this server: a refresh
// token that is refused in words that nobody knows is worth nothing where others are taken, and may
// be good where none is. This process remembers what it has seen of that. A process that remembers
// nothing bridges until StaleWindow ends, and that is all that losing it costs.

// standing is what is known of how a provider treats one of the operator's clients.
type standing struct {
	mu       sync.Mutex // guards what follows for one access
	accepted bool       // it has taken a code or a refresh token
	// When it last took a refresh token.
	refreshed time.Time
	// Since when its answers to refreshes say nothing of the refresh token; zero while they say
	// something.
	trouble time.Time
	// When it first answered so to a login's refresh token, or refused it in words that are not
	// clear.
	first forget.Aged[[16]byte, time.Time]
}

// firstsKept is how many logins with troubled refreshes a standing knows, at about 100 bytes each.
// For the others the trouble begins anew with each of them.
const firstsKept = 100_000

// standings hold one for each provider, client and secret: a secret that was replaced begins anew.
type standings struct {
	mu sync.Mutex // guards m for one access
	m  forget.Aged[string, *standing]
}

func (s *standings) of(c *Client, secret string, now time.Time) *standing {
	sum := sha256.Sum256([]byte(c.Issuer + "\x00" + c.ID + "\x00" + secret))
	key := string(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m.Width = unusedFor
	s.m.Turn(now)
	st, ok := s.m.Use(key)
	if !ok {
		st = &standing{first: forget.Aged[[16]byte, time.Time]{Width: forgetfulWindow}}
		s.m.Set(key, st)
	}
	return st
}

// takesCode is called when a code was taken.
func (st *standing) takesCode() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.accepted, st.trouble = true, time.Time{}
}

func (st *standing) hasAccepted() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.accepted
}

// takes is called when a refresh token was taken.
func (st *standing) takes(refreshToken string, now time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.accepted, st.refreshed, st.trouble = true, now, time.Time{}
	if st.first.Len() > 0 {
		st.first.Delete(firstKey(refreshToken, doubted))
		st.first.Delete(firstKey(refreshToken, unsaid))
	}
}

// understands is called when a refresh token was refused clearly: a provider that does that has
// accepted this server.
func (st *standing) understands() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.trouble = time.Time{}
}

// doubts is called when a refresh token was refused in words that are not clear. It says whether
// another one has been taken since that first happened: then the words are clear.
func (st *standing) doubts(refreshToken string, now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.refreshed.After(st.firstTime(firstKey(refreshToken, doubted), now))
}

// troubled is called when an answer to a refresh said nothing of the refresh token. It says since
// when that has been so, for this one or for all that were presented.
func (st *standing) troubled(refreshToken string, now time.Time) time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.trouble.IsZero() || st.trouble.After(now) { // the clock was set back
		st.trouble = now
	}
	if first := st.firstTime(firstKey(refreshToken, unsaid), now); first.Before(st.trouble) {
		return first
	}
	return st.trouble
}

// unread stands beside the meanings of errors. It is for an answer that granted a refresh and whose
// claims could not be read.
const unread meaning = -1

// unreadSince is called when what was said of a login's person could not be read. It says since
// when that has been so. read is when it could last be read, at any replica.
//
// The login's own refresh token says that too (Person.UnreadSince), except for one from before it
// began: where the provider's token in it is good for ever, somebody who presents it again and
// again would never be judged anew.
func (st *standing) unreadSince(login [16]byte, read, now time.Time) time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	key := firstKey(string(login[:]), unread)
	if st.first.Get(key).Before(read) {
		st.first.Delete(key)
	}
	since := st.firstTime(key, now)
	if st.first.Get(key).Equal(since) {
		st.first.Set(key, since) // among the young entries: it is not forgotten while it lasts
	}
	return since
}

// reads is called when what was said of a login's person could be read.
func (st *standing) reads(login [16]byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.first.Len() > 0 {
		st.first.Delete(firstKey(string(login[:]), unread))
	}
}

// firstTime is when something first happened: now, if it is not known.
func (st *standing) firstTime(key [16]byte, now time.Time) time.Time {
	st.first.Turn(now)
	if first := st.first.Get(key); !first.IsZero() && !first.After(now) {
		return first
	}
	if st.first.Len() < firstsKept {
		st.first.Set(key, now)
	}
	return now
}

func firstKey(refreshToken string, what meaning) [16]byte {
	sum := sha256.Sum256(append([]byte(refreshToken), byte(what)))
	return [16]byte(sum[:16])
}
