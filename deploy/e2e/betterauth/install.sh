#!/usr/bin/env bash
# Installs better-auth and its OAuth provider, by package-lock.json: 30 MB.
set -euo pipefail
cd "$(dirname "$0")"
lock=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat node_modules/.lock 2>/dev/null)" != "$lock" ]; then
  npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
  echo "$lock" >node_modules/.lock
fi
echo "betterauth: better-auth is current"
