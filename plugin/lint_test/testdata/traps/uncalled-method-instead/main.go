// Prints: {"level":"high"} <nil>

package main

import (
	"encoding/json"
	"fmt"
)

func main() {
	text, err := json.Marshal(map[string]any{"level": json.RawMessage(`"high"`)})
	fmt.Println(string(text), err)
}
