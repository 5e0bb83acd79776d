#!/usr/bin/env bash
# Builds the real Traefik for the end-to-end tests. Usage: build.sh OUTPUT [VERSION] Without
# VERSION it is the newest of versions.txt, which go.mod requires; another has a VERSION.mod. The
# first build downloads 130 MB and compiles for about two minutes on two idle cores; later ones
# only link.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
newest=$(grep -v '^#' versions.txt | tail -n 1)
version=${2:-$newest}
mod=go.mod
[ "$version" = "$newest" ] || mod=$version.mod
required() { sed -n "s|^.*$1 \(v[0-9][^ ]*\).*|\1|p" "$mod" | head -n 1; }
if [ "$(required github.com/traefik/traefik/v3)" != "$version" ]; then
  echo "build.sh: $mod does not require Traefik $version" >&2
  exit 1
fi
lego=$(required github.com/go-acme/lego/v5)
# The mod file replaces these modules by folders, which must exist before any go command runs here.
folder=$(sed -n 's|^.*github.com/go-acme/lego/v5 => ./\(.*\)|\1|p' "$mod")

if [ ! -f "$folder/.stamp-$lego" ]; then
  src=$(cd / && GOFLAGS= go mod download -json "github.com/go-acme/lego/v5@$lego" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
  if [ -e "$folder" ]; then chmod -R u+w "$folder" && rm -rf "$folder"; fi
  cp -r "$src" "$folder"
  chmod -R u+w "$folder"
  find "$folder" -name '*_test.go' -delete
  find "$folder/providers/dns" -mindepth 1 -maxdepth 1 -type d ! -name internal -exec rm -rf {} +
  cp patch/zz_gen_dns_providers.go.txt "$folder/providers/dns/zz_gen_dns_providers.go"
  touch "$folder/.stamp-$lego"
fi

kubernetes=$(required k8s.io/client-go)
folder=$(sed -n 's|^.*k8s.io/client-go => ./\(.*\)|\1|p' "$mod")
stamp=$(sha256sum client-go.sh | cut -c1-16)-$kubernetes
if [ ! -f "$folder/.stamp-$stamp" ]; then
  ./client-go.sh "$folder" "$kubernetes"
  touch "$folder/.stamp-$stamp"
fi
../without.sh traefik github.com/traefik/traefik/v3 "$mod"
CGO_ENABLED=0 go build -buildvcs=false -modfile="$mod" -ldflags="-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=$version" \
  -o "$out" github.com/traefik/traefik/v3/cmd/traefik
