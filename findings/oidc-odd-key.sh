#!/usr/bin/env bash
# go-oidc v3.21.0 (with go-jose v4.1.8): a provider that publishes one secp256k1 key (RFC 8812)
# without the optional "alg" can sign nothing that verifies, though its RSA key is in the set and
# the token names it. Keys are passed over by their alg, or where go-jose calls their kty or an
# Edwards curve unsupported; a curve of kty EC that it does not know fails the whole set.
source "$(dirname "$0")/lib.sh"
go_module github.com/coreos/go-oidc/v3@v3.21.0 github.com/go-jose/go-jose/v4@v4.1.8
cat >main.go <<'GO'
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

func main() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	own, err := jose.JSONWebKey{Key: &key.PublicKey, KeyID: "rsa", Algorithm: "RS256", Use: "sig"}.MarshalJSON()
	if err != nil {
		panic(err)
	}
	for _, c := range [][2]string{
		{"alone", ""},
		{"Ed448", `{"kty":"OKP","crv":"Ed448","kid":"other","x":"X9dEm1m0Yf0s54fsYWrUah2hNCSFpw4fig6nXYDpZ3jt8SR2m0bHBhvWeD3x5Q9s0foavq_oJWGA"},`},
		{"secp256k1-with-alg", secp256k1(`"alg":"ES256K",`)},
		{"secp256k1", secp256k1("")},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"keys":[%s%s]}`, c[1], own)
		}))
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "rsa"}}, nil)
		if err != nil {
			panic(err)
		}
		jws, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":"client","sub":"ada","exp":%d}`, srv.URL, time.Now().Add(time.Hour).Unix()))
		if err != nil {
			panic(err)
		}
		token, err := jws.CompactSerialize()
		if err != nil {
			panic(err)
		}
		keys := oidc.NewRemoteKeySet(context.Background(), srv.URL)
		_, err = oidc.NewVerifier(srv.URL, keys, &oidc.Config{ClientID: "client"}).Verify(context.Background(), token)
		fmt.Println(c[0], err == nil)
	}
}

// The public key of the private key 1: the curve's own base point.
func secp256k1(alg string) string {
	return `{"kty":"EC","crv":"secp256k1",` + alg + `"kid":"other","x":"eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g","y":"SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg"},`
}
GO
go mod tidy 2>/dev/null
go run main.go >out
seen "verified with the RSA key alone" "true" "$(awk '$1=="alone"{print $2}' out)"
seen "with an Ed448 key beside it" "true" "$(awk '$1=="Ed448"{print $2}' out)"
seen "with a secp256k1 key that names its alg" "true" "$(awk '$1=="secp256k1-with-alg"{print $2}' out)"
seen "with a secp256k1 key that does not" "false" "$(awk '$1=="secp256k1"{print $2}' out)"
done_with "go-oidc v3.21.0, go-jose v4.1.8"
