#!/usr/bin/env bash
# Traefik v3.7.13: retry in front of buffering, both Traefik's own, makes an empty request of a
# POST when the first server that is tried refuses the connection: the second server gets no body
# at all, and the client gets its answer with 200. The first attempt has read the body; the second
# is given the same one at its end, and buffering sets the length to 0. With the two in the other
# order the body arrives.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => {
  let n = 0;
  request.on('data', (chunk) => { n += chunk.length; });
  request.on('end', () => response.end(`${n} bytes`));
}).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
closed=$(free_port)
traefik <<YAML
http:
  routers:
    all: {rule: PathPrefix(\`/\`), service: noop@internal}
    before: {rule: PathPrefix(\`/before\`), service: both, middlewares: [retry, buffering]}
    behind: {rule: PathPrefix(\`/behind\`), service: both, middlewares: [buffering, retry]}
  services:
    both: {loadBalancer: {servers: [{url: "http://127.0.0.1:$closed"}, {url: "http://127.0.0.1:$backend"}]}}
  middlewares:
    retry: {retry: {attempts: 3}}
    buffering: {buffering: {maxRequestBodyBytes: 1000000}}
YAML
posts() {
  for _ in 1 2 3 4 5 6; do
    curl -s -w ', %{http_code}\n' -d 'a message of 23 bytes..' "http://127.0.0.1:$web/$1"
  done | sort | uniq -c | sed 's/^ *//' | paste -sd ';'
}
seen "retry in front, six requests" "6 0 bytes, 200" "$(posts before)"
seen "retry behind" "6 23 bytes, 200" "$(posts behind)"
done_with "Traefik v3.7.13"
