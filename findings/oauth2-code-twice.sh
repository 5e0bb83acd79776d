#!/usr/bin/env bash
# golang.org/x/oauth2 v0.37.0: with an Endpoint whose AuthStyle is not set, the first exchange
# that a provider refuses is posted again with the other way of authenticating, whatever the
# refusal says: also after 400 invalid_grant, and also with the same code. The provider sees a
# code twice, which RFC 6749 §4.1.2 tells it to take for theft. It comes again with each process:
# what was learnt is kept in memory, and only after a success.
source "$(dirname "$0")/lib.sh"
go_module golang.org/x/oauth2@v0.37.0
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"golang.org/x/oauth2"
)

func main() {
	for _, status := range []int{400, 429, 503} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _, basic := r.BasicAuth()
			fmt.Print(r.FormValue("code"), " basic=", basic, " ")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":"invalid_grant"}`)
		}))
		c := &oauth2.Config{ClientID: "id", ClientSecret: "s", Endpoint: oauth2.Endpoint{TokenURL: srv.URL}}
		_, err := c.Exchange(context.Background(), "the-code")
		var refused *oauth2.RetrieveError
		fmt.Println(status, errors.As(err, &refused))
	}
}
GO
go run main.go >out
for status in 400 429 503; do
  seen "a refusal with $status" "the-code basic=true the-code basic=false $status true" "$(grep " $status " out)"
done
done_with "golang.org/x/oauth2 v0.37.0"
