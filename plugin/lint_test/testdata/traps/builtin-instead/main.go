// Prints: 1

package main

import "fmt"

func smaller(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func main() { fmt.Println(smaller(1, 2)) }
