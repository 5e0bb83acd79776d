#!/bin/sh
# Makes a local authority and a certificate of it for MCP_HOST, in TLS_DIR (by default the folder
# tls beside this file):
#   ca.pem, ca.key                      the authority, 10 years; clients are told to trust ca.pem
#   traefik/cert.pem, traefik/key.pem   the certificate, 820 days, all that Traefik is given
# What is there and good for another 60 days stays. The authority can vouch for MCP_HOST and names
# below it only, so that whoever trusts it trusts it with nothing else; for another host there is
# another authority.
set -eu
umask 077
host=${MCP_HOST:-mcp.localhost}
dir=${TLS_DIR:-$(dirname "$0")/tls}

refuse() { echo "certificate: MCP_HOST is \"$host\": $1" >&2; exit 1; }
case $host in
  *[!a-z0-9.-]* | -* | .* | *. | *..*) refuse 'give a host name in small letters, without scheme, port and path' ;;
  *[!0-9.]*) ;;
  *) refuse 'give a name; the certificate is not made for an IP address' ;;
esac

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
mkdir -p "$dir/traefik"
chmod 755 "$dir" # Docker runs this as root, and people must be able to read ca.pem

# good FILE: is this a certificate for the host, and will it still be one in 60 days?
good() { [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend 5184000 >/dev/null && openssl x509 -in "$1" -noout -text | grep -q "DNS:$host\$"; }

cat >"$new/openssl.cnf" <<END
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;DNS:$host
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$host
END

# pair NAME: a key and a request for a certificate.
pair() { openssl req -new -config "$new/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$new/$1.key" -out "$new/$1.csr" 2>/dev/null; }
serial() { echo "0x01$(openssl rand -hex 15)"; }

if ! good "$dir/ca.pem" || [ ! -s "$dir/ca.key" ]; then
  pair ca "Local authority for $(echo "$host" | cut -c1-43)" # a name has at most 64 characters
  openssl x509 -req -in "$new/ca.csr" -signkey "$new/ca.key" -extfile "$new/openssl.cnf" -extensions authority -days 3650 -sha256 \
    -set_serial "$(serial)" -out "$new/ca.pem" 2>/dev/null
  chmod 644 "$new/ca.pem"
  rm -f "$dir/traefik/cert.pem"
  mv "$new/ca.key" "$dir/ca.key"
  mv "$new/ca.pem" "$dir/ca.pem"
  echo "certificate: made a new authority for $host: tell clients to trust its ca.pem, see README.md"
fi
if ! good "$dir/traefik/cert.pem" || [ ! -s "$dir/traefik/key.pem" ]; then
  pair server "MCPBouncer"
  openssl x509 -req -in "$new/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -extfile "$new/openssl.cnf" -extensions server -days 820 -sha256 \
    -set_serial "$(serial)" -out "$new/server.pem" 2>/dev/null
  chmod 644 "$new/server.pem"
  mv "$new/server.key" "$dir/traefik/key.pem"
  mv "$new/server.pem" "$dir/traefik/cert.pem"
  echo "certificate: made a certificate for $host; Traefik reads it when it starts"
fi
