#!/usr/bin/env bash
# Builds what is real of Kubernetes in `make nightly` into <repository>/build: etcd, kube-apiserver
# and kubectl. A first build takes 8 minutes. Each is built again only when what it is made of has
# changed.
set -euo pipefail
cd "$(dirname "$0")"
build=$(cd ../../.. && pwd)/build
mkdir -p "$build"

hash=$({ go version; cat go.mod go.sum; } | sha256sum | cut -d' ' -f1)
for program in go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl; do
  name=$(basename "$program")
  [ "$name" != v3 ] || name=etcd
  if [ ! -x "$build/$name" ] || [ "$(cat "$build/.$name.inputs" 2>/dev/null)" != "$hash" ]; then
    echo "e2e tools: building $name"
    CGO_ENABLED=0 go build -ldflags='-s -w' -o "$build/$name" "$program"
    echo "$hash" >"$build/.$name.inputs"
  fi
  echo "e2e tools: $name is current"
done
