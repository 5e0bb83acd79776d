// Package rig starts every part of a MCPBouncer installation for real, on loopback, and drives it
// from outside:
//
//	Browser, MCP client ──▶ Traefik + plugin ──▶ MCP server (official Go SDK)
//	   │                         │ hop
//	   │                         ▼
//	   │                       Front ──▶ replicas of mcpbouncer, in turn
//	   ▼                                   │
//	counting fronts ──▶ Dex, exampleop ◀───┘
//
// Traefik, Dex, exampleop and the replicas are processes (built by ../tools.sh); the MCP servers,
// the fronts and the fake Docker Engine API are listeners of the test itself. Nothing waits for a
// fixed time: readiness is polled.
//
// [New] builds a whole [World]. [Browser] logs a user in by following redirects and filling forms.
// [OAuthClient] speaks the protocol step by step, where a test wants to interfere; [World.DialMCP]
// lets the Go SDK do all of it by itself. Everything the wire shows that must never be in a log is
// collected in [Secrets].
package rig
