#!/usr/bin/env bash
# Yaegi v0.16.1: encoding/json fills unexported fields from the wire, and writes them out. The interpreter makes the
# struct by reflection with an X before each such name, which is then exported: a field `admin` is the member `Xadmin`,
# in any case of letters. Who decodes a request into a struct with a private field lets the sender set it.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
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
	err := json.Unmarshal([]byte(`{"Name":"ada","xadmin":true}`), &in)
	out, _ := json.Marshal(person{"eve", false})
	fmt.Println(in.admin, string(out), err)
}
GO
seen "Go" 'false {"Name":"eve"} <nil>' "$(go run main.go)"
seen "Yaegi" 'true {"Name":"eve","Xadmin":false} <nil>' "$(yaegi main.go)"
done_with "yaegi v0.16.1"
