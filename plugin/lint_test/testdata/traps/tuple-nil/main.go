// Go: 0 []
// Yaegi: fails: reflect: New(nil)

package main

import "fmt"

func main() {
	count := 1
	list := []int{5}
	count, list = 0, nil
	fmt.Println(count, list)
}
