// Prints: false

package main

import "fmt"

type animal struct{ kind, name string }

func main() {
	pet := animal{"dog", "rex"}
	fmt.Println(pet.kind == "cat")
}
