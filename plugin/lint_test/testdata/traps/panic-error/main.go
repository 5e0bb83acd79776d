// Go: true
// Yaegi: false

package main

import (
	"errors"
	"fmt"
)

func main() {
	defer func() {
		_, isError := recover().(error)
		fmt.Println(isError)
	}()
	panic(errors.New("lost"))
}
