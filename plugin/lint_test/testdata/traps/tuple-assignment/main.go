// Go: abc 3
// Yaegi: 3

package main

import "fmt"

type pair struct {
	name string
	size int
}

func main() {
	var p pair
	p.name, p.size = "abc", len("abc")
	fmt.Println(p.name, p.size)
}
