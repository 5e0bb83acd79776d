// Prints: 2

package main

import (
	"fmt"

	"github.com/mcpbouncer/mcpbouncer/plugin/lint_test/testdata/traps/frozen-variable-instead/other"
)

func main() {
	other.Raise()
	fmt.Println(other.Level())
}
