#!/usr/bin/env bash
# Traefik v3.7.13 with tracing on: services get the traceparent of Traefik's span, and so does the
# address of a forwardAuth. A plugin does not: the request that it is given has the client's header,
# or none, so what it asks others is in another trace. The span stands in the context only.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
// The service answers what it sees, and the address of forwardAuth says it in a header.
http.createServer((request, response) => {
  const seen = request.headers.traceparent || 'none';
  response.setHeader('X-Seen', seen);
  response.end(`${seen} ${request.headers['x-seen'] || ''}`);
}).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
mkdir -p plugins-local/src/finding.test/seen
cat >plugins-local/src/finding.test/seen/.traefik.yml <<'YAML'
displayName: seen
summary: says which traceparent it sees
type: middleware
import: finding.test/seen
testData: {}
YAML
cat >plugins-local/src/finding.test/seen/go.mod <<'MOD'
module finding.test/seen
MOD
cat >plugins-local/src/finding.test/seen/seen.go <<'GO'
package seen

import (
	"context"
	"net/http"
)

type Config struct{}

func CreateConfig() *Config { return &Config{} }

func New(_ context.Context, next http.Handler, _ *Config, _ string) (http.Handler, error) {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		seen := req.Header.Get("Traceparent")
		if seen == "" {
			seen = "none"
		}
		req.Header.Set("X-Seen", seen)
		next.ServeHTTP(rw, req)
	}), nil
}
GO
static='
experimental: {localPlugins: {seen: {moduleName: finding.test/seen}}}
tracing: {otlp: {http: {endpoint: "http://127.0.0.1:1/v1/traces"}}}
'
traefik <<YAML
http:
  routers:
    all: {rule: PathPrefix(\`/\`), service: noop@internal}
    plugin: {rule: PathPrefix(\`/plugin\`), service: one, middlewares: [seen]}
    auth: {rule: PathPrefix(\`/auth\`), service: one, middlewares: [auth]}
  services:
    one: {loadBalancer: {servers: [{url: "http://127.0.0.1:$backend"}]}}
  middlewares:
    seen: {plugin: {seen: {}}}
    auth: {forwardAuth: {address: "http://127.0.0.1:$backend", authResponseHeaders: [X-Seen]}}
YAML
client=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
# Which of both saw what: "own" is a span of Traefik.
saw() {
  curl -s "${@:2}" "http://127.0.0.1:$web/$1" | sed "s/$client/client/g; s/00-[0-9a-f]*-[0-9a-f]*-01/own/g"
}
seen "service and plugin" "own none" "$(saw plugin)"
seen "service and plugin, a client with its own" "own client" "$(saw plugin -H "traceparent: $client")"
seen "service and forwardAuth" "own own" "$(saw auth)"
done_with "Traefik v3.7.13"
