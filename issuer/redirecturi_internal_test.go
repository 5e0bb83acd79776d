package issuer

import (
	"fmt"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A client that registers hundreds of addresses does not make the sidecar compare each with all
// others.
func TestRegistrationOfHundredsOfAddressesCostsLittle(t *testing.T) {
	var uris []string
	for i := range 800 {
		uris = append(uris, fmt.Sprintf("http://[::1]/%x", i))
	}
	var err error
	cost := testing.AllocsPerRun(1, func() {
		_, err = RegisterClient(nil, sealing.TenantID{}, nil, ClientMetadata{RedirectURIs: uris, TokenEndpointAuthMethod: "none"}, time.Now())
	})
	if err == nil || asError(err).Code != "invalid_redirect_uri" {
		t.Errorf("error %v", err)
	}
	if cost > 10_000 {
		t.Errorf("%.0f allocations", cost)
	}
}
