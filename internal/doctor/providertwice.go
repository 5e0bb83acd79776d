package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// What a provider does with a code or a refresh token that comes twice stands in no document. The
// sidecar counts on it: without a replay guard the provider is the only one who remembers.

const codesPage = replayPage + "#codes"

// twice logs the person in again, and presents what was presented before.
func (v *visitor) twice(ctx context.Context, first *upstreamLogin) {
	second := v.authorize(ctx, "a second login, to see what it does to the first")
	if second == nil {
		return
	}
	if err := v.redeem(ctx, second); err != nil {
		v.wrong("second login", "a login like the first", err.Error(), report.Provider, "see the provider's log: the same person has just logged in", loginFails)
		return
	}
	v.secondLogin(ctx, first)
	v.usedCode(ctx, second)
	third := v.authorize(ctx, "a third login, whose code is presented with a wrong code_verifier, and then twice at once")
	if third == nil {
		return
	}
	given := v.wrongVerifier(ctx, third)
	if given == nil { // the code is used up
		if third = v.authorize(ctx, "one more login, whose code is presented twice at once"); third == nil {
			return
		}
		given = v.redeemTwice(ctx, third)
	}
	v.atOnce(ctx, given)
}

// secondLogin asks whether the first login is still good. All MCP programs of a person are logins
// at one client.
func (v *visitor) secondLogin(ctx context.Context, first *upstreamLogin) {
	const check = "second login"
	if first.over || first.who.RefreshToken == "" {
		return
	}
	err := v.refresh(ctx, first)
	if err == nil {
		v.good(check, "the first one goes on")
		return
	}
	v.oneForAll = true
	v.amiss(check, "the first one goes on", "it ends the first one: "+err.Error(), report.Label, "set refresh=session: otherwise a person's second program logs the first one out", refreshLabel)
	v.label("refresh=session")
}

// The fates of a login that something was done to.
const (
	goesOn = " goes on"
	isOver = " is over"
	unseen = ": not seen without a refresh token"
)

func (v *visitor) fate(ctx context.Context, l *upstreamLogin) string {
	switch {
	case l.who.RefreshToken == "":
		return unseen
	case v.refresh(ctx, l) == nil:
		return goesOn
	}
	return isOver
}

// costs is what a code costs whose second use ends what the first one gave.
const costs = "a client that repeats its request because the answer was lost logs itself out: set BOUNCER_REPLAY_GUARD, with one store for all replicas"

// usedCode presents a code that was redeemed a moment ago (RFC 6749 section 4.1.2).
func (v *visitor) usedCode(ctx context.Context, l *upstreamLogin) {
	const check = "used code"
	again := &upstreamLogin{seed: l.seed, code: l.code}
	err := v.redeem(ctx, again)
	fate := v.fate(ctx, l)
	switch {
	case again.answer != nil:
		v.amiss(check, "a code that was used is refused", "tokens again; the first login"+fate, report.Provider, "set BOUNCER_REPLAY_GUARD: without one a stolen code works as long as it lives", codesPage)
		v.label("BOUNCER_REPLAY_GUARD")
	case errors.Is(err, provider.ErrOurFault):
		v.note(check, "refused, in words that are not known for that: "+err.Error()+"; the first login"+fate, "a client that repeats its request hears server_error, until a code was taken before", codesPage)
	case !errors.Is(err, provider.ErrCode):
		v.note(check, "not told apart: "+err.Error()+"; the first login"+fate, "", codesPage)
	case fate == isOver:
		v.note(check, "refused; the first login"+isOver, costs, replayPage+"#what-a-second-use-costs")
		v.label("BOUNCER_REPLAY_GUARD")
	default:
		v.good(check, "refused; the first login"+fate)
	}
}

// wrongVerifier presents a code as somebody would who has seen it, and no more: without the
// code_verifier (RFC 7636 section 4.6). It returns what the code brought afterwards, twice at once;
// nil if it was used up.
func (v *visitor) wrongVerifier(ctx context.Context, l *upstreamLogin) []*upstreamLogin {
	const check = "wrong verifier"
	stranger := &upstreamLogin{seed: newSeed(), code: l.code}
	err := v.redeem(ctx, stranger)
	if stranger.answer != nil {
		const seen, remedy = "the provider takes it: a code that is stolen on its way is worth tokens, until its nonce is looked at", "turn on PKCE for this client there"
		if v.listsS256 {
			v.amiss(check, "the code is refused, since the provider lists S256", seen, report.Provider, remedy, providersPage)
		} else {
			v.note(check, seen, remedy, providersPage)
		}
		return nil
	}
	given := v.redeemTwice(ctx, l)
	switch {
	case errors.Is(err, provider.ErrAway):
		v.note(check, "not told apart: "+err.Error(), "", "")
	case given == nil:
		v.good(check, "refused, and the code is used up")
	default:
		v.good(check, "refused, and the code stays good for its owner")
	}
	return given
}

// redeemTwice presents a code twice at once, and returns the logins that it brought; nil if none.
func (v *visitor) redeemTwice(ctx context.Context, l *upstreamLogin) (given []*upstreamLogin) {
	v.say("a code twice at once")
	var all [2]upstreamLogin
	var both sync.WaitGroup
	for i := range all {
		both.Go(func() {
			all[i] = upstreamLogin{seed: l.seed, code: l.code, id: l.id}
			_ = all[i].redeem(ctx, v.p) // one of the two is to be refused
		})
	}
	both.Wait()
	for i := range all {
		if all[i].answer != nil {
			given = append(given, &all[i])
			v.logins = append(v.logins, &all[i])
		}
	}
	return given
}

