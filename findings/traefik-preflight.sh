#!/usr/bin/env bash
# Traefik v3.7.13: the middleware headers with nothing but accessControlExposeHeaders, or
# accessControlMaxAge, or addVaryHeader, answers every CORS preflight itself, with 200 and without
# Access-Control-Allow-Origin. So an option that is meant to show scripts more keeps every browser
# out, and what stands behind is never asked.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => {
  response.writeHead(204, { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }).end();
}).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
traefik <<YAML
http:
  routers:
    all: {rule: PathPrefix(\`/\`), service: all}
    expose: {rule: PathPrefix(\`/expose\`), service: all, middlewares: [expose]}
    age: {rule: PathPrefix(\`/age\`), service: all, middlewares: [age]}
    vary: {rule: PathPrefix(\`/vary\`), service: all, middlewares: [vary]}
  services:
    all: {loadBalancer: {servers: [{url: "http://127.0.0.1:$backend"}]}}
  middlewares:
    expose: {headers: {accessControlExposeHeaders: [WWW-Authenticate]}}
    age: {headers: {accessControlMaxAge: 60}}
    vary: {headers: {addVaryHeader: true}}
YAML
preflight() {
  curl -s -X OPTIONS -D - -o /dev/null -H 'Origin: https://a.test' -H 'Access-Control-Request-Method: POST' \
    "http://127.0.0.1:$web/$1" | tr -d '\r' | awk 'NR==1 {s=$2} tolower($1)=="access-control-allow-origin:" {o=$2}
      END {print s, o == "" ? "no origin" : o}'
}
seen "without the middleware" "204 *" "$(preflight plain)"
for option in expose age vary; do
  seen "$option" "200 no origin" "$(preflight $option)"
done
done_with "Traefik v3.7.13"
