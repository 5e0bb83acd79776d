// Go: "i" "s" <nil>
// Yaegi: "" "s" <nil>

package main

import (
	"encoding/json"
	"fmt"
)

type Registered struct{ Issuer string }

type claims struct {
	Registered
	Subject string
}

func main() {
	var c claims
	err := json.Unmarshal([]byte(`{"Issuer":"i","Subject":"s"}`), &c)
	fmt.Printf("%q %q %v\n", c.Issuer, c.Subject, err)
}
