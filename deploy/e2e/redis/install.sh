#!/usr/bin/env bash
# Installs the Redis server that the replay guard is tested with, unless there is one.
set -euo pipefail

if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
  echo "redis: $(redis-server --version | cut -d' ' -f3) is there"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "redis: installing redis-server"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
else
  echo "redis: no redis-server and redis-cli. Install them (Debian: apt-get install redis-server)." >&2
  exit 1
fi
