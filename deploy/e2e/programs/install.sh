#!/usr/bin/env bash
# Installs MCP clients as people install them, by package-lock.json: 60 MB to load, 300 MB on disk.
# With the argument "big" also those of big/, of which most are one large file: 630 MB more. They
# run on the Node.js of ../node, or bring their own.
set -euo pipefail
cd "$(dirname "$0")"

install() {
  local lock
  lock=$(cat package.json package-lock.json | sha256sum | cut -d' ' -f1)
  if [ "$(cat node_modules/.lock 2>/dev/null)" != "$lock" ]; then
    echo "programs: installing ($1 MB)"
    npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
    echo "$lock" >node_modules/.lock
  fi
}

install 60
if [ "${1:-}" = big ]; then
  cd big
  install 630
  # npm leaves out what is not made for this machine, and says nothing.
  HOME=$(mktemp -d)
  export HOME
  trap 'rm -rf "$HOME"' EXIT
  for program in node_modules/codex-linux-*/vendor/*/bin/codex node_modules/opencode-linux-*/bin/opencode node_modules/claude-code-linux-*/claude; do
    if ! "$program" --version >/dev/null 2>&1; then
      echo "programs: package.json names no $program that runs here ($(uname -s) $(uname -m)); it has those for Linux on x64 and arm64" >&2
      exit 1
    fi
  done
fi
echo "programs: what comes from npm is current"
