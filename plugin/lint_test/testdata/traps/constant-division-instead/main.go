// Prints: 2

package main

import "fmt"

const seconds = 10

func main() {
	quarter := seconds / 4
	fmt.Println(float64(quarter))
}
