#!/usr/bin/env bash
# Builds what is real of Kubernetes in `make nightly` into <repository>/build: etcd, kube-apiserver,
# kubectl and helm. A first build takes 9 minutes. Each is built again only when what it is made of
# has changed.
set -euo pipefail
cd "$(dirname "$0")"
build=$(cd ../../.. && pwd)/build
mkdir -p "$build"

# helm asks the API server which version it is.
version=$(sed -n 's/^.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod)
minor=${version#v1.}
flags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"

hash=$({ go version; cat go.mod go.sum install.sh; } | sha256sum | cut -d' ' -f1)
for program in go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl; do
  name=$(basename "$program")
  [ "$name" != v3 ] || name=etcd
  if [ ! -x "$build/$name" ] || [ "$(cat "$build/.$name.inputs" 2>/dev/null)" != "$hash" ]; then
    echo "e2e tools: building $name"
    CGO_ENABLED=0 go build -ldflags="$flags" -o "$build/$name" "$program"
    echo "$hash" >"$build/.$name.inputs"
  fi
  echo "e2e tools: $name is current"
done

# With the versions of Traefik's build, which is there already (../helm/go.mod).
hash=$({ go version; cat ../helm/go.mod ../helm/go.sum; } | sha256sum | cut -d' ' -f1)
if [ ! -x "$build/helm" ] || [ "$(cat "$build/.helm.inputs" 2>/dev/null)" != "$hash" ]; then
  echo "e2e tools: building helm"
  CGO_ENABLED=0 go -C ../helm build -ldflags='-s -w' -o "$build/helm" helm.sh/helm/v4/cmd/helm
  echo "$hash" >"$build/.helm.inputs"
fi
echo "e2e tools: helm is current"
