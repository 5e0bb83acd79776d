// Go: false {"Name":"eve"}
// Yaegi: true {"Name":"eve","Xadmin":false}

package main

import (
	"encoding/json"
	"fmt"
)

type person struct {
	Name  string
	admin bool
}

func main() {
	var in person
	_ = json.Unmarshal([]byte(`{"Name":"ada","xadmin":true}`), &in)
	out, _ := json.Marshal(person{"eve", false})
	fmt.Println(in.admin, string(out))
}
