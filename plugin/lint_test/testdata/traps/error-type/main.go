// Go: false
// Yaegi: true

package main

import "fmt"

type failure struct{ code int }

func (f *failure) Error() string { return "failed" }

func check() error {
	var f *failure
	return f
}

func main() { fmt.Println(check() == nil) }
