// Prints: false

package main

import (
	"errors"
	"fmt"
)

var errFailed = errors.New("failed")

func check() error { return fmt.Errorf("code 5: %w", errFailed) }

func main() { fmt.Println(check() == nil) }
