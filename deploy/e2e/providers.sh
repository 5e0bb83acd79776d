#!/usr/bin/env bash
# Brings the providers that `make providers` and `make nightly` log in at, beyond those of tools.sh:
# Gitea, built into <repository>/build (a first build takes 5 to 15 minutes); better-auth, from npm;
# django-oauth-toolkit, Doorkeeper, Glewlwyd and LemonLDAP::NG, from Debian 12.
set -euo pipefail
cd "$(dirname "$0")"
build=$(cd ../.. && pwd)/build
mkdir -p "$build"

betterauth/install.sh

hash=$({ go version; cat gitea/go.mod gitea/go.sum; } | sha256sum | cut -d' ' -f1)
if [ ! -x "$build/gitea" ] || [ "$(cat "$build/.gitea.inputs" 2>/dev/null)" != "$hash" ]; then
  echo "e2e tools: building gitea (a first build takes 5 to 15 minutes)"
  CGO_ENABLED=1 go -C gitea build -trimpath -tags sqlite,sqlite_unlock_notify -ldflags='-s -w' -o "$build/gitea" code.gitea.io/gitea
  echo "$hash" >"$build/.gitea.inputs"
fi
echo "e2e tools: gitea is current"

# Each with what it needs to run; what Debian recommends beside them would be 200 more packages.
packages=(
  glewlwyd sqlite3
  liblemonldap-ng-portal-perl starman libstring-random-perl libconvert-pem-perl libcrypt-openssl-rsa-perl libcrypt-openssl-bignum-perl
  libcrypt-openssl-x509-perl libio-string-perl libmime-tools-perl libipc-run-perl libconvert-base32-perl libunicode-string-perl libemail-sender-perl
  python3-django-oauth-toolkit
  ruby-doorkeeper-openid-connect ruby-activerecord ruby-sqlite3 ruby-webrick
)
if dpkg-query -W -f '${Status}\n' "${packages[@]}" 2>/dev/null | grep -c '^install ok installed$' | grep -qx "${#packages[@]}"; then
  echo "providers: Debian's packages are there"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "providers: installing ${#packages[@]} packages and what they need (2 minutes)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
  echo "providers: four of them come from Debian 12. Install, as root: apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 1
fi
