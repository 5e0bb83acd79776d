#!/usr/bin/env bash
# Yaegi v0.16.1: where a switch has no value, `case a, b:` looks at the first expression only. So a
# list of conditions of which any one is meant to refuse refuses by one of them. A switch that has a
# value takes all of its list, and so does a || b.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import "fmt"

func main() {
	for _, host := range []string{"", "localhost", "example.com"} {
		var bare, valued, or string
		switch {
		case host == "", host == "localhost":
			bare = "refused"
		default:
			bare = "taken"
		}
		switch host {
		case "", "localhost":
			valued = "refused"
		default:
			valued = "taken"
		}
		switch {
		case host == "" || host == "localhost":
			or = "refused"
		default:
			or = "taken"
		}
		fmt.Print(bare, " ", valued, " ", or, "; ")
	}
}
GO
seen "Go" "refused refused refused; refused refused refused; taken taken taken; " "$(go run main.go)"
seen "Yaegi" "refused refused refused; taken refused refused; taken taken taken; " "$(yaegi main.go)"
done_with "yaegi v0.16.1"
