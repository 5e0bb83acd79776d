#!/usr/bin/env bash
# Yaegi v0.16.1: an argument whose parameter has no name at all, as in func(int) bool, is put
# where the function's first local value belongs. If that is of another type, the call panics when
# it comes to it; if not, all seems well. With the name _ nothing happens. So a function that
# ignores its argument works until somebody adds a variable to it.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import "fmt"

func count(int) int {
	var n int
	n++
	return n
}

func named(_ int) bool {
	var found bool
	return found
}

func unnamed(int) (bool, error) {
	var err error
	return true, err
}

func main() {
	fmt.Println(count(41), named(41))
	fmt.Println(unnamed(41))
}
GO
seen "Go" "1 false|true <nil>|" "$(go run main.go | tr '\n' '|')"
seen "Yaegi" \
  "1 false|panic: reflect.Set: value of type int is not assignable to type error|" \
  "$(yaegi main.go | tr '\n' '|')"
done_with "yaegi v0.16.1"
