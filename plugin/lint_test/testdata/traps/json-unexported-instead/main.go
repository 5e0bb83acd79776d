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
	admin  bool
}

func main() {
	var in account
	_ = json.Unmarshal([]byte(`{"Name":"ada","xadmin":true}`), &in.person)
	out, _ := json.Marshal(person{"eve"})
	fmt.Println(in.admin, string(out))
}
