#!/usr/bin/env bash
# Yaegi v0.16.1: a method with results whose parameter has no name at all panics when the standard library calls it. With
# the name _ it works, and called by interpreted code it works too: so a test of the method alone is green, and the
# first io.Copy or ReadAll in production is not.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
)

type named struct{}

func (named) Read(_ []byte) (int, error) { return 0, io.EOF }

type unnamed struct{}

func (unnamed) Read([]byte) (int, error) { return 0, io.EOF }

func main() {
	n, err := unnamed{}.Read(nil)
	fmt.Println(n, err)
	text, err := io.ReadAll(named{})
	fmt.Println(len(text), err)
	text, err = io.ReadAll(unnamed{})
	fmt.Println(len(text), err)
}
GO
seen "Go" "0 EOF|0 <nil>|0 <nil>|" "$(go run main.go | tr '\n' '|')"
seen "Yaegi" \
  "0 EOF|0 <nil>|panic: reflect.Set: value of type []uint8 is not assignable to type error|" \
  "$(yaegi main.go | tr '\n' '|')"
done_with "yaegi v0.16.1"
