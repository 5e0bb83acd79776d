#!/usr/bin/env bash
# Traefik's labels (paerser v0.2.2, the decoder of Traefik v3.7.13): a list of texts that is
# written with indexes, routers.NAME.middlewares[0], the form that lists of sections take and the
# Consul, etcd and Redis providers, is dropped without an error: the router runs without the
# middleware that protects it. And the indexes of a list of sections are sorted as text, [10]
# before [1].
source "$(dirname "$0")/lib.sh"
go_module github.com/traefik/paerser@v0.2.2
cat >main.go <<'GO'
package main

import (
	"fmt"

	"github.com/traefik/paerser/parser"
)

type domain struct{ Main string }

type router struct {
	Rule        string
	Middlewares []string
	Domains     []domain
}

func main() {
	for _, key := range []string{"traefik.middlewares", "traefik.middlewares[0]"} {
		var r router
		err := parser.Decode(map[string]string{"traefik.rule": "Host(`a`)", key: "auth"}, &r, "traefik")
		fmt.Println(key, r.Rule, r.Middlewares, err)
	}
	labels := map[string]string{}
	for i := range 11 {
		labels[fmt.Sprintf("traefik.domains[%d].main", i)] = fmt.Sprint(i)
	}
	var r router
	err := parser.Decode(labels, &r, "traefik")
	fmt.Println(r.Domains, err)
}
GO
go run main.go >out
seen "a plain list" 'traefik.middlewares Host(`a`) [auth] <nil>' "$(sed -n 1p out)"
seen "an index" 'traefik.middlewares[0] Host(`a`) [] <nil>' "$(sed -n 2p out)"
seen "eleven sections" '[{0} {10} {1} {2} {3} {4} {5} {6} {7} {8} {9}] <nil>' "$(sed -n 3p out)"
done_with "paerser v0.2.2"
