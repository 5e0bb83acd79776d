#!/usr/bin/env bash
# Installs the official conformance suite, the TypeScript MCP clients, an OpenID provider, a
# DynamoDB and the Node.js 24 that they run on, by package-lock.json: 250 MB.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
  echo "node: the conformance suite, the TypeScript clients, oidc-provider and dynalite come from npm. Install Node.js 20 or newer, with npm." >&2
  exit 1
fi
lock=$(cat package.json package-lock.json | sha256sum | cut -d' ' -f1)
if [ "$(cat node_modules/.lock 2>/dev/null)" != "$lock" ]; then
  echo "node: installing (250 MB)"
  npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
  echo "$lock" >node_modules/.lock
fi
# npm leaves out what is not made for this machine, and says nothing.
if ! node_modules/node-linux-*/bin/node --version >/dev/null 2>&1; then
  echo "node: package.json names no Node.js 24 that runs here ($(uname -s) $(uname -m)); it has those for Linux on x64 and arm64" >&2
  exit 1
fi
echo "node: what comes from npm is current"
