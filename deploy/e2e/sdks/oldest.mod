// The oldest versions; see go.mod.
module github.com/mcpbouncer/mcpbouncer/deploy/e2e/sdks

go 1.26.0

require (
	github.com/mark3labs/mcp-go v0.30.0
	github.com/modelcontextprotocol/go-sdk v1.4.1
	golang.org/x/oauth2 v0.34.0
)

require (
	github.com/google/jsonschema-go v0.4.2 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/segmentio/asm v1.1.3 // indirect
	github.com/segmentio/encoding v0.5.4 // indirect
	github.com/spf13/cast v1.7.1 // indirect
	github.com/yosida95/uritemplate/v3 v3.0.2 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