func (v *visitor) atOnce(ctx context.Context, given []*upstreamLogin) {
	const check = "code twice at once"
	switch len(given) {
	case 0:
		v.note(check, "both are refused: a client whose request arrives twice gets nothing", "set BOUNCER_REPLAY_GUARD, with one store for all replicas", codesPage)
	case 1:
		if fate := v.fate(ctx, given[0]); fate == isOver {
			v.note(check, "one of two is given tokens; the login"+isOver, costs, replayPage+"#what-a-second-use-costs")
		} else {
			v.good(check, "one of two is given tokens; the login"+fate)
		}
	default:
		v.amiss(check, "one of two is given tokens", "both are", report.Provider, "set BOUNCER_REPLAY_GUARD, with one store for all replicas: without one a stolen code works if it is fast", codesPage)
		v.label("BOUNCER_REPLAY_GUARD")
	}
}

// living is a login whose refresh token is good, other than one. It asks for a new login if there
// is none; nil if nobody logs in.
func (v *visitor) living(ctx context.Context, not *upstreamLogin, why string) *upstreamLogin {
	for _, l := range slices.Backward(v.logins) {
		if l != not && !l.over && l.who.Subject != "" && l.who.RefreshToken != "" && v.refresh(ctx, l) == nil {
			return l
		}
	}
	l := v.authorize(ctx, why)
	if l == nil || v.redeem(ctx, l) != nil || l.who.RefreshToken == "" {
		return nil
	}
	return l
}

// question is asked before logins may end that were not begun here.
const question = "Now refresh tokens are presented twice. Some providers take that for theft, and end all logins of this person at this client, also those of MCP programs. Go on?"

// reuse presents refresh tokens that were replaced: as the sidecar does whose answer was lost, and
// as a thief does.
func (v *visitor) reuse(ctx context.Context) {
	const check = "used refresh token"
	if v.Confirm == nil || !v.Confirm(ctx, question) {
		v.note(check, "not tried", "it may end all logins of this person at this client: --yes, or answer y", replayPage+"#by-provider")
		return
	}
	owner := v.living(ctx, nil, "another login, whose refresh token is presented twice")
	if owner == nil {
		return
	}
	var other *upstreamLogin
	if !v.oneForAll {
		other = v.living(ctx, owner, "another login, to see whether it goes on")
	}
	v.nextSecond(ctx, owner)
	thief := &upstreamLogin{id: owner.id, who: owner.who}
	if !v.lostAnswer(ctx, owner) {
		return
	}
	v.say("a used refresh token")
	stolen, kept := v.refresh(ctx, thief), v.refresh(ctx, owner)
	words := "refused"
	if stolen != nil && !errors.Is(stolen, provider.ErrEnded) {
		words = "refused in words that are not clear (" + stolen.Error() + ")"
	}
	switch {
	case stolen == nil:
		fate := map[bool]string{true: goesOn, false: isOver}[kept == nil]
		v.note(check, "taken; the newest"+fate+": a stolen one works until the login ends, and nobody notices", "turn on rotation there that ends the used one, or set BOUNCER_REPLAY_GUARD", replayPage+"#by-provider")
		v.label("BOUNCER_REPLAY_GUARD")
	case kept == nil:
		v.good(check, words+"; the newest goes on")
	default:
		v.good(check, words+"; the newest is over: thief and owner are out")
	}
	if other == nil {
		return
	}
	if v.refresh(ctx, other) == nil {
		v.good("other logins", "another login of this person goes on")
		return
	}
	v.note("other logins", "another login of this person is over: one refresh token that comes twice logs the person out of all programs", "set BOUNCER_REPLAY_GUARD, with one store for all replicas", replayPage+"#by-provider")
	v.label("BOUNCER_REPLAY_GUARD with one store for all replicas")
}

// lostAnswer loses the provider's answer to a refresh, as a network does, and lets the sidecar's
// code do what it does then. Afterwards the login has the newest refresh token, also where the
// sidecar would have lost it. It says whether there is something to go on with.
func (v *visitor) lostAnswer(ctx context.Context, l *upstreamLogin) bool {
	const check = "lost answer"
	v.say("a refresh whose answer gets lost")
	v.wire.lose(v.facts.TokenEndpoint)
	err := v.refresh(ctx, l)
	if err == nil {
		v.good(check, "the sidecar asks again, and the login goes on")
		// One more, so that a thief's is older than what a leeway is for.
		v.nextSecond(ctx, l)
		return v.refresh(ctx, l) == nil
	}
	seen := "the login is over: asked again, " + err.Error()
	if errors.Is(err, provider.ErrLost) {
		seen = "the login is over: " + err.Error()
	}
	v.note(check, seen, "let the provider take a replaced refresh token for 30 to 60 seconds (leeway, grace period, reuse interval)", replayPage+"#by-provider")
	var lost struct {
		RefreshToken string `json:"refresh_token"`
	}
	if json.Unmarshal(v.wire.wasLost(), &lost) != nil || lost.RefreshToken == "" {
		return false
	}
	l.over, l.who.RefreshToken = false, lost.RefreshToken
	return true
}

// end ends the logins that were begun here.
func (v *visitor) end(ctx context.Context) {
	v.say("revoking the logins that were begun here")
	left := 0
	for _, l := range v.logins {
		if l.over || l.who.RefreshToken == "" {
			continue
		}
		if v.p.Revoke(ctx, l.who) != nil {
			left++
		}
	}
	if left > 0 {
		v.note("logins left", fmt.Sprintf("%d that were begun here could not be ended at the provider", left), "they end there by themselves, or an administrator ends them", "")
	}
}
