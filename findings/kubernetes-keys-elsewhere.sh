#!/usr/bin/env bash
# Kubernetes v1.34.0: the API server's discovery document has the issuer that it was told, and its
# keys at an address of the machine that it runs on, unless it is told that too. Whoever can reach
# the issuer by its name alone verifies no service account's token. Nobody may read either without
# a token, before a role is bound.
source "$(dirname "$0")/lib.sh"
"$findings/../deploy/e2e/kubernetes/install.sh" >/dev/null
build=$findings/../build
client=$(free_port) peer=$(free_port) port=$(free_port)
"$build/etcd" --data-dir=etcd --listen-client-urls="http://127.0.0.1:$client" --advertise-client-urls="http://127.0.0.1:$client" \
  --listen-peer-urls="http://127.0.0.1:$peer" --initial-advertise-peer-urls="http://127.0.0.1:$peer" --initial-cluster="default=http://127.0.0.1:$peer" >etcd.log 2>&1 &
openssl genrsa -out key.pem 2048 2>/dev/null
echo 'a-token-of-a-finding,admin,1,system:masters' >tokens.csv
"$build/kube-apiserver" --etcd-servers="http://127.0.0.1:$client" --secure-port="$port" --cert-dir=certificates --authorization-mode=RBAC \
  --token-auth-file=tokens.csv --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-signing-key-file=key.pem --service-account-key-file=key.pem >apiserver.log 2>&1 &
document=https://127.0.0.1:$port/.well-known/openid-configuration
until curl -fsk -o /dev/null "https://127.0.0.1:$port/readyz"; do
  kill -0 $! || { tail apiserver.log; exit 1; }
  sleep 0.2
done
seen "without a token" "403" "$(curl -sk -o /dev/null -w '%{http_code}' "$document")"
curl -fsk -H 'Authorization: Bearer a-token-of-a-finding' "$document" >document.json
seen "issuer" "https://kubernetes.default.svc.cluster.local" "$(sed -n 's/.*"issuer":"\([^"]*\)".*/\1/p' document.json)"
keys=$(sed -n 's/.*"jwks_uri":"https:\/\/\(.*\):[0-9]*\/openid\/v1\/jwks".*/\1/p' document.json)
seen "its keys are at an address of this machine" "yes" "$(hostname -I | grep -qwF "$keys" && echo yes || echo "no, at $keys")"
done_with "Kubernetes v1.34.0"
