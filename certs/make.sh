#!/bin/sh
# Makes the demonstration certificates anew: a CA, the proxy's own certificate and three clients.
#
#   sh certs/make.sh            into this folder
#   sh certs/make.sh /some/dir  elsewhere
#
# All keys are RSA-2048 and all certificates are good for a hundred years. They are for trying things out: their
# private keys are public. The script deletes the CA's key at the end, so that no client can be added to this set.
set -eu
umask 077

out=${1:-$(dirname "$0")}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >ca.cnf <<'EOF'
[ca]
default_ca = this
[this]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
# not from today on: a machine whose clock is behind can try them out too
default_startdate = 20200101000000Z
default_enddate = 21200101000000Z
[any]
organizationName = supplied
commonName = supplied
EOF
: >index.txt

# issue NAME SUBJECT EXTENSIONS SIGNER…: a key, and a certificate signed by what openssl ca is told
issue() {
  name=$1
  openssl req -newkey rsa:2048 -nodes -sha256 -keyout "$name.key" -out "$name.csr" -subj "$2" 2>/dev/null
  printf '%b\n' "$3" >"$name.ext"
  shift 3
  openssl ca -batch -notext -config ca.cnf -create_serial -preserveDN -extfile "$name.ext" -in "$name.csr" \
    -out "$name.crt" "$@" 2>/dev/null
}

leaf="basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature"
by_ca="-cert ca.crt -keyfile ca.key"
issue ca "/O=tcpproxy demo/CN=tcpproxy demo CA" \
  "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign" -selfsign -keyfile ca.key
issue server "/O=tcpproxy demo/CN=localhost" \
  "$leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" $by_ca
# The Common Name is who the client is: user@group. The built-in configuration lets the group admin in.
issue alice "/O=tcpproxy demo/CN=alice@admin" "$leaf\nextendedKeyUsage=clientAuth" $by_ca
issue bob "/O=tcpproxy demo/CN=bob@admin" "$leaf\nextendedKeyUsage=clientAuth" $by_ca
issue mallory "/O=tcpproxy demo/CN=mallory@guest" "$leaf\nextendedKeyUsage=clientAuth" $by_ca

for name in ca server alice bob mallory; do
  cp "$name.crt" "$out/$name.crt"
  [ "$name" = ca ] || cp "$name.key" "$out/$name.key"
done
chmod 644 "$out"/*.crt
echo "made ca, server, alice@admin, bob@admin and mallory@guest in $out"
