#!/usr/bin/env bash
# Traefik v3.7.13, Kubernetes: an Ingress names a middleware default-mark@kubernetescrd, by the
# namespace and the provider. An IngressRoute that names it so is dropped, also in the middleware's
# own namespace, unless allowCrossNamespace is set: the suffix alone counts as a way to other
# namespaces. There it is `mark`.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => response.end(request.headers['x-mark'] || 'unmarked')).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
# route NAME MIDDLEWARE: an IngressRoute for /NAME.
route() {
  cat <<JSON
{"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "metadata": {"name": "$1", "namespace": "default"},
 "spec": {"routes": [{"kind": "Rule", "match": "PathPrefix(\`/$1\`)", "middlewares": [${2-}], "services": [{"name": "one", "port": $backend}]}]}},
JSON
}
kubernetes <<JSON
[$(route ready)
 $(route name '{"name": "mark"}')
 $(route both '{"name": "mark", "namespace": "default"}')
 $(route made '{"name": "default-mark@kubernetescrd"}')
 {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": {"name": "mark", "namespace": "default"},
  "spec": {"headers": {"customRequestHeaders": {"X-Mark": "marked"}}}},
 {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one", "namespace": "default"},
  "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": $backend}]}}]
JSON
# answers OPTION: writes into `answered` what Traefik answers at each route.
answers() {
  providers="  kubernetesCRD: {$kubernetes${1-}}"
  traefik </dev/null
  for path in name both made; do curl -s "http://127.0.0.1:$web/$path"; echo; done | paste -sd , >answered
}
answers
seen "mark; mark, namespace default; default-mark@kubernetescrd" "marked,marked,404 page not found," "$(cat answered)"
seen "what is logged" "1" "$(grep -c 'when allowCrossNamespace is disabled, @kubernetescrd references are disallowed' traefik.log)"
answers ', allowCrossNamespace: true'
seen "the same, with allowCrossNamespace" "marked,marked,marked" "$(cat answered)"
done_with "Traefik v3.7.13"
