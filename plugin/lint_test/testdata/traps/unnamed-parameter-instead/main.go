// Prints: 0 <nil>

package main

import (
	"fmt"
	"io"
)

type empty struct{}

func (e *empty) Read(_ []byte) (int, error) { return 0, io.EOF }

func main() {
	text, err := io.ReadAll(&empty{})
	fmt.Println(len(text), err)
}
