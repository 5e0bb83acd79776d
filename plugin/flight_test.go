//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFlightEndsForAllThatWait(t *testing.T) {
	start(t)
	why := errors.New("why")
	ask := make(chan bool)
	f := newFlight()
	fly(func() error {
		<-ask
		return why
	}, func(err error) { f.done(err) })
	waited := make(chan bool)
	startAll(3, func(_ int) { waited <- f.wait(context.Background()) })
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if f.wait(gone) {
		t.Error("a request that is over has waited")
	}
	ask <- true
	for i := 0; i < 3; i++ {
		if !<-waited || f.result() != why {
			t.Errorf("%v", f.result())
		}
	}
}

// A panic in a goroutine would end the Traefik process. Its text is for the log alone.
func TestFlightThatPanicsLands(t *testing.T) {
	log := start(t)
	f := newFlight()
	fly(func() error { panic("out of fuel") }, func(err error) { f.done(err) })
	select {
	case <-f.ended:
	case <-time.After(time.Minute):
		t.Fatal("it is still in the air")
	}
	err := f.result()
	if !errors.Is(err, errInternal) || err.Error() != "internal error: out of fuel" {
		t.Errorf("%v", err)
	}
	if shown := hideInternal("wiki@docker", err); shown != errKeysUnavailable || !strings.Contains(log.String(), `middleware "wiki@docker": internal error: out of fuel`) {
		t.Errorf("a client is told %v, the log %s", shown, log)
	}
	if hideInternal("wiki@docker", errKey) != errKey || hideInternal("wiki@docker", nil) != nil {
		t.Error("another error is hidden")
	}
}
