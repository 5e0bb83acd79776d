// Prints: 5

package main

import "fmt"

func take(c chan int) int {
	taken := <-c
	return taken
}

func main() {
	c := make(chan int, 1)
	c <- 5
	fmt.Println(take(c))
}
