// Prints: list

package main

import "fmt"

func kind(v any) string {
	if _, is := v.([]any); is {
		return "list"
	}
	return "other"
}

func main() { fmt.Println(kind([]any{"a"})) }
