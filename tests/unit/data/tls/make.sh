#!/bin/sh
# Makes the certificates of this directory anew. Needs openssl.
set -eu
cd "$(dirname "$0")"
days=36500
new_ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -keyout "$1.key" -out "$1.pem" -subj "/CN=fluxsrc tests $1" -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null; }
signed() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null
    printf '%s\n' "$2" "basicConstraints=CA:FALSE" "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" > ext
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days $days -extfile ext -out "$1.pem" 2>/dev/null
    rm "$1.csr" ext
}
new_ca ca
new_ca other-ca
signed server "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
signed client "extendedKeyUsage=clientAuth"
rm -f other-ca.key ca.srl
