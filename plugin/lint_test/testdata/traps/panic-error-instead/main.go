// Prints: true

package main

import "fmt"

func main() {
	defer func() {
		if cause := recover(); cause != nil {
			fmt.Println("true")
		}
	}()
	panic("lost")
}
