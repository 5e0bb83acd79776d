// Prints: small small

package main

import "fmt"

func size(n int) string {
	switch {
	case n == 1 || n == 2:
		return "small"
	}
	return "large"
}

func main() { fmt.Println(size(1), size(2)) }
