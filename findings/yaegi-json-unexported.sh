#!/usr/bin/env bash
# Yaegi v0.16.1: encoding/json fills unexported fields from the wire, and writes them out. The
# interpreter makes the struct by reflection, with an X before each such name, which is then
# exported: a field `note` is the member `Xnote`, in any case of letters. A field that is kept
# private so that only the program can set it does not stay private.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
)

type person struct {
	Name  string
	note bool
}

func main() {
	var in person
	err := json.Unmarshal([]byte(`{"Name":"ada","xnote":true}`), &in)
	out, _ := json.Marshal(person{"eve", false})
	fmt.Println(in.note, string(out), err)
}
GO
seen "Go" 'false {"Name":"eve"} <nil>' "$(go run main.go)"
seen "Yaegi" 'true {"Name":"eve","Xnote":false} <nil>' "$(yaegi main.go)"
done_with "yaegi v0.16.1"
