// Prints: 0 65533 1 98

package main

import (
	"fmt"
	"unicode/utf8"
)

func main() {
	text := "\xffb"
	for at := 0; at < len(text); {
		letter, size := utf8.DecodeRuneInString(text[at:])
		fmt.Print(at, letter, " ")
		at += size
	}
}
