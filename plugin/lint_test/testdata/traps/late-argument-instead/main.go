// Prints: begun

package main

import "fmt"

func main() { work() }

func work() {
	stage := "begun"
	first := stage
	defer fmt.Println(first)
	stage = "done"
}
