// Prints: 0

package main

import "fmt"

func wait(ready chan bool) int {
	for rounds := 0; rounds < 3; rounds++ {
		select {
		case <-ready:
			return rounds
		default:
		}
	}
	return 3
}

func main() {
	ready := make(chan bool, 1)
	ready <- true
	fmt.Println(wait(ready))
}
