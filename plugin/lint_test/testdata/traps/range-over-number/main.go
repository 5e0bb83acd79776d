// Go: 012
// Yaegi: fails: nil type

package main

import "fmt"

func main() {
	for i := range 3 {
		fmt.Print(i)
	}
}
