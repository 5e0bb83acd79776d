// Go: true
// Yaegi: fails: errors: *target must be interface or implement error

package main

import (
	"errors"
	"fmt"
)

type failure struct{}

func (f *failure) Error() string { return "failed" }

func main() {
	var f *failure
	fmt.Println(errors.As(fmt.Errorf("now: %w", &failure{}), &f))
}
