//go:build onlyserve

package main

import (
	"fmt"
	"io"
)

// tool stands for the operator's tools in a function of AWS Lambda, where nobody can call them.
// Each cold start would read their code and make their tables.
func tool(command string, _ []string, _ io.Reader, _ io.Writer) error {
	return fmt.Errorf("this build for AWS Lambda has no command %q: it only serves; use the program of a release, or of a checkout, for everything else", command)
}
