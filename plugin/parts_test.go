//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"
)

func hdr() http.Header {
	return http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}, "User-Agent": {"node"}, "Mcp-Protocol-Version": {"2025-06-18"}, "Mcp-Session-Id": {"abc"},
		"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"}, "X-Forwarded-Server": {"t"}, "X-Real-Ip": {"127.0.0.1"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"100"}}
}

func BenchmarkParts(b *testing.B) {
	start(b)
	sidecar := startSidecar(b)
	cfg := wikiConfig(sidecar.server.URL)
	cfg.PublicURL = wikiURL
	h, _ := protect(b, cfg)
	bo := h.(*bouncer)
	tok := accessToken("k1", nil)
	req := httptest.NewRequest("POST", wikiURL+"/mcp", nil)
	req.Header = hdr()
	req.Header["Authorization"] = []string{"Bearer " + tok}
	te, err := bo.tenantOf(req)
	if err != nil {
		b.Fatal(err)
	}
	id, err := te.authenticate(req)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("empty", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
		}
	})
	b.Run("dropForged", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			dropForged(req.Header)
		}
	})
	b.Run("dropForgedEmpty", func(b *testing.B) {
		e := http.Header{}
		for i := 0; i < b.N; i++ {
			dropForged(e)
		}
	})
	b.Run("tenantOf", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			bo.tenantOf(req)
		}
	})
	b.Run("route", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			bo.settings.route(req.URL)
		}
	})
	b.Run("isTricky", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			isTricky("/wiki/mcp")
		}
	})
	b.Run("bearerToken", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			bearerToken(req.Header["Authorization"])
		}
	})
	b.Run("sha", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			_ = sha256.Sum256([]byte(tok))
		}
	})
	hash := sha256.Sum256([]byte(tok))
	b.Run("recall", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			te.keys.recall(hash, clock.Load())
		}
	})
	b.Run("lookup", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			te.keys.tokens.lookup(hash)
		}
	})
	b.Run("lock", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			te.keys.mu.RLock()
			te.keys.mu.RUnlock()
		}
	})
	b.Run("now", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			now().Unix()
		}
	})
	b.Run("authenticate", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			te.authenticate(req)
		}
	})
	b.Run("identify", func(b *testing.B) {
		hd := http.Header{}
		for i := 0; i < b.N; i++ {
			identify(hd, id)
		}
	})
	b.Run("refuse", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			_ = te.challenge
		}
	})
}
