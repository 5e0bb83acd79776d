package outgoing

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// The error of net/http repeats a line of an answer that it cannot read.
func TestErrorThatHoldsAnAnswerIsBounded(t *testing.T) {
	cause := errors.New("malformed HTTP response \"" + strings.Repeat("\x1b[31m", 1000))
	got := Redact(&url.Error{Op: "Post", URL: "https://idp.example/token?code=x", Err: cause})
	if text := got.Error(); len(text) > 310 || !strings.HasPrefix(text, "idp.example: malformed HTTP response") || strings.Contains(text, "\x1b") || !errors.Is(got, cause) {
		t.Errorf("%q", text)
	}
}

// The errors of libraries hold whole bodies.
func TestErrorOfNoKnownFormSaysNothing(t *testing.T) {
	if text := Redact(errors.New("cannot parse {\"access_token\":\"secret\"}")).Error(); strings.Contains(text, "secret") {
		t.Error(text)
	}
}
