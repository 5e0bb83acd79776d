package e2e

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/scale"
)

// The simulation of docs/scale.md predicts what a real sidecar does under load: how many requests
// it answers for the processor time that it gets, within a factor of three (machines and hours
// differ by two), and how much it logs.
func TestScaleIsThatOfARealSidecar(t *testing.T) {
	s := rig.StartInstallation(t, map[string]string{"BOUNCER_REPLAY_GUARD": rig.StartRedis(t, &rig.Logs{}).URL})
	client := rig.NewOAuthClient(t, http.DefaultClient, s.Public)
	const clients, logins, refreshes = 4, 16, 60 // refreshes of each login
	client.Tokens(s.Browser())                   // discovery, and what the first login makes
	before, logged, start := s.Replica.Usage(), len(s.Logs.Text("sidecar")), time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range logins / clients {
				token := client.Tokens(s.Browser()).Member("refresh_token")
				for range refreshes {
					token = client.Refresh(token).Member("refresh_token")
				}
			}
		})
	}
	wg.Wait()
	took := s.Replica.Usage().CPU - before.CPU
	answered := float64(logins * refreshes)
	predicted := scale.SidecarMicroseconds(logins*refreshes, logins)
	measured := float64(took.Microseconds())
	t.Logf("%v of processor time in %v, %.0f µs predicted: %.0f refreshes a second and processor, %.0f predicted", took, time.Since(start), predicted, answered/measured*1e6, answered/predicted*1e6)
	if measured > 3*predicted || measured < predicted/3 {
		t.Errorf("%.0f µs of processor time, the simulation says %.0f", measured, predicted)
	}
	wrote := float64(len(s.Logs.Text("sidecar")) - logged)
	lines := scale.LogBytes(logins*refreshes, logins)
	t.Logf("%.0f bytes in the log, %.0f predicted", wrote, lines)
	if wrote > 1.5*lines || wrote < lines/1.5 {
		t.Errorf("%.0f bytes in the log, the simulation says %.0f", wrote, lines)
	}
}
