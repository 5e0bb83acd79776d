#!/usr/bin/env bash
# Traefik v3.7.13, file provider: a number without quotes goes through a float, also where the
# option is a text: a plugin's string field, the value of a header in customRequestHeaders. Of 21
# digits the last six are others, 010 is octal, 1.50 gets four more zeros. Nothing is logged.
source "$(dirname "$0")/lib.sh"
mkdir -p plugins-local/src/finding.test/echo
cat >plugins-local/src/finding.test/echo/.traefik.yml <<'YAML'
displayName: echo
type: middleware
import: finding.test/echo
summary: echo
testData: {}
YAML
cat >plugins-local/src/finding.test/echo/go.mod <<'GO'
module finding.test/echo

go 1.21
GO
cat >plugins-local/src/finding.test/echo/echo.go <<'GO'
package echo

import (
	"context"
	"net/http"
)

type Config struct{ Subject, Octal, Price string }

func CreateConfig() *Config { return &Config{} }

func New(_ context.Context, next http.Handler, c *Config, _ string) (http.Handler, error) {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rw.Write([]byte(c.Subject + " " + c.Octal + " " + c.Price + " " + req.Header.Get("Subject")))
	}), nil
}
GO
static='experimental: {localPlugins: {echo: {moduleName: finding.test/echo}}}'
traefik <<'YAML'
http:
  routers:
    all: {rule: PathPrefix(`/`), service: noop@internal, middlewares: [own, echo]}
  middlewares:
    own: {headers: {customRequestHeaders: {Subject: 110169484474386276334}}}
    echo:
      plugin:
        echo:
          subject: 110169484474386276334
          octal: 010
          price: 1.50
YAML
seen "plugin's subject, octal, price; header's subject" \
  "110169484474386268160 8 1.500000 110169484474386268160" "$(curl -s "http://127.0.0.1:$web/")"
done_with "Traefik v3.7.13"
