#!/usr/bin/env bash
# Installs what the browser tests drive: Chromium, unless there is one, and playwright-core by
# package-lock.json. CHROMIUM names another Chromium than /usr/bin/chromium.
set -euo pipefail
cd "$(dirname "$0")"

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ -x "$chromium" ]; then
  echo "browser: $chromium is there"
elif [ -n "${CHROMIUM:-}" ]; then
  echo "browser: CHROMIUM=$chromium is not a program" >&2
  exit 1
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "browser: installing chromium (half a minute)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
  echo "browser: no Chromium at $chromium. Install one (Debian: apt-get install chromium) or let CHROMIUM name one." >&2
  exit 1
fi

lock=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat node_modules/.lock 2>/dev/null)" != "$lock" ]; then
  npm ci --ignore-scripts --no-fund --no-audit
  echo "$lock" >node_modules/.lock
fi
echo "browser: playwright-core is current"
