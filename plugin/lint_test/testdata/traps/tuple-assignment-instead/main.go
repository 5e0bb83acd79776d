// Prints: abc 3

package main

import "fmt"

type pair struct {
	name string
	size int
}

func main() {
	var p pair
	p.name = "abc"
	p.size = len("abc")
	fmt.Println(p.name, p.size)
}
