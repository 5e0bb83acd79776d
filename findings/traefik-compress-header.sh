#!/usr/bin/env bash
# Traefik v3.7.13: compress passes an event stream on event by event, but holds the response
# header until the first event, also where text/event-stream is excluded from compression. A
# client that waits for the header of its stream before it goes on, as the stream's end of an MCP
# session is silent for hours, waits as long.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
  if (request.url === '/ready') response.end();
  else setTimeout(() => response.end('data: 1\n\n'), 2000);
}).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
traefik <<YAML
http:
  routers:
    plain: {rule: PathPrefix(\`/\`), service: all}
    compress: {rule: PathPrefix(\`/compress\`), service: all, middlewares: [compress]}
    excluded: {rule: PathPrefix(\`/excluded\`), service: all, middlewares: [excluded]}
  services:
    all: {loadBalancer: {servers: [{url: "http://127.0.0.1:$backend"}]}}
  middlewares:
    compress: {compress: {}}
    excluded: {compress: {excludedContentTypes: [text/event-stream]}}
YAML
# header PATH: whether the header comes within a second of a stream whose first event comes after
# two.
header() {
  curl -sN --max-time 1 -D - -o /dev/null -H 'Accept-Encoding: gzip' "http://127.0.0.1:$web/$1" |
    head -n 1 | tr -d '\r' || true
}
seen "without the middleware" "HTTP/1.1 200 OK" "$(header plain)"
seen "compress" "" "$(header compress)"
seen "compress, event streams excluded" "" "$(header excluded)"
done_with "Traefik v3.7.13"
