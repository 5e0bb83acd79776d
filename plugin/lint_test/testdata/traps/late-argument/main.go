// Go: begun
// Yaegi: done

package main

import "fmt"

func main() { work() }

func work() {
	stage := "begun"
	defer fmt.Println(stage)
	stage = "done"
}
