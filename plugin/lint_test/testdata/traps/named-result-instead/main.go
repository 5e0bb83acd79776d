// Prints: cd ab

package main

import "fmt"

func halves(text string) (string, string) {
	first := text[:2]
	second := text[2:]
	return second, first
}

func main() { fmt.Println(halves("abcd")) }
