// Go: {"level":"high"} <nil>
// Yaegi: {"level":{}} <nil>

package main

import (
	"encoding/json"
	"fmt"
)

type level int

func (l level) MarshalJSON() ([]byte, error) { return []byte(`"high"`), nil }

func main() {
	text, err := json.Marshal(map[string]any{"level": level(3)})
	fmt.Println(string(text), err)
}
