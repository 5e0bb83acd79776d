#!/usr/bin/env bash
# Makes the proxies that `make nightly` puts before the sidecar, and the authority for certificates:
# builds caddy, pebble and pebble-challtestsrv into <repository>/build and installs nginx, unless
# they are there. With the argument oauth2-proxy it builds that instead, which `make bench` compares
# with. A first build takes some minutes. Each is built again only when what it is made of has
# changed.
set -euo pipefail
cd "$(dirname "$0")"
build=$(cd ../../.. && pwd)/build
mkdir -p "$build"

# program FOLDER PACKAGE
program() {
  local name hash
  name=$(basename "$2")
  [ "$name" != v7 ] || name=oauth2-proxy
  hash=$({ go version; cat "$1/go.mod" "$1/go.sum"; } | sha256sum | cut -d' ' -f1)
  if [ ! -x "$build/$name" ] || [ "$(cat "$build/.$name.inputs" 2>/dev/null)" != "$hash" ]; then
    echo "e2e tools: building $name"
    CGO_ENABLED=0 go -C "$1" build -ldflags='-s -w' -o "$build/$name" "$2"
    echo "$hash" >"$build/.$name.inputs"
  fi
  echo "e2e tools: $name is current"
}

if [ "${1:-}" = oauth2-proxy ]; then
  program oauth2-proxy github.com/oauth2-proxy/oauth2-proxy/v7
  exit
fi
program caddy github.com/caddyserver/caddy/v2/cmd/caddy
program pebble github.com/letsencrypt/pebble/v2/cmd/pebble
program pebble github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv
if command -v nginx >/dev/null; then
  echo "e2e tools: $(nginx -v 2>&1) is there"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "e2e tools: installing nginx-light"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light >/dev/null
else
  echo "e2e tools: no nginx. Install it (Debian: apt-get install nginx-light)." >&2
  exit 1
fi
