#!/usr/bin/env bash
# Builds the programs that the end-to-end tests start, into <repository>/build: traefik, dex, yaegi,
# prometheus, promtool, chart, exampleop, everything-server, gosdk, mcpgo (and their -oldest),
# mcpbouncer, mcpbouncer-clock and lambda.zip. Each is built again only when what it is made of has
# changed. With the argument "big" also what only tests with -tags big start: hydra, programs/big.
# What comes from npm is installed into the folders node, programs, authservers and browser, by
# their lock files; chromium and redis-server come from the distribution. README.md says what the
# first run costs; with a warm Go build cache it takes half a minute, and seconds when nothing
# changed.
# Programs of others are built as `go test` builds here, without cgo and with paths: another flag is
# another copy of the standard library and of each module that two of them have.
set -euo pipefail
export CGO_ENABLED=0
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
build=$root/build
mkdir -p "$build"

# inputs FILE...: one hash over the Go version and the named files, by which a tool is known to be
# current.
inputs() { { go version; cat "$@"; } | sha256sum | cut -d' ' -f1; }

# current NAME HASH: is build/NAME there and made from these inputs?
current() { [ -x "$build/$1" ] && [ "$(cat "$build/.$1.inputs" 2>/dev/null)" = "$2" ]; }

# make_tool NAME HINT HASH COMMAND...
make_tool() {
  local name=$1 hint=$2 hash=$3
  shift 3
  if current "$name" "$hash"; then
    echo "e2e tools: $name is current"
    return
  fi
  echo "e2e tools: building $name ($hint)"
  local start=$SECONDS
  "$@"
  echo "$hash" >"$build/.$name.inputs"
  echo "e2e tools: built $name in $((SECONDS - start)) s"
}

# The big ones: what they are made of is fixed by go.mod and go.sum. Of Traefik there may be
# several versions: the newest is build/traefik, another one build/traefik-VERSION.
newest=$(grep -v '^#' traefik/versions.txt | tail -n 1)
for version in $(grep -v '^#' traefik/versions.txt); do
  name=traefik-$version
  mod=traefik/$version
  if [ "$version" = "$newest" ]; then
    name=traefik
    mod=traefik/go
  fi
  make_tool "$name" "Traefik $version: a first build takes 2 to 8 minutes" \
    "$(inputs "$mod.mod" "$mod.sum" traefik/*.sh traefik/ext/* traefik/patch/* $(find traefik/without -type f | sort))" \
    traefik/build.sh "$build/$name" "$version"
done
# trimmed FOLDER MODULE OUTPUT ARGUMENT...: builds without the packages that FOLDER/without has.
trimmed() {
  local folder=$1 module=$2 out=$3
  shift 3
  ./without.sh "$folder" "$module"
  go -C "$folder" build -buildvcs=false -ldflags='-s -w' -o "$out" "$@"
}

make_tool dex "a first build takes up to a minute" \
  "$(inputs dex/go.mod dex/go.sum $(find dex/without -type f | sort))" \
  trimmed dex github.com/dexidp/dex "$build/dex" github.com/dexidp/dex/cmd/dex
if [ "${1:-}" = big ]; then
  # SQLite is C, which an optimizing compiler works on for a minute. netgo and osusergo leave the
  # packages above the network as the others have them.
  make_tool hydra "a first build takes up to 5 minutes" \
    "$(inputs hydra/go.mod hydra/go.sum)" \
    env CGO_ENABLED=1 CGO_CFLAGS=-O0 go -C hydra build -tags netgo,osusergo,sqlite,sqlite_omit_load_extension -ldflags='-s -w' -o "$build/hydra" github.com/ory/hydra/v2
fi
make_tool yaegi "a first build takes a minute" \
  "$(inputs go.mod go.sum)" \
  go build -ldflags='-s -w' -o "$build/yaegi" github.com/traefik/yaegi/cmd/yaegi
# Without the service discoveries that deploy/observe does not use, remote storage, Alertmanagers,
# and the page of its own interface, which are most of Prometheus.
for tool in prometheus promtool; do
  make_tool $tool "a first build takes up to a minute" \
    "$(inputs prometheus/go.mod prometheus/go.sum $(find prometheus/without stubs/client-go stubs/sigv4 -type f | sort))" \
    trimmed prometheus github.com/prometheus/prometheus "$build/$tool" -tags remove_all_sd,enable_dns_sd github.com/prometheus/prometheus/cmd/$tool
done
# With the versions that Traefik has of the packages that are most of it.
make_tool chart "a few seconds" \
  "$(inputs helm/go.mod helm/go.sum helm/*.go)" \
  go -C helm build -ldflags='-s -w' -o "$build/chart" .
make_tool exampleop "a few seconds" \
  "$(inputs go.mod go.sum cmd/exampleop/*.go)" \
  go build -ldflags='-s -w' -o "$build/exampleop" ./cmd/exampleop

# Applications on MCP SDKs, each with the newest and the oldest version of its SDK.
for sdk in gosdk mcpgo; do
  make_tool "$sdk" "a few seconds" "$(inputs sdks/go.mod sdks/go.sum sdks/*/*.go)" \
    go -C sdks build -ldflags='-s -w' -o "$build/$sdk" "./$sdk"
  # Version 1.4 of the Go SDK has its client for OAuth behind a tag.
  make_tool "$sdk-oldest" "a few seconds" "$(inputs sdks/oldest.mod sdks/oldest.sum sdks/*/*.go)" \
    go -C sdks build -modfile oldest.mod -tags oldest,mcp_go_client_oauth -ldflags='-s -w' -o "$build/$sdk-oldest" "./$sdk"
done

# The example of docs/connect/sdks.md.
make_tool gosdk-example "a few seconds" "$(inputs sdks/go.mod sdks/go.sum sdks/example/*.go)" \
  go -C sdks build -ldflags='-s -w' -o "$build/gosdk-example" ./example

# The MCP server of the conformance suite's choice, from the Go SDK.
make_tool everything-server "a few seconds" \
  "$(inputs go.mod go.sum)" \
  go build -ldflags='-s -w' -o "$build/everything-server" github.com/modelcontextprotocol/go-sdk/conformance/everything-server

# The conformance suite, the TypeScript clients and the Node.js that they run on.
node/install.sh

# Whole programs that are MCP clients; with the argument "big" all of them.
programs/install.sh "${1:-}"

# Authorization servers of other projects.
authservers/install.sh

# The official validator of CloudFormation templates.
cloudformation/install.sh

# What the browser tests drive.
browser/install.sh

# The store of the replay guard.
redis/install.sh

# The product itself: go decides what is stale, and relinks in a second.
echo "e2e tools: building mcpbouncer"
go -C "$root" build -trimpath -tags lambda.norpc -ldflags='-s -w' -o "$build/mcpbouncer" ./cmd/mcpbouncer

# The same with the gateway and the answers for other proxies.
go -C "$root" build -trimpath -tags lambda.norpc,gateway -ldflags='-s -w' -o "$build/mcpbouncer-gateway" ./cmd/mcpbouncer

# The same for AWS Lambda, for the processor of this machine.
go -C "$root" run ./deploy/lambda/zip -arch "$(go env GOARCH)" -o "$build/lambda.zip"

# The same with a clock that a test can set.
echo "e2e tools: building mcpbouncer-clock (a first build takes a minute)"
clock/build.sh "$build/mcpbouncer-clock"
