// Prints: true

package main

import (
	"errors"
	"fmt"
)

var errFailed = errors.New("failed")

func main() {
	fmt.Println(errors.Is(fmt.Errorf("now: %w", errFailed), errFailed))
}
