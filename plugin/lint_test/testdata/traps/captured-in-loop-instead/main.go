// Prints: 0 1 2

package main

import "fmt"

func constant(n int) func() int { return func() int { return n } }

func main() {
	var all []func() int
	for i := 0; i < 3; i++ {
		all = append(all, constant(i))
	}
	fmt.Println(all[0](), all[1](), all[2]())
}
