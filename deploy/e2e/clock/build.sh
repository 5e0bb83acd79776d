#!/usr/bin/env bash
# Builds the sidecar for tests with wrong clocks. Usage: build.sh OUTPUT
# It is the program as it stands in this repository but for two lines: time.Now adds what the file
# named by RIG_CLOCK says (clock.go.txt), and BOUNCER_KEY_ROTATION_DAYS counts minutes. Nothing of
# this is in the real program. The first build compiles the standard library once more: a minute on
# two cores.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
goroot=$(go -C "$root" env GOROOT)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# once FILE LINE: sed says nothing when it finds nothing.
once() {
  if [ "$(grep -cF "$2" "$1")" != 1 ]; then
    echo "clock: $1 does not hold \"$2\" once: bring clock/build.sh up to date" >&2
    exit 1
  fi
}

time=$goroot/src/time/time.go
once "$time" 'func Now() Time {'
sed 's/^func Now() Time {$/&\n\tif rigClock != nil {\n\t\treturn rigNow()\n\t}/' "$time" >"$work/time.go"

environment=$root/cmd/mcpbouncer/environment.go
once "$environment" 'time.Duration(e.KeyRotationDays) * 24 * time.Hour'
sed 's/time.Duration(e.KeyRotationDays) \* 24 \* time.Hour/time.Duration(e.KeyRotationDays) * time.Minute/' "$environment" >"$work/environment.go"

cp clock.go.txt "$work/clock.go"
cat >"$work/overlay.json" <<JSON
{"Replace": {
  "$time": "$work/time.go",
  "$goroot/src/time/rig_clock.go": "$work/clock.go",
  "$environment": "$work/environment.go"
}}
JSON
CGO_ENABLED=0 go -C "$root" build -trimpath -tags lambda.norpc -overlay "$work/overlay.json" -ldflags='-s -w' -o "$out" ./cmd/mcpbouncer
