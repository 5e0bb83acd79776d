// Scale prints what an installation of a size needs: the tables of docs/scale.md, or one for your
// own number of people.
package main

import (
	"flag"
	"fmt"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/scale"
)

func main() {
	people := flag.Int("people", 0, "people who use it on a working day; 0: the tables of docs/scale.md")
	perServer := flag.Int("per-server", 1000, "of them at one MCP server")
	flag.Parse()
	if *people <= 0 || *perServer <= 0 {
		fmt.Print(scale.Tables())
		return
	}
	fmt.Print(scale.Table(*people, *perServer))
}
