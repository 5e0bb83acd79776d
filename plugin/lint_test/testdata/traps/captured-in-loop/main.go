// Go: 0 1 2
// Yaegi: 3 3 3

package main

import "fmt"

func main() {
	var all []func() int
	for i := 0; i < 3; i++ {
		all = append(all, func() int { return i })
	}
	fmt.Println(all[0](), all[1](), all[2]())
}
