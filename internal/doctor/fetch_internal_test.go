package doctor

import (
	"context"
	"errors"
	"net/url"
	"testing"
)

// lateError is what a transport returns whose own limit comes before the request's.
type lateError struct{}

func (lateError) Error() string { return "timeout awaiting response headers" }
func (lateError) Timeout() bool { return true }

func TestErrorsOfLateAnswersAreOne(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, lateError{}, &url.Error{Op: "Get", URL: "https://mcp.example", Err: lateError{}}} {
		if got := plainError(err); got != errNoAnswer {
			t.Errorf("%v: %v", err, got)
		}
	}
	if err := errors.New("connection refused"); plainError(err) != err {
		t.Errorf("%v is taken for a late answer", err)
	}
}
