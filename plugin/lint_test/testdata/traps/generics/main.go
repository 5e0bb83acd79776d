// Go: 5
// Yaegi: fails: undefined selector sync/atomic.Pointer

package main

import (
	"fmt"
	"sync/atomic"
)

func main() {
	var current atomic.Pointer[int]
	n := 5
	current.Store(&n)
	fmt.Println(*current.Load())
}
