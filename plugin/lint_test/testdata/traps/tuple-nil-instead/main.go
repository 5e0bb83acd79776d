// Prints: 0 []

package main

import "fmt"

func main() {
	count := 1
	list := []int{5}
	count = 0
	list = nil
	fmt.Println(count, list)
}
