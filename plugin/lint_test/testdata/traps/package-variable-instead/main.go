// Prints: 2

package main

import "fmt"

var names = []string{"a", "b"}

var count = counted()

func counted() int { return len(names) }

func main() { fmt.Println(count) }
