package provider

import "errors"

// A caller's answer hangs on what kind of error it is. There are four kinds; the errors below them
// are in the chain together with theirs, and say which one it is.
var (
	// ErrAway says nothing about the person or the login. The presented code or token may still be
	// good, and may be presented again.
	ErrAway error = &kind{"the provider cannot be asked at the moment", nil}
	// ErrEnded says that the provider gives nothing more for what was presented: only a new login
	// helps.
	ErrEnded error = &kind{"the provider has ended this login", nil}
	// ErrRefused says that the provider's answer to a login was not accepted. A new login would end
	// in the same way.
	ErrRefused error = &kind{"the provider's answer is not accepted", nil}
	// ErrOurFault says that the provider does not accept this server, whatever it presents. The
	// operator must act, and neither person nor client can.
	ErrOurFault error = &kind{"the provider does not accept this server", nil}
)

// Kinds of ErrAway.
var (
	// ErrSetUp is about a provider that cannot be used as the labels name it: no waiting mends
	// that.
	ErrSetUp error = &kind{"the provider cannot be used as it is set up", ErrAway}
	// ErrUnavailable is the provider's own word that it is out of order.
	ErrUnavailable error = &kind{"the provider is not available", ErrAway}
	// ErrUnclear is a refusal in words that may mean this server or an outage.
	ErrUnclear error = &kind{"the provider gave no clear answer", ErrAway}
	// ErrUnreadable is about an answer that came and cannot be used: the next one may be good.
	ErrUnreadable error = &kind{"the provider's answer cannot be used", ErrAway}
)

// Kinds of ErrEnded.
var (
	// ErrCode is about an authorization code that is worth nothing.
	ErrCode error = &kind{"the code is worth nothing", ErrEnded}
	// ErrAssertion is about an identity assertion with which nothing can be had.
	ErrAssertion error = &kind{"the assertion is worth nothing", ErrEnded}
	// ErrLost is about an answer that got lost, where to ask again would end other logins.
	ErrLost error = &kind{"the provider's answer was lost", ErrEnded}
	// ErrUpstreamToken is about a login whose MCP server gets no access token of the provider any
	// more.
	ErrUpstreamToken error = &kind{"there is no access token for the MCP server", ErrEnded}
	// ErrNeverRead is about answers that could not be used for so long that nothing bridges it.
	ErrNeverRead error = &kind{"the provider's answers were not accepted for too long", ErrEnded}
	// ErrNeedsMore is about labels that have changed. It ends no login for good: they may change
	// back.
	ErrNeedsMore error = &kind{"the labels need what was not read at the login, and the provider cannot be asked for it", ErrEnded}
)

// ErrConfiguration is the kind of ErrOurFault that is known without asking: the client cannot prove
// itself as its labels say.
var ErrConfiguration error = &kind{"the client's labels are wrong", ErrOurFault}

// ErrNotRevocable is Revoke's error where there is nothing to ask.
var ErrNotRevocable = errors.New("the provider has no revocation endpoint that ends one login")

// kind is an error that others are told apart by.
type kind struct {
	text string
	of   error
}

func (k *kind) Error() string { return k.text }
func (k *kind) Unwrap() error { return k.of }

// fault is a cause of one of these kinds. Its text is the cause's alone: the kind is for the
// caller, and the cause for the operator's log.
type fault struct{ kind, cause error }

func because(kind, cause error) error { return &fault{kind, cause} }

func (f *fault) Error() string   { return f.cause.Error() }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

// causeOf is the cause of a fault, without its kind.
func causeOf(err error) error {
	var f *fault
	if errors.As(err, &f) {
		return f.cause
	}
	return err
}

// notDiscovered tells what waiting mends from what it does not.
func notDiscovered(err error) error {
	var answered *unusable
	switch {
	case !errors.As(err, &answered):
		return because(ErrAway, err)
	case answered.passes:
		return because(ErrUnavailable, err)
	}
	return because(ErrSetUp, err)
}

// unanswered is the error of a question that taught nothing and may be asked again. The cause must
// have been redacted.
func unanswered(cause error) error {
	if answer := (*strangeAnswer)(nil); errors.As(cause, &answer) || errors.Is(cause, errUnusable) {
		return because(ErrUnreadable, cause)
	}
	return because(ErrAway, cause)
}

// loginRefused refuses a login for what is wrong with the provider's answer.
func loginRefused(cause error) error { return because(ErrRefused, cause) }

// errUnusable is in the chain of errors of what a provider said at a refresh that it granted, and
// that cannot be used. It may pass: keys rotate, and answers of the key set are late. If it does
// not pass within StaleWindow, the login ends.
var errUnusable = errors.New("what the provider said cannot be used")

// notUsed is a cause with errUnusable in its chain.
type notUsed struct{ cause error }

func (n notUsed) Error() string   { return n.cause.Error() }
func (n notUsed) Unwrap() []error { return []error{errUnusable, n.cause} }
