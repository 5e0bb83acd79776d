// Go: <note><To>ada</To></note> <nil>
// Yaegi: xml: unsupported type: struct { To string }

package main

import (
	"encoding/xml"
	"fmt"
)

func main() {
	type note struct{ To string }
	text, err := xml.Marshal(note{"ada"})
	fmt.Println(string(text), err)
}
