package issuer

import (
	"errors"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// providerError is the one place where an error of package provider becomes what a client or person
// may hear; nil if it is not one. The text of err is the cause in the operator's log.
func providerError(err error) *Error {
	is := func(kind error) bool { return errors.Is(err, kind) }
	switch {
	case is(provider.ErrCode):
		return invalidGrant("the authorization code is no longer valid; authorize again").because(err)
	case is(provider.ErrLost):
		return invalidGrant("the sign-in provider's answer was lost; authorize again").because(err)
	case is(provider.ErrNeverRead):
		return invalidGrant("the sign-in provider's answers about this login were not accepted; authorize again").because(err)
	case is(provider.ErrNeedsMore):
		return invalidGrant("this server needs to know more of the person than was read at this login; authorize again").because(err)
	case is(provider.ErrEnded):
		return invalidGrant("the sign-in provider ended this login; authorize again").because(err)

	case is(provider.ErrRefused):
		// At invalid_grant SDKs begin a new login, which would end in the same way.
		return badRequest("access_denied", "the sign-in provider's answer was not accepted; the server's log says why").because(err)

	// All of these are 503, so that clients keep what they hold.
	case is(provider.ErrSetUp):
		return temporarilyUnavailable("the sign-in provider cannot be used as it is set up here; the server's log says why", err)
	case is(provider.ErrUnavailable):
		return temporarilyUnavailable("the sign-in provider is not available", err)
	case is(provider.ErrUnclear):
		return temporarilyUnavailable("the sign-in provider gave no clear answer", err)
	case is(provider.ErrUnreadable):
		return temporarilyUnavailable("the answer of the sign-in provider cannot be used", err)
	case is(provider.ErrAway):
		return temporarilyUnavailable("the sign-in provider cannot be reached", err)

	case is(provider.ErrConfiguration):
		return serverError("the sign-in provider is not configured correctly", err)
	case is(provider.ErrOurFault):
		// The provider may have said invalid_client. It is never passed on: that was about the
		// operator's client, and SDKs would throw away their own.
		return serverError("the sign-in provider did not accept this server; its operator must act", err)
	}
	return nil
}
