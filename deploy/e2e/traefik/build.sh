#!/usr/bin/env bash
# Builds the real Traefik for the end-to-end tests. Usage: build.sh OUTPUT
# The first build downloads 160 MB and compiles for about four minutes on two idle cores; later ones only link.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
version=v3.7.13
lego=v5.4.1

# go.mod replaces lego by .lego, so that folder must exist before any go command runs here.
if [ ! -f ".lego/.stamp-$lego" ]; then
  src=$(cd / && GOFLAGS= go mod download -json "github.com/go-acme/lego/v5@$lego" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
  if [ -e .lego ]; then chmod -R u+w .lego && rm -rf .lego; fi
  cp -r "$src" .lego
  chmod -R u+w .lego
  find .lego -name '*_test.go' -delete
  find .lego/providers/dns -mindepth 1 -maxdepth 1 -type d ! -name internal -exec rm -rf {} +
  cp patch/zz_gen_dns_providers.go.txt .lego/providers/dns/zz_gen_dns_providers.go
  touch ".lego/.stamp-$lego"
fi
go build -trimpath -ldflags="-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=$version" \
  -o "$out" github.com/traefik/traefik/v3/cmd/traefik
