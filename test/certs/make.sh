#!/bin/sh
# Makes the certificates of the tests anew: a CA, good clients, and one certificate for each way to be refused.
#
#   sh test/certs/make.sh            into this folder
#
# They are checked in, so that the tests need no openssl. One key serves nearly all of them (key.pem): what is under
# test is the certificate. The names say what is wrong.
set -eu

out=${1:-$(dirname "$0")}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# dates as openssl ca wants them; most certificates outlive us
past=20200101000000Z
now=20250101000000Z
future=21200101000000Z

config() {
  cat <<EOF
[ca]
default_ca = this
[this]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
email_in_dn = no
preserve = yes
string_mask = utf8only
[any]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
[req]
distinguished_name = dn
prompt = no
utf8 = yes
string_mask = utf8only
[dn]
$1
EOF
}

# request NAME KEY "DN lines": a request with just that subject
request() {
  config "$(printf '%b' "$3")" >"$1.cnf"
  openssl req -new -config "$1.cnf" -key "$2" -out "$1.csr"
}

# sign NAME CA FROM TO "extensions"
sign() {
  printf '%b\n' "$5" >"$1.ext"
  openssl ca -batch -notext -config "$1.cnf" -cert "$2.crt" -keyfile "$2.key" -startdate "$3" -enddate "$4" \
    -extfile "$1.ext" -in "$1.csr" -out "$1.crt" -create_serial 2>/dev/null
}

# selfsign NAME KEY "extensions": a certificate for the request, signed by its own key; as old as the others, so that
# the tests do not depend on the clock of the machine
selfsign() {
  printf '%b\n' "$3" >"$1.ext"
  openssl ca -batch -notext -selfsign -config "$1.cnf" -keyfile "$2" -startdate $past -enddate $future \
    -extfile "$1.ext" -in "$1.csr" -out "$1.crt" -create_serial 2>/dev/null
}

root() { # NAME "DN lines"
  openssl genrsa -out "$1.key" 2048 2>/dev/null
  request "$1" "$1.key" "$2"
  selfsign "$1" "$1.key" "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"
}

leaf="basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature"
client="$leaf\nextendedKeyUsage=clientAuth"
: >index.txt
openssl genrsa -out key.pem 2048 2>/dev/null

root ca "O=tcpproxy test\nCN=tcpproxy test CA"
root ca2 "O=tcpproxy test\nCN=tcpproxy second CA"
root stranger-ca "O=tcpproxy test\nCN=tcpproxy test CA" # the same name, another key

request server key.pem "CN=localhost"
sign server ca $past $future "$leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
openssl ecparam -name prime256v1 -genkey -noout -out ecdsa.pem
request server-ecdsa ecdsa.pem "CN=localhost"
sign server-ecdsa ca $past $future "$leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1"

# servers behind the proxy: out of date, without an address, without any name but the Common Name
request server-expired key.pem "CN=localhost"
sign server-expired ca $past $now "$leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1"
request server-named key.pem "CN=127.0.0.1"
sign server-named ca $past $future "$leaf\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:db.example"
request server-nameless key.pem "CN=db.example"
sign server-nameless ca $past $future "$leaf\nextendedKeyUsage=serverAuth"

# make NAME "DN lines" [extensions] [from] [to]
make() {
  request "$1" key.pem "$2"
  sign "$1" ca "${4:-$past}" "${5:-$future}" "${3:-$client}"
}

# good ones
make alice "CN=alice@admin"
make alice-again "CN=alice@admin" # the same name on another certificate
make alice-ops "CN=alice@ops"
make bob "CN=bob@admin"
make carol "CN=carol@ops"
make dave "O=tcpproxy test\nOU=platform\nCN=dave@admin"
make no-eku "CN=erin@admin" "$leaf"
request ecdsa ecdsa.pem "CN=eve@admin"
sign ecdsa ca $past $future "$client"
request second-root key.pem "CN=frank@admin"
sign second-root ca2 $past $future "$client"
openssl genrsa -out middle.key 2048 2>/dev/null
request middle middle.key "CN=tcpproxy intermediate"
sign middle ca $past $future "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign"
request chained key.pem "CN=grace@admin"
sign chained middle $past $future "$client"
cat middle.crt >>chained.crt

# bad for their signature, dates or purpose
request stranger key.pem "CN=alice@admin"
sign stranger stranger-ca $past $future "$client"
make expired "CN=alice@admin" "$client" $past $now
make not-yet-valid "CN=alice@admin" "$client" 21100101000000Z $future
make server-only "CN=alice@admin" "$leaf\nextendedKeyUsage=serverAuth"
cp key.pem alice.key
request leaf-signed key.pem "CN=root@admin"
sign leaf-signed alice $past $future "$client"
cat alice.crt >>leaf-signed.crt
make revoked "CN=alice@admin"
openssl ca -config revoked.cnf -cert ca.crt -keyfile ca.key -revoke revoked.crt 2>/dev/null
openssl ca -config revoked.cnf -cert ca.crt -keyfile ca.key -gencrl -out crl.pem \
  -crl_lastupdate $past -crl_nextupdate $future 2>/dev/null
openssl ca -config revoked.cnf -cert ca.crt -keyfile ca.key -gencrl -out crl-outdated.pem \
  -crl_lastupdate $past -crl_nextupdate $now 2>/dev/null

# bad for their name: hostile-NAME.crt
make hostile-two-cns "0.CN=alice@admin\n1.CN=mallory@guest"
make hostile-two-cns-reversed "0.CN=mallory@guest\n1.CN=alice@admin"
# openssl ca takes a multi-valued RDN apart; openssl x509 leaves it, but keeps dates only of what signed itself
request hostile-two-cns-in-one-rdn key.pem "CN=mallory@guest"
selfsign hostile-two-cns-in-one-rdn key.pem "$client"
openssl x509 -in hostile-two-cns-in-one-rdn.crt -subj "/CN=mallory@guest+CN=alice@admin" -preserve_dates \
  -signkey key.pem -out one-rdn.tmp 2>/dev/null
openssl x509 -in one-rdn.tmp -preserve_dates -CA ca.crt -CAkey ca.key -out hostile-two-cns-in-one-rdn.crt 2>/dev/null
make hostile-no-cn "O=alice@admin"
make hostile-no-at "CN=alice"
make hostile-two-ats "CN=alice@admin@admin"
make hostile-empty-user "CN=@admin"
make hostile-empty-group "CN=alice@"
make hostile-space "CN=al ice@admin"
make hostile-trailing-space "CN=\"alice@admin \""
make hostile-newline "CN=alice@admin\\\\nx"
make hostile-newline-in-o "O=x\\\\nCN=alice@admin\nOU=no name"
make hostile-nbsp "CN=alice@admin\302\240"
make hostile-zero-width "CN=alice\342\200\213@admin"
make hostile-bidi "CN=\342\200\256nimda@ecila"
# well-formed, but not who one might think: these have an identity, and its group is not authorized
make lookalike-newline-in-o "O=x\\\\nCN=alice@admin\nCN=mallory@guest"
make lookalike-group-case "CN=alice@Admin"
make lookalike-escaped "CN=mallory@guest\\\\,CN=alice"

rm -f "$out"/*.crt "$out"/*.key "$out"/*.pem
for name in *.crt; do
  case $name in middle.crt | *[0-9A-F][0-9A-F].crt) continue ;; esac
  cp "$name" "$out/$name"
done
cp key.pem ecdsa.pem crl.pem crl-outdated.pem ca.key "$out/"
chmod 644 "$out"/*.crt "$out"/*.pem "$out"/*.key
