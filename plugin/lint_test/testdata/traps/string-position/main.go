// Go: 0 65533 1 98
// Yaegi: 0 65533 3 98

package main

import "fmt"

func main() {
	for at, letter := range "\xffb" {
		fmt.Print(at, letter, " ")
	}
}
