package sealing

import (
	"testing"
	"time"
)

// BenchmarkSealOpen measures for the budget of docs/benchmarks.md: one value of 600 bytes sealed
// and opened.
func BenchmarkSealOpen(b *testing.B) {
	r, err := ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		b.Fatal(err)
	}
	payload, now := make([]byte, 600), time.Unix(1_790_000_000, 0)
	for name, forget := range map[string]bool{"keys derived before": false, "keys derived each time": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					r.aeads.m = nil
				}
				v := r.Seal(KindRefresh, TenantID{}, "context", payload, now)
				if _, _, err := r.Open(KindRefresh, TenantID{}, "context", v, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
