// Go: 5
// Yaegi: fails: reflect: reflect.Value.Set using unaddressable value

package main

import "fmt"

func take(c chan int) int { return <-c }

func main() {
	c := make(chan int, 1)
	c <- 5
	fmt.Println(take(c))
}
