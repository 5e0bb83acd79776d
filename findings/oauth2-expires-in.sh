#!/usr/bin/env bash
# golang.org/x/oauth2 v0.37.0: a token response whose expires_in is written 3600.0 is refused as a
# whole, though JSON has one kind of number and RFC 6749 §5.1 only asks for seconds. The code is
# spent by then, and the error is not a RetrieveError. "3600" in quotes and null are taken, and so
# is 3600.0 where the answer is a form.
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
	for _, life := range []string{"3600", `"3600"`, "null", "3600.0", "3.6e3", "form"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if life == "form" {
				w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
				fmt.Fprint(w, "access_token=a&token_type=Bearer&expires_in=3600.0")
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"a","token_type":"Bearer","expires_in":%s}`, life)
		}))
		c := &oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: srv.URL, AuthStyle: oauth2.AuthStyleInParams}}
		_, err := c.Exchange(context.Background(), "the-code")
		var refused *oauth2.RetrieveError
		fmt.Println(life, err == nil, errors.As(err, &refused))
	}
}
GO
go run main.go >out
for life in 3600 '"3600"' null form; do
  seen "expires_in $life" "$life true false" "$(grep -Fe "$life true" out | head -1)"
done
for life in 3600.0 3.6e3; do
  seen "expires_in $life" "$life false false" "$(grep -F "$life " out)"
done
done_with "golang.org/x/oauth2 v0.37.0"
