// Go: 2
// Yaegi: 2.5

package main

import "fmt"

const seconds = 10

func main() {
	var quarter float64 = seconds / 4
	fmt.Println(quarter)
}
