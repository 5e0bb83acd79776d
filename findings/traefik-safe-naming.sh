#!/usr/bin/env bash
# Traefik v3.7.13, Kubernetes: without safeNaming a warning at the start asks for `true` on new
# setups. With it, no Ingress finds a middleware by default-mark@kubernetescrd any more, which is
# how Traefik's page on Ingress writes it, and its router is dropped: the name is
# default_mark@kubernetescrd now. IngressRoutes go on.
source "$(dirname "$0")/lib.sh"
cat >backend.mjs <<'JS'
import http from 'node:http';
http.createServer((request, response) => response.end(request.headers['x-mark'] || 'unmarked')).listen(process.argv[2], '127.0.0.1');
JS
backend backend.mjs
# ingress NAME ANNOTATIONS: an Ingress for /NAME.
ingress() {
  cat <<JSON
{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "$1", "namespace": "default", "annotations": {${2-}}},
 "spec": {"rules": [{"http": {"paths": [{"path": "/$1", "pathType": "Prefix", "backend": {"service": {"name": "one", "port": {"number": $backend}}}}]}}]}},
JSON
}
static='log: {level: WARN}'
kubernetes <<JSON
[$(ingress loaded)
 $(ingress hyphen '"traefik.ingress.kubernetes.io/router.middlewares": "default-mark@kubernetescrd"')
 $(ingress underscore '"traefik.ingress.kubernetes.io/router.middlewares": "default_mark@kubernetescrd"')
 {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "metadata": {"name": "ready", "namespace": "default"},
  "spec": {"routes": [{"kind": "Rule", "match": "PathPrefix(\`/ready\`)", "middlewares": [{"name": "mark"}], "services": [{"name": "one", "port": $backend}]}]}},
 {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": {"name": "mark", "namespace": "default"},
  "spec": {"headers": {"customRequestHeaders": {"X-Mark": "marked"}}}},
 {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one", "namespace": "default"},
  "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": $backend}]}}]
JSON
# answers OPTION: writes into `answered` what Traefik answers at each route, when both providers
# have brought theirs.
answers() {
  providers="  kubernetesCRD: {$kubernetes${1-}}
  kubernetesIngress: {$kubernetes}"
  traefik </dev/null
  until [ "$(curl -s "http://127.0.0.1:$web/loaded")" = unmarked ]; do sleep 0.1; done
  for path in ready hyphen underscore; do curl -s "http://127.0.0.1:$web/$path"; echo; done | paste -sd , >answered
}
answers
seen "IngressRoute; Ingress, default-mark; Ingress, default_mark" "marked,marked,404 page not found," "$(cat answered)"
seen "warnings that recommend it" "1" "$(grep -ac 'SafeNaming option, to `true` on new setups' traefik.log)"
answers ', safeNaming: true'
seen "the same, with safeNaming" "marked,404 page not found,,marked" "$(cat answered)"
done_with "Traefik v3.7.13"
