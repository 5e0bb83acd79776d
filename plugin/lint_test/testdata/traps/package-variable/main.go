// Go: 2
// Yaegi: 0

package main

import "fmt"

var count = counted()

func counted() int { return len(names) }

var names = []string{"a", "b"}

func main() { fmt.Println(count) }
