//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sidecarDeadline bounds one request of the plugin itself to the sidecar, and how long a client's
// request waits for the answer to one.
const sidecarDeadline = 3 * time.Second

// deadline is sidecarDeadline, except in tests with crowds.
var deadline = sidecarDeadline

// errInternal stands for a panic. It never reaches a client.
var errInternal = errors.New("internal error")

// flight is one question to the sidecar, which is asked in the background. All requests that need
// the answer wait for the same flight.
type flight struct {
	ended chan struct{} // closed by done
	err   error         // written before ended is closed
}

func newFlight() *flight { return &flight{ended: make(chan struct{})} }

// done ends a flight. It is called once.
func (f *flight) done(err error) {
	f.err = err
	close(f.ended)
}

// wait returns true at the end of the flight, and false when the request is over or has waited for
// deadline.
func (f *flight) wait(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	select {
	case <-f.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// result returns the error with which done was called. It may be called once wait has returned
// true.
func (f *flight) result() error { return f.err }

// fly asks in a goroutine of its own, and then calls land with the outcome. A panic in a goroutine
// would end the Traefik process, so it becomes errInternal.
func fly(ask func() error, land func(err error)) {
	go func() {
		err := errInternal
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v", errInternal, r)
			}
			land(err)
		}()
		err = ask()
	}()
}

// hideInternal replaces errInternal by what a client may be told, and says in the log what
// happened.
func hideInternal(middleware string, err error) error {
	if errors.Is(err, errInternal) {
		complain(middleware, "internal", err.Error())
		return errKeysUnavailable
	}
	return err
}

// backoff returns the pause after a number of failures in a row, in seconds: 1, 2, 4, and then as
// long as clients are told to wait.
func backoff(failures int) int64 {
	if failures > 3 {
		return retryAfter
	}
	return int64(1) << uint(failures-1)
}
