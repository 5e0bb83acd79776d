// Go: 1
// Yaegi: fails: undefined: min

package main

import "fmt"

func main() { fmt.Println(min(1, 2)) }
