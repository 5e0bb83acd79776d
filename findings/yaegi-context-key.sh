#!/usr/bin/env bash
# Yaegi v0.16.1: the advice to use a type of one's own for the keys of a context protects from
# nothing. Named types of one underlying type are one type: what one package stored under its
# own key type is found under any other, also under the plain string, and two empty structs are
# one key.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
)

type mine string

type theirs string

type myKey struct{}

type theirKey struct{}

func main() {
	ctx := context.WithValue(context.Background(), theirs("user"), "eve")
	ctx = context.WithValue(ctx, theirKey{}, "eve")
	fmt.Println(ctx.Value(mine("user")), ctx.Value("user"), ctx.Value(myKey{}))
}
GO
seen "Go" "<nil> <nil> <nil>" "$(go run main.go)"
seen "Yaegi" "eve eve eve" "$(yaegi main.go)"
done_with "yaegi v0.16.1"
