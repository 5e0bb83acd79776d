// Package issuertest is what a test of the sidecar needs around it, made unkind on purpose.
//
//   - Provider is an OpenID provider on a loopback port. It counts what it is asked, and has a
//     switch for each way in which real providers are wrong, slow or strict.
//   - Tenant, SealHop and Front play the plugin: they say whom the sidecar serves, written from
//     docs/hop.md alone.
//   - Internet routes host names to handlers in memory, so that a login on https://mcp.localhost
//     needs no certificate.
//   - Browser is a person: it keeps cookies, reads the pages and presses the buttons.
//   - Clock is the time, with as many replicas' clocks beside it as wanted.
//
// Nil options mean defaults. Nothing here imports package issuer or package sealing: what it shares
// with them is the wire.
package issuertest

import (
	"sync"
	"time"
)

// Start is when a Clock begins unless told otherwise: in the middle of a day, an hour and a signing
// epoch.
var Start = time.Date(2026, 9, 21, 14, 30, 0, 0, time.UTC)

// Clock is a time that moves only when it is told to.
type Clock struct {
	mu  sync.Mutex // guards now for one access
	now time.Time
}

// NewClock begins at Start.
func NewClock() *Clock { return &Clock{now: Start} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the time.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set moves the time to t.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// Off is the clock of a replica that is wrong by d.
func (c *Clock) Off(d time.Duration) func() time.Time {
	return func() time.Time { return c.Now().Add(d) }
}
