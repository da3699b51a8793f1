#!/bin/sh
# Makes the demonstration certificates anew: a CA, the proxy's own certificate and three clients.
#
#   sh certs/make.sh            into this folder
#   sh certs/make.sh /some/dir  elsewhere
#
# All keys are RSA-2048 and all certificates are good for a hundred years. They are for trying things out: their
# private keys are public. The CA's key is thrown away at the end, so nobody can add a client to this set.
set -eu
umask 077

out=${1:-$(dirname "$0")}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
days=36500

openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days $days -keyout ca.key -out ca.crt \
  -subj "/O=tcpproxy demo/CN=tcpproxy demo CA" \
  -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
  -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null

# issue NAME SUBJECT EXTENSIONS: one certificate signed by the CA
issue() {
  openssl req -newkey rsa:2048 -nodes -sha256 -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%b\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days $days \
    -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}

issue server "/O=tcpproxy demo/CN=localhost" \
  "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
# The Common Name is who the client is: user@group. The built-in configuration lets the group admin in.
issue alice "/O=tcpproxy demo/CN=alice@admin" "extendedKeyUsage=clientAuth"
issue bob "/O=tcpproxy demo/CN=bob@admin" "extendedKeyUsage=clientAuth"
issue mallory "/O=tcpproxy demo/CN=mallory@guest" "extendedKeyUsage=clientAuth"

for name in ca server alice bob mallory; do
  cp "$name.crt" "$out/$name.crt"
  [ "$name" = ca ] || cp "$name.key" "$out/$name.key"
done
chmod 644 "$out"/*.crt
echo "made ca, server, alice@admin, bob@admin and mallory@guest in $out"
