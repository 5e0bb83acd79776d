package e2e

import (
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay/storetest"
)

// TestStoresOnServers takes the stores of package replay through the suite that they all pass:
// Redis is the real one, DynamoDB an implementation of its own. The test sets variables of AWS, so
// it runs alone.
func TestStoresOnServers(t *testing.T) {
	replicas := func(t *testing.T, url string) (both [2]replay.Store) {
		t.Helper()
		for i := range both {
			var err error
			if _, both[i], err = replay.OpenStore(url, storetest.Idle, storetest.Login, time.Now); err != nil {
				t.Fatal(err)
			}
		}
		return both
	}
	t.Run("redis", func(t *testing.T) {
		store := rig.StartRedis(t, &rig.Logs{})
		both := replicas(t, store.URL)
		storetest.Run(t, func(*testing.T) storetest.Subject {
			return storetest.Subject{
				Replicas: both, Pass: store.Age, Fill: store.Fill, Drain: store.Drain,
				Break: store.Kill, Heal: func() { store.Start() },
			}
		})
	})
	t.Run("dynamodb", func(t *testing.T) {
		store := rig.StartDynamoDB(t, &rig.Logs{})
		for name, value := range store.Env {
			t.Setenv(name, value)
		}
		both := replicas(t, store.URL)
		storetest.Run(t, func(*testing.T) storetest.Subject {
			return storetest.Subject{Replicas: both, Pass: store.Age, Break: store.Kill, Heal: store.Start}
		})
	})
}
