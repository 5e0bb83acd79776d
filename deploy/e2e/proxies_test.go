//go:build proxies

package e2e

import "testing"

// docs/forward-auth.md, with proxies that are built for `make nightly` (proxies/install.sh).
func TestProxiesThatAsk(t *testing.T) {
	t.Parallel()
	for _, proxy := range []string{"caddy", "nginx"} {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			t.Run("login", func(t *testing.T) { logInWithoutPlugin(t, proxy) })
			t.Run("clients", func(t *testing.T) { clientsWithoutPlugin(t, proxy) })
		})
	}
}
