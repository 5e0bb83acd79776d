#!/usr/bin/env bash
# Traefik v3.7.13: circuitBreaker with ResponseCodeRatio needs no number of requests to judge by.
# One 401, which is how every MCP client begins, is a ratio of 1: everybody then gets 503 for the
# ten seconds of fallbackDuration and some more.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => {
  response.writeHead(request.headers.authorization || request.url === '/ready' ? 200 : 401).end();
}).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
traefik <<YAML
http:
  routers:
    all: {rule: PathPrefix(\`/\`), service: all, middlewares: [breaker]}
  services:
    all: {loadBalancer: {servers: [{url: "http://127.0.0.1:$backend"}]}}
  middlewares:
    breaker: {circuitBreaker: {expression: "ResponseCodeRatio(400, 600, 0, 600) > 0.5"}}
YAML
status() { curl -s -o /dev/null -w '%{http_code}' "$@" "http://127.0.0.1:$web/"; }
sleep 11 # what was counted at the start is forgotten
first=$(status)
sleep 1
seen "one request without a token, then one with" "401 503" "$first $(status -H 'Authorization: Bearer good')"
done_with "Traefik v3.7.13"
