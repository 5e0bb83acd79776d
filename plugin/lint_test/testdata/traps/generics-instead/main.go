// Prints: 5

package main

import (
	"fmt"
	"sync/atomic"
)

func main() {
	var current atomic.Value // of *int
	n := 5
	current.Store(&n)
	stored, _ := current.Load().(*int)
	fmt.Println(*stored)
}
