// Prints: [hidden]

package main

import "fmt"

type secret string

func hidden(s secret) string { return "hidden" }

func main() { fmt.Println([]string{hidden("value")}) }
