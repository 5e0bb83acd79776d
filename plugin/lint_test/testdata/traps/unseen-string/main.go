// Go: [hidden]
// Yaegi: [value]

package main

import "fmt"

type secret string

func (s secret) String() string { return "hidden" }

func main() { fmt.Println([]secret{"value"}) }
