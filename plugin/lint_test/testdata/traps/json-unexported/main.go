// Go: false {"Name":"eve"}
// Yaegi: true {"Name":"eve","Xnote":false}

package main

import (
	"encoding/json"
	"fmt"
)

type person struct {
	Name string
	note bool
}

func main() {
	var in person
	_ = json.Unmarshal([]byte(`{"Name":"ada","xnote":true}`), &in)
	out, _ := json.Marshal(person{"eve", false})
	fmt.Println(in.note, string(out))
}
