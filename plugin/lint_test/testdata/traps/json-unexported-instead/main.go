// Prints: false {"Name":"eve"}

package main

import (
	"encoding/json"
	"fmt"
)

type person struct {
	Name string
}

type account struct {
	person person
	note   bool
}

func main() {
	var in account
	_ = json.Unmarshal([]byte(`{"Name":"ada","xnote":true}`), &in.person)
	out, _ := json.Marshal(person{"eve"})
	fmt.Println(in.note, string(out))
}
