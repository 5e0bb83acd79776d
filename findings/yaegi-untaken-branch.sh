#!/usr/bin/env bash
# Yaegi v0.16.1: a branch that is not taken costs as much memory as one that is. Each variable and
# each intermediate result of a function is allocated when the function is called. So a middleware
# that lets most requests pass by its first "if" pays, at every request, for all that stands below
# it. Moved into a function of its own, the rare part costs nothing until it is called. Go allocates
# nothing in either.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"runtime"
	"strings"
)

func whole(name string) int {
	if name != "" {
		return 1
	}
	return len(strings.TrimSpace(strings.ToLower(strings.Repeat(name, 2) + strings.Repeat(name, 3) + strings.Repeat(name, 4))))
}

func parted(name string) int {
	if name != "" {
		return 1
	}
	return rare(name)
}

func rare(name string) int {
	return len(strings.TrimSpace(strings.ToLower(strings.Repeat(name, 2) + strings.Repeat(name, 3) + strings.Repeat(name, 4))))
}

func main() {
	var before, after runtime.MemStats
	for _, branch := range []string{"whole", "parted"} {
		runtime.ReadMemStats(&before)
		for n := 0; n < 10000; n++ {
			if branch == "whole" {
				whole("x")
			} else {
				parted("x")
			}
		}
		runtime.ReadMemStats(&after)
		fmt.Print(branch, " ", (after.Mallocs-before.Mallocs+5000)/10000, "; ")
	}
}
GO
seen "allocations of a call, Go" "whole 0; parted 0; " "$(go run main.go)"
seen "allocations of a call, Yaegi" "whole 17; parted 5; " "$(yaegi main.go)"
done_with "yaegi v0.16.1"
