// Prints: {"To":"ada"} <nil>

package main

import (
	"encoding/json"
	"fmt"
)

func main() {
	type note struct{ To string }
	text, err := json.Marshal(note{"ada"})
	fmt.Println(string(text), err)
}
