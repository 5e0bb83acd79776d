// Go: 0 <nil>
// Yaegi: fails: reflect.Set: value of type []uint8 is not assignable to type error

package main

import (
	"fmt"
	"io"
)

type empty struct{}

func (e *empty) Read([]byte) (int, error) { return 0, io.EOF }

func main() {
	text, err := io.ReadAll(&empty{})
	fmt.Println(len(text), err)
}
