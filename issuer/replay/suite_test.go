package replay_test

import (
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay/storetest"
)

// Each store passes this suite. deploy/e2e takes a real Redis and an implementation of DynamoDB
// through the same suite.
func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			now := time.Unix(1790000000, 0)
			_, store, err := replay.OpenStore("memory", storetest.Idle, storetest.Login, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			return storetest.Subject{
				Replicas: [2]replay.Store{store, store}, Pass: func(d time.Duration) { now = now.Add(d) },
				Fill: func() { replay.LimitMemory(store, true) }, Drain: func() { replay.LimitMemory(store, false) },
			}
		})
	})
	t.Run("DynamoDB, with replicas whose clocks differ", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			stores, pass, away := replay.NewTestTable(t)
			return storetest.Subject{Replicas: stores, Pass: pass, Break: func() { away(true) }, Heal: func() { away(false) }}
		})
	})
}
