#!/usr/bin/env bash
# Yaegi v0.16.1 (Traefik's interpreter): a multi-value assignment stores nothing in a map element.
# No error, no panic: the value is gone. A field of a struct, an element of a slice or a variable
# in the same place get theirs.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"strconv"
)

func main() {
	ages := map[string]int{}
	list := []int{0}
	var err error
	ages["ada"], err = strconv.Atoi("36")
	list[0], err = strconv.Atoi("36")
	fmt.Println(ages["ada"], list[0], err)
}
GO
seen "Go" "36 36 <nil>" "$(go run main.go)"
seen "Yaegi" "0 36 <nil>" "$(yaegi main.go)"
done_with "yaegi v0.16.1"
