// Go: list
// Yaegi: other

package main

import "fmt"

func kind(v any) string {
	switch v.(type) {
	case []any:
		return "list"
	}
	return "other"
}

func main() { fmt.Println(kind([]any{"a"})) }
