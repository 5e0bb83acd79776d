package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Every request to the sidecar meets a process that was started for it: both replicas are killed
// and started again before each. Whatever a flow needs is in what the client and the browser carry.
func TestLoginWhileReplicasAreKilled(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	var asked atomic.Int64 // from now on: the plugin has asked at load
	w.Front.Before(func(int, *http.Request) {
		asked.Add(1)
		for _, r := range w.Replicas {
			wroteNothing(t, r)
			r.Restart(nil)
		}
	})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name, func(t *testing.T) {
			callWhoami(t, tn, tn.PublicHTTP())

			// The Go SDK's dance needs no refresh; a client does, later, at yet another process.
			c := tn.Client()
			tokens := c.Tokens(tn.Browser())
			refreshed := c.Refresh(tokens.Member("refresh_token"))
			if refreshed.Status != http.StatusOK {
				t.Fatalf("refresh: %s", refreshed)
			}
			if answer := c.Get("/anything", refreshed.Member("access_token")); answer.Status != http.StatusOK {
				t.Errorf("with the refreshed token: %s", answer)
			}
		})
	}
	w.Front.Before(nil)
	starts := 0
	for _, r := range w.Replicas {
		wroteNothing(t, r)
		starts += r.Starts()
	}
	t.Logf("%d requests met %d processes; file system confined: %v", asked.Load(), starts, rig.Confined())
	if n := int(asked.Load()); n < 10 || starts < 2*n {
		t.Errorf("%d processes for %d requests, want two for each", starts, n)
	}
}

// The master ring is changed as the manual says, one replica at a time, while a login is going on:
// first the new secret is known everywhere, then it seals, then the old one goes.
func TestMasterRingRotatesUnderARunningLogin(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	oldKey, newKey := w.Keys.Encryption, rig.Keygen(t, w.Secrets).Encryption
	rings := []struct{ name, ring string }{
		{"both, the old seals", oldKey + "," + newKey},
		{"both, the new seals", newKey + "," + oldKey},
	}
	c := w.Wiki.Client()
	before := c.Tokens(w.Wiki.Browser())
	works := func(t *testing.T, what string, token string) {
		t.Helper()
		if answer := c.Get("/anything", token); answer.Status != http.StatusOK {
			t.Errorf("%s: %s", what, answer)
		}
	}
	works(t, "token from before the rotation", before.Member("access_token"))

	// The plugin's hop key comes from the first master secret and stays: the sidecar knows it as
	// long as the secret is in the ring.
	for _, step := range rings {
		t.Run(step.name, func(t *testing.T) {
			// In the middle of the login one replica has the new ring and the other has not.
			f := c.Begin()
			b := w.Wiki.Browser()
			n := 0
			w.Front.Before(func(int, *http.Request) {
				if n < len(w.Replicas) {
					w.Replicas[n].Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": step.ring})
				}
				n++
			})
			code := c.Login(b, f)
			tokens := c.Redeem(code, f)
			w.Front.Before(nil)
			if n < len(w.Replicas) {
				t.Fatalf("only %d requests: the rotation did not happen during the login", n)
			}
			if tokens.Status != http.StatusOK {
				t.Fatalf("code: %s", tokens)
			}
			works(t, "token from the middle of the rotation", tokens.Member("access_token"))
			works(t, "token from before the rotation", before.Member("access_token"))
			if answer := c.Refresh(tokens.Member("refresh_token")); answer.Status != http.StatusOK {
				t.Errorf("refresh: %s", answer)
			} else {
				works(t, "refreshed token", answer.Member("access_token"))
			}
			// The registration of before the rotation serves on; a new one is sealed under the
			// first secret.
			works(t, "token of a new client", w.Wiki.Client().Tokens(w.Wiki.Browser()).Member("access_token"))
		})
	}

	t.Run("a hop under a removed secret is refused", func(t *testing.T) {
		tokens := c.Tokens(w.Wiki.Browser())
		for _, r := range w.Replicas {
			r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": newKey})
		}
		// The plugin still holds the hop key of the old secret, so Traefik needs the new one before
		// the old secret goes.
		if answer := c.Refresh(tokens.Member("refresh_token")); answer.Status == http.StatusOK {
			t.Errorf("accepted: %s", answer)
		}
		for _, r := range w.Replicas {
			r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": newKey + "," + oldKey})
		}
		if answer := c.Refresh(tokens.Member("refresh_token")); answer.Status != http.StatusOK {
			t.Errorf("with the old secret back: %s", answer)
		}
	})
}

// A replica told to stop ends by itself, soon, and with success.
func TestReplicaEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	for _, r := range w.Replicas {
		if code := r.Terminate(); code != 0 {
			t.Errorf("%s ended with %d, want 0", r.Name, code)
		}
	}
}

func wroteNothing(t *testing.T, r *rig.Replica) {
	t.Helper()
	if err := r.WroteNothing(); err != nil {
		t.Error(err)
	}
}
