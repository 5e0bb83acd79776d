# What the scripts here share. Each script sources it first; from then on it works in a temporary
# folder that is removed at the end, with the processes that were started there.
set -euo pipefail
findings=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
failed=0

# go_module MODULE@VERSION...: the folder is a Go module that requires these.
go_module() {
  go mod init finding.test/finding 2>/dev/null
  go get "$@" 2>/dev/null
}

# seen WHAT EXPECTED GOT: says what was seen, and that it is still what this finding says.
seen() {
  echo "$1: $3"
  if [ "$2" != "$3" ]; then
    echo "  CHANGED: it was: $2"
    failed=1
  fi
}

# done_with VERSIONS: the last line of a script.
done_with() {
  if [ $failed -ne 0 ]; then
    echo "$(basename "$0"): not as written any more ($1)"
    exit 1
  fi
  echo "$(basename "$0"): as written ($1)"
}

# yaegi FILE: runs a program in Traefik's interpreter and prints what it says.
yaegi() {
  [ -x ./yaegi-bin/yaegi ] || GOBIN=$PWD/yaegi-bin go install github.com/traefik/yaegi/cmd/yaegi@v0.16.1
  ./yaegi-bin/yaegi run "$1"
}

# traefik ROUTES: starts the real Traefik v3.7.13 with a dynamic configuration, read from standard
# input, and waits until it answers. Its entry point is http://127.0.0.1:$web; $static holds more of
# its static configuration, and $providers more of its providers. It is built once, into ../build;
# the first time takes up to 14 minutes.
traefik() {
  web=$(free_port)
  local ping built=$findings/../build/traefik-of-findings
  ping=$(free_port)
  mkdir -p "$findings/../build"
  "$findings/../deploy/e2e/traefik/build.sh" "$built" v3.7.13
  cat >dynamic.yaml
  cat >traefik.yaml <<YAML
entryPoints:
  web: {address: "127.0.0.1:$web"}
  ping: {address: "127.0.0.1:$ping"}
ping: {entryPoint: ping}
providers:
  file: {filename: dynamic.yaml}
${providers-}
global: {checkNewVersion: false, sendAnonymousUsage: false}
${static-}
YAML
  "$built" --configFile=traefik.yaml >traefik.log 2>&1 &
  local started=$!
  until curl -fs -o /dev/null "http://127.0.0.1:$ping/ping"; do
    kill -0 $started || { cat traefik.log; exit 1; }
    sleep 0.1
  done
  # The routes come a moment later.
  until [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$web/ready")" != 404 ]; do sleep 0.1; done
}

# backend FILE.mjs: starts a Node.js program that listens on the port that it is given, and waits
# for it.
backend() {
  backend=$(free_port)
  node "$1" "$backend" &
  until curl -s -o /dev/null "http://127.0.0.1:$backend/ready"; do sleep 0.1; done
}

# free_port: a port that nobody listens on.
free_port() {
  node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})'
}

# kubernetes OBJECTS: starts an API of Kubernetes that has the objects of standard input, a JSON
# list, and never another. $kubernetes is what Traefik's providers need to ask it.
kubernetes() {
  local api
  api=$(free_port)
  cat >objects.json
  cat >kubernetes.mjs <<'JS'
import fs from 'node:fs';
import http from 'node:http';
const objects = JSON.parse(fs.readFileSync('objects.json'));
const kinds = [
  'IngressRoute', 'IngressRouteTCP', 'IngressRouteUDP', 'Middleware', 'MiddlewareTCP', 'TLSOption', 'TLSStore', 'TraefikService', 'ServersTransport',
  'ServersTransportTCP', 'Service', 'EndpointSlice', 'Secret', 'ConfigMap', 'Node', 'Ingress',
];
http.createServer((request, response) => {
  const url = new URL(request.url, 'http://api');
  const parts = url.pathname.split('/');
  const asked = parts.at(-1);
  response.setHeader('content-type', 'application/json');
  // Who asks for a list inside of a watch gets none, and asks for a list.
  if (url.searchParams.has('sendInitialEvents')) {
    response.statusCode = 422;
    return response.end('{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}');
  }
  if (url.searchParams.has('watch')) return response.flushHeaders();
  if (asked === 'version') return response.end('{"major":"1","minor":"34","gitVersion":"v1.34.0"}');
  const kind = kinds.find((kind) => asked === kind.toLowerCase() + (kind === 'Ingress' ? 'es' : 's'));
  response.end(JSON.stringify({
    kind: kind + 'List', apiVersion: parts[1] === 'apis' ? `${parts[2]}/${parts[3]}` : parts[2], metadata: { resourceVersion: '1' },
    items: objects.filter((object) => object.kind === kind),
  }));
}).listen(process.argv[2], '127.0.0.1');
JS
  node kubernetes.mjs "$api" &
  until curl -s -o /dev/null "http://127.0.0.1:$api/version"; do sleep 0.1; done
  printf none >token
  kubernetes="endpoint: \"http://127.0.0.1:$api\", token: \"$PWD/token\", allowExternalNameServices: true, disableClusterScopeResources: true"
}
