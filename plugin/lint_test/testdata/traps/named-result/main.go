// Go: cd ab
// Yaegi: cd cd

package main

import "fmt"

func halves(text string) (first, second string) {
	first = text[:2]
	second = text[2:]
	return second, first
}

func main() { fmt.Println(halves("abcd")) }
