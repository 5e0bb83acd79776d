// Go: 2
// Yaegi: 1

package main

import (
	"fmt"

	"github.com/mcpbouncer/mcpbouncer/plugin/lint_test/testdata/traps/frozen-variable/other"
)

func main() {
	other.Raise()
	fmt.Println(other.Level)
}
