// Go:
// Yaegi: goes on: os.Exit(0)

package main

import (
	"fmt"
	"os"
)

func main() {
	defer func() { fmt.Println("goes on:", recover()) }()
	os.Exit(0)
}
