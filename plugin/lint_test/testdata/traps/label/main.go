// Go: 0
// Yaegi: 3

package main

import "fmt"

func main() {
	ready := make(chan bool, 1)
	ready <- true
	rounds := 0
wait:
	for rounds < 3 {
		select {
		case <-ready:
			break wait
		default:
		}
		rounds++
	}
	fmt.Println(rounds)
}
